// SPDX-License-Identifier: Apache-2.0

/// AdamW; the scalars are those of `AdamWScalars` in order. Divisions by the corrections become
/// products with their reciprocals: one rounding more, and the loop stays bound by memory.
@_alwaysEmitIntoClient @inline(__always)
package func adamW_f32<I: InstructionSet>(
  _: I.Type, _ p: UnsafeMutablePointer<Float>, _ m: UnsafeMutablePointer<Float>,
  _ v: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ n: Int,
  _ scalars: UnsafePointer<Float>
) {
  let (rate, epsilon) = (I.splat(scalars[0]), I.splat(scalars[3]))
  let (beta1, rest1) = (I.splat(scalars[1]), I.splat(1 - scalars[1]))
  let (beta2, rest2) = (I.splat(scalars[2]), I.splat(1 - scalars[2]))
  let keep = I.splat(1 - scalars[0] * scalars[4])
  let (unbias1, unbias2) = (I.splat(1 / scalars[5]), I.splat(1 / scalars[6]))
  let gradientScale = I.splat(scalars[7])
  sweep(I.self, n) { at, count, _ in
    let gradient = I.mul(I.load(g + at, count), gradientScale)
    let first = I.fma(beta1, I.load(m + at, count), I.mul(rest1, gradient))
    let second = I.fma(
      beta2, I.load(v + at, count), I.mul(rest2, I.mul(gradient, gradient)))
    I.store(m + at, first, count)
    I.store(v + at, second, count)
    let size = I.add(I.sqrt(I.mul(second, unbias2)), epsilon)
    let step = I.div(I.mul(first, unbias1), size)
    I.store(p + at, I.fnma(rate, step, I.mul(I.load(p + at, count), keep)), count)
  }
}

/// p <- base + soft(p - base, threshold); inside the threshold p is exactly base, NaN stays NaN.
@_alwaysEmitIntoClient @inline(__always)
package func softThreshold_f32<I: InstructionSet>(
  _: I.Type, _ p: UnsafeMutablePointer<Float>, _ base: UnsafePointer<Float>, _ threshold: Float,
  _ n: Int
) {
  let limit = I.splat(threshold)
  sweep(I.self, n) { at, count, _ in
    let origin = I.load(base + at, count)
    let delta = I.sub(I.load(p + at, count), origin)
    let moved = I.add(origin, I.sub(delta, I.copysign(limit, delta)))
    I.store(p + at, I.whereAtMost(I.abs(delta), limit, origin, moved), count)
  }
}
