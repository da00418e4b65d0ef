// SPDX-License-Identifier: Apache-2.0

import CMachine
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

  @Test func whatIsDiscardedOrClearedIsZeroAndStaysAllocated() throws {
    let page = Arena.hugePage
    let arena = try Arena(capacity: 6 * page, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 5 * page)
    let first = bytes - arena.mark + 5 * page
    func fill() { bytes.update(repeating: 1, count: 5 * page) }
    func zeros(_ range: Range<Int>) -> Bool { range.allSatisfy { first[$0] == 0 } }
    let from = bytes - first
    for (stretch, most, expected) in [
      (from..<from + 4 * page, 4 * page, (from + page - 1) / page * page..<4 * page),
      (page + 1..<4 * page - 1, 4 * page, 2 * page..<3 * page),
      (page..<4 * page, 2 * page - 1, 3 * page..<4 * page),
      (page + 1..<2 * page + 1, page, 0..<0), (page..<2 * page, page - 1, 0..<0),
      (page..<page, page, 0..<0),
    ] {
      fill()
      #expect(arena.discard(stretch, most: most) == expected.count)
      #expect(zeros(expected))
      let others = (from..<from + 5 * page).filter { !expected.contains($0) }
      #expect(others.allSatisfy { first[$0] == 1 })
    }
    let used = arena.used
    fill()
    #expect(arena.clear() == used && zeros(from..<from + 5 * page) && arena.used == used)
  }

  @Test func aSmallArenaIsClearedInItsPlace() throws {
    let arena = try Arena(capacity: 10_000, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 10_000)
    bytes.update(repeating: 1, count: 10_000)
    #expect(arena.clear() == 0)
    #expect((0..<10_000).allSatisfy { bytes[$0] == 0 })
  }

  @Test func theWholeCapacityCanBeUsedToTheLastByte() throws {
    let arena = try Arena(capacity: 1001, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 1001)
    bytes[1000] = 1
    #expect(arena.used == 1001)
  }

  /// Of sizes that would put them in the same banks and sets.
  @Test(arguments: [2 << 20, 4 << 20, 32 << 20, 256 << 20, (8 << 20) - 64, (8 << 20) + 4096 - 64])
  func largeAllocationsKeepADistance(size: Int) throws {
    let arena = try Arena(capacity: 8 * size, name: "test")
    let starts = (0..<7).map { _ in UInt(bitPattern: arena.allocate(UInt8.self, count: size)) }
    for (i, a) in starts.enumerated() {
      #expect(a % 64 == 0)
      for b in starts[..<i] {
        // Neither in one set of the first-level cache nor near it in larger units.
        for (unit, least) in [(4 << 10, 64), (4 << 20, 32 << 10)] as [(UInt, UInt)] {
          let apart = (a - b) % unit
          #expect(min(apart, unit - apart) >= least, "\(size): \(a - b) modulo \(unit)")
        }
      }
    }
    // One after the other: nothing but the gaps is lost.
    #expect(arena.used <= 7 * (size + 70_000))
  }

  @Test func gapsAreNotPartOfTheCapacityAndComeBackWithTheMark() throws {
    let arena = try Arena(capacity: 16 * (2 << 20) + 100, name: "test")
    let mark = arena.mark
    for _ in 0..<2 {
      let pieces = (0..<16).map { _ in arena.allocate(UInt8.self, count: 2 << 20) }
      let rest = arena.allocate(UInt8.self, count: 100)
      rest[99] = 1
      for (a, b) in zip(pieces, pieces.dropFirst()) { #expect(b - a >= 2 << 20) }
      #expect(rest - pieces[15] >= 2 << 20)
      arena.release(to: mark)
      #expect(arena.used == 0)
    }
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

  @Test func theAddressSpaceLimitIsAMemoryFaultToo() async {
    await #expect(processExitsWith: .success) {
      var limit = rlimit(rlim_cur: 1 << 30, rlim_max: 1 << 30)
      try #require(setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0)
      _ = try Arena(capacity: 16 << 20, name: "what fits")
      let fault = try #require(throws: Fault.self) { try Arena(capacity: 1 << 30, name: "scratch") }
      try #require(fault.exitCode == .memoryBudget)
      try #require(fault.message == "cannot map 1 GiB for scratch: Cannot allocate memory")
    }
  }

  /// Sandboxes may forbid binding; the arena then says so and works by first touch.
  @Test func boundPagesLieOnTheirNode() throws {
    let node = try #require(try Machine.detect().grantedNodes.last)
    let arena = try Arena(capacity: 1 << 20, node: node, name: "test")
    let bytes = arena.allocate(UInt8.self, count: 1 << 20)
    let step = Int(paft_page_size())
    let pages = stride(from: 0, to: 1 << 20, by: step).map { UnsafeMutableRawPointer(bytes + $0) }
    for page in pages { page.storeBytes(of: 1, as: UInt8.self) }
    var nodes = [Int32](repeating: -1, count: pages.count)
    let error = paft_page_nodes(pages.map { Optional($0) }, pages.count, &nodes)
    if arena.boundNode != nil && error == 0 {
      #expect(nodes.allSatisfy { $0 == Int32(node) })
    } else {
      #expect(bytes[1 << 19] == 1)
    }
  }

  @Test(arguments: [-1, 999, Int.max])
  func aNodeThatIsNotThereLeavesPagesToFirstTouch(node: Int) throws {
    let arena = try Arena(capacity: 1 << 20, node: node, name: "test")
    #expect(arena.boundNode == nil)
    arena.allocate(UInt8.self, count: 1 << 20)[(1 << 20) - 1] = 1
  }

  @Test func overrunningThePlanTraps() async {
    await #expect(processExitsWith: .signal(SIGILL)) {
      let arena = try Arena(capacity: 100, name: "small")
      _ = arena.allocate(Float.self, count: 26)
    }
    await #expect(processExitsWith: .signal(SIGILL)) {
      let arena = try Arena(capacity: 100, name: "small")
      _ = arena.allocate(Float.self, count: Int.max)
    }
  }
}
