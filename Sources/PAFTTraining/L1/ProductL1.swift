// SPDX-License-Identifier: Apache-2.0

package import PAFTKernelInterface

/// The penalty lambda * sum|s B A| of one LoRA module and its gradient
///
///     P = s B A [out, in],  S = sign(P):   dB += lambda s S Aᵀ,   dA += lambda s Bᵀ S
///
/// with A [r, in] and B [out, r] row-major. P is never stored: a row of one tile of columns lives in
/// `scratch` (256 floats, on the first-level cache together with its tile of A). Work is cut two
/// ways, by rows for dB and by column tiles for dA, and each unit owns what it writes; that costs P a
/// second time and saves every reduction, so the bits do not depend on who computes which unit.
/// Once per optimizer step: out * in * r * 4 multiply-adds in all.
package struct ProductL1: @unchecked Sendable {
  package static let tile = 256

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

  package var tiles: Int { (self.in + Self.tile - 1) / Self.tile }

  /// dB of `rows` (the buffer of the whole B); returns sum|s B A| over these rows, without lambda.
  package func addRows(
    _ rows: Range<Int>, lambda: Float, dB: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>, _ kernels: borrowing KernelTable
  ) -> Double {
    let factor = lambda * scale
    var penalty = 0.0
    for tile in 0..<tiles {
      let at = tile * Self.tile
      let width = min(Self.tile, self.in - at)
      for row in rows {
        product(row, at, width, scratch, kernels)
        penalty += kernels.vectors.sumAbsolute_f32(scratch, width)
        kernels.vectors.sign_f32(scratch, width)
        for k in 0..<rank {
          let sum = kernels.vectors.dot_f32(scratch, a + k * self.in + at, width)
          dB[row * rank + k] += factor * Float(sum)
        }
      }
    }
    return penalty * Double(abs(scale))
  }

  /// dA of the column tiles `tiles` (the buffer of the whole A).
  package func addTiles(
    _ tiles: Range<Int>, lambda: Float, dA: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>, _ kernels: borrowing KernelTable
  ) {
    let factor = lambda * scale
    for tile in tiles {
      let at = tile * Self.tile
      let width = min(Self.tile, self.in - at)
      for row in 0..<out {
        product(row, at, width, scratch, kernels)
        kernels.vectors.sign_f32(scratch, width)
        for k in 0..<rank {
          kernels.vectors.axpy_f32(
            dA + k * self.in + at, scratch, factor * b[row * rank + k], width)
        }
      }
    }
  }

  /// The delta s B A of row `row`, all columns, into `values` (in floats): for statistics and export.
  package func delta(
    _ row: Int, into values: UnsafeMutablePointer<Float>, _ kernels: borrowing KernelTable
  ) {
    for tile in 0..<tiles {
      let at = tile * Self.tile
      let width = min(Self.tile, self.in - at)
      product(row, at, width, values + at, kernels)
    }
    kernels.vectors.scale_f32(values, scale, self.in)
  }

  /// values = B[row] A[:, at ..< at + width], without s. Both passes go through here with the same
  /// tiles, so they see the same signs.
  private func product(
    _ row: Int, _ at: Int, _ width: Int, _ values: UnsafeMutablePointer<Float>,
    _ kernels: borrowing KernelTable
  ) {
    values.update(repeating: 0, count: width)
    for k in 0..<rank {
      kernels.vectors.axpy_f32(values, a + k * self.in + at, b[row * rank + k], width)
    }
  }
}
