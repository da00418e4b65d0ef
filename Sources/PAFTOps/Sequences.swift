// SPDX-License-Identifier: Apache-2.0

/// Which rows of a packed batch belong together: sequence s is rows starts[s]..<starts[s+1].
/// No padding exists anywhere; attention is block-diagonal by these boundaries.
package struct Sequences: @unchecked Sendable {
  package let starts: UnsafePointer<Int>
  package let count: Int

  package init(starts: UnsafePointer<Int>, count: Int) {
    self.starts = starts
    self.count = count
  }

  @inlinable package subscript(_ index: Int) -> Range<Int> { starts[index]..<starts[index + 1] }
  @inlinable package var tokens: Int { starts[count] }
}
