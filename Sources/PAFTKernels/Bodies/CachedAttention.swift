// SPDX-License-Identifier: Apache-2.0

// One query per sequence over cached rows: every row of K and V is read once for all query heads of
// its key head, so that memory is what binds. Sums in Float: in Double the conversions alone took
// longer than the rows take to arrive.

@_alwaysEmitIntoClient @inline(__always)
package func cachedScores<I: InstructionSet>(
  _: I.Type, _ scores: UnsafeMutablePointer<Float>, _ ld: Int, _ q: UnsafePointer<Float>,
  _ heads: Int, _ keys: UnsafePointer<Float>, _ stride: Int, _ count: Int, _ size: Int
) {
  for key in 0..<count {
    let row = keys + key &* stride
    for head in 0..<heads {
      let query = q + head &* size
      var (even, odd) = (I.splat(0), I.splat(0))
      var d = 0
      while d &+ 2 &* I.lanes <= size {
        even = I.fma(I.load(query + d), I.load(row + d), even)
        odd = I.fma(I.load(query + d + I.lanes), I.load(row + d + I.lanes), odd)
        d &+= 2 &* I.lanes
      }
      while d < size {
        let valid = size &- d < I.lanes ? size &- d : I.lanes
        even = I.fma(I.load(query + d, valid), I.load(row + d, valid), even)
        d &+= I.lanes
      }
      scores[head &* ld &+ key] = I.total(I.add(even, odd))
    }
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
