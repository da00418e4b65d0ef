// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// Merging, a block at a time. A block comes from mapped files as it is stored and is read again for
// every pass, so what counts is that a pass does little: none of these but the histogram, the draws and
// the division takes a cycle for each entry, where plain loops took ten and more.
//
// Comparing magnitudes as floats is comparing their bits, which order alike. Counts are kept in lanes of
// Float, exact up to 2^24.

// MARK: deltas

@_alwaysEmitIntoClient @inline(__always)
package func difference_f32<I: InstructionSet>(
  _: I.Type, _ d: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
  _ b: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    I.store(d + at, I.sub(I.load(x + at, count), I.load(b + at, count)), count)
  }
}

/// Values of 16 bits in a page and a half.
@_alwaysEmitIntoClient @inline(__always)
var pagesAhead: Int { 3072 }

@_alwaysEmitIntoClient @inline(__always)
package func difference_bf16<I: InstructionSet>(
  _: I.Type, _ d: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UInt16>,
  _ b: UnsafePointer<UInt16>, _ n: Int
) {
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    // Mapped files lie on small pages, where the prefetcher stops at each.
    I.prefetchFar(x + (i &+ pagesAhead))
    I.prefetchFar(b + (i &+ pagesAhead))
    if 4 &* I.lanes > 32 {
      I.prefetchFar(x + (i &+ pagesAhead &+ 32))
      I.prefetchFar(b + (i &+ pagesAhead &+ 32))
    }
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      I.store(d + at, I.sub(I.loadBF16(x + at), I.loadBF16(b + at)))
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    d[i] = Float(bitPattern: UInt32(x[i]) << 16) - Float(bitPattern: UInt32(b[i]) << 16)
    i &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func difference_f16<I: InstructionSet>(
  _: I.Type, _ d: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UInt16>,
  _ b: UnsafePointer<UInt16>, _ n: Int
) {
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      I.store(d + at, I.sub(I.loadF16(x + at), I.loadF16(b + at)))
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    d[i] = widenedF16(x[i]) - widenedF16(b[i])
    i &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func fromF16<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UInt16>, _ n: Int
) {
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      I.store(y + at, I.loadF16(x + at))
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    y[i] = widenedF16(x[i])
    i &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func toF16<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<Float>, _ n: Int
) {
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      I.storeF16(y + at, I.load(x + at))
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    y[i] = roundedF16(x[i])
    i &+= 1
  }
}

/// s | e5 | m10: the exponent's bias is 15, not 127. Subnormals count units of 2^-24, which no mode of
/// flushing touches.
@_alwaysEmitIntoClient @inline(__always)
func widenedF16(_ bits: UInt16) -> Float {
  let size = UInt32(bits & 0x7FFF)
  let few = (Float(Int32(truncatingIfNeeded: size)) * 0x1p-24).bitPattern
  let whole = size << 13 &+ (size >= 0x7C00 ? 224 << 23 : 112 << 23)
  return Float(bitPattern: UInt32(bits & 0x8000) << 16 | (size < 0x400 ? few : whole))
}

/// Above one half a Float has units of 2^-24, as the subnormals of F16: the sum rounds to them.
@_alwaysEmitIntoClient @inline(__always)
func roundedF16(_ x: Float) -> UInt16 {
  let size = x.bitPattern & 0x7FFF_FFFF
  let few = (Float(bitPattern: size) + 0.5).bitPattern &- (0.5 as Float).bitPattern
  let whole = (size &- (112 << 23) &+ 0xFFF &+ ((size >> 13) & 1)) >> 13
  let large: UInt32 = size > 0x7F80_0000 ? 0x7E00 : 0x7C00
  let bits = size >= 0x477F_F000 ? large : size < 0x3880_0000 ? few : whole
  return UInt16(truncatingIfNeeded: x.bitPattern >> 16 & 0x8000 | bits)
}

@_alwaysEmitIntoClient @inline(__always)
package func add_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    I.store(y + at, I.add(I.load(y + at, count), I.load(x + at, count)), count)
  }
}

// MARK: counts

@_alwaysEmitIntoClient @inline(__always)
package func countBeyond_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<Float>, _ limit: Float, _ n: Int
) -> Int {
  let (bound, zero, one) = (I.splat(limit), I.splat(0), I.splat(1))
  var sums = InlineArray<4, I.F>(repeating: zero)
  // Lanes beyond the end hold 0, which is within any limit.
  sweep(I.self, n) { at, count, slot in
    sums[slot] = I.add(sums[slot], I.whereAtMost(I.abs(I.load(x + at, count)), bound, zero, one))
  }
  return Int(I.sum(I.add(I.add(sums[0], sums[1]), I.add(sums[2], sums[3]))))
}

/// Limits are taken two at a time, so that the entries are loaded half as often.
@_alwaysEmitIntoClient @inline(__always)
package func countWithin_f32<I: InstructionSet>(
  _: I.Type, _ counts: UnsafeMutablePointer<Int>, _ x: UnsafePointer<Float>, _ n: Int,
  _ limits: UnsafePointer<Float>, _ limitCount: Int
) {
  let (zero, one) = (I.splat(0), I.splat(1))
  var k = 0
  while k < limitCount {
    let last = min(k &+ 1, limitCount &- 1)
    let (low, high) = (I.splat(limits[k]), I.splat(limits[last]))
    var a = InlineArray<4, I.F>(repeating: zero)
    var b = InlineArray<4, I.F>(repeating: zero)
    sweep(I.self, n) { at, count, slot in
      // Lanes beyond the end are within no limit.
      let size = I.abs(I.load(x + at, count, fill: .nan))
      a[slot] = I.add(a[slot], I.whereAtMost(size, low, one, zero))
      b[slot] = I.add(b[slot], I.whereAtMost(size, high, one, zero))
    }
    counts[k] &+= Int(I.sum(I.add(I.add(a[0], a[1]), I.add(a[2], a[3]))))
    if last > k { counts[last] &+= Int(I.sum(I.add(I.add(b[0], b[1]), I.add(b[2], b[3])))) }
    k &+= 2
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func countSigns_f32<I: OptimizerVerbs>(
  _: I.Type, _ counts: UnsafeMutablePointer<Int>, _ x: UnsafePointer<Float>,
  _ y: UnsafePointer<Float>, _ n: Int
) {
  var (both, apart) = (0, 0)
  sweep(I.self, n) { at, count, _ in
    let found = I.signs(I.load(x + at, count), I.load(y + at, count))
    both &+= Int(found & 0xFFFF)
    apart &+= Int(found >> 16)
  }
  counts[0] &+= both
  counts[1] &+= apart
}

/// Six limits a walk, which 32 registers hold with their counts.
@_alwaysEmitIntoClient @inline(__always)
package func measure_f32<I: OptimizerVerbs>(
  _: I.Type, _ squares: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>,
  _ x: UnsafePointer<Float>, _ n: Int, _ limits: UnsafePointer<Float>, _ limitCount: Int
) {
  var (low, high) = (I.zeroWide(), I.zeroWide())
  var k = 0
  repeat {
    // Nothing is within a negative limit.
    var bounds = InlineArray<6, I.F>(repeating: I.splat(-1))
    for j in 0..<min(6, limitCount &- k) { bounds[j] = I.splat(limits[k &+ j]) }
    var sums = InlineArray<6, I.F>(repeating: I.splat(0))
    var i = 0
    while i &+ I.lanes <= n {
      let v = I.load(x + i)
      let size = I.abs(v)
      for j in 0..<6 { sums[j] = I.addWhereAtMost(sums[j], size, bounds[j]) }
      low = I.fmaWide(I.widenLow(v), I.widenLow(v), low)
      high = I.fmaWide(I.widenHigh(v), I.widenHigh(v), high)
      i &+= I.lanes
    }
    if k == 0 {
      var sum = I.sumWide(I.addWide(low, high))
      for i in i..<n { sum += Double(x[i]) * Double(x[i]) }
      squares[0] += sum
    }
    for j in 0..<min(6, limitCount &- k) {
      counts[k &+ j] &+= Int(I.sum(sums[j]))
      for i in i..<n where x[i].magnitude <= limits[k &+ j] { counts[k &+ j] &+= 1 }
    }
    k &+= 6
  } while k < limitCount
}

@_alwaysEmitIntoClient @inline(__always)
package func relate_f32<I: OptimizerVerbs>(
  _: I.Type, _ dot: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>,
  _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ n: Int
) {
  var (both, apart) = (0, 0)
  var low = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var high = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  sweep(I.self, n) { at, count, slot in
    let (a, b) = (I.load(x + at, count), I.load(y + at, count))
    let found = I.signs(a, b)
    both &+= Int(found & 0xFFFF)
    apart &+= Int(found >> 16)
    low[slot & 1] = I.fmaWide(I.widenLow(a), I.widenLow(b), low[slot & 1])
    high[slot & 1] = I.fmaWide(I.widenHigh(a), I.widenHigh(b), high[slot & 1])
  }
  dot[0] += I.sumWide(I.addWide(I.addWide(low[0], high[0]), I.addWide(low[1], high[1])))
  counts[0] &+= both
  counts[1] &+= apart
}

/// One load, one shift and one count in memory for each entry. Neighbours that fall into one bin wait
/// for each other's count: zeros of a sparse delta do, so these are counted apart, by vectors.
@_alwaysEmitIntoClient @inline(__always)
package func histogram_f32<I: InstructionSet>(
  _: I.Type, _ counts: UnsafeMutablePointer<UInt32>, _ x: UnsafePointer<Float>, _ n: Int
) {
  let bits = UnsafeRawPointer(x)
  var zeros: UInt32 = 0
  var i = 0
  while i &+ 4 <= n {
    // Two entries a load.
    let first = bits.loadUnaligned(fromByteOffset: 4 &* i, as: UInt64.self)
    let second = bits.loadUnaligned(fromByteOffset: 4 &* i &+ 8, as: UInt64.self)
    if (first | second) & 0x7FFF_FFFF_7FFF_FFFF == 0 {
      zeros &+= 4
    } else {
      counts[Int(truncatingIfNeeded: (first >> 16) & 0x7FFF)] &+= 1
      counts[Int(truncatingIfNeeded: (first >> 48) & 0x7FFF)] &+= 1
      counts[Int(truncatingIfNeeded: (second >> 16) & 0x7FFF)] &+= 1
      counts[Int(truncatingIfNeeded: (second >> 48) & 0x7FFF)] &+= 1
    }
    i &+= 4
  }
  while i < n {
    counts[Int(x[i].bitPattern >> 16 & 0x7FFF)] &+= 1
    i &+= 1
  }
  counts[0] &+= zeros
}

/// Whole vectors are stored and the next one goes behind the matches: no branch to guess. In a sparse
/// delta or one of BF16 models a third of all entries may match.
@_alwaysEmitIntoClient @inline(__always)
package func collect_f32<I: OptimizerVerbs>(
  _: I.Type, _ found: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<Float>, _ n: Int,
  _ prefix: UInt32
) -> Int {
  var total = 0
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      total &+= I.storeMatches(found + total, I.load(x + (i &+ slot &* I.lanes)), prefix)
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    let bits = x[i].bitPattern
    if (bits & 0x7FFF_FFFF) >> 16 == prefix {
      found[total] = UInt16(truncatingIfNeeded: bits)
      total &+= 1
    }
    i &+= 1
  }
  return total
}

@_alwaysEmitIntoClient @inline(__always)
package func collectBetween_f32<I: OptimizerVerbs>(
  _: I.Type, _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>,
  _ x: UnsafePointer<Float>, _ n: Int, _ first: UInt32, _ last: UInt32
) -> Int {
  collectBetween(
    I.self, found, above, n, first, last, vector: { I.load(x + $0) }, value: { x[$0] })
}

/// What lies between is a percent or two: most vectors store nothing that stays.
@_alwaysEmitIntoClient @inline(__always)
func collectBetween<I: OptimizerVerbs>(
  _: I.Type, _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>, _ n: Int,
  _ first: UInt32, _ last: UInt32, vector: (_ at: Int) -> I.F, value: (_ i: Int) -> Float
) -> Int {
  let bound = I.splat(Float(bitPattern: last << 16 | 0xFFFF))
  var within = InlineArray<4, I.F>(repeating: I.splat(0))
  var total = 0
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      let v = vector(i &+ slot &* I.lanes)
      within[slot] = I.addWhereAtMost(within[slot], I.abs(v), bound)
      total &+= I.storeBetween(found + total, v, first, last)
    }
    i &+= 4 &* I.lanes
  }
  let sum = I.add(I.add(within[0], within[1]), I.add(within[2], within[3]))
  above[0] &+= i &- Int(I.sum(sum))
  while i < n {
    let size = value(i).bitPattern & 0x7FFF_FFFF
    if size >> 16 > last {
      above[0] &+= 1
    } else if size >> 16 >= first {
      found[total] = size
      total &+= 1
    }
    i &+= 1
  }
  return total
}

// MARK: combining

@_alwaysEmitIntoClient @inline(__always)
package func combine_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UnsafePointer<Float>>,
  _ w: UnsafePointer<Float>, _ models: Int, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    var sum = I.splat(0)
    for m in 0..<models { sum = I.add(sum, I.mul(I.splat(w[m]), I.load(x[m] + at, count))) }
    I.store(y + at, sum, count)
  }
}

/// Two walks over the models for each vector, whose entries are then in the first-level cache: signs
/// first, then what agrees.
@_alwaysEmitIntoClient @inline(__always)
package func agree_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UnsafePointer<Float>>,
  _ w: UnsafePointer<Float>, _ votes: UnsafePointer<Float>, _ floors: UnsafePointer<Float>,
  _ models: Int, _ normalize: Int, _ lambda: Float, _ n: Int
) {
  let (zero, one, factor) = (I.splat(0), I.splat(1), I.splat(lambda))
  sweep(I.self, n) { at, count, _ in
    var elected = zero
    for m in 0..<models {
      let v = I.load(x[m] + at, count)
      let entry = I.whereGreater(I.splat(floors[m]), I.abs(v), zero, v)
      elected = I.add(elected, I.mul(I.splat(votes[m]), entry))
    }
    let sign = I.whereGreater(zero, elected, I.splat(-1), one)
    var (sum, divisor) = (zero, zero)
    for m in 0..<models {
      let v = I.load(x[m] + at, count)
      let entry = I.whereGreater(I.splat(floors[m]), I.abs(v), zero, v)
      let vote = I.mul(I.mul(I.splat(votes[m]), entry), sign)
      sum = I.add(sum, I.whereGreater(vote, zero, I.mul(I.splat(w[m]), entry), zero))
      divisor = I.add(divisor, I.whereGreater(vote, zero, I.splat(votes[m]), zero))
    }
    if normalize != 0 {
      // Votes of either sign may cancel; then there is nothing to divide by.
      let isZero = I.whereAtMost(I.abs(divisor), zero, one, zero)
      sum = I.div(sum, I.add(divisor, isZero))
    }
    I.store(y + at, I.mul(sum, factor), count)
  }
}

// MARK: the result

/// One walk in place of four: squares, sum, limit and rounding.
@_alwaysEmitIntoClient @inline(__always)
package func finish_bf16<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<Float>,
  _ b: UnsafePointer<UInt16>, _ limit: Float, _ squares: UnsafeMutablePointer<Double>, _ n: Int
) -> Int {
  let (bound, zero, one) = (I.splat(limit), I.splat(0), I.splat(1))
  // Two vectors to a turn: with four, AVX2's sixteen registers do not hold the sums.
  var low = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var high = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var beyond = zero
  var i = 0
  while i &+ 2 &* I.lanes <= n {
    for slot in 0..<2 {
      let at = i &+ slot &* I.lanes
      let v = I.load(x + at)
      low[slot] = I.fmaWide(I.widenLow(v), I.widenLow(v), low[slot])
      high[slot] = I.fmaWide(I.widenHigh(v), I.widenHigh(v), high[slot])
      let value = I.add(v, I.loadBF16(b + at))
      beyond = I.add(beyond, I.whereAtMost(I.abs(value), bound, zero, one))
      I.storeBF16(y + at, value)
    }
    i &+= 2 &* I.lanes
  }
  var found = Int(I.sum(beyond))
  var sum = I.sumWide(I.addWide(I.addWide(low[0], high[0]), I.addWide(low[1], high[1])))
  while i < n {
    let value = x[i] + Float(bitPattern: UInt32(b[i]) << 16)
    sum += Double(x[i]) * Double(x[i])
    if !(value.magnitude <= limit) { found &+= 1 }
    y[i] = roundedBF16(value)
    i &+= 1
  }
  squares[0] += sum
  return found
}
