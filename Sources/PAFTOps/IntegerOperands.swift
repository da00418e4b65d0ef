// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// The left operand of an 8-bit product, m x k: rows of activations or of output gradients, each
/// with its own scale (equation and layout: IntegerKernels). Quantised once and shared by every
/// weight they meet.
package struct QuantizedRows: @unchecked Sendable, BitwiseCopyable {
  let base: UnsafeMutablePointer<UInt8>
  /// Of each row: max|x| / 127.
  package let scales: UnsafeMutablePointer<Float>
  package let m: Int
  package let k: Int
  let tile: Tile

  var panels: Int { (m + tile.rows - 1) / tile.rows }

  /// Values and scales, without what alignment costs.
  package static func bytes(m: Int, k: Int, tile: Tile) -> Int {
    let rows = (m + tile.rows - 1) / tile.rows * tile.rows
    return rows * (tile.padded(k) + MemoryLayout<Float>.stride)
  }

  /// Unfilled.
  package init(in arena: Arena, m: Int, k: Int, on executor: Executor) {
    tile = executor.kernels.integer.tile
    self.m = m
    self.k = k
    let rows = (m + tile.rows - 1) / tile.rows * tile.rows
    base = arena.allocate(UInt8.self, count: max(64, rows * tile.padded(k)))
    scales = arena.allocate(Float.self, count: max(1, rows))
  }

  @inline(__always) func rows(of panel: Int) -> Int { min(tile.rows, m - panel * tile.rows) }

  /// `k0` is a multiple of the tile's depth.
  @inline(__always) func address(panel: Int, from k0: Int) -> UnsafeMutablePointer<UInt8> {
    base + (panel * tile.padded(k) + k0) * tile.rows
  }

  /// Quantises x, its columns first multiplied by `columns` if given.
  package func quantize(
    _ x: Matrix, columns: UnsafePointer<Float>? = nil, on executor: Executor
  ) {
    let span = executor.begin(.quantise(m, k))
    defer { executor.end(span) }
    precondition(x.rows == m && x.columns == k, "quantize: \(x.rows)x\(x.columns) as \(m)x\(k)")
    executor.parallel(panels) { range in
      quantize(panels: range, from: x, columns: columns, executor.kernels)
    }
  }

  /// Some panels, as part of a worker's own work.
  @inline(__always)
  func quantize(
    panels: Range<Int>, from x: Matrix, columns: UnsafePointer<Float>?, _ kernels: KernelTable
  ) {
    for panel in panels {
      let first = panel * tile.rows
      kernels.integer.quantizeA_u8(
        address(panel: panel, from: 0), scales + first, x.row(first), columns, rows(of: panel),
        k, x.stride)
    }
  }

  /// Quantises RMSNorm(x) without writing it; `inverse` receives what the norm's backward pass
  /// needs, the same bits as `RMSNorm.forward` gives.
  package func quantizeNorm(
    _ x: Matrix, weight: UnsafePointer<Float>, eps: Float, inverse: UnsafeMutablePointer<Float>,
    on executor: Executor
  ) {
    let span = executor.begin(.quantise(m, k))
    defer { executor.end(span) }
    precondition(x.rows == m && x.columns == k, "quantize: \(x.rows)x\(x.columns) as \(m)x\(k)")
    executor.parallel(panels) { range in
      for panel in range {
        let first = panel * tile.rows
        executor.kernels.integer.quantizeNormA_u8(
          address(panel: panel, from: 0), scales + first, inverse + first, x.row(first), weight,
          rows(of: panel), k, x.stride, eps)
      }
    }
  }
}

/// The right operand of an 8-bit product, k x n: a frozen weight in column panels, with what its
/// sums start from. The scales of its channels belong to `PackedIntegerWeight`.
package struct PackedIntegerMatrix: @unchecked Sendable, BitwiseCopyable {
  let base: UnsafeMutablePointer<Int8>
  /// -128 times the sum of each column, panel after panel.
  let compensation: UnsafeMutablePointer<Int32>
  package let k: Int
  package let n: Int
  let tile: Tile

  var panels: Int { (n + tile.columns - 1) / tile.columns }

  package static func bytes(k: Int, n: Int, tile: Tile) -> Int {
    let full = n / tile.columns * tile.columns
    let width = full + tile.width(n - full)
    return (tile.padded(k) + MemoryLayout<Int32>.stride) * width
  }

  /// Unfilled.
  init(in arena: Arena, k: Int, n: Int, tile: Tile) {
    precondition(
      k <= IntegerKernels.maximumDepth, "a sum of \(k) products of bytes may not fit 32 bits")
    self.k = k
    self.n = n
    self.tile = tile
    let full = n / tile.columns * tile.columns
    let width = full + tile.width(n - full)
    base = arena.allocate(Int8.self, count: max(64, tile.padded(k) * width))
    compensation = arena.allocate(Int32.self, count: max(1, width))
  }

  @inline(__always) func columns(of panel: Int) -> Int {
    min(tile.columns, n - panel * tile.columns)
  }

  /// `k0` is a multiple of the tile's depth.
  @inline(__always) func address(panel: Int, from k0: Int) -> UnsafeMutablePointer<Int8> {
    base + (panel * tile.columns * tile.padded(k) + k0 * tile.width(columns(of: panel)))
  }

  /// One panel whose columns have been, or will be, summed apart.
  init(
    at base: UnsafeMutablePointer<Int8>, k: Int, n: Int, tile: Tile,
    compensation: UnsafeMutablePointer<Int32>
  ) {
    self.base = base
    self.k = k
    self.n = n
    self.tile = tile
    self.compensation = compensation
  }

  /// Fills this operand of one panel as `PackedMatrix.turn` does. k begins at a multiple of four.
  func turn(from source: PackedIntegerMatrix, at first: Int, _ kernels: KernelTable) {
    for index in 0..<source.panels {
      kernels.integer.turnB_s8(
        address(panel: 0, from: index * tile.columns), source.address(panel: index, from: first),
        n, source.columns(of: index),
        UnsafeRawPointer(
          source.address(panel: min(index + 1, source.panels - 1), from: first)))
    }
    // What a tile unit wants beyond whole quads.
    let quads = (k + 3) & ~3
    address(panel: 0, from: quads).update(
      repeating: 0, count: (tile.padded(k) - quads) * tile.width(n))
  }

  /// Sums the columns; after the last values are packed.
  func compensate(on executor: Executor) {
    executor.parallel(panels) { range in
      for panel in range {
        executor.kernels.integer.compensation_s8(
          compensation + panel * tile.columns, address(panel: panel, from: 0),
          columns(of: panel), k)
      }
    }
  }
}

/// A frozen weight W[out, in] = scale[out] * bytes[out, in] in the two layouts that training
/// multiplies by, 2 bytes for each parameter. Both hold the same bytes: the input gradient
///   dX = dY W = (dY * scale) bytes
/// takes the scales into dY before that is quantised, so no second rounding of W is needed.
package struct PackedIntegerWeight: @unchecked Sendable {
  package let forward: PackedIntegerMatrix
  /// Absent where no gradient passes through, and where it is turned (see `PackedWeight`).
  package let backward: PackedIntegerMatrix?
  /// What sums of an input gradient start from where panels of the forward pass are turned.
  let turnedCompensation: UnsafeMutablePointer<Int32>?
  package var turns: Bool { turnedCompensation != nil }
  /// Of each output channel: max|w| / 127. NaN where a weight is not finite.
  package let scales: UnsafeMutablePointer<Float>

  package var inputs: Int { forward.k }
  package var outputs: Int { forward.n }

  /// Without what alignment costs: at most 63 bytes for each of five buffers.
  package static func bytes(
    outputs: Int, inputs: Int, backward: Bool, turns: Bool = false, tile: Tile
  ) -> Int {
    PackedIntegerMatrix.bytes(k: inputs, n: outputs, tile: tile)
      + (backward ? PackedIntegerMatrix.bytes(k: turns ? 0 : outputs, n: inputs, tile: tile) : 0)
      + outputs * MemoryLayout<Float>.stride
  }

  /// Unfilled.
  package init(
    in arena: Arena, outputs: Int, inputs: Int, backward: Bool, turns: Bool = false,
    on executor: Executor
  ) {
    let tile = executor.kernels.integer.tile
    forward = PackedIntegerMatrix(in: arena, k: inputs, n: outputs, tile: tile)
    self.backward =
      backward && !turns
      ? PackedIntegerMatrix(in: arena, k: outputs, n: inputs, tile: tile) : nil
    let whole = inputs / tile.columns * tile.columns
    turnedCompensation =
      backward && turns
      ? arena.allocate(Int32.self, count: max(1, whole + tile.width(inputs - whole))) : nil
    scales = arena.allocate(Float.self, count: max(1, outputs))
  }

  /// Quantises and packs the whole row-major W[out, in].
  package func pack(from weight: Matrix, on executor: Executor) {
    precondition(weight.rows == outputs, "pack: \(weight.rows) rows for \(outputs) outputs")
    packRows(from: weight, at: 0, on: executor)
    finish(on: executor)
  }

  /// Rows of W that one call of `packRows` may begin at: a multiple of this, so that it has whole
  /// panels of the forward layout and whole groups of k of the backward one (powers of two, both).
  package var rowGrain: Int { max(forward.tile.columns, forward.tile.depth) }

  /// Quantises and packs the rows of W from `first` on, so that a big weight need never be in memory
  /// in Float as a whole. Blocks begin at multiples of `rowGrain`, cover W, and `finish` follows.
  package func packRows(from rows: Matrix, at first: Int, on executor: Executor) {
    precondition(
      rows.columns == inputs && first % rowGrain == 0 && first + rows.rows <= outputs
        && (rows.rows % rowGrain == 0 || first + rows.rows == outputs),
      "pack: rows \(first) to \(first + rows.rows) of \(outputs), \(rows.columns) of \(inputs)")
    executor.withScratch { scratch in
      let inverse = scratch.allocate(Float.self, count: max(1, rows.rows))
      let kernels = executor.kernels.integer
      executor.parallel(rows.rows, grain: rowGrain) { range in
        kernels.quantizers_f32(
          scales + first + range.lowerBound, inverse + range.lowerBound,
          rows.row(range.lowerBound), range.count, inputs, rows.stride)
        var row = range.lowerBound
        while row < range.upperBound {
          let panel = (first + row) / forward.tile.columns
          kernels.packBT_s8(
            forward.address(panel: panel, from: 0), rows.row(row), inverse + row,
            forward.columns(of: panel), inputs, rows.stride)
          row += forward.tile.columns
        }
      }
      guard let backward else { return }
      executor.parallel(backward.panels) { range in
        for panel in range {
          kernels.packB_s8(
            backward.address(panel: panel, from: first),
            rows.base + panel * backward.tile.columns, inverse, backward.columns(of: panel),
            rows.rows, rows.stride)
        }
      }
    }
  }

  /// Sums what was packed; the weight can be multiplied from now on.
  package func finish(on executor: Executor) {
    forward.compensate(on: executor)
    backward?.compensate(on: executor)
    guard let turnedCompensation else { return }
    let tile = forward.tile
    executor.withScratch { scratch in
      let room = tile.padded(outputs) * tile.columns
      let rooms = scratch.allocate(Int8.self, count: executor.workers * room)
      let panels = (inputs + tile.columns - 1) / tile.columns
      executor.interleaved(panels) { item, worker in
        let first = item * tile.columns
        let panel = PackedIntegerMatrix(
          at: rooms + worker * room, k: outputs, n: min(tile.columns, inputs - first), tile: tile,
          compensation: turnedCompensation + first)
        panel.turn(from: forward, at: first, executor.kernels)
        executor.kernels.integer.compensation_s8(panel.compensation, panel.base, panel.n, panel.k)
      }
    }
  }
}
