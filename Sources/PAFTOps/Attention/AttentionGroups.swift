// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// The queries of a batch in groups of one tile's columns (`AttentionKernels`).
///
/// A vector is up to `lanes` consecutive positions of one query head. The vectors of a (sequence,
/// key head) are ordered by position first and head second, so that the vectors of a group stand at
/// nearly the same positions and the diagonal cuts them all at once: with four or more query heads
/// per key head a group computes at most `lanes` keys beyond its diagonal.
struct QueryGroups {
  let sequences: Sequences
  let shape: AttentionShape
  let tile: Tile
  /// Groups of the sequences before s, for one key head; count + 1 entries.
  private let starts: UnsafeMutablePointer<Int>

  init(_ sequences: Sequences, _ shape: AttentionShape, _ tile: Tile, in arena: Arena) {
    self.sequences = sequences
    self.shape = shape
    self.tile = tile
    let vectors = tile.columns / tile.lanes
    starts = arena.allocate(Int.self, count: sequences.count + 1)
    starts[0] = 0
    for s in 0..<sequences.count {
      let chunks = (sequences[s].count + tile.lanes - 1) / tile.lanes
      starts[s + 1] = starts[s] + (chunks * shape.group + vectors - 1) / vectors
    }
  }

  /// Groups of all sequences for one key head.
  var perHead: Int { starts[sequences.count] }
  /// Groups of all sequences and heads; group i has key head i / perHead.
  var count: Int { perHead * shape.keyHeads }
  /// First group of sequence s for one key head, and the first one after it.
  func range(of s: Int) -> Range<Int> { starts[s]..<starts[s + 1] }

  /// Group `index` of `keyHead`, which is one of sequence `s`.
  func group(_ index: Int, of s: Int, keyHead: Int) -> QueryGroup {
    QueryGroup(
      sequence: s, rows: sequences[s], before: sequences.prefixLength(s), keyHead: keyHead,
      first: (index - starts[s]) * (tile.columns / tile.lanes), shape: shape, tile: tile)
  }

  /// The sequence that group `index` of a head belongs to, looked for from `hint` upwards.
  func sequence(of index: Int, from hint: Int) -> Int {
    var s = hint
    while index >= starts[s + 1] { s += 1 }
    return s
  }
}

/// One group: vectors `first` ..< of a (sequence, key head).
struct QueryGroup {
  let sequence: Int
  /// The sequence's rows in the batch, and how many tokens of those it continues stand before it.
  let rows: Range<Int>
  let before: Int
  let keyHead: Int
  let first: Int
  let shape: AttentionShape
  let tile: Tile

  /// One vector: `count` positions from row `row` of query head `head`.
  struct Vector {
    let row: Int
    let count: Int
    let head: Int
  }

  var slots: Int { tile.columns / tile.lanes }

  /// Vector j of the group; its count is 0 where the sequence has no more.
  @inline(__always) func vector(_ j: Int) -> Vector {
    let chunk = (first + j) / shape.group
    let start = min(chunk * tile.lanes, rows.count)
    return Vector(
      row: rows.lowerBound + start, count: min(tile.lanes, rows.count - start),
      head: keyHead * shape.group + (first + j) % shape.group)
  }

  /// Which keys of a segment the group sees; key numbers count from the segment's start.
  struct Keys {
    /// Those that some query sees, and those that every query sees.
    var some: Range<Int>
    var every: Range<Int>

    /// Blocks of `block` keys that hold one some query sees.
    @inline(__always) func blocks(of block: Int) -> Range<Int> {
      some.isEmpty ? 0..<0 : some.lowerBound / block..<(some.upperBound - 1) / block + 1
    }
  }

  /// Lower and upper bound of the keys that `position` sees in a segment of `length` keys whose
  /// first stands at logical position `base`.
  @inline(__always)
  private func bounds(_ position: Int, _ base: Int, _ length: Int) -> (low: Int, high: Int) {
    (
      min(length, max(0, shape.firstKey(position) - base)),
      min(length, max(0, position + 1 - base))
    )
  }

  func keys(base: Int, length: Int) -> Keys {
    var (low, high) = (length, 0)
    var (lowMost, highLeast) = (0, length)
    for j in 0..<slots {
      let vector = vector(j)
      if vector.count == 0 { break }
      let position = before + vector.row - rows.lowerBound
      let first = bounds(position, base, length)
      let last = bounds(position + vector.count - 1, base, length)
      low = min(low, first.low)
      high = max(high, last.high)
      lowMost = max(lowMost, last.low)
      highLeast = min(highLeast, first.high)
    }
    return Keys(some: low..<max(low, high), every: lowMost..<max(lowMost, highLeast))
  }

  /// The lower bounds of all lanes, then the upper bounds. Lanes without a query get those of a
  /// query that would follow; their zeros disturb nothing.
  func fill(_ target: UnsafeMutablePointer<Float>, base: Int, length: Int) {
    for j in 0..<slots {
      let vector = vector(j)
      let position = before + vector.row - rows.lowerBound
      for lane in 0..<tile.lanes {
        let (low, high) = bounds(position + lane, base, length)
        target[j * tile.lanes + lane] = Float(low)
        target[tile.columns + j * tile.lanes + lane] = Float(high)
      }
    }
  }
}
