// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Element-wise helpers over whole matrices and flat buffers.
package enum Elementwise {
  /// y += alpha x.
  package static func add(_ x: Matrix, to y: Matrix, alpha: Float = 1, on executor: Executor) {
    let span = executor.begin(.rows(.add, y.rows, y.columns, .rows, bytesEach: Work.Each.add))
    defer { executor.end(span) }
    executor.parallel(y.rows, grain: 8) { range in
      for row in range {
        executor.kernels.vectors.axpy_f32(y.row(row), x.row(row), alpha, y.columns)
      }
    }
  }

  /// y *= factor.
  package static func scale(_ y: Matrix, by factor: Float, on executor: Executor) {
    let span = executor.begin(.rows(.add, y.rows, y.columns, .rows, bytesEach: Work.Each.update))
    defer { executor.end(span) }
    executor.parallel(y.rows, grain: 8) { range in
      for row in range { executor.kernels.vectors.scale_f32(y.row(row), factor, y.columns) }
    }
  }

  /// Holds y within the cap.
  package static func cap(_ y: Matrix, by cap: Softcap, on executor: Executor) {
    let span = executor.begin(.rows(.add, y.rows, y.columns, .rows, bytesEach: Work.Each.update))
    defer { executor.end(span) }
    executor.parallel(y.rows, grain: 1) { range in
      for row in range { cap.apply(y.row(row), nil, y.columns, executor.kernels) }
    }
  }

  package static func copy(_ x: Matrix, to y: Matrix, on executor: Executor) {
    let span = executor.begin(.rows(.copy, y.rows, y.columns, .rows, bytesEach: Work.Each.copy))
    defer { executor.end(span) }
    let streams = Streaming.flag(y)
    let isFlat = y.isFlat && x.isFlat
    executor.parallel(y.rows, grain: 8) { range in
      let step = isFlat ? range.count : 1
      for row in stride(from: range.lowerBound, to: range.upperBound, by: step) {
        executor.kernels.vectors.copy_f32(y.row(row), x.row(row), step * y.columns, streams)
      }
    }
  }

  package static func zero(
    _ pointer: UnsafeMutablePointer<Float>, count: Int, on executor: Executor
  ) {
    let span = executor.begin(.flat(.zero, count, bytesEach: Work.Each.zero))
    defer { executor.end(span) }
    executor.parallel(count, grain: 4096) { range in
      (pointer + range.lowerBound).update(repeating: 0, count: range.count)
    }
  }

  /// Sum of squares in Double, in blocks of fixed size summed in order: the same bits for any team.
  package static func sumSquares(
    _ x: UnsafePointer<Float>, count: Int, on executor: Executor
  ) -> Double {
    let span = executor.begin(.flat(.norm, count, bytesEach: Work.Each.read))
    defer { executor.end(span) }
    let size = 1 << 14
    let blocks = (count + size - 1) / size
    return executor.withScratch { scratch in
      let partial = scratch.allocate(Double.self, count: max(1, blocks))
      executor.parallel(blocks) { range in
        for block in range {
          let from = block * size
          partial[block] = executor.kernels.vectors.sumSquares_f32(
            x + from, min(size, count - from))
        }
      }
      var sum = 0.0
      for block in 0..<blocks { sum += partial[block] }
      return sum
    }
  }
}
