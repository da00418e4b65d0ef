// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The output head fused with the log-probability of each row's target: logits exist only as one
/// tile of `chunkRows` x `vocabularyTile` at a time.
///
/// A row r is one position that has a label: callers gather hidden states of such rows first, so
/// unlabelled tokens never reach the head. Every loss here is a function of log-probabilities
/// logp[r] = z[target] - lse, so one backward serves all: given c[r] = dL/dlogp[r],
/// dL/dz = c (onehot - softmax(z)).
package enum HeadLoss {
  static let chunkRows = 256
  static let vocabularyTile = 4096

  /// What the forward pass leaves for each row.
  package struct Rows {
    package let logp: UnsafeMutablePointer<Float>
    package let lse: UnsafeMutablePointer<Float>
    /// 1 where the target is the most probable token.
    package let correct: UnsafeMutablePointer<UInt8>

    package init(
      logp: UnsafeMutablePointer<Float>, lse: UnsafeMutablePointer<Float>,
      correct: UnsafeMutablePointer<UInt8>
    ) {
      self.logp = logp
      self.lse = lse
      self.correct = correct
    }

    package init(in arena: Arena, count: Int) {
      self.init(
        logp: arena.allocate(Float.self, count: max(1, count)),
        lse: arena.allocate(Float.self, count: max(1, count)),
        correct: arena.allocate(UInt8.self, count: max(1, count)))
    }

    @inline(__always) func advanced(_ n: Int) -> Rows {
      Rows(logp: logp + n, lse: lse + n, correct: correct + n)
    }
  }

  /// hidden [rows, D], head W[V, D].
  package static func forward(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    on executor: Executor
  ) {
    chunks(hidden.rows) { chunk in
      executor.withScratch { scratch in
        let x = Linear.pack(hidden.rows(chunk), in: scratch, on: executor)
        let tile = Matrix(
          in: scratch, rows: chunk.count, columns: min(vocabularyTile, head.outputs))
        statistics(
          x, head, tile, targets + chunk.lowerBound, rows.advanced(chunk.lowerBound), on: executor)
      }
    }
  }

  /// dhidden (overwritten) and, when given, dweight[V, D] += from `coefficients` = dL/dlogp.
  /// Logits are recomputed tile by tile: one more GEMM instead of rows x V floats of memory.
  package static func backward(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    coefficients: UnsafePointer<Float>, dhidden: Matrix, dweight: Matrix?, on executor: Executor
  ) {
    chunks(hidden.rows) { chunk in
      executor.withScratch { scratch in
        let part = hidden.rows(chunk)
        let x = Linear.pack(part, in: scratch, on: executor)
        let tile = Matrix(
          in: scratch, rows: chunk.count, columns: min(vocabularyTile, head.outputs))
        gradients(
          x, part, head, tile, recompute: true, targets + chunk.lowerBound,
          rows.advanced(chunk.lowerBound), coefficients + chunk.lowerBound,
          dhidden.rows(chunk), dweight, on: executor)
      }
    }
  }

  /// Forward and backward together, for losses whose coefficients are known beforehand
  /// (cross-entropy): a vocabulary of one tile keeps its logits and skips the recomputation.
  package static func forwardBackward(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    coefficients: UnsafePointer<Float>, dhidden: Matrix, dweight: Matrix?, on executor: Executor
  ) {
    chunks(hidden.rows) { chunk in
      executor.withScratch { scratch in
        let part = hidden.rows(chunk)
        let x = Linear.pack(part, in: scratch, on: executor)
        let tile = Matrix(
          in: scratch, rows: chunk.count, columns: min(vocabularyTile, head.outputs))
        let targets = targets + chunk.lowerBound
        let rows = rows.advanced(chunk.lowerBound)
        statistics(x, head, tile, targets, rows, on: executor)
        gradients(
          x, part, head, tile, recompute: head.outputs > vocabularyTile, targets, rows,
          coefficients + chunk.lowerBound, dhidden.rows(chunk), dweight, on: executor)
      }
    }
  }

  // MARK: - One chunk of rows

  @inline(__always)
  private static func chunks(_ count: Int, _ body: (Range<Int>) -> Void) {
    var from = 0
    while from < count {
      let to = min(from + chunkRows, count)
      body(from..<to)
      from = to
    }
  }

  /// Log-sum-exp, target logit and whether the target is the arg max, over all vocabulary tiles.
  private static func statistics(
    _ x: PackedRows, _ head: PackedWeight, _ buffer: Matrix, _ targets: UnsafePointer<Int32>,
    _ rows: Rows, on executor: Executor
  ) {
    let count = x.m
    executor.withScratch { scratch in
      let state = scratch.allocate(Float.self, count: 2 * count)
      let best = scratch.allocate(Float.self, count: count)
      let arg = scratch.allocate(Int32.self, count: count)
      for row in 0..<count {
        state[2 * row] = -.infinity
        state[2 * row + 1] = 0
        best[row] = -.infinity
        arg[row] = -1
        rows.logp[row] = 0
      }
      var from = 0
      while from < head.outputs {
        let width = min(vocabularyTile, head.outputs - from)
        let logits = buffer.columns(0..<width)
        multiply(x, head.forward, columns: from..<from + width, into: logits, on: executor)
        executor.parallel(count, grain: 2) { range in
          for row in range {
            let line = logits.row(row)
            executor.kernels.rows.logSumExp_f32(line, width, state + 2 * row)
            let top = executor.kernels.rows.argmax_f32(line, width)
            if line[top] > best[row] {
              best[row] = line[top]
              arg[row] = Int32(from + top)
            }
            let target = Int(targets[row]) - from
            if target >= 0 && target < width { rows.logp[row] = line[target] }
          }
        }
        from += width
      }
      for row in 0..<count {
        rows.lse[row] = state[2 * row] + logf(state[2 * row + 1])
        rows.logp[row] -= rows.lse[row]
        rows.correct[row] = arg[row] == targets[row] ? 1 : 0
      }
    }
  }

  private static func gradients(
    _ x: PackedRows, _ hidden: Matrix, _ head: PackedWeight, _ buffer: Matrix, recompute: Bool,
    _ targets: UnsafePointer<Int32>, _ rows: Rows, _ coefficients: UnsafePointer<Float>,
    _ dhidden: Matrix, _ dweight: Matrix?, on executor: Executor
  ) {
    var from = 0
    while from < head.outputs {
      let width = min(vocabularyTile, head.outputs - from)
      let logits = buffer.columns(0..<width)
      if recompute {
        multiply(x, head.forward, columns: from..<from + width, into: logits, on: executor)
      }
      executor.parallel(x.m, grain: 2) { range in
        for row in range {
          executor.kernels.rows.softmaxGradient_f32(
            logits.row(row), width, rows.lse[row], -coefficients[row])
          let target = Int(targets[row]) - from
          if target >= 0 && target < width { logits.row(row)[target] += coefficients[row] }
        }
      }
      executor.withScratch { scratch in
        let dz = Linear.pack(logits, in: scratch, on: executor)
        multiply(
          dz, backward: head, reduced: from..<from + width, into: dhidden, accumulate: from > 0,
          on: executor)
      }
      if let dweight {
        Linear.backwardWeight(logits, hidden, into: dweight.rows(from..<from + width), on: executor)
      }
      from += width
    }
  }

  /// logits = x Wᵀ for a range of the vocabulary that starts at a panel.
  private static func multiply(
    _ x: PackedRows, _ weight: PackedMatrix, columns: Range<Int>, into logits: Matrix,
    on executor: Executor
  ) {
    GEMM.multiply(x, weight.panels(columns), into: logits, on: executor)
  }

  /// dhidden (+)= dz W for a range of the vocabulary, which is the reduced dimension here.
  private static func multiply(
    _ dz: PackedRows, backward head: PackedWeight, reduced: Range<Int>, into dhidden: Matrix,
    accumulate: Bool, on executor: Executor
  ) {
    guard let weight = head.backward else {
      preconditionFailure("the head was packed for the forward pass only")
    }
    GEMM.multiply(
      dz, weight, reduced: reduced.lowerBound, into: dhidden, accumulate: accumulate, on: executor)
  }
}
