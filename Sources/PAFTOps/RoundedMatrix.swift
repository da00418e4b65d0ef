// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Rows that wait for a backward pass in BF16: half the memory. Operands of products are rounded to BF16
/// when they are packed, so that those made of these rows are the same; what is computed of them
/// otherwise has one rounding more, of 2^-8 of each value at most.
package struct RoundedMatrix: @unchecked Sendable, BitwiseCopyable {
  package let base: UnsafeMutablePointer<UInt16>
  package let rows: Int
  package let columns: Int
  /// Values from a row to the next.
  package let stride: Int

  package init(in arena: Arena, rows: Int, columns: Int) {
    base = arena.allocate(UInt16.self, count: max(1, rows * columns))
    self.rows = rows
    self.columns = columns
    stride = columns
  }

  /// At a place of somebody else's.
  package init(_ base: UnsafeMutablePointer<UInt16>, rows: Int, columns: Int) {
    self.base = base
    self.rows = rows
    self.columns = columns
    stride = columns
  }

  /// In the first half of each row of Floats, whose values it replaces.
  package init(in floats: Matrix) {
    base = UnsafeMutableRawPointer(floats.base).assumingMemoryBound(to: UInt16.self)
    rows = floats.rows
    columns = floats.columns
    stride = 2 * floats.stride
  }

  @inline(__always) func row(_ index: Int) -> UnsafeMutablePointer<UInt16> { base + index * stride }

  /// Rounds some rows of `source`, into the columns from `first` on: a worker's share.
  @inline(__always)
  package func round(
    _ range: Range<Int>, of source: Matrix, at first: Int = 0, _ executor: Executor
  ) {
    let isFlat = source.isFlat && source.columns == columns && stride == columns
    let step = isFlat ? max(1, range.count) : 1
    for row in Swift.stride(from: range.lowerBound, to: range.upperBound, by: step) {
      executor.kernels.vectors.toBF16(
        self.row(row) + first, source.row(row), step * source.columns, 0)
    }
  }

  /// Rounds all rows of `source`.
  package func fill(from source: Matrix, on executor: Executor) {
    let span = executor.begin(.rows(.copy, rows, columns, .forward, bytesEach: 6))
    defer { executor.end(span) }
    precondition(source.rows == rows && source.columns == columns)
    executor.parallel(rows, grain: grain) { round($0, of: source, executor) }
  }

  /// Rows that are worth a worker.
  private var grain: Int { max(8, (1 << 14) / max(1, columns)) }

  /// The rows as Floats.
  package func load(into target: Matrix, on executor: Executor) {
    let span = executor.begin(.rows(.copy, rows, columns, .backward, bytesEach: 6))
    defer { executor.end(span) }
    precondition(
      target.rows == rows && target.columns == columns && target.isFlat && stride == columns)
    executor.parallel(rows, grain: grain) { range in
      executor.kernels.vectors.fromBF16(
        target.row(range.lowerBound), base + range.lowerBound * columns, range.count * columns, 0)
    }
  }

  /// The same in new memory.
  package func floats(in arena: Arena, on executor: Executor) -> Matrix {
    let target = Matrix(in: arena, rows: rows, columns: columns)
    load(into: target, on: executor)
    return target
  }
}
