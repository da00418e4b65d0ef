// SPDX-License-Identifier: Apache-2.0

// A norm reads a row twice: for its sum, then to write the result. Done one after the other, memory
// only reads, then only writes; one core reads at 34 GB/s but moves 45 when it does both. So the
// rows are skewed: while one is written, the sum of the next is taken in the same sweep. Asking for
// the next row by prefetch instead cost a third (rows of 2048, Zen 4); pairs of rows that share the
// loads of w reached 71 % of stream (backward, 896 wide) where the skew reaches 105 %, and 61 where it
// reaches 72 (2048 wide).

/// y = x * r * w, r = 1/sqrt(mean(x^2) + eps).
@_alwaysEmitIntoClient @inline(__always)
package func rmsNorm_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ inverse: UnsafeMutablePointer<Float>, _ rows: Int, _ dim: Int,
  _ stride: Int, _ eps: Float, _ streams: Int
) {
  if rows == 0 { return }
  // Streaming stores need whole registers at aligned places.
  let aligned = (Int(bitPattern: y) / 4 | stride | dim) & (I.lanes &- 1) == 0
  var squares = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let v = I.load(x + at, count)
    squares[slot] = I.fma(v, v, squares[slot])
  }
  for row in 0..<rows {
    let r = Float(I.inverseRoot(total(I.self, squares) / Double(dim) + Double(eps)))
    inverse[row] = r
    let factor = I.splat(r)
    let (from, to) = (x + row &* stride, y + row &* stride)
    if row &+ 1 == rows {
      sweep(I.self, dim) { at, count, _ in
        let scaled = I.mul(I.load(from + at, count), factor)
        I.store(to + at, I.mul(scaled, I.load(w + at, count)), count)
      }
      return
    }
    let next = from + stride
    squares = .init(repeating: I.splat(0))
    if streams != 0 && aligned {
      sweep(I.self, dim) { at, _, slot in
        let v = I.load(next + at)
        squares[slot] = I.fma(v, v, squares[slot])
        I.stream(to + at, I.mul(I.mul(I.load(from + at), factor), I.load(w + at)))
      }
      I.fence()
    } else {
      sweep(I.self, dim) { at, count, slot in
        let v = I.load(next + at, count)
        squares[slot] = I.fma(v, v, squares[slot])
        let scaled = I.mul(I.load(from + at, count), factor)
        I.store(to + at, I.mul(scaled, I.load(w + at, count)), count)
      }
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
  if rows == 0 { return }
  var products = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let gradient = I.mul(I.load(dy + at, count), I.load(w + at, count))
    products[slot] = I.fma(gradient, I.load(x + at, count), products[slot])
  }
  for row in 0..<rows {
    let (r, shrink) = normFactors(I.self, products, inverse[row], dim)
    let at = row &* stride
    let (x, dy, dx) = (x + at, dy + at, dx + at)
    if row &+ 1 == rows {
      sweep(I.self, dim) { at, count, _ in
        normGradient(I.self, dx, dw, dy, x, I.load(w + at, count), r, shrink, at, count, assign)
      }
      return
    }
    products = .init(repeating: I.splat(0))
    sweep(I.self, dim) { at, count, slot in
      // The next row first: dx may be dy's memory, but never that of another row.
      let weight = I.load(w + at, count)
      let gradient = I.mul(I.load(dy + (stride &+ at), count), weight)
      products[slot] = I.fma(gradient, I.load(x + (stride &+ at), count), products[slot])
      normGradient(I.self, dx, dw, dy, x, weight, r, shrink, at, count, assign)
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func normGradient<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ weight: I.F, _ r: I.F, _ shrink: I.F,
  _ at: Int, _ count: Int, _ assign: Int
) {
  let (d, v) = (I.load(dy + at, count), I.load(x + at, count))
  if let dw {
    I.store(dw + at, I.fma(d, I.mul(v, r), I.load(dw + at, count)), count)
  }
  let direct = I.fnma(v, shrink, I.mul(d, weight))
  if assign != 0 {
    I.store(dx + at, I.mul(direct, r), count)
  } else {
    I.store(dx + at, I.fma(direct, r, I.load(dx + at, count)), count)
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
