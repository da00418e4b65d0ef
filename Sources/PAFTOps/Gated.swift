// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// activation(gate) * up: SwiGLU, and GeGLU by another activation.
package enum SwiGLU {
  package static func forward(
    gate: Matrix, up: Matrix, by activation: Activation = .silu, into y: Matrix,
    on executor: Executor
  ) {
    let span = executor.begin(
      .rows(.swiglu, y.rows, y.columns, .forward, bytesEach: Work.Each.swiglu))
    defer { executor.end(span) }
    let streams = Streaming.flag(y)
    // Rows that lie end to end are one: streaming stores are waited for once.
    let isFlat = y.isFlat && gate.isFlat && up.isFlat
    executor.parallel(y.rows, grain: 4) { range in
      let step = isFlat ? range.count : 1
      for row in stride(from: range.lowerBound, to: range.upperBound, by: step) {
        executor.kernels.rows.gated(activation)(
          y.row(row), gate.row(row), up.row(row), step * y.columns, streams)
      }
    }
  }

  /// The left operand of the product behind it, filled while it is in the caches.
  ///
  /// - Parameters:
  ///   - y: where it goes besides, if somebody reads it.
  ///   - kept: receives gate and up, rounded.
  package static func forward(
    gate: Matrix, up: Matrix, by activation: Activation = .silu, into y: Matrix? = nil,
    keeping kept: RoundedGates? = nil, packed operand: LinearRows, on executor: Executor
  ) {
    let bytes = (y == nil ? 8 : Work.Each.swiglu) + (kept == nil ? 0 : 4) + operand.bytesEach
    let span = executor.begin(
      .rows(.swiglu, gate.rows, gate.columns, .forward, bytesEach: bytes))
    defer { executor.end(span) }
    precondition(operand.m == gate.rows && operand.k == gate.columns, "swiglu: packed otherwise")
    let columns = gate.columns
    executor.withScratch { scratch in
      let room = y == nil ? operand.unit * columns : 0
      let rooms = scratch.allocate(Float.self, count: max(1, executor.workers * room))
      executor.run { worker in
        for unit in Executor.share(
          of: operand.units, worker: worker, workers: executor.workers, grain: 1)
        {
          let rows = operand.rows(unit..<unit + 1)
          // Of a worker's own matrix, these rows alone are there.
          let target =
            y
            ?? Matrix(
              rooms + worker * room - rows.lowerBound * columns, rows: gate.rows, columns: columns)
          for row in rows {
            pieces(columns) { from, count in
              let y = target.row(row) + from
              if let kept {
                let at = row * columns + from
                executor.kernels.rows.gatedKeeping(activation)(
                  y, kept.gate + at, kept.up + at, gate.row(row) + from, up.row(row) + from, count)
              } else {
                executor.kernels.rows.gated(activation)(
                  y, gate.row(row) + from, up.row(row) + from, count, 0)
              }
            }
          }
          operand.fill(unit..<unit + 1, from: target, executor)
        }
      }
    }
  }

  /// dgate may be gate's memory and dup may be up's.
  package static func backward(
    _ dy: Matrix, gate: Matrix, up: Matrix, by activation: Activation = .silu, dgate: Matrix,
    dup: Matrix, on executor: Executor
  ) {
    let span = executor.begin(
      .rows(.swiglu, dy.rows, dy.columns, .backward, bytesEach: Work.Each.swigluBackward))
    defer { executor.end(span) }
    executor.parallel(dy.rows, grain: 4) { range in
      for row in range {
        executor.kernels.rows.gatedBackward(activation)(
          dgate.row(row), dup.row(row), dy.row(row), gate.row(row), up.row(row), dy.columns)
      }
    }
  }

  /// The same in place of gate and up, which are packed or quantised beside it while they are in the
  /// caches.
  package static func backward(
    _ dy: Matrix, gate: Matrix, up: Matrix, by activation: Activation = .silu,
    packed operands: (gate: LinearRows, up: LinearRows), on executor: Executor
  ) {
    let span = executor.begin(
      .rows(
        .swiglu, dy.rows, dy.columns, .backward,
        bytesEach: Work.Each.swigluBackward + operands.gate.bytesEach + operands.up.bytesEach))
    defer { executor.end(span) }
    precondition(
      operands.gate.m == dy.rows && operands.gate.k == dy.columns && operands.up.m == dy.rows
        && operands.up.k == dy.columns && operands.up.unit == operands.gate.unit,
      "swiglu: \(dy.rows)x\(dy.columns) packed otherwise")
    executor.parallel(operands.gate.units) { range in
      for unit in range {
        for row in operands.gate.rows(unit..<unit + 1) {
          executor.kernels.rows.gatedBackward(activation)(
            gate.row(row), up.row(row), dy.row(row), gate.row(row), up.row(row), dy.columns)
        }
        operands.gate.fill(unit..<unit + 1, from: gate, executor)
        operands.up.fill(unit..<unit + 1, from: up, executor)
      }
    }
  }
}
