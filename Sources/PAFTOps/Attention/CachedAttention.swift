// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Attention of one new query per sequence over its cached keys: a matrix-vector product, bound by
/// the memory of the cache, which is read once for all query heads of a key head.
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
    // Heads that share a key head go together, unless that leaves workers without work. Each head
    // is summed by itself, so the bits do not depend on the cut.
    let pairs = q.rows * shape.keyHeads
    let cuts = min(shape.group, (executor.workers + pairs - 1) / max(1, pairs))
    let each = (shape.group + cuts - 1) / max(1, cuts)
    let parts = (shape.group + each - 1) / each
    executor.withScratch { scratch in
      let scores = Matrix(in: scratch, rows: executor.workers * each, columns: capacity + 2)
      executor.interleaved(pairs * parts) { item, worker in
        let part = item % parts
        let row = item / parts / shape.keyHeads
        let keyHead = item / parts % shape.keyHeads
        let head = keyHead * shape.group + part * each
        let heads = min(each, shape.group - part * each)
        let position = Int(positions[row])
        let first = shape.firstKey(position)
        let count = position - first + 1
        let base = slots[row] * capacity + first
        let lines = scores.row(worker * each)
        let target = output.row(row) + head * size
        kernels.attention.cachedScores_f32(
          lines, scores.stride, q.row(row) + head * size, heads,
          keys.row(base) + keyHead * size, keys.stride, count, size)
        for i in 0..<heads {
          let line = lines + i * scores.stride
          let state = line + capacity
          state[0] = -.infinity
          state[1] = 0
          _ = kernels.rows.softmaxOnline_f32(line, count, shape.scale, state)
        }
        kernels.attention.cachedOutput_f32(
          target, lines, scores.stride, heads, values.row(base) + keyHead * size, values.stride,
          count, size)
        for i in 0..<heads {
          kernels.vectors.scale_f32(
            target + i * size, 1 / lines[i * scores.stride + capacity + 1], size)
        }
      }
    }
  }
}
