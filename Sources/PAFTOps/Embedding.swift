// SPDX-License-Identifier: Apache-2.0

import PAFTKernels

/// Rows of the embedding table, gathered and scattered.
package enum Embedding {
  package static func forward(
    ids: UnsafePointer<Int32>, table: Matrix, into x: Matrix, on executor: Executor
  ) {
    executor.parallel(x.rows, grain: 16) { range in
      for row in range {
        x.row(row).update(from: table.row(Int(ids[row])), count: x.columns)
      }
    }
  }

  /// dtable[id] += dx[row]. Columns are split over the workers, so that equal ids never meet and
  /// every sum runs over the rows in order.
  package static func backward(
    ids: UnsafePointer<Int32>, dx: Matrix, into dtable: Matrix, on executor: Executor
  ) {
    executor.parallel(dx.columns, grain: 16) { range in
      for row in 0..<dx.rows {
        executor.kernels.vectors.axpy_f32(
          dtable.row(Int(ids[row])) + range.lowerBound, dx.row(row) + range.lowerBound, 1,
          range.count)
      }
    }
  }
}
