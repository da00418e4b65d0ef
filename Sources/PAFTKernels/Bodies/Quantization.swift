// SPDX-License-Identifier: Apache-2.0

// From Float to the panels of bytes that the integer tile multiplies (layouts: IntegerKernels).
//
// A row is read twice, once for its largest magnitude and once to be converted; six rows of a
// hidden state stay in the second-level cache between the two. Quads of six rows are gathered by the
// 8 x 8 transpose of 32-bit values that packs Float, 32 of k at a time; what is left of k goes one
// quad at a time.

/// Scale and inverse of what lies in -size...size.
@_alwaysEmitIntoClient @inline(__always)
package func quantizer(_ size: Float) -> (scale: Float, inverse: Float) {
  if !(size < .infinity) { return (.nan, 0) }
  if size < 0x1p-119 { return (0, 0) }
  return (size / 127, 127 / size)
}

/// max|x * columns|; NaN or infinite if a value is.
@_alwaysEmitIntoClient @inline(__always)
package func magnitude<I: ByteVectors>(
  _: I.Type, _ x: UnsafePointer<Float>, _ columns: UnsafePointer<Float>?, _ k: Int
) -> Float {
  var best = InlineArray<4, I.F>(repeating: I.splat(0))
  if let columns {
    sweep(I.self, k) { at, count, slot in
      let value = I.mul(I.load(x + at, count), I.load(columns + at, count))
      best[slot] = I.maxMagnitude(best[slot], value)
    }
  } else {
    sweep(I.self, k) { at, count, slot in
      best[slot] = I.maxMagnitude(best[slot], I.load(x + at, count))
    }
  }
  return largest(I.self, best)
}

@_alwaysEmitIntoClient @inline(__always)
package func largest<I: ByteVectors>(_: I.Type, _ best: InlineArray<4, I.F>) -> Float {
  let first = I.maxMagnitude(best[0], best[1])
  let second = I.maxMagnitude(best[2], best[3])
  return I.largestMagnitude(I.maxMagnitude(first, second))
}

/// One value as a byte; 0 where it is not a number.
@_alwaysEmitIntoClient @inline(__always)
package func quantized<I: ByteVectors>(_: I.Type, _ x: Float) -> UInt8 {
  // Beyond the range of a byte there are only values of a row whose scale is NaN.
  let whole = I.roundedInteger(x)
  return UInt8(truncatingIfNeeded: whole)
}

// MARK: A

@_alwaysEmitIntoClient @inline(__always)
package func quantizeA_u8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ scale: UnsafeMutablePointer<Float>,
  _ src: UnsafePointer<Float>, _ columns: UnsafePointer<Float>?, _ rows: Int, _ k: Int,
  _ stride: Int
) {
  var inverse = InlineArray<6, Float>(repeating: 0)
  for r in 0..<rows {
    let found = quantizer(magnitude(I.self, src + r &* stride, columns, k))
    scale[r] = found.scale
    inverse[r] = found.inverse
  }
  quantizePanel(I.self, dst, src, columns, inverse, rows, k, stride)
}

@_alwaysEmitIntoClient @inline(__always)
package func quantizeNormA_u8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ scale: UnsafeMutablePointer<Float>,
  _ inverses: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ rows: Int, _ k: Int, _ stride: Int, _ eps: Float
) {
  var inverse = InlineArray<6, Float>(repeating: 0)
  for row in 0..<rows {
    let found = normQuantizer(I.self, src + row &* stride, w, k, eps)
    inverses[row] = found.inverseRoot
    scale[row] = found.scale * found.inverseRoot
    inverse[row] = found.inverse
  }
  quantizePanel(I.self, dst, src, w, inverse, rows, k, stride)
}

/// 1/sqrt(mean(x^2) + eps), and the quantizer of x * w.
@_alwaysEmitIntoClient @inline(__always)
package func normQuantizer<I: ByteVectors>(
  _: I.Type, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>, _ k: Int, _ eps: Float
) -> (inverseRoot: Float, scale: Float, inverse: Float) {
  var squares = InlineArray<4, I.F>(repeating: I.splat(0))
  var best = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, k) { at, count, slot in
    let v = I.load(x + at, count)
    squares[slot] = I.fma(v, v, squares[slot])
    best[slot] = I.maxMagnitude(best[slot], I.mul(v, I.load(w + at, count)))
  }
  let r = Float(I.inverseRoot(total(I.self, squares) / Double(k) + Double(eps)))
  let found = quantizer(largest(I.self, best))
  return (r, found.scale, found.inverse)
}

@_alwaysEmitIntoClient @inline(__always)
package func quantizePanel<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ src: UnsafePointer<Float>,
  _ columns: UnsafePointer<Float>?, _ inverse: InlineArray<6, Float>, _ rows: Int, _ k: Int,
  _ stride: Int
) {
  var p = 0
  inverse.withFloats { factor in
    // The usual cases apart: a count or a pointer that is constant drops out of the loop.
    if rows == panelRows, let columns {
      while p &+ 32 <= k {
        I.transposeQuantized(
          dst + p &* panelRows, panelRows, src + p, stride, columns + p, factor, 6, 6, -128)
        p &+= 32
      }
    } else if rows == panelRows {
      while p &+ 32 <= k {
        I.transposeQuantized(
          dst + p &* panelRows, panelRows, src + p, stride, nil, factor, 6, 6, -128)
        p &+= 32
      }
    } else {
      while p &+ 32 <= k {
        I.transposeQuantized(
          dst + p &* panelRows, panelRows, src + p, stride, columns.map { $0 + p }, factor, rows,
          6, -128)
        p &+= 32
      }
    }
    while p < (k &+ 3) & ~3 {
      for r in 0..<panelRows {
        var byte: UInt8 = 0
        if r < rows && p < k {
          let x = src[r &* stride &+ p]
          byte = quantized(I.self, (columns.map { x * $0[p] } ?? x) * factor[r])
        }
        dst[(p & ~3) &* panelRows &+ 4 &* r &+ p & 3] = byte ^ 128
      }
      p &+= 1
    }
  }
}

// MARK: B

@_alwaysEmitIntoClient @inline(__always)
package func quantizers_f32<I: ByteVectors>(
  _: I.Type, _ scale: UnsafeMutablePointer<Float>, _ inverse: UnsafeMutablePointer<Float>,
  _ src: UnsafePointer<Float>, _ rows: Int, _ k: Int, _ stride: Int
) {
  for row in 0..<rows {
    let found = quantizer(magnitude(I.self, src + row &* stride, nil, k))
    scale[row] = found.scale
    inverse[row] = found.inverse
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packBT_s8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<Int8>, _ src: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ columns: Int, _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  var p = 0
  while p &+ 32 <= k {
    var j = 0
    while j < width {
      let valid = clampedToEight(columns &- j)
      let (to, from) = (dst + (p &* width &+ 4 &* j), src + (valid > 0 ? j &* stride &+ p : 0))
      if valid == 8 {
        I.transposeQuantized(to, width, from, stride, nil, inverse + j, 8, 8, 0)
      } else {
        I.transposeQuantized(to, width, from, stride, nil, inverse + j, valid, 8, 0)
      }
      j &+= 8
    }
    p &+= 32
  }
  while p < (k &+ 3) & ~3 {
    for j in 0..<width {
      var byte: UInt8 = 0
      if j < columns && p < k { byte = quantized(I.self, src[j &* stride &+ p] * inverse[j]) }
      dst[(p & ~3) &* width &+ 4 &* j &+ p & 3] = Int8(bitPattern: byte)
    }
    p &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packB_s8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<Int8>, _ src: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ columns: Int, _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  var p = 0
  while p < k {
    let to = dst + p &* width
    var j = 0
    while j < columns {
      let count = columns &- j < I.lanes ? columns &- j : I.lanes
      let row = { (i: Int) in
        I.integer(
          I.mul(I.load(src + ((p &+ i) &* stride &+ j), count), I.splat(inverse[p &+ i])))
      }
      let none = I.splatInteger(0)
      let quads =
        p &+ 4 <= k
        ? I.packQuads(row(0), row(1), row(2), row(3))
        : I.packQuads(
          row(0), p &+ 1 < k ? row(1) : none, p &+ 2 < k ? row(2) : none, none)
      I.storeQuads(to + 4 &* j, quads)
      j &+= I.lanes
    }
    p &+= 4
  }
}

/// -128 times the column sums: the product with a row of 128s, subtracted from nothing.
@_alwaysEmitIntoClient @inline(__always)
package func compensation_s8<I: ByteVectors>(
  _: I.Type, _ sums: UnsafeMutablePointer<Int32>, _ b: UnsafePointer<Int8>, _ columns: Int,
  _ k: Int
) {
  let width = panelWidth(I.self, columns)
  var j = 0
  while j < width {
    var sum = I.splatInteger(0)
    let minus128 = I.splatWords(-128)
    var p = 0
    while p < k {
      let quads = I.loadQuads(b + (p &* width &+ 4 &* j))
      sum = I.dotWords(sum, minus128, I.evenSigned(quads))
      sum = I.dotWords(sum, minus128, I.oddSigned(quads))
      p &+= 4
    }
    I.storeIntegers(sums + j, sum)
    j &+= I.lanes
  }
}

extension InlineArray where Element == Float {
  /// As memory, for a verb that reads some of them.
  @_alwaysEmitIntoClient @inline(__always)
  package func withFloats(_ body: (UnsafePointer<Float>) -> Void) {
    var copy = self
    withUnsafePointer(to: &copy) {
      body(UnsafeRawPointer($0).assumingMemoryBound(to: Float.self))
    }
  }
}
