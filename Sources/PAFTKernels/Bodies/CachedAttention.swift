// SPDX-License-Identifier: Apache-2.0

// One query per sequence over cached rows. A row of K is read once for all query heads of its key
// head, a row of V once for up to four of them. Sums in Float: in Double the conversions alone took
// longer than the rows take to arrive.
//
// Zen 4 reads 8 to 16 GB/s of cache this way, of 46 GB/s that it reads in order: the rows of one key
// head lie a whole cache row apart, and its neighbours fetch the same DRAM pages again. Asking for
// rows 24 ahead changed nothing. Going through all key heads of a stretch of keys together is what
// is left to do.

/// Four keys at a time: their sums across lanes share shuffles. The last keys are counted twice
/// rather than fewer at a time, and what is written for them again is the same.
@_alwaysEmitIntoClient @inline(__always)
package func cachedScores<I: InstructionSet>(
  _: I.Type, _ scores: UnsafeMutablePointer<Float>, _ ld: Int, _ q: UnsafePointer<Float>,
  _ heads: Int, _ keys: UnsafePointer<Float>, _ stride: Int, _ count: Int, _ size: Int
) {
  let whole = size & ~(I.lanes &- 1)
  var key = 0
  while key < count {
    // Fewer than four keys in all: the missing ones are the last one, and go nowhere.
    let first = count < 4 ? 0 : key &+ 4 <= count ? key : count &- 4
    let row = keys + first &* stride
    let most = count &- first &- 1
    let row1 = row + (most < 1 ? most : 1) &* stride
    let row2 = row + (most < 2 ? most : 2) &* stride
    let row3 = row + (most < 3 ? most : 3) &* stride
    for head in 0..<heads {
      let query = q + head &* size
      var (a, b, c, e) = (I.splat(0), I.splat(0), I.splat(0), I.splat(0))
      var d = 0
      while d < whole {
        let x = I.load(query + d)
        a = I.fma(x, I.load(row + d), a)
        b = I.fma(x, I.load(row1 + d), b)
        c = I.fma(x, I.load(row2 + d), c)
        e = I.fma(x, I.load(row3 + d), e)
        d &+= I.lanes
      }
      if d < size {
        let (valid, zero) = (size &- d, I.splat(0))
        let x = I.loadPart(query + d, valid, zero)
        a = I.fma(x, I.loadPart(row + d, valid, zero), a)
        b = I.fma(x, I.loadPart(row1 + d, valid, zero), b)
        c = I.fma(x, I.loadPart(row2 + d, valid, zero), c)
        e = I.fma(x, I.loadPart(row3 + d, valid, zero), e)
      }
      let to = scores + (head &* ld &+ first)
      if most >= 3 {
        I.storeTotals(to, a, b, c, e)
      } else {
        to[0] = Float(I.sum(a))
        if most >= 1 { to[1] = Float(I.sum(b)) }
        if most >= 2 { to[2] = Float(I.sum(c)) }
      }
    }
    key = first &+ 4
  }
}

/// A product whose left rows are heads and whose right rows are the values as they lie.
@_alwaysEmitIntoClient @inline(__always)
package func cachedOutput<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ output: UnsafeMutablePointer<Float>,
  _ weights: UnsafePointer<Float>, _ ld: Int, _ heads: Int, _ values: UnsafePointer<Float>,
  _ stride: Int, _ count: Int, _ size: Int
) where P.Element == Float {
  var head = 0
  while head < heads {
    let (to, from) = (output + head &* size, weights + head &* ld)
    switch heads &- head {
    case 1:
      cachedHeads(P.self, TileShape<1, C>.self, to, from, ld, values, stride, count, size)
      head &+= 1
    case 2, 3:
      cachedHeads(P.self, TileShape<2, C>.self, to, from, ld, values, stride, count, size)
      head &+= 2
    default:
      cachedHeads(P.self, TileShape<4, C>.self, to, from, ld, values, stride, count, size)
      head &+= 4
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func cachedHeads<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ output: UnsafeMutablePointer<Float>,
  _ weights: UnsafePointer<Float>, _ ld: Int, _ values: UnsafePointer<Float>, _ stride: Int,
  _ count: Int, _ size: Int
) where P.Element == Float {
  typealias I = P.I
  var d = 0
  while d &+ C &* I.lanes <= size {
    var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
    for key in 0..<count { P.step(&sums, weights + key, ld, values + (key &* stride &+ d)) }
    for r in 0..<R {
      for j in 0..<C { I.store(output + (r &* size &+ d &+ j &* I.lanes), sums[r][j]) }
    }
    d &+= C &* I.lanes
  }
  while d < size {
    let valid = size &- d < I.lanes ? size &- d : I.lanes
    var sums = InlineArray<R, I.F>(repeating: I.splat(0))
    for key in 0..<count {
      let row = I.load(values + (key &* stride &+ d), valid)
      for r in 0..<R { sums[r] = I.fma(I.splat(weights[r &* ld &+ key]), row, sums[r]) }
    }
    for r in 0..<R { I.store(output + (r &* size &+ d), sums[r], valid) }
    d &+= I.lanes
  }
}
