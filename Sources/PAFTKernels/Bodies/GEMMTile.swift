// SPDX-License-Identifier: Apache-2.0

// C[rows, columns] (+)= alpha * A·B for one packed A panel and one packed B panel.
//
// The tile is R rows x C vectors, all accumulators in registers. R = 6 with C = 4 zmm leaves
// 24 + 4 + 1 of 32 registers in use and needs 10 loads per 24 products; R = 6 with C = 2 ymm leaves
// 12 + 2 + 1 of 16. Fewer rows or vectors have their own instances, because a single decoded token
// would otherwise pay for six. tools/check-kernels watches that nothing spills.

/// Rows of an A panel, for every SIMD table.
@_alwaysEmitIntoClient package var panelRows: Int { @inline(__always) get { 6 } }

/// The shape of a tile instance, as a type.
@usableFromInline package enum TileShape<let rows: Int, let vectors: Int> {}

/// One call of a micro-tile; the fields are the arguments of `KernelTable.gemmTile_f32`.
@usableFromInline package struct TileCall<Element> {
  @usableFromInline package let a: UnsafePointer<Element>
  @usableFromInline package let b: UnsafePointer<Element>
  @usableFromInline package let c: UnsafeMutablePointer<Float>
  @usableFromInline package let k: Int
  @usableFromInline package let ldc: Int
  @usableFromInline package let rows: Int
  @usableFromInline package let columns: Int
  @usableFromInline package let alpha: Float
  @usableFromInline package let accumulate: Int

  @_alwaysEmitIntoClient @inline(__always)
  package init(
    _ a: UnsafePointer<Element>, _ b: UnsafePointer<Element>, _ c: UnsafeMutablePointer<Float>,
    _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int, _ alpha: Float, _ accumulate: Int
  ) {
    self.a = a
    self.b = b
    self.c = c
    self.k = k
    self.ldc = ldc
    self.rows = rows
    self.columns = columns
    self.alpha = alpha
    self.accumulate = accumulate
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile_f32<I: InstructionSet, let R: Int, let C: Int>(
  _: I.Type, _: TileShape<R, C>.Type, _ call: TileCall<Float>
) {
  prefetchTile(I.self, TileShape<R, C>.self, call)
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  var (a, b) = (call.a, call.b)
  var remaining = call.k
  while remaining > 0 {
    var right = InlineArray<C, I.F>(repeating: I.splat(0))
    for j in 0..<C { right[j] = I.load(b + j &* I.lanes) }
    for r in 0..<R {
      let left = I.splat(a[r])
      for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
    }
    a += panelRows
    b += C &* I.lanes
    remaining &-= 1
  }
  storeTile(I.self, sums, call)
}

/// BF16 by the pair instruction: one product of two pairs per lane.
@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile_bf16<I: PairDot, let R: Int, let C: Int>(
  dot _: I.Type, _: TileShape<R, C>.Type, _ call: TileCall<UInt16>
) {
  prefetchTile(I.self, TileShape<R, C>.self, call)
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  var (a, b) = (call.a, call.b)
  var remaining = (call.k &+ 1) >> 1
  while remaining > 0 {
    var right = InlineArray<C, I.Pairs>(repeating: I.loadPairs(b))
    for j in 0..<C { right[j] = I.loadPairs(b + 2 &* j &* I.lanes) }
    for r in 0..<R {
      let left = I.splatPair(a + 2 &* r)
      for j in 0..<C { sums[r][j] = I.dot(sums[r][j], left, right[j]) }
    }
    a += 2 &* panelRows
    b += 2 &* C &* I.lanes
    remaining &-= 1
  }
  storeTile(I.self, sums, call)
}

/// BF16 without the pair instruction: both halves become Float (a shift, exact) and go through FMA.
/// The even halves are finished before the odd ones are loaded; together they would not fit.
@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile_bf16<I: InstructionSet, let R: Int, let C: Int>(
  widening _: I.Type, _: TileShape<R, C>.Type, _ call: TileCall<UInt16>
) {
  prefetchTile(I.self, TileShape<R, C>.self, call)
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  var (a, b) = (call.a, call.b)
  var remaining = (call.k &+ 1) >> 1
  while remaining > 0 {
    var right = InlineArray<C, I.F>(repeating: I.splat(0))
    for j in 0..<C { right[j] = I.even(I.loadPairs(b + 2 &* j &* I.lanes)) }
    for r in 0..<R {
      let left = I.even(I.splatPair(a + 2 &* r))
      for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
    }
    I.reload()
    for j in 0..<C { right[j] = I.odd(I.loadPairs(b + 2 &* j &* I.lanes)) }
    for r in 0..<R {
      let left = I.odd(I.splatPair(a + 2 &* r))
      for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
    }
    a += 2 &* panelRows
    b += 2 &* C &* I.lanes
    remaining &-= 1
  }
  storeTile(I.self, sums, call)
}

/// C is needed only after the loop over k: ask for it before.
@_alwaysEmitIntoClient @inline(__always)
package func prefetchTile<I: InstructionSet, Element, let R: Int, let C: Int>(
  _: I.Type, _: TileShape<R, C>.Type, _ call: TileCall<Element>
) {
  for r in 0..<R where r < call.rows {
    for j in 0..<C { I.prefetch(call.c + (r &* call.ldc &+ j &* I.lanes)) }
  }
}

/// A full tile goes from registers to C. A partial one goes through memory: a row or column count
/// known only at run time would otherwise keep every accumulator on the stack for full tiles too.
@_alwaysEmitIntoClient @inline(__always)
package func storeTile<I: InstructionSet, Element, let R: Int, let C: Int>(
  _: I.Type, _ sums: InlineArray<R, InlineArray<C, I.F>>, _ call: TileCall<Element>
) {
  let alpha = I.splat(call.alpha)
  if call.rows == R && call.columns == C &* I.lanes {
    if call.accumulate != 0 {
      for r in 0..<R {
        for j in 0..<C {
          let to = call.c + (r &* call.ldc &+ j &* I.lanes)
          I.store(to, I.fma(alpha, sums[r][j], I.load(to)))
        }
      }
    } else {
      for r in 0..<R {
        for j in 0..<C {
          I.store(call.c + (r &* call.ldc &+ j &* I.lanes), I.mul(alpha, sums[r][j]))
        }
      }
    }
    return
  }
  var scaled = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: alpha))
  for r in 0..<R {
    for j in 0..<C { scaled[r][j] = I.mul(alpha, sums[r][j]) }
  }
  let last = call.columns &- (C &- 1) &* I.lanes
  for r in 0..<call.rows {
    let row = call.c + r &* call.ldc
    for j in 0..<C {
      let count = j == C &- 1 ? last : I.lanes
      let to = row + j &* I.lanes
      var value = scaled[r][j]
      if call.accumulate != 0 { value = I.add(value, I.load(to, count)) }
      I.store(to, value, count)
    }
  }
}
