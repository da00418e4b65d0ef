// SPDX-License-Identifier: Apache-2.0

/// y = x * r * w, r = 1/sqrt(mean(x^2) + eps). Two sweeps of a row that stays in L1.
@_alwaysEmitIntoClient @inline(__always)
package func rmsNorm_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ inverse: UnsafeMutablePointer<Float>, _ rows: Int, _ dim: Int,
  _ stride: Int, _ eps: Float
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
    sweep(I.self, dim) { at, count, _ in
      let scaled = I.mul(I.load(x + at, count), factor)
      I.store(y + at, I.mul(scaled, I.load(w + at, count)), count)
    }
  }
}

/// dx (+)= (dy*w - x * r^2 * mean(dy*w*x)) * r;  dw += dy * x * r.
@_alwaysEmitIntoClient @inline(__always)
package func rmsNormBackward_f32<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ rows: Int, _ dim: Int, _ stride: Int, _ assign: Int
) {
  for row in 0..<rows {
    let (x, dy, dx) = (x + row &* stride, dy + row &* stride, dx + row &* stride)
    var products = InlineArray<4, I.F>(repeating: I.splat(0))
    sweep(I.self, dim) { at, count, slot in
      let gradient = I.mul(I.load(dy + at, count), I.load(w + at, count))
      products[slot] = I.fma(gradient, I.load(x + at, count), products[slot])
    }
    let scale = inverse[row]
    let r = I.splat(scale)
    let mean = total(I.self, products) / Double(dim)
    let shrink = I.splat(Float(mean * Double(scale) * Double(scale)))
    if let dw {
      sweep(I.self, dim) { at, count, _ in
        let normal = I.mul(I.load(x + at, count), r)
        let sum = I.fma(I.load(dy + at, count), normal, I.load(dw + at, count))
        I.store(dw + at, sum, count)
      }
    }
    sweep(I.self, dim) { at, count, _ in
      let gradient = I.mul(I.load(dy + at, count), I.load(w + at, count))
      let direct = I.fnma(I.load(x + at, count), shrink, gradient)
      if assign != 0 {
        I.store(dx + at, I.mul(direct, r), count)
      } else {
        I.store(dx + at, I.fma(direct, r, I.load(dx + at, count)), count)
      }
    }
  }
}

/// The four accumulators of a sweep as one Double.
@_alwaysEmitIntoClient @inline(__always)
package func total<I: InstructionSet>(_: I.Type, _ sums: InlineArray<4, I.F>) -> Double {
  (I.sum(sums[0]) + I.sum(sums[1])) + (I.sum(sums[2]) + I.sum(sums[3]))
}
