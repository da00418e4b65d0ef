// SPDX-License-Identifier: Apache-2.0

/// Micro-tile of C held in registers.
package struct Tile: Sendable, Equatable, BitwiseCopyable {
  package var rows: Int
  package var columns: Int
  /// Columns of one vector: what a B panel's width is rounded up to.
  package var lanes: Int
  /// Values of k that lie together in A: 1 in Float, 2 or (on a tile unit) 32 of BF16. The packed
  /// dimension is k rounded up to a multiple of it, and a slice of k begins at one.
  package var depth: Int

  package init(rows: Int, columns: Int, lanes: Int, depth: Int) {
    self.rows = rows
    self.columns = columns
    self.lanes = lanes
    self.depth = depth
  }

  /// Stored width of a B panel with `columns` valid columns.
  @inlinable package func width(_ columns: Int) -> Int { (columns + lanes - 1) / lanes * lanes }
  /// Reduced dimension as stored.
  @inlinable package func padded(_ k: Int) -> Int { (k + depth - 1) / depth * depth }
}
