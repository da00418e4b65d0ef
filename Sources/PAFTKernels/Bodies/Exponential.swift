// SPDX-License-Identifier: Apache-2.0

/// e^x within 2 ulp: x = n*ln2 + r, e^r = 1 + r + r^2*q(r), result scaled by 2^n.
///
/// q has degree 4, fitted for least relative error on |r| <= ln2/2 (3.1e-9, far below the rounding
/// of the seven operations). ln2 is split in two so that n*ln2 is exact enough for every n. The
/// bounds lie just outside the finite results: below -104.5 is 0, above 89.5 is inf; -inf -> 0, NaN
/// stays.
@_alwaysEmitIntoClient @inline(__always)
package func exponential<I: InstructionSet>(_: I.Type, _ x: I.F) -> I.F {
  // The bound goes first: max and min answer their second operand when it is NaN.
  let bounded = I.min(I.splat(89.5), I.max(I.splat(-104.5), x))
  let n = I.round(I.mul(bounded, I.splat(0x1.715476p+0)))
  let r = I.fnma(n, I.splat(0x1.7f7d1cp-20), I.fnma(n, I.splat(0x1.62e400p-1), bounded))
  var q = I.splat(0x1.6a23dp-10)
  q = I.fma(q, r, I.splat(0x1.123a20p-7))
  q = I.fma(q, r, I.splat(0x1.5558f2p-5))
  q = I.fma(q, r, I.splat(0x1.555492p-3))
  q = I.fma(q, r, I.splat(0x1.fffffcp-2))
  let tail = I.fma(I.mul(r, r), q, r)
  return I.scale2(I.add(tail, I.splat(1)), n)
}

/// 2^x within 2.5 * 2^-24 (relative; results below 2^-126 lose bits, below 2^-149 they are 0):
/// 2^floor(x) * p(x - floor(x)) with p of degree 5, fitted for least relative error on 0...1
/// (1.3 * 2^-24). No step needs a bound on x: -inf -> 0, NaN stays. On AVX-512 this is two
/// instructions and five multiply-adds, as short as it gets; a split at the nearest whole number by
/// adding 1.5 * 2^23, with integer adds into the exponent, took 15 % longer on Zen 4.
@_alwaysEmitIntoClient @inline(__always)
package func exponential2<I: InstructionSet>(_: I.Type, _ x: I.F) -> I.F {
  let r = I.fraction(x)
  var p = I.splat(0x1.ec320ap-10)
  p = I.fma(p, r, I.splat(0x1.26900cp-7))
  p = I.fma(p, r, I.splat(0x1.c95446p-5))
  p = I.fma(p, r, I.splat(0x1.ebd5a8p-3))
  p = I.fma(p, r, I.splat(0x1.62e4f6p-1))
  p = I.fma(p, r, I.splat(0x1.fffffep-1))
  return I.scaleFloor2(p, x)
}

/// The same for one value.
@_alwaysEmitIntoClient @inline(__always)
package func exponential<I: InstructionSet>(_: I.Type, _ x: Float) -> Float {
  I.maximum(exponential(I.self, I.splat(x)))
}
