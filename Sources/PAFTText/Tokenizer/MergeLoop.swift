// SPDX-License-Identifier: Apache-2.0

/// Byte pair encoding of one word (Sennrich et al. 2016): while some neighbours form a known pair,
/// join the pair of lowest rank, the leftmost one among equals.
///
/// Two bodies with the same result: short words scan an array of ranks, which wins while everything
/// sits in a cache line or two; long ones keep a heap of candidates over a linked list, O(n log n),
/// so that a megabyte without a single word boundary is no attack.
struct MergeLoop {
  /// Above this many symbols the heap wins.
  static let scanLimit = 48

  private var ranks: [UInt32] = []
  private var next: [Int32] = []
  private var previous: [Int32] = []
  private var heap: [UInt64] = []

  private static let none = UInt32.max

  /// Merges `symbols` in place.
  mutating func run(_ symbols: inout [Int32], _ table: MergeTable) {
    if symbols.count < 2 { return }
    if symbols.count <= Self.scanLimit { scan(&symbols, table) } else { drain(&symbols, table) }
  }

  // MARK: - Short words

  mutating func scan(_ symbols: inout [Int32], _ table: MergeTable) {
    ranks.removeAll(keepingCapacity: true)
    for i in 1..<symbols.count {
      ranks.append(table.find(symbols[i - 1], symbols[i])?.rank ?? Self.none)
    }
    while true {
      var best = Self.none
      var at = 0
      for i in ranks.indices where ranks[i] < best {
        best = ranks[i]
        at = i
      }
      guard best != Self.none, let merge = table.find(symbols[at], symbols[at + 1]) else { return }
      symbols[at] = merge.result
      symbols.remove(at: at + 1)
      ranks.remove(at: at)
      if at > 0 { ranks[at - 1] = table.find(symbols[at - 1], symbols[at])?.rank ?? Self.none }
      if at < ranks.count {
        ranks[at] = table.find(symbols[at], symbols[at + 1])?.rank ?? Self.none
      }
    }
  }

  // MARK: - Long words

  /// `next[i]` is the following live symbol, `count` at the end; a merged-away symbol is -1.
  mutating func drain(_ symbols: inout [Int32], _ table: MergeTable) {
    let count = symbols.count
    next.removeAll(keepingCapacity: true)
    previous.removeAll(keepingCapacity: true)
    heap.removeAll(keepingCapacity: true)
    for i in 0..<count {
      next.append(Int32(i + 1))
      previous.append(Int32(i - 1))
      if i + 1 < count, let merge = table.find(symbols[i], symbols[i + 1]) {
        heap.append(UInt64(merge.rank) << 32 | UInt64(i))
      }
    }
    heapify()
    while let top = pop() {
      let at = Int(top & 0xFFFF_FFFF)
      guard symbols[at] >= 0, next[at] < count else { continue }
      let right = Int(next[at])
      // A candidate is stale when its pair is no longer the one standing there.
      guard let merge = table.find(symbols[at], symbols[right]), UInt64(merge.rank) == top >> 32
      else { continue }
      symbols[at] = merge.result
      symbols[right] = -1
      next[at] = next[right]
      if next[at] < count {
        previous[Int(next[at])] = Int32(at)
        if let merge = table.find(symbols[at], symbols[Int(next[at])]) {
          push(UInt64(merge.rank) << 32 | UInt64(at))
        }
      }
      if previous[at] >= 0 {
        let left = Int(previous[at])
        if let merge = table.find(symbols[left], symbols[at]) {
          push(UInt64(merge.rank) << 32 | UInt64(left))
        }
      }
    }
    symbols.removeAll { $0 < 0 }
  }

  private mutating func heapify() {
    var i = heap.count / 2
    while i > 0 {
      i -= 1
      sink(i)
    }
  }

  private mutating func push(_ key: UInt64) {
    heap.append(key)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent] <= heap[child] { return }
      heap.swapAt(parent, child)
      child = parent
    }
  }

  private mutating func pop() -> UInt64? {
    guard let top = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      sink(0)
    }
    return top
  }

  private mutating func sink(_ start: Int) {
    var parent = start
    let key = heap[parent]
    while true {
      var child = 2 * parent + 1
      if child >= heap.count { break }
      if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
      if key <= heap[child] { break }
      heap[parent] = heap[child]
      parent = child
    }
    heap[parent] = key
  }
}
