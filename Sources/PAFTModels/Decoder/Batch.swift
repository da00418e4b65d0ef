// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

/// One packed micro-batch: token ids of several sequences end to end, and the rows that have a
/// label. Memory belongs to the arena it was made in.
package struct Batch: @unchecked Sendable {
  package let ids: UnsafeMutablePointer<Int32>
  /// Position of each token inside its own sequence, behind those that it continues.
  package let positions: UnsafeMutablePointer<Int32>
  package private(set) var tokens = 0
  private let starts: UnsafeMutablePointer<Int>
  /// The sequence that each one continues, or -1.
  private let prefixes: UnsafeMutablePointer<Int>
  private var hasPrefixes = false
  /// Tokens before the first of the sequence being written.
  private var before = 0
  package private(set) var sequenceCount = 0
  /// Rows whose next token is scored, and that token.
  package let labelRows: UnsafeMutablePointer<Int32>
  package let targets: UnsafeMutablePointer<Int32>
  package private(set) var labels = 0

  /// The rows that have a label.
  package var labelled: RowSelection { RowSelection(UnsafePointer(labelRows), count: labels) }

  package init(in arena: Arena, tokens: Int, sequences: Int) {
    ids = arena.allocate(Int32.self, count: max(1, tokens))
    positions = arena.allocate(Int32.self, count: max(1, tokens))
    starts = arena.allocate(Int.self, count: sequences + 1)
    prefixes = arena.allocate(Int.self, count: sequences + 1)
    labelRows = arena.allocate(Int32.self, count: max(1, tokens))
    targets = arena.allocate(Int32.self, count: max(1, tokens))
    starts[0] = 0
    prefixes[0] = -1
  }

  package var sequences: Sequences {
    Sequences(
      starts: UnsafePointer(starts), count: sequenceCount,
      prefixes: hasPrefixes ? UnsafePointer(prefixes) : nil)
  }

  /// The sequence to be written continues an earlier one, if it is given, whose tokens it sees before its
  /// own. Its first token can be scored where it stands right behind them.
  package mutating func continueSequence(_ index: Int?) {
    guard let index else { return }
    precondition(index < sequenceCount && tokens == starts[sequenceCount])
    prefixes[sequenceCount] = index
    hasPrefixes = true
    before = Int(positions[starts[index + 1] - 1]) + 1
  }

  /// Appends one token of the sequence being written; `labelled`: it is scored, so the row before
  /// it has a target. A token with none before it is never scored.
  @inline(__always)
  package mutating func append(_ id: Int32, labelled: Bool) {
    let first = tokens == starts[sequenceCount]
    let position = tokens - starts[sequenceCount] + before
    ids[tokens] = id
    positions[tokens] = Int32(truncatingIfNeeded: position)
    if labelled && position > 0 {
      precondition(
        !first || prefixes[sequenceCount] == sequenceCount - 1,
        "a label of a token whose predecessor lies elsewhere")
      labelRows[labels] = Int32(truncatingIfNeeded: tokens - 1)
      targets[labels] = id
      labels += 1
    }
    tokens += 1
  }

  /// A whole sequence without labels, behind another one if that is given; its index.
  package mutating func append(_ ids: [Int32], continuing other: Int?) -> Int {
    continueSequence(other)
    for id in ids { append(id, labelled: false) }
    endSequence()
    return sequenceCount - 1
  }

  package mutating func endSequence() {
    if tokens == starts[sequenceCount] { return }
    sequenceCount += 1
    starts[sequenceCount] = tokens
    prefixes[sequenceCount] = -1
    before = 0
  }
}
