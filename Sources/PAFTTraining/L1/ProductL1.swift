// SPDX-License-Identifier: Apache-2.0

package import PAFTKernelInterface

/// The penalty lambda * sum|s B A| of one LoRA module and its gradient
///
///     P = s B A [out, in],  S = sign(P):   dB += lambda s S Aᵀ,   dA += lambda s Bᵀ S
///
/// with A [r, in] and B [out, r] row-major. P is never stored: a block of 64 x 64 of it lives in the
/// first-level cache, beside the stretches of both factors that it comes from. Work is cut two ways, by
/// 64 columns for dA and by 64 rows for dB, and each unit owns what it writes; that costs P a second
/// time and saves every reduction, so the bits do not depend on who computes which unit. Both ways
/// sum an entry of P in the order of the rank with fused products, so they see the same signs.
/// Once per optimizer step: out * in * r * 4 multiply-adds in all.
package struct ProductL1: @unchecked Sendable {
  /// Columns, or rows, of a unit.
  package static let tile = GEMMKernels.unpackedColumns

  package let a: UnsafePointer<Float>
  package let b: UnsafePointer<Float>
  package let out: Int
  package let `in`: Int
  package let rank: Int
  /// s = alpha / r (or alpha / sqrt(r)).
  package let scale: Float

  /// A view: workers only read a and b and write disjoint rows or tiles.
  package init(
    a: UnsafePointer<Float>, b: UnsafePointer<Float>, out: Int, in: Int, rank: Int, scale: Float
  ) {
    self.a = a
    self.b = b
    self.out = out
    self.in = `in`
    self.rank = rank
    self.scale = scale
  }

  package var columnTiles: Int { (self.in + Self.tile - 1) / Self.tile }
  package var rowTiles: Int { (out + Self.tile - 1) / Self.tile }
  /// Floats that a unit needs.
  package var scratch: Int { (2 * rank + Self.tile) * Self.tile }

  /// dA of the columns of one tile (the buffer of the whole A).
  package func addColumns(
    tile: Int, lambda: Float, dA: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>, _ kernels: borrowing KernelTable
  ) {
    let at = tile * Self.tile
    let width = min(Self.tile, self.in - at)
    let x = columns(at, width, times: 1, scratch)
    let gradient = pull(x, by: b, rows: out, row: rank, step: 1, kernels)
    let factor = lambda * scale
    for k in 0..<rank {
      for i in 0..<width { dA[k * self.in + at + i] += factor * gradient[k * Self.tile + i] }
    }
  }

  /// dB of the rows of one tile (the buffer of the whole B).
  package func addRows(
    tile: Int, lambda: Float, dB: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>, _ kernels: borrowing KernelTable
  ) {
    let at = tile * Self.tile
    let width = min(Self.tile, out - at)
    scratch.update(repeating: 0, count: rank * Self.tile)
    for i in 0..<width {
      for k in 0..<rank { scratch[k * Self.tile + i] = b[(at + i) * rank + k] }
    }
    let gradient = pull(scratch, by: a, rows: self.in, row: 1, step: self.in, kernels)
    let factor = lambda * scale
    for i in 0..<width {
      for k in 0..<rank { dB[(at + i) * rank + k] += factor * gradient[k * Self.tile + i] }
    }
  }

  /// Over the columns of one tile: sum|s B A|, and how many entries have |s B A| <= threshold (>= 0).
  package func measure(
    tile: Int, threshold: Float, scratch: UnsafeMutablePointer<Float>,
    _ kernels: borrowing KernelTable
  ) -> (norm: Double, within: Int) {
    let at = tile * Self.tile
    let width = min(Self.tile, self.in - at)
    let x = columns(at, width, times: scale, scratch)
    let block = x + 2 * rank * Self.tile
    var norm = 0.0
    var within = 0
    for row in stride(from: 0, to: out, by: Self.tile) {
      let rows = min(Self.tile, out - row)
      kernels.gemm.multiplyUnpacked_f32(block, 0, b + row * rank, rank, 1, x, rows, rank)
      norm += kernels.vectors.sumAbsolute_f32(block, rows * Self.tile)
      withUnsafePointer(to: threshold) {
        kernels.merging.countWithin_f32(&within, block, rows * Self.tile, $0, 1)
      }
      // The columns that the last tile is short of are zeros.
      within -= rows * (Self.tile - width)
    }
    return (norm, within)
  }

  /// `width` columns of A from `at` on, times a factor, and zeros up to a whole tile.
  private func columns(
    _ at: Int, _ width: Int, times factor: Float, _ scratch: UnsafeMutablePointer<Float>
  ) -> UnsafeMutablePointer<Float> {
    scratch.update(repeating: 0, count: rank * Self.tile)
    for k in 0..<rank {
      for i in 0..<width { scratch[k * Self.tile + i] = factor * a[k * self.in + at + i] }
    }
    return scratch
  }

  /// Yᵀ sign(Y X) [r, 64] of X [r, 64] and the other factor Y [rows, r], whose value (i, k) is
  /// y[i * row + k * step]. Lies behind X, and is followed by a block of the product.
  private func pull(
    _ x: UnsafeMutablePointer<Float>, by y: UnsafePointer<Float>, rows: Int, row: Int, step: Int,
    _ kernels: borrowing KernelTable
  ) -> UnsafeMutablePointer<Float> {
    let gradient = x + rank * Self.tile
    let block = gradient + rank * Self.tile
    gradient.update(repeating: 0, count: rank * Self.tile)
    for first in stride(from: 0, to: rows, by: Self.tile) {
      let count = min(Self.tile, rows - first)
      let y = y + first * row
      kernels.gemm.multiplyUnpacked_f32(block, 0, y, row, step, x, count, rank)
      kernels.vectors.sign_f32(block, count * Self.tile)
      kernels.gemm.multiplyUnpacked_f32(gradient, 1, y, step, row, block, rank, count)
    }
    return gradient
  }
}
