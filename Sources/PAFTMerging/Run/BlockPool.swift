// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Buffers and tables for blocks of one size, kept from tensor to tensor: as many as there were workers at once.
package final class BlockPool: Sendable {
  package init() {}

  final class Buffers: @unchecked Sendable {
    // Sendable: of one worker at a time.
    private var starts: [UnsafeMutablePointer<Float>] = []

    var out: UnsafeMutablePointer<Float> { starts[1] }

    func block(_ range: Range<Int>, number: Int, _ models: Int) -> TensorBlock {
      TensorBlock(
        range: range, number: number, base: starts[0], models: Array(starts[2..<2 + models]),
        out: out)
    }

    fileprivate func reserve(_ models: Int, _ count: Int) {
      while starts.count < models + 2 { starts.append(.allocate(capacity: count)) }
    }

    deinit { for start in starts { start.deallocate() } }
  }

  private let free = Mutex<[Buffers]>([])

  func take(_ models: Int, _ count: Int) -> Buffers {
    let buffers = free.withLock { $0.popLast() } ?? Buffers()
    buffers.reserve(models, count)
    return buffers
  }

  func give(_ buffers: Buffers) { free.withLock { $0.append(buffers) } }

  private let tallies = Mutex<[Tally]>([])

  func takeTally(_ tables: Int, _ block: Int) -> Tally {
    let kept = tallies.withLock { $0.popLast() }
    if let kept, kept.tables >= tables { return kept }
    return Tally(tables: tables, matches: block)
  }

  private let rooms = Mutex<[MagnitudeGuess.Room]>([])

  func takeRoom(_ block: Int) -> MagnitudeGuess.Room {
    rooms.withLock { $0.popLast() } ?? MagnitudeGuess.Room(block)
  }

  func give(_ room: MagnitudeGuess.Room) { rooms.withLock { $0.append(room) } }

  private let tables = Mutex<[CountTable]>([])

  func takeTable() -> CountTable { tables.withLock { $0.popLast() } ?? CountTable() }

  func give(_ table: CountTable) {
    table.clear()
    tables.withLock { $0.append(table) }
  }

  func give(_ tally: Tally) { tallies.withLock { $0.append(tally) } }
}
