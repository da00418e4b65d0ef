// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTBase
import PAFTMachine
import Testing

struct ArenaTests {
  @Test func allocationsAreAlignedZeroedAndApart() throws {
    let arena = try Arena(capacity: 1 << 20, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 3)
    let floats = arena.allocate(Float.self, count: 1000)
    let doubles = arena.allocate(Double.self, count: 7)
    #expect(UInt(bitPattern: bytes) % (2 << 20) == 0)
    #expect(UInt(bitPattern: floats) - UInt(bitPattern: bytes) == 64)
    #expect(UInt(bitPattern: doubles) - UInt(bitPattern: floats) == 4032)
    #expect((0..<1000).allSatisfy { floats[$0] == 0 })
    #expect((0..<7).allSatisfy { doubles[$0] == 0 })
    #expect(arena.used == 64 + 4032 + 64)
  }

  @Test func releasedMemoryIsReusedAndThePeakRemains() throws {
    let arena = try Arena(capacity: 4096, name: "test")
    _ = arena.allocate(Float.self, count: 16)
    let mark = arena.mark
    let first = arena.allocate(Int32.self, count: 100)
    first[99] = 7
    arena.release(to: mark)
    let second = arena.allocate(Int32.self, count: 100)
    #expect(first == second)
    #expect(second[99] == 7, "memory above a mark is handed out as it was left")
    arena.release(to: 0)
    #expect(arena.used == 0)
    #expect(arena.peak == 64 + 448)
  }

  @Test func theWholeCapacityCanBeUsedToTheLastByte() throws {
    let arena = try Arena(capacity: 1001, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 1001)
    bytes[1000] = 1
    #expect(arena.used == 1001)
  }

  @Test func onlyTouchedPagesAreCommitted() throws {
    // 64 GiB of address space, more than most machines that run this have memory for.
    let arena = try Arena(capacity: 64 << 30, name: "test")
    let values = arena.allocate(UInt8.self, count: 64 << 30)
    values[(64 << 30) - 1] = 1
    #expect(values[0] == 0)
  }

  @Test(arguments: [Int.max, Int.max - (4 << 20), 1 << 60])
  func aMappingThatCannotBeIsAMemoryFault(capacity: Int) {
    let fault = #expect(throws: Fault.self) { try Arena(capacity: capacity, name: "the base") }
    #expect(fault?.exitCode == .memoryBudget)
    #expect(fault?.message.hasSuffix("EiB for the base: Cannot allocate memory") == true)
  }

  @Test func overrunningThePlanTraps() async {
    await #expect(processExitsWith: .failure) {
      let arena = try Arena(capacity: 100, name: "small")
      _ = arena.allocate(Float.self, count: 26)
    }
    await #expect(processExitsWith: .failure) {
      let arena = try Arena(capacity: 100, name: "small")
      _ = arena.allocate(Float.self, count: Int.max)
    }
  }
}
