// SPDX-License-Identifier: Apache-2.0

/// Which rows of a packed batch belong together: sequence s is rows starts[s]..<starts[s+1].
/// No padding exists anywhere; attention is block-diagonal by these boundaries.
///
/// A sequence may continue an earlier one: its tokens then stand behind all of that one's and see
/// them too. A prompt with two answers is three sequences, and the prompt is computed once.
package struct Sequences: @unchecked Sendable {
  package let starts: UnsafePointer<Int>
  package let count: Int
  /// prefixes[s]: the sequence that s continues, smaller than s, or -1; nil when none does.
  package let prefixes: UnsafePointer<Int>?

  package init(starts: UnsafePointer<Int>, count: Int, prefixes: UnsafePointer<Int>? = nil) {
    self.starts = starts
    self.count = count
    self.prefixes = prefixes
  }

  @inlinable package subscript(_ index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }
  @inlinable package var tokens: Int { starts[count] }

  /// The sequence that `index` continues.
  @inlinable package func prefix(of index: Int) -> Int? {
    guard let prefixes, prefixes[index] >= 0 else { return nil }
    precondition(prefixes[index] < index, "sequence \(index) continues \(prefixes[index])")
    return prefixes[index]
  }

  /// Tokens before the first of sequence `index` that belong to those it continues.
  @inlinable package func prefixLength(_ index: Int) -> Int {
    var length = 0
    var at = index
    while let before = prefix(of: at) {
      length += self[before].count
      at = before
    }
    return length
  }

  /// Whether `other` is sequence `index` or continues it, directly or not.
  @inlinable package func isSeen(_ index: Int, by other: Int) -> Bool {
    if index == other { return true }
    guard let prefixes else { return false }
    var at = other
    while at > index { at = prefixes[at] }
    return at == index
  }
}
