// SPDX-License-Identifier: Apache-2.0

/// y = x * r * w, r = 1/sqrt(mean(x^2) + eps). Two sweeps of a row that stays in the first caches.
/// Asking for the next row in the second cost a third (rows of 2048, Zen 4): the hardware does it.
@_alwaysEmitIntoClient @inline(__always)
package func rmsNorm_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ inverse: UnsafeMutablePointer<Float>, _ rows: Int, _ dim: Int,
  _ stride: Int, _ eps: Float, _ streams: Int
) {
  for row in 0..<rows {
    let (x, y) = (x + row &* stride, y + row &* stride)
    var squares = InlineArray<4, I.F>(repeating: I.splat(0))
    sweep(I.self, dim) { at, count, slot in
      let v = I.load(x + at, count)
      squares[slot] = I.fma(v, v, squares[slot])
    }
    let r = Float(I.inverseRoot(total(I.self, squares) / Double(dim) + Double(eps)))
    inverse[row] = r
    let factor = I.splat(r)
    fill(I.self, y, dim, streams: streams) { at, count in
      let scaled = I.mul(I.load(x + at, count), factor)
      return I.mul(scaled, I.load(w + at, count))
    }
  }
}

/// dx (+)= (dy*w - x * r^2 * mean(dy*w*x)) * r;  dw += dy * x * r.
///
/// Two sweeps: the mean, then everything that needs it. Rows go in pairs, which share the loads of w
/// and dw and the store of dw (a row is added after the other: the sums are those of single rows),
/// and whose reductions overlap. In the caches 13 loads, 3 stores and 14 multiply-adds per two
/// vectors bind. Asking for the lines of dx in the first sweep cost a third.
@_alwaysEmitIntoClient @inline(__always)
package func rmsNormBackward_f32<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ rows: Int, _ dim: Int, _ stride: Int, _ assign: Int
) {
  var row = 0
  while row &+ 1 < rows {
    let at = row &* stride
    normBackwardPair(
      I.self, dx + at, dw, dy + at, x + at, w, inverse + row, dim, stride, assign)
    row &+= 2
  }
  if row < rows {
    let at = row &* stride
    normBackwardRow(I.self, dx + at, dw, dy + at, x + at, w, inverse[row], dim, assign)
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func normBackwardPair<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ dim: Int, _ stride: Int, _ assign: Int
) {
  var first = InlineArray<4, I.F>(repeating: I.splat(0))
  var second = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let weight = I.load(w + at, count)
    first[slot] = I.fma(
      I.mul(I.load(dy + at, count), weight), I.load(x + at, count), first[slot])
    second[slot] = I.fma(
      I.mul(I.load(dy + (stride &+ at), count), weight), I.load(x + (stride &+ at), count),
      second[slot])
  }
  let (r0, shrink0) = normFactors(I.self, first, inverse[0], dim)
  let (r1, shrink1) = normFactors(I.self, second, inverse[1], dim)
  sweep(I.self, dim) { at, count, _ in
    let weight = I.load(w + at, count)
    let (d0, d1) = (I.load(dy + at, count), I.load(dy + (stride &+ at), count))
    let (v0, v1) = (I.load(x + at, count), I.load(x + (stride &+ at), count))
    if let dw {
      let sum = I.fma(d0, I.mul(v0, r0), I.load(dw + at, count))
      I.store(dw + at, I.fma(d1, I.mul(v1, r1), sum), count)
    }
    let direct0 = I.fnma(v0, shrink0, I.mul(d0, weight))
    let direct1 = I.fnma(v1, shrink1, I.mul(d1, weight))
    if assign != 0 {
      I.store(dx + at, I.mul(direct0, r0), count)
      I.store(dx + (stride &+ at), I.mul(direct1, r1), count)
    } else {
      I.store(dx + at, I.fma(direct0, r0, I.load(dx + at, count)), count)
      I.store(
        dx + (stride &+ at), I.fma(direct1, r1, I.load(dx + (stride &+ at), count)), count)
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func normBackwardRow<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>,
  _ inverse: Float, _ dim: Int, _ assign: Int
) {
  var products = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let gradient = I.mul(I.load(dy + at, count), I.load(w + at, count))
    products[slot] = I.fma(gradient, I.load(x + at, count), products[slot])
  }
  let (r, shrink) = normFactors(I.self, products, inverse, dim)
  sweep(I.self, dim) { at, count, _ in
    let (d, v) = (I.load(dy + at, count), I.load(x + at, count))
    if let dw {
      I.store(dw + at, I.fma(d, I.mul(v, r), I.load(dw + at, count)), count)
    }
    let direct = I.fnma(v, shrink, I.mul(d, I.load(w + at, count)))
    if assign != 0 {
      I.store(dx + at, I.mul(direct, r), count)
    } else {
      I.store(dx + at, I.fma(direct, r, I.load(dx + at, count)), count)
    }
  }
}

/// r and r^2 * mean(dy*w*x) in every lane.
@_alwaysEmitIntoClient @inline(__always)
package func normFactors<I: InstructionSet>(
  _: I.Type, _ products: InlineArray<4, I.F>, _ inverse: Float, _ dim: Int
) -> (r: I.F, shrink: I.F) {
  let mean = total(I.self, products) / Double(dim)
  return (I.splat(inverse), I.splat(Float(mean * Double(inverse) * Double(inverse))))
}

/// The four accumulators of a sweep as one Double.
@_alwaysEmitIntoClient @inline(__always)
package func total<I: InstructionSet>(_: I.Type, _ sums: InlineArray<4, I.F>) -> Double {
  (I.sum(sums[0]) + I.sum(sums[1])) + (I.sum(sums[2]) + I.sum(sums[3]))
}
