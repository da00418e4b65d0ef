// SPDX-License-Identifier: Apache-2.0

// C[rows, columns] = float(start + sum of u*w) * rowScale * columnScale + bias (+ C) for one packed A
// panel and one packed B panel of bytes.
//
// The tile is the Float tile's: R rows x C vectors, 24 zmm of sums at 6 x 4, with 10 loads for 24
// products. A signed activation would need an instruction that Zen 4 lacks, or 16-bit products at
// half the rate; instead it is stored with 128 added, and the sums start from what that adds too
// much, -128 times the column's sum of weights, known when the weight is packed. So the
// compensation costs nothing in the loop and the conversion to Float sees the true sum.
//
// On Zen 4 the loop runs at 128 operations per cycle. What is lost at k = 896 (224 turns) is lost
// outside of it: as long as one loop scaled, added bias and C by optional pointers, LLVM did not
// unroll it, all sums went through the stack, and M 512, N 4864 ran at 93.7 % of the peak; in short
// loops it is 95.5. The peak itself is this tile with k = 2048.

/// One call of a micro-tile: the arguments of `IntegerKernels.strip_u8s8`, of one A panel.
@usableFromInline package struct IntegerTileCall {
  @usableFromInline package var a: UnsafePointer<UInt8>
  @usableFromInline package let b: UnsafePointer<Int8>
  @usableFromInline package let k: Int
  @usableFromInline package var start: UnsafePointer<Int32>
  @usableFromInline package let startStride: Int
  @usableFromInline package var partial: UnsafeMutablePointer<Int32>?
  @usableFromInline package var c: UnsafeMutablePointer<Float>
  @usableFromInline package let ldc: Int
  @usableFromInline package var rows: Int
  @usableFromInline package let columns: Int
  @usableFromInline package var rowScale: UnsafePointer<Float>
  @usableFromInline package let columnScale: UnsafePointer<Float>?
  @usableFromInline package let bias: UnsafePointer<Float>?
  @usableFromInline package let accumulate: Int
  /// Memory that will be read soon, and how many cache lines of it to ask for.
  @usableFromInline package var ahead: UnsafeRawPointer
  @usableFromInline package let lines: Int

  @_alwaysEmitIntoClient @inline(__always)
  package init(
    _ a: UnsafePointer<UInt8>, _ b: UnsafePointer<Int8>, _ k: Int, _ start: UnsafePointer<Int32>,
    _ startStride: Int, _ partial: UnsafeMutablePointer<Int32>?, _ c: UnsafeMutablePointer<Float>,
    _ ldc: Int, _ rows: Int, _ columns: Int, _ rowScale: UnsafePointer<Float>,
    _ columnScale: UnsafePointer<Float>?, _ bias: UnsafePointer<Float>?, _ accumulate: Int,
    _ ahead: UnsafeRawPointer, _ lines: Int
  ) {
    self.a = a
    self.b = b
    self.k = k
    self.start = start
    self.startStride = startStride
    self.partial = partial
    self.c = c
    self.ldc = ldc
    self.rows = rows
    self.columns = columns
    self.rowScale = rowScale
    self.columnScale = columnScale
    self.bias = bias
    self.accumulate = accumulate
    self.ahead = ahead
    self.lines = lines
  }

  /// Goes to the next A panel of `panel` rows, `stride` bytes on, and to what to ask for beside it,
  /// `step` bytes on; sums that are kept are rows of `width`.
  @_alwaysEmitIntoClient @inline(__always)
  package mutating func advance(_ panel: Int, _ stride: Int, _ width: Int, _ step: Int) {
    a += stride
    start += panel &* startStride
    if let kept = partial { partial = kept + panel &* width }
    c += panel &* ldc
    rowScale += panel
    ahead += step
    rows &-= panel
  }
}

/// By the quad instruction: one product of four bytes per lane.
@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile_u8s8<I: QuadDot, let R: Int, let C: Int>(
  dot _: I.Type, _: TileShape<R, C>.Type, _ call: IntegerTileCall
) {
  var sums = startingSums(I.self, TileShape<R, C>.self, call)
  var (a, b) = (call.a, call.b)
  var remaining = (call.k &+ 3) >> 2
  var asking = Asking<R, C>(
    I.self, call.ahead, call.lines, remaining, call.rows, call.partial == nil ? call.c : nil,
    call.ldc)
  while remaining > 0 {
    asking.turn(I.self, remaining)
    var right = InlineArray<C, I.Quads>(repeating: I.loadQuads(b))
    for j in 0..<C { right[j] = I.loadQuads(b + 4 &* j &* I.lanes) }
    for r in 0..<R {
      let left = I.splatQuad(a + 4 &* r)
      for j in 0..<C { sums[r][j] = I.dotQuads(sums[r][j], left, right[j]) }
    }
    a += 4 &* panelRows
    b += 4 &* C &* I.lanes
    asking.ask(I.self)
    remaining &-= 1
  }
  finishTile(I.self, sums, call)
}

/// Without it: bytes become 16-bit numbers, whose products add up in pairs to 32 bits, exactly. The
/// even bytes are finished before the odd ones are loaded; together they would not fit.
@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile_u8s8<I: ByteVectors, let R: Int, let C: Int>(
  widening _: I.Type, _: TileShape<R, C>.Type, _ call: IntegerTileCall
) {
  var sums = startingSums(I.self, TileShape<R, C>.self, call)
  var (a, b) = (call.a, call.b)
  var remaining = (call.k &+ 3) >> 2
  var asking = Asking<R, C>(
    I.self, call.ahead, call.lines, remaining, call.rows, call.partial == nil ? call.c : nil,
    call.ldc)
  while remaining > 0 {
    asking.turn(I.self, remaining)
    var right = InlineArray<C, I.Quads>(repeating: I.loadQuads(b))
    for j in 0..<C { right[j] = I.evenSigned(I.loadQuads(b + 4 &* j &* I.lanes)) }
    for r in 0..<R {
      let left = I.evenUnsigned(I.splatQuad(a + 4 &* r))
      for j in 0..<C { sums[r][j] = I.dotWords(sums[r][j], left, right[j]) }
    }
    I.reload()
    for j in 0..<C { right[j] = I.oddSigned(I.loadQuads(b + 4 &* j &* I.lanes)) }
    for r in 0..<R {
      let left = I.oddUnsigned(I.splatQuad(a + 4 &* r))
      for j in 0..<C { sums[r][j] = I.dotWords(sums[r][j], left, right[j]) }
    }
    a += 4 &* panelRows
    b += 4 &* C &* I.lanes
    asking.ask(I.self)
    remaining &-= 1
  }
  finishTile(I.self, sums, call)
}

/// What the sums start from; rows beyond the valid ones start from anything.
@_alwaysEmitIntoClient @inline(__always)
package func startingSums<I: ByteVectors, let R: Int, let C: Int>(
  _: I.Type, _: TileShape<R, C>.Type, _ call: IntegerTileCall
) -> InlineArray<R, InlineArray<C, I.Integers>> {
  var sums = InlineArray<R, InlineArray<C, I.Integers>>(
    repeating: .init(repeating: I.splatInteger(0)))
  for r in 0..<R {
    for j in 0..<C {
      sums[r][j] = I.loadIntegers(call.start + (r &* call.startStride &+ j &* I.lanes))
    }
  }
  return sums
}

@_alwaysEmitIntoClient @inline(__always)
package func finishTile<I: ByteVectors, let R: Int, let C: Int>(
  _: I.Type, _ sums: InlineArray<R, InlineArray<C, I.Integers>>, _ call: IntegerTileCall
) {
  if let partial = call.partial {
    for r in 0..<R {
      for j in 0..<C { I.storeIntegers(partial + (r &* C &+ j) &* I.lanes, sums[r][j]) }
    }
  } else if call.rows >= R && call.columns == C &* I.lanes {
    storeWhole(I.self, sums, call)
  } else {
    storePart(I.self, sums, call)
  }
}

/// A full tile goes from the registers to C.
@_alwaysEmitIntoClient @inline(__always)
package func storeWhole<I: ByteVectors, let R: Int, let C: Int>(
  _: I.Type, _ sums: InlineArray<R, InlineArray<C, I.Integers>>, _ call: IntegerTileCall
) {
  // In short loops: what LLVM does not unroll keeps the sums on the stack, also in the loop over k.
  var floats = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  for r in 0..<R {
    let scale = I.splat(call.rowScale[r])
    for j in 0..<C { floats[r][j] = I.mul(I.float(sums[r][j]), scale) }
  }
  if call.columnScale != nil || call.bias != nil {
    for j in 0..<C {
      let scale = call.columnScale.map { I.load($0 + j &* I.lanes) } ?? I.splat(1)
      // A bias of -0 is none: it changes no product.
      let bias = call.bias.map { I.load($0 + j &* I.lanes) } ?? I.splat(-0.0)
      for r in 0..<R { floats[r][j] = I.fma(floats[r][j], scale, bias) }
    }
  }
  if call.accumulate != 0 {
    for r in 0..<R {
      for j in 0..<C {
        let to = call.c + (r &* call.ldc &+ j &* I.lanes)
        I.store(to, I.add(floats[r][j], I.load(to)))
      }
    }
  } else {
    for r in 0..<R {
      for j in 0..<C { I.store(call.c + (r &* call.ldc &+ j &* I.lanes), floats[r][j]) }
    }
  }
}

/// A partial tile goes through memory: a row or column count known only at run time would otherwise
/// keep every sum on the stack for full tiles too.
@_alwaysEmitIntoClient @inline(__always)
package func storePart<I: ByteVectors, let R: Int, let C: Int>(
  _: I.Type, _ sums: InlineArray<R, InlineArray<C, I.Integers>>, _ call: IntegerTileCall
) {
  var floats = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  for r in 0..<R {
    for j in 0..<C { floats[r][j] = I.float(sums[r][j]) }
  }
  let last = call.columns &- (C &- 1) &* I.lanes
  for r in 0..<smaller(R, call.rows) {
    let scale = I.splat(call.rowScale[r])
    for j in 0..<C {
      let count = j == C &- 1 ? last : I.lanes
      let column = j &* I.lanes
      let scaled = I.mul(floats[r][j], scale)
      var factor = I.splat(1)
      if let scale = call.columnScale { factor = I.load(scale + column, count) }
      var value = I.mul(scaled, factor)
      if let bias = call.bias { value = I.fma(scaled, factor, I.load(bias + column, count)) }
      let to = call.c + (r &* call.ldc &+ column)
      if call.accumulate != 0 { value = I.add(value, I.load(to, count)) }
      I.store(to, value, count)
    }
  }
}
