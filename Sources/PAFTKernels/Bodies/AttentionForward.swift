// SPDX-License-Identifier: Apache-2.0

// Forward kernels of attention: contracts and layouts are those of `AttentionOperations`.
//
// The tile is that of a matrix product, R = 6 rows by C = 4 zmm (24 + 4 + 1 of 32 registers, 10
// loads per 24 products) or 2 ymm, but rows are keys or head dimensions, and lanes are queries:
//   - maximum and sum of a row of scores are one lane's: no shuffles, no transposes, and the
//     maximum is taken while the tile is in registers, on units that do not multiply;
//   - two neighbouring rows of P become BF16 pairs in one conversion and one permutation, which is
//     the right operand of the next product as it stands;
//   - all panels of a block go through one call, so that with D = 64 (32 steps of 24 products per
//     tile) neither the call nor the end of the loop shows.
// The exponentials cost 7 multiply-adds for every 64 products of D = 64: 10 % of the peak at best.
//
// Tried and lost: masks beside a tile in registers (156 spills in the loop over panels; they are
// applied in memory now, in the few tiles that a bound cuts); queries in rows on the tiles of a
// matrix product, with row-wise softmax and packing between them (three passes more over every
// score).

/// S^T = K Q^T, one tile of R keys x C vectors of queries after another; the running maximum is
/// folded in while the tile is still in registers (comparisons do not use the multipliers).
@_alwaysEmitIntoClient @inline(__always)
package func attentionScores<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ keys: UnsafeRawPointer, _ queries: UnsafeRawPointer,
  _ scores: UnsafeMutablePointer<Float>, _ maxima: UnsafeMutablePointer<Float>, _ panels: Int,
  _ steps: Int, _ first: Int, _ open: Int, _ close: Int, _ bounds: UnsafePointer<Float>
) {
  typealias I = P.I
  var a = keys.assumingMemoryBound(to: P.Element.self)
  let b = queries.assumingMemoryBound(to: P.Element.self)
  let width = C &* I.lanes
  let hidden = I.splat(-.infinity)
  for j in 0..<C { I.store(maxima + j &* I.lanes, hidden) }
  var to = scores
  var panel = 0
  while panel < panels {
    var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
    multiply(P.self, &sums, a, P.depth, R &* P.depth, b, steps)
    a += steps &* R &* P.depth
    for r in 0..<R {
      for j in 0..<C { I.store(to + (r &* width &+ j &* I.lanes), sums[r][j]) }
    }
    if panel >= open && panel < close {
      for j in 0..<C {
        var most = I.load(maxima + j &* I.lanes)
        for r in 0..<R { most = I.max(sums[r][j], most) }
        I.store(maxima + j &* I.lanes, most)
      }
    } else {
      // In memory: masks beside a tile in registers made the compiler spill it.
      maskTile(P.self, TileShape<R, C>.self, to, first &+ panel &* R, bounds)
      for j in 0..<C {
        var most = I.load(maxima + j &* I.lanes)
        for r in 0..<R { most = I.max(I.load(to + (r &* width &+ j &* I.lanes)), most) }
        I.store(maxima + j &* I.lanes, most)
      }
    }
    to += R &* width
    panel &+= 1
  }
}

/// -inf for what a query does not see, in a tile whose row 0 is key number `first`.
@_alwaysEmitIntoClient @inline(__always)
package func maskTile<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ tile: UnsafeMutablePointer<Float>, _ first: Int,
  _ bounds: UnsafePointer<Float>
) {
  typealias I = P.I
  let width = C &* I.lanes
  let hidden = I.splat(-.infinity)
  var at = 0
  while at < width {
    let low = I.load(bounds + at)
    let high = I.load(bounds + (width &+ at))
    for r in 0..<R {
      let key = I.splat(Float(first &+ r))
      let score = I.load(tile + (r &* width &+ at))
      I.store(
        tile + (r &* width &+ at),
        I.whereGreater(high, key, I.whereGreater(low, key, hidden, score), hidden))
    }
    at &+= I.lanes
  }
}

/// P = 2^(scale * s - m) as the next product's right operand, and the sums of its rows.
@_alwaysEmitIntoClient @inline(__always)
package func attentionWeights<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ scores: UnsafePointer<Float>,
  _ weights: UnsafeMutableRawPointer, _ rows: Int, _ scale: Float,
  _ maxima: UnsafePointer<Float>, _ state: UnsafeMutablePointer<Float>,
  _ shrink: UnsafeMutablePointer<Float>
) {
  typealias I = P.I
  let width = C &* I.lanes
  let factor = I.splat(scale)
  var tops = InlineArray<C, I.F>(repeating: factor)
  var sums = InlineArray<C, I.F>(repeating: I.splat(0))
  for j in 0..<C {
    let before = I.load(state + j &* I.lanes)
    tops[j] = I.max(I.mul(factor, I.load(maxima + j &* I.lanes)), before)
    I.store(state + j &* I.lanes, tops[j])
    let down = exponential2(I.self, I.sub(before, tops[j]))
    I.store(shrink + j &* I.lanes, down)
    sums[j] = I.mul(down, I.load(state + (width &+ j &* I.lanes)))
  }
  var from = scores
  var to = weights.assumingMemoryBound(to: P.Element.self)
  var remaining = rows
  while remaining > 0 {
    for j in 0..<C {
      let even = exponential2(I.self, I.fms(factor, I.load(from + j &* I.lanes), tops[j]))
      let odd = exponential2(
        I.self, I.fms(factor, I.load(from + (width &+ j &* I.lanes)), tops[j]))
      sums[j] = I.add(sums[j], I.add(even, odd))
      P.storeRight(to + j &* I.lanes &* P.depth, width, even, odd)
    }
    from += 2 &* width
    to += 2 &* width
    remaining &-= 2
  }
  for j in 0..<C { I.store(state + (width &+ j &* I.lanes), sums[j]) }
}

/// O^T = shrink * O^T + V^T P^T: panels of R head dimensions, and what is left of them in panels
/// of four and two, which cost no more per product.
@_alwaysEmitIntoClient @inline(__always)
package func attentionAccumulate<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ product: UnsafeMutablePointer<Float>,
  _ left: UnsafeRawPointer, _ stride: Int, _ right: UnsafeRawPointer, _ steps: Int, _ size: Int,
  _ shrink: UnsafePointer<Float>?, _ accumulate: Int
) {
  let width = C &* P.I.lanes
  var a = left.assumingMemoryBound(to: P.Element.self)
  let b = right.assumingMemoryBound(to: P.Element.self)
  var to = product
  var remaining = size
  while remaining >= 5 {
    accumulateTile(
      P.self, TileShape<R, C>.self, to, a, b, R &* P.depth, steps, shrink, accumulate)
    to += R &* width
    a += stride
    remaining &-= R
  }
  if remaining >= 3 {
    accumulateTile(
      P.self, TileShape<4, C>.self, to, a, b, R &* P.depth, steps, shrink, accumulate)
  } else if remaining >= 1 {
    accumulateTile(
      P.self, TileShape<2, C>.self, to, a, b, R &* P.depth, steps, shrink, accumulate)
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func accumulateTile<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ to: UnsafeMutablePointer<Float>,
  _ a: UnsafePointer<P.Element>, _ b: UnsafePointer<P.Element>, _ stepStride: Int, _ steps: Int,
  _ shrink: UnsafePointer<Float>?, _ accumulate: Int
) {
  typealias I = P.I
  let width = C &* I.lanes
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  if let shrink {
    for j in 0..<C {
      let down = I.load(shrink + j &* I.lanes)
      for r in 0..<R { sums[r][j] = I.mul(down, I.load(to + (r &* width &+ j &* I.lanes))) }
    }
  } else if accumulate != 0 {
    for r in 0..<R {
      for j in 0..<C { sums[r][j] = I.load(to + (r &* width &+ j &* I.lanes)) }
    }
  }
  prefetchTile(I.self, TileShape<R, C>.self, to + R &* width, width)
  multiply(P.self, &sums, a, P.depth, stepStride, b, steps)
  for r in 0..<R {
    for j in 0..<C { I.store(to + (r &* width &+ j &* I.lanes), sums[r][j]) }
  }
}

/// Asks for a tile of sums, which the products before it leave time for: sums of a block do not stay in
/// the first-level cache beside the operands.
@_alwaysEmitIntoClient @inline(__always)
package func prefetchTile<I: InstructionSet, let R: Int, let C: Int>(
  _: I.Type, _: TileShape<R, C>.Type, _ tile: UnsafePointer<Float>, _ stride: Int
) {
  for r in 0..<R {
    for j in 0..<C { I.prefetch(tile + (r &* stride &+ j &* I.lanes)) }
  }
}
