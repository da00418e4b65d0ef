// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

/// AdamW with both moments in 8 bits (`DynamicCode`), a scale for every 256 of them: 16 bytes a value
/// are moved instead of 28, and 2 are kept instead of 8.
///
/// A block goes twice: moments and weights first, with the moments' Floats and their largest in
/// `work`, which stays in L1, then the codes. Weights step with the moments before they are rounded.
/// Codes are computed, not searched: in a decade a code is a linear function of the value, and the
/// decade is a look-up by the exponent, a permutation of one register. The paper's binary search over
/// 256 values would be 8 dependent gathers.
@_alwaysEmitIntoClient @inline(__always)
package func adamW8_f32<I: OptimizerVerbs>(
  _: I.Type, _ p: UnsafeMutablePointer<Float>, _ m: UnsafeMutablePointer<Int8>,
  _ v: UnsafeMutablePointer<UInt8>, _ mScales: UnsafeMutablePointer<Float>,
  _ vScales: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ n: Int,
  _ scalars: UnsafePointer<Float>, _ tables: UnsafePointer<Float>,
  _ work: UnsafeMutablePointer<Float>
) {
  let c = adamConstants(I.self, scalars)
  let size = DynamicCode.block
  let (slopes, starts) = (tables, tables + 8)
  let (nexts, places, origins) = (tables + 16, tables + 24, tables + 32)
  let (firsts, seconds) = (work, work + size)
  var block = 0
  while block &* size < n {
    let from = block &* size
    let length = min(size, n &- from)
    let (mScale, vScale) = (I.splat(mScales[block]), I.splat(vScales[block]))
    var largest = InlineArray<2, I.F>(repeating: I.splat(0))
    var i = 0
    while i < length {
      let count = min(I.lanes, length &- i)
      let at = from &+ i
      let (first, second) = adamMoments(
        I.self, c, I.load(g + at, count),
        I.mul(mScale, I.decodeSigned(m + at, slopes, starts)),
        I.mul(vScale, I.decodeUnsigned(v + at, slopes, starts)))
      I.store(firsts + i, first)
      I.store(seconds + i, second)
      largest[0] = I.max(I.abs(first), largest[0])
      largest[1] = I.max(second, largest[1])
      I.store(p + at, adamWeight(I.self, c, I.load(p + at, count), first, second), count)
      i &+= count
    }
    let mTop = DynamicCode.scale(I.maximum(largest[0]), top: tables[40])
    let vTop = DynamicCode.scale(I.maximum(largest[1]), top: tables[41])
    mScales[block] = mTop.scale
    vScales[block] = vTop.scale
    let (mInverse, vInverse) = (I.splat(mTop.inverse), I.splat(vTop.inverse))
    i = 0
    while i < length {
      I.encodeSigned(m + (from &+ i), I.load(firsts + i), mInverse, nexts, places, origins)
      I.encodeUnsigned(v + (from &+ i), I.load(seconds + i), vInverse, nexts, places, origins)
      i &+= I.lanes
    }
    block &+= 1
  }
}
