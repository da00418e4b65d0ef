// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Attention of one new query per sequence over its cached keys: a matrix-vector product, bound by
/// the memory of the cache, so plain dot products over rows are as fast as anything.
package enum CachedAttention {
  /// q and output [rows, heads*D]; row r attends to cache rows slots[r]*capacity ... up to and
  /// including its own position, whose key and value were stored before.
  package static func forward(
    q: Matrix, keys: Matrix, values: Matrix, capacity: Int, slots: [Int],
    positions: UnsafePointer<Int32>, shape: AttentionShape, into output: Matrix,
    on executor: Executor
  ) {
    let size = shape.headSize
    let kernels = executor.kernels
    executor.withScratch { scratch in
      let scores = Matrix(in: scratch, rows: executor.workers, columns: capacity + 2)
      executor.interleaved(q.rows * shape.heads) { item, worker in
        let row = item / shape.heads
        let head = item % shape.heads
        let column = head / shape.group * size
        let position = Int(positions[row])
        let first = shape.firstKey(position)
        let base = slots[row] * capacity
        let line = scores.row(worker)
        let state = line + capacity
        for key in first...position {
          line[key - first] = Float(
            kernels.vectors.dot_f32(q.row(row) + head * size, keys.row(base + key) + column, size))
        }
        state[0] = -.infinity
        state[1] = 0
        _ = kernels.rows.softmaxOnline_f32(line, position - first + 1, shape.scale, state)
        let target = output.row(row) + head * size
        target.update(repeating: 0, count: size)
        for key in first...position {
          kernels.vectors.axpy_f32(
            target, values.row(base + key) + column, line[key - first] / state[1], size)
        }
      }
    }
  }
}
