// SPDX-License-Identifier: Apache-2.0

import PAFTBase

func difference_f32(_ d: KernelTable.Out, _ x: KernelTable.In, _ b: KernelTable.In, _ n: Int) {
  for i in 0..<n { d[i] = x[i] - b[i] }
}

func difference_bf16(
  _ d: KernelTable.Out, _ x: KernelTable.In16, _ b: KernelTable.In16, _ n: Int
) {
  for i in 0..<n { d[i] = BF16(bits: x[i]).float - BF16(bits: b[i]).float }
}

/// s | e5 | m10 of bias 15: m * 2^-24 where e is 0, infinity and NaN where it is 31.
private func half(_ bits: UInt16) -> Float {
  let fraction = Float(bits & 0x3FF)
  let size: Float
  switch bits >> 10 & 31 {
  case 0: size = fraction * 0x1p-24
  case 31: size = fraction == 0 ? .infinity : .nan
  case let exponent:
    size = (1024 + fraction) * Float(sign: .plus, exponent: Int(exponent) - 25, significand: 1)
  }
  return bits & 0x8000 == 0 ? size : -size
}

func fromF16(_ y: KernelTable.Out, _ x: KernelTable.In16, _ n: Int) {
  for i in 0..<n { y[i] = half(x[i]) }
}

func difference_f16(_ d: KernelTable.Out, _ x: KernelTable.In16, _ b: KernelTable.In16, _ n: Int) {
  for i in 0..<n { d[i] = half(x[i]) - half(b[i]) }
}

/// Units of the last place, 2^-24 for the smallest: their number, rounded, is the bits' offset from
/// those of the binade's start, and a carry goes to the next binade by itself.
func toF16(_ y: KernelTable.Out16, _ x: KernelTable.In, _ n: Int) {
  for i in 0..<n {
    let sign: UInt16 = x[i].sign == .minus ? 0x8000 : 0
    let size = x[i].magnitude
    if size.isNaN {
      y[i] = sign | 0x7E00
    } else if size >= 65520 {
      y[i] = sign | 0x7C00
    } else {
      let exponent = size < 0x1p-14 ? -14 : Int(size.exponent)
      let unit = Float(sign: .plus, exponent: exponent - 10, significand: 1)
      let units = (size / unit).rounded(.toNearestOrEven)
      y[i] = sign | (UInt16(units) &+ UInt16(exponent + 14) << 10)
    }
  }
}

func add_f32(_ y: KernelTable.Out, _ x: KernelTable.In, _ n: Int) {
  for i in 0..<n { y[i] += x[i] }
}

func countBeyond_f32(_ x: KernelTable.In, _ limit: Float, _ n: Int) -> Int {
  var count = 0
  for i in 0..<n where !(x[i].magnitude <= limit) { count += 1 }
  return count
}

func countWithin_f32(
  _ counts: UnsafeMutablePointer<Int>, _ x: KernelTable.In, _ n: Int, _ limits: KernelTable.In,
  _ limitCount: Int
) {
  for k in 0..<limitCount {
    for i in 0..<n where x[i].magnitude <= limits[k] { counts[k] += 1 }
  }
}

func countSigns_f32(
  _ counts: UnsafeMutablePointer<Int>, _ x: KernelTable.In, _ y: KernelTable.In, _ n: Int
) {
  for i in 0..<n where x[i] != 0 && y[i] != 0 {
    counts[0] += 1
    if (x[i] < 0) != (y[i] < 0) { counts[1] += 1 }
  }
}

func measure_f32(
  _ squares: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>,
  _ x: KernelTable.In, _ n: Int, _ limits: KernelTable.In, _ limitCount: Int
) {
  for i in 0..<n { squares[0] += Double(x[i]) * Double(x[i]) }
  countWithin_f32(counts, x, n, limits, limitCount)
}

func relate_f32(
  _ dot: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>, _ x: KernelTable.In,
  _ y: KernelTable.In, _ n: Int
) {
  for i in 0..<n { dot[0] += Double(x[i]) * Double(y[i]) }
  countSigns_f32(counts, x, y, n)
}

func histogram_f32(_ counts: UnsafeMutablePointer<UInt32>, _ x: KernelTable.In, _ n: Int) {
  for i in 0..<n { counts[Int(x[i].magnitude.bitPattern >> 16)] += 1 }
}

func collect_f32(
  _ found: UnsafeMutablePointer<UInt16>, _ x: KernelTable.In, _ n: Int, _ prefix: UInt32
) -> Int {
  var count = 0
  for i in 0..<n where x[i].magnitude.bitPattern >> 16 == prefix {
    found[count] = UInt16(truncatingIfNeeded: x[i].bitPattern)
    count += 1
  }
  return count
}

func collectBetween_f32(
  _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>, _ x: KernelTable.In,
  _ n: Int, _ first: UInt32, _ last: UInt32
) -> Int {
  var count = 0
  for i in 0..<n {
    let size = x[i].magnitude.bitPattern
    if size >> 16 > last { above[0] += 1 }
    guard (first...last).contains(size >> 16) else { continue }
    found[count] = size
    count += 1
  }
  return count
}

func cut_f32(_ x: KernelTable.Out, _ floor: Float, _ n: Int) {
  for i in 0..<n where x[i].magnitude < floor { x[i] = 0 }
}

func thin_f32(_ x: KernelTable.Out, _ n: Int, _ key: UInt64, _ first: Int, _ limit: UInt64) {
  let random = CounterRandom(rawKey: key)
  for i in 0..<n where random.word(UInt64(first + i)) >= limit { x[i] = 0 }
}

func draw_bits(
  _ bits: UnsafeMutablePointer<UInt8>, _ n: Int, _ key: UInt64, _ first: Int, _ limit: UInt64
) {
  let random = CounterRandom(rawKey: key)
  for i in 0..<n {
    if i % 8 == 0 { bits[i / 8] = 0 }
    if random.word(UInt64(first + i)) < limit { bits[i / 8] |= 1 << (i % 8) }
  }
}

func keep_f32(_ x: KernelTable.Out, _ bits: UnsafePointer<UInt8>, _ n: Int) {
  for i in 0..<n where bits[i / 8] >> (i % 8) & 1 == 0 { x[i] = 0 }
}

func combine_f32(
  _ y: KernelTable.Out, _ x: UnsafePointer<KernelTable.In>, _ w: KernelTable.In, _ models: Int,
  _ n: Int
) {
  for i in 0..<n {
    var sum: Float = 0
    for m in 0..<models { sum += w[m] * x[m][i] }
    y[i] = sum
  }
}

func agree_f32(
  _ y: KernelTable.Out, _ x: UnsafePointer<KernelTable.In>, _ w: KernelTable.In,
  _ votes: KernelTable.In, _ floors: KernelTable.In, _ models: Int, _ normalize: Int,
  _ lambda: Float, _ n: Int
) {
  for i in 0..<n {
    func entry(_ m: Int) -> Float { x[m][i].magnitude < floors[m] ? 0 : x[m][i] }
    var elected: Float = 0
    for m in 0..<models { elected += votes[m] * entry(m) }
    var (sum, divisor) = (Float(0), Float(0))
    for m in 0..<models {
      let vote = votes[m] * entry(m)
      guard elected < 0 ? vote < 0 : vote > 0 else { continue }
      sum += w[m] * entry(m)
      divisor += votes[m]
    }
    if normalize != 0 { sum /= divisor == 0 ? 1 : divisor }
    y[i] = sum * lambda
  }
}

func finish_bf16(
  _ y: KernelTable.Out16, _ x: KernelTable.In, _ b: KernelTable.In16, _ limit: Float,
  _ squares: UnsafeMutablePointer<Double>, _ n: Int
) -> Int {
  var (sum, beyond) = (0.0, 0)
  for i in 0..<n {
    sum += Double(x[i]) * Double(x[i])
    let value = x[i] + BF16(bits: b[i]).float
    if !(value.magnitude <= limit) { beyond += 1 }
    y[i] = BF16(value).bits
  }
  squares[0] += sum
  return beyond
}
