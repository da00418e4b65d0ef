// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

/// AdamW with both moments in 8 bits (`QuarticCode`), a scale for every 256 of them: 16 bytes a value
/// are moved instead of 28, and 2 are kept instead of 8.
///
/// A block goes twice: moments and weights first, with the moments' fourth roots in `work`, which stays
/// in L1, then the codes. Between the two the next block has its turn, so that the scale's
/// divisions and roots do not hold up anything. Weights step with the moments before they are rounded.
///
/// What binds is arithmetic, in the caches as beyond: 29 cycles for 16 values on Zen 4, where moving
/// their 256 bytes would take 20. Root and quotient keep the divider for 16, beside 18 instructions of
/// the multipliers; alone the first part takes 21, the codes 4. The quotient by products after an
/// estimate took 23 there, root and quotient 26; two or four vectors in step gained nothing. The
/// dynamic code of the paper, with its tables of decades, took 55 to 60.
///
/// Beyond the caches the two passes of a block keep the memory's look-ahead from running on, and its
/// time was added to the arithmetic's: asking for everything two blocks ahead brought 68 -> 82 % of
/// `update` on Zen 5, where leaving out root and quotient altogether would bring nothing.
@_alwaysEmitIntoClient @inline(__always)
package func adamW8_f32<I: OptimizerVerbs>(
  _: I.Type, _ p: UnsafeMutablePointer<Float>, _ m: UnsafeMutablePointer<Int8>,
  _ v: UnsafeMutablePointer<UInt8>, _ mScales: UnsafeMutablePointer<Float>,
  _ vScales: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ n: Int,
  _ scalars: UnsafePointer<Float>, _ work: UnsafeMutablePointer<Float>
) {
  if n == 0 { return }
  let c = adamConstants(I.self, scalars)
  let firstShare = I.splat((1 - scalars[1]) * scalars[7])
  let secondShare = I.splat(root(I.self, 1 - scalars[2]) * scalars[7])
  let (rootBeta1, rootBeta2) = (root(I.self, scalars[1]), root(I.self, scalars[2]))
  let (epsilon, decay, rate) = (c[5], c[6], c[7])
  let size = QuarticCode.block
  let blocks = (n &+ size &- 1) / size
  var (mInverse, vInverse) = (I.splat(0), I.splat(0))
  for block in 0...blocks {
    let (lastMInverse, lastVInverse) = (mInverse, vInverse)
    if block < blocks {
      let from = block &* size
      let length = min(size, n &- from)
      let roots = work + (block & 1) &* 2 &* size
      // b * (c * s)^4 = (c^2 * sqrt(b) * s^2)^2.
      let mScale = I.splat(rootBeta1 * mScales[block] * mScales[block])
      let vScale = I.splat(rootBeta2 * vScales[block] * vScales[block])
      var (mLargest, vLargest) = (I.splat(0), I.splat(0))
      vectors(I.self, length) { i, count in
        let at = from &+ i
        // Two blocks ahead.
        I.prefetchNear(p + (at &+ 2 &* size))
        I.prefetchNear(g + (at &+ 2 &* size))
        I.prefetchNear(m + (at &+ 2 &* size))
        I.prefetchNear(v + (at &+ 2 &* size))
        let gradient = I.load(g + at, count)
        let code = I.signedCodes(m + at)
        let half = I.mul(I.mul(code, code), mScale)
        let first = I.fma(I.copysign(half, code), half, I.mul(gradient, firstShare))
        let place = I.unsignedCodes(v + at)
        let square = I.mul(I.mul(place, place), vScale)
        let share = I.mul(gradient, secondShare)
        let second = I.fma(square, square, I.mul(share, share))
        let step = I.div(first, I.add(I.sqrt(second), epsilon))
        I.store(p + at, I.fnma(rate, step, I.mul(I.load(p + at, count), decay)), count)
        let magnitude = I.abs(first)
        mLargest = I.max(magnitude, mLargest)
        vLargest = I.max(second, vLargest)
        I.store(roots + i, I.copysign(I.fourthRoot(magnitude), first))
        I.store(roots + (size &+ i), I.fourthRoot(second))
      }
      var i = (length &+ I.lanes &- 1) / I.lanes &* I.lanes
      while i < size {
        I.store(roots + i, I.splat(0))
        I.store(roots + (size &+ i), I.splat(0))
        i &+= I.lanes
      }
      let mTop = blockScale(I.self, mLargest, top: QuarticCode.firstTop)
      let vTop = blockScale(I.self, vLargest, top: QuarticCode.secondTop)
      mScales[block] = mTop.scale
      vScales[block] = vTop.scale
      (mInverse, vInverse) = (I.splat(mTop.inverse), I.splat(vTop.inverse))
    }
    if block > 0 {
      let from = (block &- 1) &* size
      let roots = work + (~block & 1) &* 2 &* size
      var i = 0
      while i < size {
        I.storeSignedCodes(m + (from &+ i), roots + i, lastMInverse)
        I.storeUnsignedCodes(v + (from &+ i), roots + (size &+ i), lastVInverse)
        i &+= 4 &* I.lanes
      }
    }
  }
}

/// Whole vectors first, in a loop without a mask.
@_alwaysEmitIntoClient @inline(__always)
package func vectors<I: InstructionSet>(
  _: I.Type, _ n: Int, _ step: (_ at: Int, _ count: Int) -> Void
) {
  var i = 0
  while i &+ I.lanes <= n {
    step(i, I.lanes)
    i &+= I.lanes
  }
  if i < n { step(i, n &- i) }
}

@_alwaysEmitIntoClient @inline(__always)
package func blockScale<I: InstructionSet>(_: I.Type, _ largest: I.F, top: Float)
  -> (scale: Float, inverse: Float)
{
  let inverse = I.inverseRoot(Double(I.maximum(largest)))
  return QuarticCode.scale(root: Float(I.inverseRoot(inverse)), top: top)
}

@_alwaysEmitIntoClient @inline(__always)
package func root<I: InstructionSet>(_: I.Type, _ x: Float) -> Float {
  Float(1 / I.inverseRoot(Double(x)))
}
