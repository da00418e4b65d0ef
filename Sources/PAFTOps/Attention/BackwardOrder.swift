// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Who computes which block of keys in attention's backward pass, and in what order the blocks add
/// to a group's dQ.
///
/// Items are numbered from the last sequence to the first, in a sequence from the last block to the
/// first. A group's dQ takes its shares in that order: a counter per group says whose turn it is,
/// and a worker whose block comes later waits. Every worker goes through its items in ascending
/// order, so an item waits only for items before it, and the least unfinished one never waits:
/// nothing can hang, whatever the assignment. An item begins with the groups at its own diagonal,
/// which the block after it has done long ago, so there is hardly any waiting; one worker alone
/// never waits.
struct BackwardOrder: @unchecked Sendable {
  struct Item {
    let sequence: Int
    let keyHead: Int
    let block: Int
  }

  private let groups: QueryGroups
  private let items: UnsafeMutablePointer<Item>
  private let workers: UnsafeMutablePointer<Int>
  private let counters: UnsafeMutablePointer<Atomic<Int>>
  /// Keys per block.
  private let block: Int
  let count: Int

  init(_ groups: QueryGroups, block: Int, workers team: Int, in arena: Arena) {
    self.groups = groups
    self.block = block
    let (sequences, keyHeads) = (groups.sequences, groups.shape.keyHeads)
    func blocks(_ s: Int) -> Int {
      (sequences[s].count + block - 1) / block
    }
    count = (0..<sequences.count).reduce(0) { $0 + blocks($1) } * keyHeads
    items = arena.allocate(Item.self, count: count)
    workers = arena.allocate(Int.self, count: count)
    var next = 0
    for s in (0..<sequences.count).reversed() {
      for block in (0..<blocks(s)).reversed() {
        for keyHead in 0..<keyHeads {
          items[next] = Item(sequence: s, keyHead: keyHead, block: block)
          next += 1
        }
      }
    }
    counters = UnsafeMutableRawPointer(arena.allocate(Int.self, count: groups.count))
      .bindMemory(to: Atomic<Int>.self, capacity: groups.count)
    for group in 0..<groups.count { (counters + group).initialize(to: Atomic(0)) }
    // The dearest items are (nearly) the last ones: each goes to the worker with least to do.
    let loads = arena.allocate(Int.self, count: team)
    loads.update(repeating: 0, count: team)
    for item in (0..<count).reversed() {
      var best = 0
      for worker in 1..<max(1, team) where loads[worker] < loads[best] { best = worker }
      workers[item] = best
      loads[best] += cost(items[item])
    }
  }

  /// About how many (query, key) pairs an item has.
  private func cost(_ item: Item) -> Int {
    let sequences = groups.sequences
    let from = item.block * block
    let own = sequences[item.sequence].count
    let keys = min(block, own - from)
    var queries = own - from - keys / 2
    if sequences.prefixes != nil {
      for s in item.sequence + 1..<max(item.sequence + 1, sequences.count)
      where sequences.isSeen(item.sequence, by: s) { queries += sequences[s].count }
    }
    return keys * min(queries, groups.shape.window ?? .max)
  }

  subscript(_ item: Int) -> Item { items[item] }
  func worker(of item: Int) -> Int { workers[item] }

  /// Where an item stands among those that add to a group's dQ.
  struct Turn {
    /// The group's keys in the item's sequence; nil if it does not see that sequence.
    var keys: QueryGroup.Keys?
    /// Logical position of the item's sequence for the group.
    var base = 0
    var index = 0
    /// Index of the last share.
    var last = -1
  }

  @inline(__always)
  func turn(of item: Item, _ group: QueryGroup) -> Turn {
    var turn = Turn()
    var (segment, base) = (group.sequence, group.before)
    while true {
      let keys = group.keys(base: base, length: groups.sequences[segment].count)
      if segment == item.sequence {
        turn.keys = keys
        turn.base = base
        turn.index = turn.last + keys.blocks(of: block).upperBound - item.block
      }
      turn.last += keys.blocks(of: block).count
      guard let before = groups.sequences.prefix(of: segment) else { return turn }
      segment = before
      base -= groups.sequences[before].count
    }
  }

  /// Returns when all shares before `turn` have been added to the group's dQ.
  @inline(__always)
  func wait(for turn: Int, _ group: Int) {
    var spins = 0
    while counters[group].load(ordering: .acquiring) != turn {
      spins += 1
      // A team may have more workers than the machine has cores: let the one waited for run.
      if spins > 4096 { sched_yield() }
    }
  }

  @inline(__always)
  func finish(_ turn: Int, _ group: Int) {
    counters[group].store(turn + 1, ordering: .releasing)
  }
}
