// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// A weight W[out, in] as a linear layer multiplies by it: in the executor's own type, or frozen in 8
/// bits with a scale for each output channel.
package enum LinearWeight: @unchecked Sendable {
  case floats(PackedWeight)
  case integers(PackedIntegerWeight)

  package var inputs: Int {
    switch self {
    case .floats(let weight): weight.inputs
    case .integers(let weight): weight.inputs
    }
  }

  package var outputs: Int {
    switch self {
    case .floats(let weight): weight.outputs
    case .integers(let weight): weight.outputs
    }
  }

  /// Of the output channels, where the weight is held in 8 bits.
  package var scales: UnsafePointer<Float>? {
    if case .integers(let weight) = self { UnsafePointer(weight.scales) } else { nil }
  }
}

/// The left operand of linear layers, m x k: packed in the executor's type for weights and adapters
/// of that type, quantised by row for 8-bit weights, or both, from one reading.
package struct LinearRows: @unchecked Sendable, BitwiseCopyable {
  package let packed: PackedRows?
  package let quantized: QuantizedRows?
  /// What the columns are multiplied by before they are quantised.
  private let columns: UnsafePointer<Float>?
  package let m: Int
  package let k: Int
  /// Rows of a unit of work: whole panels of both.
  let unit: Int

  var units: Int { (m + unit - 1) / unit }

  /// Unfilled.
  ///
  /// - Parameter columns: for an output gradient, the scales of the weight that it will meet.
  package init(
    in arena: Arena, m: Int, k: Int, packed isPacked: Bool, quantized isQuantized: Bool,
    columns: UnsafePointer<Float>? = nil, on executor: Executor
  ) {
    self.m = m
    self.k = k
    self.columns = columns
    packed = isPacked ? Linear.unfilled(m, k, in: arena, on: executor) : nil
    quantized = isQuantized ? QuantizedRows(in: arena, m: m, k: k, on: executor) : nil
    let rows = packed?.tile.rows ?? 1
    let others = quantized?.tile.rows ?? rows
    unit = rows == others ? rows : rows * others
  }

  /// Bytes an element costs: what filling writes besides reading its source.
  var bytesEach: Double { Double(packed?.type.size ?? 0) + (quantized == nil ? 0 : 1) }

  /// The source's rows of some units.
  @inline(__always) func rows(_ units: Range<Int>) -> Range<Int> {
    units.lowerBound * unit..<min(units.upperBound * unit, m)
  }

  /// Fills some units, as part of a worker's own work.
  @inline(__always)
  func fill(_ units: Range<Int>, from source: Matrix, _ executor: Executor) {
    let rows = rows(units)
    if let packed {
      let first = rows.lowerBound / packed.tile.rows
      let last = (rows.upperBound + packed.tile.rows - 1) / packed.tile.rows
      packed.pack(panels: first..<last, from: source, transposed: false, executor.kernels)
    }
    if let quantized {
      let first = rows.lowerBound / quantized.tile.rows
      let last = (rows.upperBound + quantized.tile.rows - 1) / quantized.tile.rows
      quantized.quantize(panels: first..<last, from: source, columns: columns, executor.kernels)
    }
  }

  /// Fills all, in a pass of its own.
  package func fill(from source: Matrix, on executor: Executor) {
    precondition(
      source.rows == m && source.columns == k,
      "linear rows: \(source.rows)x\(source.columns) as \(m)x\(k)")
    guard quantized != nil else {
      packed?.pack(from: source, on: executor)
      return
    }
    let span = executor.begin(.quantise(m, k))
    defer { executor.end(span) }
    executor.parallel(units) { fill($0, from: source, executor) }
  }
}

extension Tile {
  /// Rows of a weight that can be packed apart: whole panels of the one layout, whole groups of k of the
  /// other.
  package var rowGrain: Int { max(columns, depth) }
}

extension LinearWeight {
  /// Packs all layouts from row-major W[out, in].
  package func pack(from weight: Matrix, on executor: Executor) {
    switch self {
    case .floats(let packed): packed.pack(from: weight, on: executor)
    case .integers(let packed): packed.pack(from: weight, on: executor)
    }
  }

  /// Packs the rows of W from `first` on, which begin and end at multiples of `rowGrain` or at the last
  /// row; `finish` follows the last ones.
  package func packRows(from rows: Matrix, at first: Int, on executor: Executor) {
    switch self {
    case .floats(let packed): packed.packRows(from: rows, at: first, on: executor)
    case .integers(let packed): packed.packRows(from: rows, at: first, on: executor)
    }
  }

  package func finish(on executor: Executor) {
    if case .integers(let packed) = self { packed.finish(on: executor) }
  }

  package var rowGrain: Int {
    switch self {
    case .floats(let packed): packed.forward.tile.rowGrain
    case .integers(let packed): packed.rowGrain
    }
  }

  /// y[m, out] = x Wᵀ (+ bias) (+ an adapter).
  package func forward(
    _ x: LinearRows, bias: UnsafePointer<Float>?, into y: Matrix, adapter: Linear.LowRank? = nil,
    on executor: Executor
  ) {
    switch self {
    case .floats(let weight):
      Linear.forward(x.packed!, weight, bias: bias, into: y, adapter: adapter, on: executor)
    case .integers(let weight):
      IntegerLinear.forward(
        x.quantized!, weight, bias: bias, into: y, adapter: adapter, on: executor)
    }
  }

  /// y = base + x Wᵀ (+ bias) (+ an adapter): a residual connection.
  package func forward(
    _ x: LinearRows, base: Matrix, bias: UnsafePointer<Float>?, into y: Matrix,
    adapter: Linear.LowRank? = nil, on executor: Executor
  ) {
    switch self {
    case .floats(let weight):
      Linear.forward(x.packed!, weight, base: base, into: y, adapter: adapter, on: executor)
      if let bias { Linear.addBias(bias, to: y, on: executor) }
    case .integers(let weight):
      Elementwise.copy(base, to: y, on: executor)
      IntegerLinear.forward(
        x.quantized!, weight, bias: bias, into: y, adapter: adapter, accumulate: true,
        on: executor)
    }
  }

  /// dx[m, in] (+)= dy W (+ an adapter), where `dy` was quantised with this weight's scales.
  package func backwardInput(
    _ dy: LinearRows, into dx: Matrix, adapter: Linear.LowRank? = nil, accumulate: Bool,
    on executor: Executor
  ) {
    switch self {
    case .floats(let weight):
      Linear.backwardInput(
        dy.packed!, weight, into: dx, adapter: adapter, accumulate: accumulate, on: executor)
    case .integers(let weight):
      IntegerLinear.backwardInput(
        dy.quantized!, weight, into: dx, adapter: adapter, accumulate: accumulate, on: executor)
    }
  }
}
