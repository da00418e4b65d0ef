// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// Backward kernels of attention: contracts and layouts are those of `AttentionOperations`.
//
// Five products per block: S and dP share the loop over panels of keys and leave two tiles of 1.5
// KiB each in L1, from which P and dS are made; dQ reads dS as pairs along keys, as the forward pass
// reads P. dV and dK reduce along queries: there the pair (q, q+1) of a row of P is one 32-bit word
// already, so its rows are broadcast as they lie and nothing is transposed or packed.
//
// Tried and lost: exponentials on the tile in registers, before it is stored (522 spills).

/// P and dS of one block of keys, a panel at a time: two tiles into scratch that stays in L1, then
/// all that is elementwise, out as operands of the next products.
@_alwaysEmitIntoClient @inline(__always)
package func attentionGradients<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ arguments: UnsafeRawPointer,
  _ panels: Int, _ first: Int, _ open: Int, _ close: Int
) {
  typealias I = P.I
  typealias E = P.Element
  let call = arguments.assumingMemoryBound(to: AttentionGradientCall.self)
  let width = C &* I.lanes
  let steps = call.pointee.steps
  var a = call.pointee.keys.assumingMemoryBound(to: E.self)
  var v = call.pointee.values.assumingMemoryBound(to: E.self)
  let q = call.pointee.queries.assumingMemoryBound(to: E.self)
  let g = call.pointee.outputGradients.assumingMemoryBound(to: E.self)
  var weightRows = call.pointee.weightRows.assumingMemoryBound(to: E.self)
  var gradientRows = call.pointee.gradientRows.assumingMemoryBound(to: E.self)
  var gradientPairs = call.pointee.gradientPairs.assumingMemoryBound(to: E.self)
  let kept = call.pointee.scratch
  let bounds = call.pointee.bounds
  let logSums = call.pointee.logSums
  let delta = call.pointee.delta
  let factor = I.splat(call.pointee.scale)
  var panel = 0
  while panel < panels {
    var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
    multiply(P.self, &sums, a, P.depth, R &* P.depth, q, steps)
    for r in 0..<R {
      for j in 0..<C { I.store(kept + (r &* width &+ j &* I.lanes), sums[r][j]) }
    }
    sums = .init(repeating: .init(repeating: I.splat(0)))
    multiply(P.self, &sums, v, P.depth, R &* P.depth, g, steps)
    for r in 0..<R {
      for j in 0..<C { I.store(kept + ((R &+ r) &* width &+ j &* I.lanes), sums[r][j]) }
    }
    if panel < open || panel >= close {
      maskTile(P.self, TileShape<R, C>.self, kept, first &+ panel &* R, bounds)
    }
    if call.pointee.capOuter != 0 {
      capTile(
        P.self, TileShape<R, C>.self, kept, delta, call.pointee.capInner, call.pointee.capOuter)
    }
    var at = 0
    while at < width {
      let top = I.load(logSums + at)
      let mean = I.load(delta + at)
      var r = 0
      while r < R {
        let s = kept + (r &* width &+ at)
        let dp = s + R &* width
        let even = exponential2(I.self, I.fms(factor, I.load(s), top))
        let odd = exponential2(I.self, I.fms(factor, I.load(s + width), top))
        P.storeRows(weightRows + (r &* width &+ at), width, even, odd)
        let evenGradient = I.mul(even, I.sub(I.load(dp), mean))
        let oddGradient = I.mul(odd, I.sub(I.load(dp + width), mean))
        P.storeRows(gradientRows + (r &* width &+ at), width, evenGradient, oddGradient)
        P.storeRight(
          gradientPairs + (r &* width &+ at &* P.depth), width, evenGradient, oddGradient)
        r &+= 2
      }
      at &+= I.lanes
    }
    a += steps &* R &* P.depth
    v += steps &* R &* P.depth
    weightRows += R &* width
    gradientRows += R &* width
    gradientPairs += R &* width
    panel &+= 1
  }
}

/// dV += P^T dO (or dK += dS^T Q) for one panel of D: rows are keys, read unpacked, and the
/// reduction runs along the group's queries.
@_alwaysEmitIntoClient @inline(__always)
package func accumulateRows<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ product: UnsafeMutablePointer<Float>, _ stride: Int,
  _ left: UnsafePointer<P.Element>, _ right: UnsafePointer<P.Element>, _ panels: Int,
  _ queries: Int
) {
  typealias I = P.I
  var to = product
  var a = left
  for _ in 0..<panels {
    var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
    for r in 0..<R {
      for j in 0..<C { sums[r][j] = I.load(to + (r &* stride &+ j &* I.lanes)) }
    }
    prefetchTile(I.self, TileShape<R, C>.self, to + R &* stride, stride)
    multiply(P.self, &sums, a, queries, P.depth, right, queries / P.depth)
    for r in 0..<R {
      for j in 0..<C { I.store(to + (r &* stride &+ j &* I.lanes), sums[r][j]) }
    }
    to += R &* stride
    a += R &* queries
  }
}
