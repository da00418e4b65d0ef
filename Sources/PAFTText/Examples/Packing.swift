// SPDX-License-Identifier: Apache-2.0

/// Which examples share a row of `capacity` tokens.
package enum Packing {
  /// Best-fit decreasing (TRL's `bfd`, but over the whole data set instead of windows of 1,000):
  /// the longest first, equals in their given order; each goes into the row with the smallest
  /// sufficient free space, the one that has waited longest among equals, else into a new row.
  ///
  /// - Parameters:
  ///   - lengths: tokens per example; 0 is left out, more than `capacity` counts as `capacity`
  ///     (the example must be truncated to it).
  ///   - capacity: tokens per row, at least 1.
  /// - Returns: rows of indices into `lengths`, in the order they were opened.
  ///
  /// O(n log n) for the sort, then O(log capacity) per example: rows wait in one queue per amount
  /// of free space, and a tree of bits finds the first queue that is not empty.
  package static func bestFit(lengths: [Int], capacity: Int) -> [[Int]] {
    precondition(capacity > 0, "a row holds at least one token")
    let order = lengths.indices.filter { lengths[$0] > 0 }.sorted {
      lengths[$0] != lengths[$1] ? lengths[$0] > lengths[$1] : $0 < $1
    }
    var rows: [[Int]] = []
    // No free space exceeds what the longest row can leave, nor the number of rows its size.
    var waiting = Array(repeating: Queue(), count: capacity + 1)
    var occupied = BitTree(count: capacity + 1)
    for index in order {
      let length = min(lengths[index], capacity)
      let row: Int
      let free: Int
      if let space = occupied.first(from: length) {
        row = waiting[space].pop()
        if waiting[space].isEmpty { occupied.clear(space) }
        rows[row].append(index)
        free = space - length
      } else {
        row = rows.count
        rows.append([index])
        free = capacity - length
      }
      if free > 0 {
        waiting[free].push(row)
        occupied.set(free)
      }
    }
    return rows
  }

  /// First in, first out; popped entries are dropped when the queue runs empty.
  private struct Queue {
    private var items: [Int] = []
    private var head = 0
    var isEmpty: Bool { head == items.count }
    mutating func push(_ item: Int) { items.append(item) }
    mutating func pop() -> Int {
      let item = items[head]
      head += 1
      if head == items.count {
        items.removeAll(keepingCapacity: true)
        head = 0
      }
      return item
    }
  }

  /// A set of small integers that answers "the first member at or above x" in O(log64 count):
  /// each level has one bit per word of the level below.
  private struct BitTree {
    private var levels: [[UInt64]] = []

    init(count: Int) {
      var size = count
      repeat {
        size = (size + 63) / 64
        levels.append(Array(repeating: 0, count: size))
      } while size > 1
    }

    mutating func set(_ index: Int) {
      var index = index
      for level in levels.indices {
        levels[level][index / 64] |= 1 << UInt64(index % 64)
        index /= 64
      }
    }

    mutating func clear(_ index: Int) {
      var index = index
      for level in levels.indices {
        levels[level][index / 64] &= ~(1 << UInt64(index % 64))
        if levels[level][index / 64] != 0 { return }
        index /= 64
      }
    }

    func first(from start: Int) -> Int? {
      var index = start
      for level in levels.indices {
        let word = index / 64
        guard word < levels[level].count else { return nil }
        let rest = levels[level][word] & (~0 << UInt64(index % 64))
        if rest != 0 {
          var found = word * 64 + rest.trailingZeroBitCount
          for below in (0..<level).reversed() {
            found = found * 64 + levels[below][found].trailingZeroBitCount
          }
          return found
        }
        index = word + 1
      }
      return nil
    }
  }
}
