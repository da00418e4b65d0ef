// SPDX-License-Identifier: Apache-2.0

/// The reference tile of bytes, as small as the others.
let referenceQuadTile = Tile(rows: 4, columns: 8, lanes: 4, depth: 4)

/// C = float(start + sum of u*w) * rowScale (* columnScale) (+ bias) (+ C), each element alone.
func strip_u8s8(
  _ a: IntegerKernels.Unsigned, _ aStride: Int, _ b: IntegerKernels.Signed, _ k: Int,
  _ start: IntegerKernels.Sums, _ startStride: Int, _ partial: UnsafeMutablePointer<Int32>?,
  _ c: KernelTable.Out, _ ldc: Int, _ rows: Int, _ columns: Int, _ rowScale: KernelTable.In,
  _ columnScale: KernelTable.In?, _ bias: KernelTable.In?, _ accumulate: Int,
  _ ahead: UnsafeRawPointer, _ aheadStep: Int, _ lines: Int
) {
  let tile = referenceQuadTile
  let width = tile.width(columns)
  for row in 0..<rows {
    let panel = a + row / tile.rows &* aStride
    for column in 0..<width {
      var sum = start[row &* startStride &+ column]
      for p in 0..<k {
        let u = panel[(p >> 2 &* tile.rows &+ row % tile.rows) &* 4 &+ p & 3]
        let w = b[(p >> 2 &* width &+ column) &* 4 &+ p & 3]
        sum &+= Int32(u) &* Int32(w)
      }
      if let partial {
        partial[row &* width &+ column] = sum
      } else if column < columns {
        let at = row &* ldc &+ column
        let scaled = Float(sum) * rowScale[row]
        let factor = columnScale?[column] ?? 1
        let value = bias.map { $0[column].addingProduct(scaled, factor) } ?? scaled * factor
        c[at] = accumulate != 0 ? value + c[at] : value
      }
    }
  }
}

/// Scale and inverse of a row whose largest magnitude is `size`.
private func quantizer(_ size: Float) -> (scale: Float, inverse: Float) {
  if !size.isFinite { return (.nan, 0) }
  return size < IntegerKernels.smallest ? (0, 0) : (size / 127, 127 / size)
}

/// max|x|, or NaN if one is not finite.
private func magnitude(_ x: KernelTable.In, _ columns: KernelTable.In?, _ k: Int) -> Float {
  var size: Float = 0
  for p in 0..<k {
    let value = abs(x[p] * (columns?[p] ?? 1))
    if !value.isFinite { return .nan }
    size = max(size, value)
  }
  return size
}

private func quantized(_ x: Float) -> Int8 {
  x.isFinite ? Int8(max(-127, min(127, x.rounded(.toNearestOrEven)))) : 0
}

/// u = 128 + round(x * columns * inverse).
private func quantizePanel(
  _ dst: UnsafeMutablePointer<UInt8>, _ inverse: (Int) -> Float, _ src: KernelTable.In,
  _ columns: KernelTable.In?, _ rows: Int, _ k: Int, _ stride: Int
) {
  let tile = referenceQuadTile
  for row in 0..<tile.rows {
    let factor = row < rows ? inverse(row) : 0
    for p in 0..<tile.padded(k) {
      var value: Int8 = 0
      if row < rows && p < k {
        value = quantized(src[row &* stride &+ p] * (columns?[p] ?? 1) * factor)
      }
      dst[(p >> 2 &* tile.rows &+ row) &* 4 &+ p & 3] = UInt8(Int(value) + 128)
    }
  }
}

func quantizeA_u8(
  _ dst: UnsafeMutablePointer<UInt8>, _ scale: KernelTable.Out, _ src: KernelTable.In,
  _ columns: KernelTable.In?, _ rows: Int, _ k: Int, _ stride: Int
) {
  let sizes = { (row: Int) in quantizer(magnitude(src + row &* stride, columns, k)) }
  for row in 0..<rows { scale[row] = sizes(row).scale }
  quantizePanel(dst, { sizes($0).inverse }, src, columns, rows, k, stride)
}

func quantizeNormA_u8(
  _ dst: UnsafeMutablePointer<UInt8>, _ scale: KernelTable.Out, _ inverse: KernelTable.Out,
  _ src: KernelTable.In, _ w: KernelTable.In, _ rows: Int, _ k: Int, _ stride: Int, _ eps: Float
) {
  quantizeA_u8(dst, scale, src, w, rows, k, stride)
  for row in 0..<rows {
    var squares = 0.0
    for p in 0..<k { squares += Double(src[row &* stride &+ p]) * Double(src[row &* stride &+ p]) }
    inverse[row] = Float(1 / (squares / Double(k) + Double(eps)).squareRoot())
    scale[row] *= inverse[row]
  }
}

func quantizers_f32(
  _ scale: KernelTable.Out, _ inverse: KernelTable.Out, _ src: KernelTable.In, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  for row in 0..<rows {
    (scale[row], inverse[row]) = quantizer(magnitude(src + row &* stride, nil, k))
  }
}

func packBT_s8(
  _ dst: UnsafeMutablePointer<Int8>, _ src: KernelTable.In, _ inverse: KernelTable.In,
  _ columns: Int, _ k: Int, _ stride: Int
) {
  packPanel(dst, columns, k) { p, column in src[column &* stride &+ p] * inverse[column] }
}

func packB_s8(
  _ dst: UnsafeMutablePointer<Int8>, _ src: KernelTable.In, _ inverse: KernelTable.In,
  _ columns: Int, _ k: Int, _ stride: Int
) {
  packPanel(dst, columns, k) { p, column in src[p &* stride &+ column] * inverse[p] }
}

func turnB_s8(
  _ dst: UnsafeMutablePointer<Int8>, _ src: IntegerKernels.Signed, _ columns: Int, _ k: Int,
  _: UnsafeRawPointer
) {
  let (to, from) = (referenceQuadTile.width(columns), referenceQuadTile.width(k))
  for p in 0..<referenceQuadTile.padded(k) {
    for column in 0..<to {
      dst[(p / 4 &* to &+ column) &* 4 &+ p % 4] =
        p < k && column < columns ? src[(column / 4 &* from &+ p) &* 4 &+ column % 4] : 0
    }
  }
}

private func packPanel(
  _ dst: UnsafeMutablePointer<Int8>, _ columns: Int, _ k: Int, _ value: (Int, Int) -> Float
) {
  let width = referenceQuadTile.width(columns)
  for p in 0..<referenceQuadTile.padded(k) {
    for column in 0..<width {
      dst[(p >> 2 &* width &+ column) &* 4 &+ p & 3] =
        p < k && column < columns ? quantized(value(p, column)) : 0
    }
  }
}

func compensation_s8(
  _ sums: UnsafeMutablePointer<Int32>, _ b: IntegerKernels.Signed, _ columns: Int, _ k: Int
) {
  let width = referenceQuadTile.width(columns)
  for column in 0..<width {
    var sum: Int32 = 0
    for p in 0..<k { sum &+= Int32(b[(p >> 2 &* width &+ column) &* 4 &+ p & 3]) }
    sums[column] = -128 &* sum
  }
}
