// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// Merging two BF16 branches of one base, from what the files hold to what is counted or written: deltas
// live in registers only. By way of Floats a block was stored and loaded again for every one of these
// steps, and memory stood still while they went on; here it streams beside them.

/// x - b of `count` values at `at`; lanes beyond are 0.
@_alwaysEmitIntoClient @inline(__always)
func delta_bf16<I: OptimizerVerbs>(
  _: I.Type, _ x: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ at: Int, _ count: Int
) -> I.F {
  count == I.lanes
    ? I.sub(I.loadBF16(x + at), I.loadBF16(b + at))
    : I.sub(I.widen(I.loadHalves(x + at, count)), I.widen(I.loadHalves(b + at, count)))
}

@_alwaysEmitIntoClient @inline(__always)
func delta_bf16(_ x: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ i: Int) -> Float {
  Float(bitPattern: UInt32(x[i]) << 16) - Float(bitPattern: UInt32(b[i]) << 16)
}

/// Both branches' deltas and their base.
@_alwaysEmitIntoClient @inline(__always)
func deltas_bf16<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<UInt16>, _ y: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>,
  _ at: Int
) -> (x: I.F, y: I.F, base: I.F) {
  let base = I.loadBF16(b + at)
  return (I.sub(I.loadBF16(x + at), base), I.sub(I.loadBF16(y + at), base), base)
}

/// Mapped files lie on small pages, where the prefetcher stops at each.
@_alwaysEmitIntoClient @inline(__always)
func prefetchBranches<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<UInt16>, _ y: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>,
  _ at: Int
) {
  I.prefetchFar(x + (at &+ pagesAhead))
  I.prefetchFar(y + (at &+ pagesAhead))
  I.prefetchFar(b + (at &+ pagesAhead))
}

/// Two vectors to a turn: squares have one sum a branch and half, products two, as where they are taken
/// apart (`measure_f32`, `relate_f32`).
@_alwaysEmitIntoClient @inline(__always)
package func survey_bf16<I: OptimizerVerbs>(
  _: I.Type, _ sums: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>,
  _ x: UnsafePointer<UInt16>, _ y: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ n: Int,
  _ limits: UnsafePointer<Float>
) {
  var (xLow, xHigh, yLow, yHigh) = (I.zeroWide(), I.zeroWide(), I.zeroWide(), I.zeroWide())
  var low = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var high = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var bounds = InlineArray<6, I.F>(repeating: I.splat(0))
  for k in 0..<6 { bounds[k] = I.splat(limits[k]) }
  var xCounts = InlineArray<6, I.F>(repeating: I.splat(0))
  var yCounts = InlineArray<6, I.F>(repeating: I.splat(0))
  var (both, apart) = (0, 0)
  var i = 0
  while i &+ 2 &* I.lanes <= n {
    prefetchBranches(I.self, x, y, b, i)
    for slot in 0..<2 {
      let at = i &+ slot &* I.lanes
      let (dx, dy, _) = deltas_bf16(I.self, x, y, b, at)
      let (xSize, ySize) = (I.abs(dx), I.abs(dy))
      for k in 0..<6 {
        xCounts[k] = I.addWhereAtMost(xCounts[k], xSize, bounds[k])
        yCounts[k] = I.addWhereAtMost(yCounts[k], ySize, bounds[k])
      }
      let found = I.signs(dx, dy)
      both &+= Int(found & 0xFFFF)
      apart &+= Int(found >> 16)
      let (xFirst, yFirst) = (I.widenLow(dx), I.widenLow(dy))
      xLow = I.fmaWide(xFirst, xFirst, xLow)
      yLow = I.fmaWide(yFirst, yFirst, yLow)
      low[slot] = I.fmaWide(xFirst, yFirst, low[slot])
      let (xLast, yLast) = (I.widenHigh(dx), I.widenHigh(dy))
      xHigh = I.fmaWide(xLast, xLast, xHigh)
      yHigh = I.fmaWide(yLast, yLast, yHigh)
      high[slot] = I.fmaWide(xLast, yLast, high[slot])
    }
    i &+= 2 &* I.lanes
  }
  var xSum = I.sumWide(I.addWide(xLow, xHigh))
  var ySum = I.sumWide(I.addWide(yLow, yHigh))
  var dot = I.sumWide(I.addWide(I.addWide(low[0], high[0]), I.addWide(low[1], high[1])))
  for k in 0..<6 {
    counts[k] &+= Int(I.sum(xCounts[k]))
    counts[6 &+ k] &+= Int(I.sum(yCounts[k]))
  }
  while i < n {
    let (dx, dy) = (delta_bf16(x, b, i), delta_bf16(y, b, i))
    xSum += Double(dx) * Double(dx)
    ySum += Double(dy) * Double(dy)
    dot += Double(dx) * Double(dy)
    for k in 0..<6 {
      if dx.magnitude <= limits[k] { counts[k] &+= 1 }
      if dy.magnitude <= limits[k] { counts[6 &+ k] &+= 1 }
    }
    if dx != 0, dy != 0 {
      both &+= 1
      if (dx < 0) != (dy < 0) { apart &+= 1 }
    }
    i &+= 1
  }
  sums[0] += xSum
  sums[1] += ySum
  sums[2] += dot
  counts[12] &+= both
  counts[13] &+= apart
}

@_alwaysEmitIntoClient @inline(__always)
package func collectBetween_bf16<I: OptimizerVerbs>(
  _: I.Type, _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>,
  _ x: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ n: Int, _ first: UInt32,
  _ last: UInt32
) -> Int {
  collectBetween(
    I.self, found, above, n, first, last,
    vector: { delta_bf16(I.self, x, b, $0, I.lanes) }, value: { delta_bf16(x, b, $0) })
}

/// A turn's bits are one word. Sums are those of `sumAbsolute_f32`.
@_alwaysEmitIntoClient @inline(__always)
package func drawSums_bf16<I: OptimizerVerbs>(
  _: I.Type, _ bits: UnsafeMutablePointer<UInt8>, _ sums: UnsafeMutablePointer<Double>,
  _ x: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ n: Int, _ key: UInt64, _ first: Int,
  _ limit: UInt64
) {
  var low = InlineArray<4, I.Wide>(repeating: I.zeroWide())
  var high = InlineArray<4, I.Wide>(repeating: I.zeroWide())
  var keptLow = InlineArray<4, I.Wide>(repeating: I.zeroWide())
  var keptHigh = InlineArray<4, I.Wide>(repeating: I.zeroWide())
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    var word: UInt64 = 0
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      let mask = drawnMask(I.self, first &+ at, key, limit)
      let size = I.abs(delta_bf16(I.self, x, b, at, I.lanes))
      low[slot] = I.addWide(I.widenLow(size), low[slot])
      high[slot] = I.addWide(I.widenHigh(size), high[slot])
      keptLow[slot] = I.addKeptLow(keptLow[slot], size, mask)
      keptHigh[slot] = I.addKeptHigh(keptHigh[slot], size, mask)
      word |= UInt64(mask) &<< UInt64(truncatingIfNeeded: slot &* I.lanes)
    }
    for byte in 0..<(I.lanes / 2) {
      bits[i / 8 &+ byte] = UInt8(
        truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: 8 &* byte))
    }
    i &+= 4 &* I.lanes
  }
  let start = i
  var word: UInt64 = 0
  while i < n {
    let mask = drawnMask(I.self, first &+ i, key, limit)
    let size = I.abs(delta_bf16(I.self, x, b, i, min(I.lanes, n &- i)))
    low[0] = I.addWide(I.widenLow(size), low[0])
    high[0] = I.addWide(I.widenHigh(size), high[0])
    keptLow[0] = I.addKeptLow(keptLow[0], size, mask)
    keptHigh[0] = I.addKeptHigh(keptHigh[0], size, mask)
    word |= UInt64(mask) &<< UInt64(truncatingIfNeeded: i &- start)
    i &+= I.lanes
  }
  if start < n {
    word &= (1 &<< UInt64(truncatingIfNeeded: n &- start)) &- 1
    var at = start
    while at < n {
      bits[at / 8] = UInt8(truncatingIfNeeded: word &>> UInt64(truncatingIfNeeded: at &- start))
      at &+= 8
    }
  }
  sums[0] += totalWide(I.self, low, high)
  sums[1] += totalWide(I.self, keptLow, keptHigh)
}

@_alwaysEmitIntoClient @inline(__always)
package func agree_bf16<I: OptimizerVerbs>(
  _: I.Type, _ r: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<UInt16>,
  _ y: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ w: UnsafePointer<Float>,
  _ votes: UnsafePointer<Float>, _ floors: UnsafePointer<Float>, _ factors: UnsafePointer<Float>,
  _ keptX: UnsafePointer<UInt8>?, _ keptY: UnsafePointer<UInt8>?, _ normalize: Int,
  _ lambda: Float, _ limit: Float, _ squares: UnsafeMutablePointer<Double>, _ n: Int
) -> Int {
  // Cuts come without factors, draws without cuts: what does nothing is left out.
  let hasFloors = floors[0] > 0 || floors[1] > 0
  let hasFactors = factors[0] != 1 || factors[1] != 1
  let (xFloor, yFloor) = (I.splat(floors[0]), I.splat(floors[1]))
  let (xFactor, yFactor) = (I.splat(factors[0]), I.splat(factors[1]))
  if let keptX, let keptY {
    func isKept(_ i: Int) -> (Bool, Bool) {
      let shift = UInt8(truncatingIfNeeded: i & 7)
      return (keptX[i / 8] &>> shift & 1 == 1, keptY[i / 8] &>> shift & 1 == 1)
    }
    if !hasFloors {
      return agree_bf16(
        I.self, r, x, y, b, w, votes, floors, factors, normalize, lambda, limit, squares, n,
        entryX: { I.mul(I.keepLanes($0, keptBits(I.self, keptX, $1)), xFactor) },
        entryY: { I.mul(I.keepLanes($0, keptBits(I.self, keptY, $1)), yFactor) }, isKept: isKept)
    }
    return agree_bf16(
      I.self, r, x, y, b, w, votes, floors, factors, normalize, lambda, limit, squares, n,
      entryX: {
        I.mul(I.keepLanes(cut(I.self, $0, xFloor), keptBits(I.self, keptX, $1)), xFactor)
      },
      entryY: {
        I.mul(I.keepLanes(cut(I.self, $0, yFloor), keptBits(I.self, keptY, $1)), yFactor)
      }, isKept: isKept)
  }
  if !hasFactors {
    return agree_bf16(
      I.self, r, x, y, b, w, votes, floors, factors, normalize, lambda, limit, squares, n,
      entryX: { d, _ in cut(I.self, d, xFloor) }, entryY: { d, _ in cut(I.self, d, yFloor) },
      isKept: { _ in (true, true) })
  }
  return agree_bf16(
    I.self, r, x, y, b, w, votes, floors, factors, normalize, lambda, limit, squares, n,
    entryX: { d, _ in I.mul(cut(I.self, d, xFloor), xFactor) },
    entryY: { d, _ in I.mul(cut(I.self, d, yFloor), yFactor) }, isKept: { _ in (true, true) })
}

/// The lanes of at least this magnitude, the others 0.
@_alwaysEmitIntoClient @inline(__always)
func cut<I: InstructionSet>(_: I.Type, _ v: I.F, _ floor: I.F) -> I.F {
  I.whereGreater(floor, I.abs(v), I.splat(0), v)
}

/// The bits of the vector at `at`, from bit 0 on.
@_alwaysEmitIntoClient @inline(__always)
func keptBits<I: InstructionSet>(_: I.Type, _ bits: UnsafePointer<UInt8>, _ at: Int) -> UInt32 {
  if I.lanes == 16 { return UInt32(bits[at / 8]) | UInt32(bits[at / 8 &+ 1]) << 8 }
  return UInt32(bits[at / 8]) &>> UInt32(truncatingIfNeeded: at & 7)
}

/// Whether 1/x is a Float: x is a power of two, and neither is subnormal.
@_alwaysEmitIntoClient @inline(__always)
func hasInverse(_ x: Float) -> Bool {
  let exponent = (x.bitPattern >> 23) & 0xFF
  return x.bitPattern & 0x7F_FFFF == 0 && exponent >= 1 && exponent <= 253
}

/// Products and sums in the order of `agree_f32`, then those of `finish_bf16`.
@_alwaysEmitIntoClient @inline(__always)
func agree_bf16<I: OptimizerVerbs>(
  _: I.Type, _ r: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<UInt16>,
  _ y: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, _ w: UnsafePointer<Float>,
  _ votes: UnsafePointer<Float>, _ floors: UnsafePointer<Float>, _ factors: UnsafePointer<Float>,
  _ normalize: Int, _ lambda: Float, _ limit: Float, _ squares: UnsafeMutablePointer<Double>,
  _ n: Int, entryX: (I.F, _ at: Int) -> I.F, entryY: (I.F, _ at: Int) -> I.F,
  isKept: (_ i: Int) -> (Bool, Bool)
) -> Int {
  let (zero, one, minusOne) = (I.splat(0), I.splat(1), I.splat(-1))
  let (xWeight, yWeight) = (I.splat(w[0]), I.splat(w[1]))
  let (xVotes, yVotes) = (I.splat(votes[0]), I.splat(votes[1]))
  let (scale, bound) = (I.splat(lambda), I.splat(limit))
  // Dividing by a power of two is multiplying by its inverse, bit for bit, and takes a tenth of the time.
  let isExact = hasInverse(votes[0]) && hasInverse(votes[1]) && hasInverse(votes[0] + votes[1])
  let (xInverse, yInverse) = (I.splat(1 / votes[0]), I.splat(1 / votes[1]))
  let bothInverse = I.splat(1 / (votes[0] + votes[1]))
  var low = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var high = InlineArray<2, I.Wide>(repeating: I.zeroWide())
  var within = zero
  var i = 0
  while i &+ 2 &* I.lanes <= n {
    prefetchBranches(I.self, x, y, b, i)
    for slot in 0..<2 {
      let at = i &+ slot &* I.lanes
      let (dx, dy, base) = deltas_bf16(I.self, x, y, b, at)
      let (xEntry, yEntry) = (entryX(dx, at), entryY(dy, at))
      let (xVote, yVote) = (I.mul(xVotes, xEntry), I.mul(yVotes, yEntry))
      let sign = I.whereGreater(zero, I.add(xVote, yVote), minusOne, one)
      let (xSide, ySide) = (I.mul(xVote, sign), I.mul(yVote, sign))
      let first = I.add(zero, I.whereGreater(xSide, zero, I.mul(xWeight, xEntry), zero))
      var value = I.add(first, I.whereGreater(ySide, zero, I.mul(yWeight, yEntry), zero))
      if normalize != 0, isExact {
        let withX = I.whereGreater(ySide, zero, bothInverse, xInverse)
        let withoutX = I.whereGreater(ySide, zero, yInverse, one)
        value = I.mul(value, I.whereGreater(xSide, zero, withX, withoutX))
      } else if normalize != 0 {
        let divisor = I.add(
          I.whereGreater(xSide, zero, xVotes, zero), I.whereGreater(ySide, zero, yVotes, zero))
        // Votes of either sign may cancel; then there is nothing to divide by.
        value = I.div(value, I.add(divisor, I.whereAtMost(I.abs(divisor), zero, one, zero)))
      }
      value = I.mul(value, scale)
      low[slot] = I.fmaWide(I.widenLow(value), I.widenLow(value), low[slot])
      high[slot] = I.fmaWide(I.widenHigh(value), I.widenHigh(value), high[slot])
      let result = I.add(value, base)
      within = I.addWhereAtMost(within, I.abs(result), bound)
      I.storeBF16(r + at, result)
    }
    i &+= 2 &* I.lanes
  }
  var found = i &- Int(I.sum(within))
  var sum = I.sumWide(I.addWide(I.addWide(low[0], high[0]), I.addWide(low[1], high[1])))
  while i < n {
    let (dx, dy, kept) = (delta_bf16(x, b, i), delta_bf16(y, b, i), isKept(i))
    let xEntry = (dx.magnitude < floors[0] || !kept.0 ? 0 : dx) * factors[0]
    let yEntry = (dy.magnitude < floors[1] || !kept.1 ? 0 : dy) * factors[1]
    let (xVote, yVote) = (votes[0] * xEntry, votes[1] * yEntry)
    let sign: Float = xVote + yVote < 0 ? -1 : 1
    var (value, divisor) = (Float(0), Float(0))
    if xVote * sign > 0 {
      value += w[0] * xEntry
      divisor += votes[0]
    }
    if yVote * sign > 0 {
      value += w[1] * yEntry
      divisor += votes[1]
    }
    if normalize != 0 { value /= divisor == 0 ? 1 : divisor }
    value *= lambda
    sum += Double(value) * Double(value)
    let result = value + Float(bitPattern: UInt32(b[i]) << 16)
    if !(result.magnitude <= limit) { found &+= 1 }
    r[i] = roundedBF16(result)
    i &+= 1
  }
  squares[0] += sum
  return found
}
