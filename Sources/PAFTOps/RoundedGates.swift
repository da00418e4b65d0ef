// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Gate and up of a gated unit as its backward pass reads them, in BF16: the most of what layers keep, in
/// half the memory. The forward pass goes on with what was computed. The gradients of both, and the
/// product computed again, are rounded to BF16 themselves as operands of products, so that this
/// rounding is one more of the same size.
///
/// Tried and lost: rounded where they are summed, 48 rows of 64 columns at a time in the first-level cache, so
/// that no Floats of them are written. SwiGLU took 34 ms in place of 42, but the products lost more: in turns,
/// a step of the 0.5B shape took 1,795 ms in place of 1,718 on an 8-bit base, 2,549 in place of 2,418 in BF16.
package struct RoundedGates: @unchecked Sendable, BitwiseCopyable {
  package let gate: UnsafeMutablePointer<UInt16>
  package let up: UnsafeMutablePointer<UInt16>
  package let rows: Int
  package let columns: Int

  package init(in arena: Arena, rows: Int, columns: Int) {
    gate = arena.allocate(UInt16.self, count: max(1, 2 * rows * columns + Self.distance))
    up = gate + rows * columns + Self.distance
    self.rows = rows
    self.columns = columns
  }

  /// Between gate and up, which are walked together: off the same sets of the caches, like the distance
  /// of an arena's large allocations, and less of it.
  static let distance = 68 * 32

  package var gateRows: RoundedMatrix { RoundedMatrix(gate, rows: rows, columns: columns) }
  package var upRows: RoundedMatrix { RoundedMatrix(up, rows: rows, columns: columns) }

  /// Rounds `count` values of a row, from column `from` on.
  @inline(__always)
  func store(
    _ row: Int, _ from: Int, _ count: Int, _ gate: UnsafePointer<Float>,
    _ up: UnsafePointer<Float>, _ kernels: KernelTable
  ) {
    kernels.vectors.toBF16(self.gate + row * columns + from, gate, count, 0)
    kernels.vectors.toBF16(self.up + row * columns + from, up, count, 0)
  }

  @inline(__always)
  func load(
    _ row: Int, _ from: Int, _ count: Int, _ gate: UnsafeMutablePointer<Float>,
    _ up: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    kernels.vectors.fromBF16(gate, self.gate + row * columns + from, count, 0)
    kernels.vectors.fromBF16(up, self.up + row * columns + from, count, 0)
  }

  /// Rounds gate and up.
  package func fill(gate: Matrix, up: Matrix, on executor: Executor) {
    let span = executor.begin(.rows(.copy, rows, columns, .forward, bytesEach: 12))
    defer { executor.end(span) }
    executor.parallel(rows, grain: 4) { range in
      for row in range {
        store(row, 0, columns, gate.row(row), up.row(row), executor.kernels)
      }
    }
  }
}

extension SwiGLU {
  /// y = activation(gate) * up of what was kept.
  package static func forward(
    _ kept: RoundedGates, by activation: Activation, into y: Matrix, on executor: Executor
  ) {
    let span = executor.begin(.rows(.swiglu, y.rows, y.columns, .forward, bytesEach: 8))
    defer { executor.end(span) }
    precondition(y.rows == kept.rows && y.columns == kept.columns)
    withPieces(2, units: kept.rows, on: executor) { row, gate in
      let up = gate + pieceColumns
      pieces(y.columns) { from, count in
        kept.load(row, from, count, gate, up, executor.kernels)
        executor.kernels.rows.gated(activation)(y.row(row) + from, gate, up, count, 0)
      }
    }
  }

  /// dgate and dup from dy and what was kept, and both packed or quantised where operands are given.
  /// dup may be dy's memory. With `product`, y itself takes the place of the kept gate: for the gradient
  /// of what it is multiplied by.
  package static func backward(
    _ dy: Matrix, _ kept: RoundedGates, by activation: Activation, dgate: Matrix, dup: Matrix,
    packed operands: (gate: LinearRows, up: LinearRows)? = nil, product isKept: Bool = false,
    on executor: Executor
  ) {
    let packing = operands.map { $0.gate.bytesEach + $0.up.bytesEach } ?? 0
    let span = executor.begin(
      .rows(
        .swiglu, dy.rows, dy.columns, .backward, bytesEach: 16 + packing + (isKept ? 2 : 0)))
    defer { executor.end(span) }
    if let operands {
      precondition(
        operands.gate.m == dy.rows && operands.gate.k == dy.columns && operands.up.m == dy.rows
          && operands.up.k == dy.columns && operands.up.unit == operands.gate.unit,
        "swiglu: \(dy.rows)x\(dy.columns) packed otherwise")
    }
    precondition(dy.rows == kept.rows && dy.columns == kept.columns)
    executor.parallel(operands?.gate.units ?? dy.rows) { range in
      for unit in range {
        for row in operands?.gate.rows(unit..<unit + 1) ?? unit..<unit + 1 {
          let at = row * kept.columns
          executor.kernels.rows.roundedBackward(activation)(
            dgate.row(row), dup.row(row), nil, nil, isKept ? kept.gate + at : nil, dy.row(row),
            kept.gate + at, kept.up + at, dy.columns)
        }
        if let operands {
          operands.gate.fill(unit..<unit + 1, from: dgate, executor)
          operands.up.fill(unit..<unit + 1, from: dup, executor)
        }
      }
    }
  }

  /// What an adapter's gradients read of a gated unit, in BF16: the product and its factors' gradients.
  package struct RoundedGradients {
    package let product: RoundedMatrix
    package let gate: RoundedMatrix
    package let up: RoundedMatrix
  }

  /// The same where base weights are frozen: as Floats the gradients of gate and up exist only on their
  /// way into the operands. They are left rounded in place of the kept up and of dy, and the product in
  /// place of the kept gate.
  package static func backward(
    replacing dy: Matrix, _ kept: RoundedGates, by activation: Activation,
    packed operands: (gate: LinearRows, up: LinearRows), on executor: Executor
  ) -> RoundedGradients {
    let (gate, up) = operands
    let span = executor.begin(
      .rows(
        .swiglu, dy.rows, dy.columns, .backward, bytesEach: 14 + gate.bytesEach + up.bytesEach))
    defer { executor.end(span) }
    precondition(
      gate.m == dy.rows && gate.k == dy.columns && up.m == dy.rows && up.k == dy.columns
        && up.unit == gate.unit && dy.rows == kept.rows && dy.columns == kept.columns,
      "swiglu: \(dy.rows)x\(dy.columns) packed otherwise")
    let columns = dy.columns
    let dup = RoundedMatrix(in: dy)
    executor.withScratch { scratch in
      let room = gate.unit * columns
      let rooms = scratch.allocate(Float.self, count: max(1, 2 * executor.workers * room))
      executor.run { worker in
        for unit in Executor.share(
          of: gate.units, worker: worker, workers: executor.workers, grain: 1)
        {
          let rows = gate.rows(unit..<unit + 1)
          // Of a worker's own matrices, these rows alone are there.
          let own = rooms + 2 * worker * room - rows.lowerBound * columns
          let dgates = Matrix(own, rows: dy.rows, columns: columns)
          let dups = Matrix(own + room, rows: dy.rows, columns: columns)
          for row in rows {
            let at = row * columns
            executor.kernels.rows.roundedBackward(activation)(
              dgates.row(row), dups.row(row), kept.up + at, dup.row(row), kept.gate + at,
              dy.row(row), kept.gate + at, kept.up + at, columns)
          }
          gate.fill(unit..<unit + 1, from: dgates, executor)
          up.fill(unit..<unit + 1, from: dups, executor)
        }
      }
    }
    return RoundedGradients(product: kept.gateRows, gate: kept.upRows, up: dup)
  }

  /// Columns of a row that are taken through several kernels at a time: they stay in the first-level
  /// cache.
  static let pieceColumns = 1024

  @inline(__always)
  static func pieces(_ columns: Int, _ body: (_ from: Int, _ count: Int) -> Void) {
    for from in stride(from: 0, to: columns, by: pieceColumns) {
      body(from, min(pieceColumns, columns - from))
    }
  }

  /// Splits units over the team; each worker has some pieces of its own.
  private static func withPieces(
    _ count: Int, units: Int, on executor: Executor,
    _ body: (_ unit: Int, _ pieces: UnsafeMutablePointer<Float>) -> Void
  ) {
    executor.withScratch { scratch in
      let room = count * pieceColumns + 16
      let rooms = scratch.allocate(Float.self, count: executor.workers * room)
      executor.run { worker in
        for unit in Executor.share(of: units, worker: worker, workers: executor.workers, grain: 1) {
          body(unit, rooms + worker * room)
        }
      }
    }
  }
}
