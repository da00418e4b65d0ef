// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// Upper 16 bits of x + noise, where noise is as wide as what is lost.
func roundedStochastically(_ x: Float, _ random: CounterRandom, _ index: Int) -> UInt16 {
  if x.isNaN { return UInt16(x.bitPattern >> 16) | 0x40 }
  let bits = random.bits(UInt64(index / 4)) >> (16 * UInt64(index % 4))
  return UInt16(truncatingIfNeeded: (x.bitPattern &+ UInt32(bits & 0xFFFF)) >> 16)
}

func toBF16Stochastic(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, _ n: Int, _ key: UInt64, _ first: Int
) {
  let random = CounterRandom(rawKey: key)
  for i in 0..<n { dst[i] = roundedStochastically(src[i], random, first + i) }
}

func adamWStochastic_bf16(
  _ p: KernelTable.Out16, _ m: KernelTable.Out, _ v: KernelTable.Out, _ g: KernelTable.In,
  _ n: Int, _ scalars: KernelTable.In, _ key: UInt64, _ first: Int
) {
  let random = CounterRandom(rawKey: key)
  for i in 0..<n {
    var weight = BF16(bits: p[i]).float
    adamW_f32(&weight, m + i, v + i, g + i, 1, scalars)
    p[i] = roundedStochastically(weight, random, first + i)
  }
}

func adamWSplit_bf16(
  _ upper: KernelTable.Out16, _ lower: KernelTable.Out16, _ m: KernelTable.Out,
  _ v: KernelTable.Out, _ g: KernelTable.In, _ n: Int, _ scalars: KernelTable.In
) {
  for i in 0..<n {
    let rest = UInt32(bitPattern: Int32(Int16(bitPattern: lower[i])))
    var weight = Float(bitPattern: UInt32(upper[i]) << 16 &+ rest)
    adamW_f32(&weight, m + i, v + i, g + i, 1, scalars)
    upper[i] = UInt16(truncatingIfNeeded: (weight.bitPattern &+ 0x8000) >> 16)
    lower[i] = UInt16(truncatingIfNeeded: weight.bitPattern)
  }
}

/// Codes are found by walking through the bins from the largest.
func adamW8_f32(
  _ p: KernelTable.Out, _ m: UnsafeMutablePointer<Int8>, _ v: UnsafeMutablePointer<UInt8>,
  _ mScales: KernelTable.Out, _ vScales: KernelTable.Out, _ g: KernelTable.In, _ n: Int,
  _ scalars: KernelTable.In, _ tables: KernelTable.In, _ work: KernelTable.Out
) {
  let (firsts, seconds) = (work, work + DynamicCode.block)
  for block in 0..<(n + DynamicCode.block - 1) / DynamicCode.block {
    let from = block * DynamicCode.block
    let length = min(DynamicCode.block, n - from)
    var (mLargest, vLargest): (Float, Float) = (0, 0)
    for i in 0..<length {
      let (code, place) = (Int(m[from + i]), Double(v[from + i]) + 1.5)
      let size = Float(value(atPlace: Double(2 * abs(code) + 1))) * mScales[block]
      firsts[i] = code < 0 ? -size : size
      seconds[i] = Float(value(atPlace: place)) * vScales[block]
      adamW_f32(p + (from + i), firsts + i, seconds + i, g + (from + i), 1, scalars)
      mLargest = max(mLargest, firsts[i].magnitude)
      vLargest = max(vLargest, seconds[i])
    }
    let mTop = DynamicCode.scale(mLargest, top: tables[40])
    let vTop = DynamicCode.scale(vLargest, top: tables[41])
    (mScales[block], vScales[block]) = (mTop.scale, vTop.scale)
    for i in 0..<length {
      let size = Double(firsts[i].magnitude * mTop.inverse)
      var code = 127
      while code > 0 && edge(atPlace: 2 * code) > size { code -= 1 }
      m[from + i] = Int8(firsts[i] < 0 ? -code : code)
      code = 254
      let least = seconds[i] > 0 ? 1 : 0
      while code > least && edge(atPlace: code + 1) > Double(seconds[i] * vTop.inverse) {
        code -= 1
      }
      v[from + i] = UInt8(code)
    }
  }
}

/// value(c) of `DynamicCode`.
private func value(atPlace c: Double) -> Double { c < 2 ? 0 : edge(c) }

/// Where the bin that begins at place c begins.
private func edge(atPlace c: Int) -> Double { edge(Double(c)) }

private func edge(_ c: Double) -> Double {
  var (decade, size) = (1e-7, 1.0)
  while 2 * size <= c { (decade, size) = (decade * 10, size * 2) }
  return decade * (0.9 * c / size - 0.8)
}
