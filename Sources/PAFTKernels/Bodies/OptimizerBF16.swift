// SPDX-License-Identifier: Apache-2.0

/// To BF16, rounded up with the probability of the bits that are lost: the expected value is x.
/// Value i takes 16 bits of draw (first + i) / 4, so the result knows nothing of vectors and workers.
@_alwaysEmitIntoClient @inline(__always)
package func toBF16Stochastic<I: OptimizerVerbs>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ n: Int,
  _ key: UInt64, _ first: Int
) {
  noisySweep(I.self, n, key, first) { at, count, noise in
    I.storeHalves(dst + at, I.noisyBF16(I.load(src + at, count), noise), count)
  }
}

/// AdamW on BF16 weights without a master copy: 24 bytes a value instead of 28 + 4 + 2. The step is
/// far below a BF16's last bit, so rounding to nearest would lose it; the noise keeps it on average
/// (Zamirai et al. 2010.06192). One draw of 64 bits serves four values: 5 integer products per 2
/// vectors, which hide behind memory.
@_alwaysEmitIntoClient @inline(__always)
package func adamWStochastic_bf16<I: OptimizerVerbs>(
  _: I.Type, _ p: UnsafeMutablePointer<UInt16>, _ m: UnsafeMutablePointer<Float>,
  _ v: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ n: Int,
  _ scalars: UnsafePointer<Float>, _ key: UInt64, _ first: Int
) {
  let c = adamConstants(I.self, scalars)
  noisySweep(I.self, n, key, first) { at, count, noise in
    let (first, second) = adamMoments(
      I.self, c, I.load(g + at, count), I.load(m + at, count), I.load(v + at, count))
    I.store(m + at, first, count)
    I.store(v + at, second, count)
    let weight = I.widen(I.loadHalves(p + at, count))
    I.storeHalves(
      p + at, I.noisyBF16(adamWeight(I.self, c, weight, first, second), noise), count)
  }
}

/// AdamW on a master weight of two halves: the upper is the BF16 that products read, so no second
/// copy is kept or written (28 bytes a value; Float masters with a BF16 copy move 30 and keep 6).
@_alwaysEmitIntoClient @inline(__always)
package func adamWSplit_bf16<I: OptimizerVerbs>(
  _: I.Type, _ upper: UnsafeMutablePointer<UInt16>, _ lower: UnsafeMutablePointer<UInt16>,
  _ m: UnsafeMutablePointer<Float>, _ v: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>,
  _ n: Int, _ scalars: UnsafePointer<Float>
) {
  let c = adamConstants(I.self, scalars)
  sweep(I.self, n) { at, count, _ in
    let (first, second) = adamMoments(
      I.self, c, I.load(g + at, count), I.load(m + at, count), I.load(v + at, count))
    I.store(m + at, first, count)
    I.store(v + at, second, count)
    let old = I.join(I.loadHalves(upper + at, count), I.loadHalves(lower + at, count))
    let weight = adamWeight(I.self, c, old, first, second)
    I.storeHalves(upper + at, I.upperHalf(weight), count)
    I.storeHalves(lower + at, I.lowerHalf(weight), count)
  }
}

/// Two vectors for every draw: `step(at, count, noise)`. `first` is a multiple of 4.
@_alwaysEmitIntoClient @inline(__always)
package func noisySweep<I: OptimizerVerbs>(
  _: I.Type, _ n: Int, _ key: UInt64, _ first: Int,
  _ step: (_ at: Int, _ count: Int, _ noise: I.Noise) -> Void
) {
  var i = 0
  while i &+ 2 &* I.lanes <= n {
    let bits = I.draw(UInt64(bitPattern: Int64(first &+ i)) >> 2, key)
    step(i, I.lanes, I.noiseLow(bits))
    step(i &+ I.lanes, I.lanes, I.noiseHigh(bits))
    i &+= 2 &* I.lanes
  }
  if i < n {
    let bits = I.draw(UInt64(bitPattern: Int64(first &+ i)) >> 2, key)
    step(i, min(I.lanes, n &- i), I.noiseLow(bits))
    let rest = n &- i &- I.lanes
    if rest > 0 { step(i &+ I.lanes, rest, I.noiseHigh(bits)) }
  }
}
