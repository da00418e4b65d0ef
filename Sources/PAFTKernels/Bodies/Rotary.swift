// SPDX-License-Identifier: Apache-2.0

/// (a, b) -> (a*cos - sign*b*sin, b*cos + sign*a*sin) on the two halves of each head.
@_alwaysEmitIntoClient @inline(__always)
package func rope_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafeMutablePointer<Float>, _ cos: UnsafePointer<Float>,
  _ sin: UnsafePointer<Float>, _ heads: Int, _ dim: Int, _ sign: Float
) {
  let half = dim / 2
  let signs = I.splat(sign)
  for head in 0..<heads {
    let low = x + head &* dim
    let high = low + half
    sweep(I.self, half) { at, count, _ in
      let (a, b) = (I.load(low + at, count), I.load(high + at, count))
      let c = I.load(cos + at, count)
      let s = I.mul(signs, I.load(sin + at, count))
      I.store(low + at, I.fnma(b, s, I.mul(a, c)), count)
      I.store(high + at, I.fma(a, s, I.mul(b, c)), count)
    }
  }
}
