// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// A weight W[out, in] in the two layouts that training multiplies by: Wᵀ for the forward pass
/// (reduced over `in`) and W for the input gradient (reduced over `out`). Frozen weights are packed
/// once at load, trained ones after each optimizer step; never inside a step.
///
/// A frozen weight may be kept in the first layout alone, half the memory: the input gradient then
/// turns a panel at a time into the second one and multiplies by it while it lies in the caches
/// (`GEMM.multiplyTurned`).
package struct PackedWeight: @unchecked Sendable {
  package let forward: PackedMatrix
  /// Absent where no gradient passes through (reference-only copies), and where it is turned.
  package let backward: PackedMatrix?
  /// Whether input gradients turn the panels of the forward pass.
  package let turns: Bool

  package var inputs: Int { forward.k }
  package var outputs: Int { forward.n }

  package static func bytes(
    outputs: Int, inputs: Int, backward: Bool, type: ComputeType, tile: Tile
  ) -> Int {
    PackedMatrix.bytes(k: inputs, n: outputs, type: type, tile: tile)
      + (backward ? PackedMatrix.bytes(k: outputs, n: inputs, type: type, tile: tile) : 0)
  }

  /// - Parameters:
  ///   - backward: whether input gradients pass through.
  ///   - turns: whether they do without a layout of their own.
  package init(
    in arena: Arena, outputs: Int, inputs: Int, backward: Bool, turns: Bool = false,
    type: ComputeType, tile: Tile
  ) {
    self.turns = backward && turns
    forward = PackedMatrix(in: arena, k: inputs, n: outputs, type: type, tile: tile)
    self.backward =
      backward && !turns
      ? PackedMatrix(in: arena, k: outputs, n: inputs, type: type, tile: tile) : nil
  }

  /// Rows of a product from which on turning its weight takes less than three parts in a hundred of a
  /// step. And so many, in panels, that what is turned next can be asked for beside them.
  package static let fewestRowsToTurn = 384

  /// Packs both layouts from row-major W[out, in].
  package func pack(from weight: Matrix, on executor: Executor) {
    packForward(from: weight, on: executor)
    packBackward(from: weight, on: executor)
  }

  /// Packs what the forward pass multiplies by.
  package func packForward(from weight: Matrix, on executor: Executor) {
    forward.pack(from: weight, transposed: true, on: executor)
  }

  /// Packs what input gradients multiply by, where it has memory of its own.
  package func packBackward(from weight: Matrix, on executor: Executor) {
    backward?.pack(from: weight, transposed: false, on: executor)
  }

  /// Packs the rows of W from `first` on, a multiple of the tile's `rowGrain`, as many as that or the
  /// last ones: a big weight need never be in memory in Float as a whole.
  package func packRows(from rows: Matrix, at first: Int, on executor: Executor) {
    forward.panels(first..<first + rows.rows).pack(from: rows, transposed: true, on: executor)
    backward?.packRows(from: rows, at: first, on: executor)
  }
}

/// Y = X Wᵀ + bias, and its gradients.
package enum Linear {
  /// Rounds and packs activations for the GEMMs that follow; scratch belongs to the caller.
  package static func pack(_ x: Matrix, in arena: Arena, on executor: Executor) -> PackedRows {
    let rows = unfilled(x.rows, x.columns, in: arena, on: executor)
    rows.pack(from: x, on: executor)
    return rows
  }

  /// The same for values that are packed by whoever computes them.
  package static func unfilled(_ m: Int, _ k: Int, in arena: Arena, on executor: Executor)
    -> PackedRows
  {
    PackedRows(in: arena, m: m, k: k, type: executor.compute, tile: executor.tile)
  }

  /// What an adapter adds to a product, with it: `scale` (x Aᵀ) Bᵀ to y, or (dy B) A to dx.
  package struct LowRank {
    let low: PackedRows
    let weight: PackedWeight
    let scale: Float

    /// - Parameters:
    ///   - low: x Aᵀ, or `scale` dy B, packed: [m, rank].
    ///   - weight: B, or A.
    package init(_ low: PackedRows, _ weight: PackedWeight, scale: Float = 1) {
      self.low = low
      self.weight = weight
      self.scale = scale
    }

    var forward: GEMM.Tail { GEMM.Tail(low, weight.forward, alpha: scale) }

    var backward: GEMM.Tail {
      guard let backward = weight.backward else {
        preconditionFailure("this weight was packed for the forward pass only")
      }
      return GEMM.Tail(low, backward, alpha: scale)
    }
  }

  /// y[m, out] = x Wᵀ (+ bias) (+ an adapter), or y += alpha x Wᵀ when `accumulate`.
  package static func forward(
    _ x: PackedRows, _ weight: PackedWeight, bias: UnsafePointer<Float>? = nil, into y: Matrix,
    adapter: LowRank? = nil, alpha: Float = 1, accumulate: Bool = false, on executor: Executor
  ) {
    let span = executor.begin(
      .gemm(x.m, weight.outputs, x.k + rank(adapter), .forward, OperandType(x.type)))
    defer { executor.end(span) }
    precondition(!accumulate || bias == nil, "a bias is added once, with the first product")
    let addend: GEMM.Addend =
      if let bias { .row(bias) } else { accumulate ? .target : .nothing }
    GEMM.multiply(
      x, weight.forward, into: y, alpha: alpha, adding: addend, tail: adapter?.forward, on: executor
    )
  }

  /// Columns that an adapter adds to the reduced dimension.
  private static func rank(_ adapter: LowRank?) -> Int { adapter?.low.k ?? 0 }

  /// y = base + x Wᵀ (+ an adapter): a residual connection.
  package static func forward(
    _ x: PackedRows, _ weight: PackedWeight, base: Matrix, into y: Matrix,
    adapter: LowRank? = nil, on executor: Executor
  ) {
    let span = executor.begin(
      .gemm(x.m, weight.outputs, x.k + rank(adapter), .forward, OperandType(x.type)))
    defer { executor.end(span) }
    precondition(base.rows == y.rows && base.columns == y.columns)
    GEMM.multiply(
      x, weight.forward, into: y, adding: .matrix(base), tail: adapter?.forward, on: executor)
  }

  /// y += bias, in every row.
  package static func addBias(
    _ bias: UnsafePointer<Float>, to y: Matrix, on executor: Executor
  ) {
    let span = executor.begin(.rows(.add, y.rows, y.columns, .forward, bytesEach: Work.Each.update))
    defer { executor.end(span) }
    executor.parallel(y.rows, grain: 8) { range in
      for row in range { executor.kernels.vectors.axpy_f32(y.row(row), bias, 1, y.columns) }
    }
  }

  /// dx[m, in] (+)= alpha dy W (+ an adapter).
  package static func backwardInput(
    _ dy: PackedRows, _ weight: PackedWeight, into dx: Matrix, adapter: LowRank? = nil,
    alpha: Float = 1, accumulate: Bool, on executor: Executor
  ) {
    let span = executor.begin(
      .gemm(dy.m, dy.k + rank(adapter), weight.inputs, .dgrad, OperandType(dy.type)))
    defer { executor.end(span) }
    if weight.turns {
      return GEMM.multiplyTurned(
        dy, weight.forward, into: dx, alpha: alpha, accumulate: accumulate,
        tail: adapter?.backward, on: executor)
    }
    guard let backward = weight.backward else {
      preconditionFailure("this weight was packed for the forward pass only")
    }
    GEMM.multiply(
      dy, backward, into: dx, alpha: alpha, accumulate: accumulate, tail: adapter?.backward,
      on: executor)
  }

  /// dW[out, in] += alpha dyᵀ x, reduced over the rows (tokens).
  package static func backwardWeight(
    _ dy: Matrix, _ x: Matrix, into dw: Matrix, alpha: Float = 1, on executor: Executor
  ) {
    let span = executor.begin(
      .gemm(x.rows, dy.columns, x.columns, .wgrad, OperandType(executor.compute)))
    defer { executor.end(span) }
    if isThin(outputs: dy.columns, inputs: x.columns, executor.compute) {
      if dy.columns <= x.columns {
        GEMM.multiplyThin(dy, .floats(x), into: dw, turned: false, alpha: alpha, on: executor)
      } else {
        GEMM.multiplyThin(x, .floats(dy), into: dw, turned: true, alpha: alpha, on: executor)
      }
    } else {
      GEMM.multiplyTransposed(dy, x, into: dw, alpha: alpha, on: executor)
    }
  }

  /// The gradients of an adapter's factors, dA[rank, in] += dlowᵀ x and dB[out, rank] += alpha dyᵀ low,
  /// also from what is rounded already: in bf16 compute, of at most `thin` ranks.
  package static func backwardA(
    _ dlow: Matrix, _ x: RoundedMatrix, into da: Matrix, on executor: Executor
  ) {
    let span = executor.begin(.gemm(x.rows, dlow.columns, x.columns, .wgrad, OperandType(.bf16)))
    defer { executor.end(span) }
    GEMM.multiplyThin(dlow, .rounded(x), into: da, turned: false, alpha: 1, on: executor)
  }

  package static func backwardB(
    _ dy: Rows, _ low: Matrix, into db: Matrix, alpha: Float, on executor: Executor
  ) {
    switch dy {
    case .floats(let dy): backwardWeight(dy, low, into: db, alpha: alpha, on: executor)
    case .rounded:
      let span = executor.begin(
        .gemm(low.rows, dy.columns, low.columns, .wgrad, OperandType(.bf16)))
      defer { executor.end(span) }
      GEMM.multiplyThin(low, dy, into: db, turned: true, alpha: alpha, on: executor)
    }
  }

  /// The most ranks of such an adapter.
  package static var thin: Int { GEMM.thin }

  /// Whether a weight's gradient is that of an adapter's factor, or of the like.
  static func isThin(outputs: Int, inputs: Int, _ type: ComputeType) -> Bool {
    type == .bf16 && min(outputs, inputs) <= GEMM.thin
  }

  /// dbias[out] += column sums of dy. One worker per column range, rows in order.
  package static func backwardBias(
    _ dy: Matrix, into dbias: UnsafeMutablePointer<Float>, on executor: Executor
  ) {
    let span = executor.begin(
      .rows(.add, dy.rows, dy.columns, .backward, bytesEach: Work.Each.read))
    defer { executor.end(span) }
    executor.parallel(dy.columns, grain: 64) { range in
      for row in 0..<dy.rows {
        executor.kernels.vectors.axpy_f32(
          dbias + range.lowerBound, dy.row(row) + range.lowerBound, 1, range.count)
      }
    }
  }
}
