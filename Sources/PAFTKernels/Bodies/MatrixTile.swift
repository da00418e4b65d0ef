// SPDX-License-Identifier: Apache-2.0

// C[32, 32] = alpha * A·B (+ C) on a tile unit (AMX), for one packed A panel and one packed B panel;
// bytes are in IntegerMatrixTile.swift.
//
// Registers: four tiles of sums (16 x 16 each), two of A, two of B. A step over k takes 64 bytes of
// each row of A: 32 values of BF16, 64 bytes. Two loads of A and two of B feed four products, as many loads as
// products: what 2 x 2 costs least (1 x 4 and 4 x 1 need five loads for four), and a product keeps
// the unit busy for 16 cycles while a tile is loaded in 8.
//
//   A panel: [k/32][32 rows][32]: a tile is 16 neighbouring rows, 1 KiB on end
//   B panel: [k/2][W][2] as on AVX-512, W = 16 or 32: a tile is 16 pairs of k, W pairs apart
//
// k is padded with zeros to a multiple of 32. The rows of A and C are told to the unit, so that few
// rows take few cycles; they do not go to the AVX-512 tile (the layout of B would allow it), because
// a row's sum would then depend on how many others there are: the pair instruction adds in another
// order. C gets its sums straight from the registers if nothing is to be added, else by way of 1 KiB
// on the stack.
//
// The shapes are set in every call and released at its end: a kernel does not know what the thread
// did before, and registers in use are 8 KiB more to save at every thread switch. A call's loop
// over k of 1024 takes 2048 cycles, setting the shapes a few dozen.
//
// No processor with AMX was at hand: layout, edges and register use are proven on an emulation of
// the instructions (Tests/EmulatedAMX); no speed was measured, and loads that bypass the caches
// (TILELOADDT1) and prefetching are therefore not tried.

/// Rows of an A panel and columns of a B panel.
@_alwaysEmitIntoClient package var matrixTile: Int { @inline(__always) get { 32 } }

/// Bytes of a tile's row.
@_alwaysEmitIntoClient package var tileRowBytes: Int { @inline(__always) get { 64 } }

@_alwaysEmitIntoClient @inline(__always)
package func multiplyMatrixTile_bf16<T: TileUnit, I: InstructionSet>(
  _ unit: T.Type, _ lanes: I.Type, _ call: TileCall<UInt16>
) {
  var shapes = TileShapes(rows: call.rows)
  T.configure(&shapes)
  let (a, b) = (UnsafeRawPointer(call.a), UnsafeRawPointer(call.b))
  addProducts(unit, a, b, (call.k &+ 31) / 32, call.rows, call.columns) { T.dotPairs($0) }
  if call.addend == nil && call.alpha == 1 && call.columns == matrixTile
    && call.rows == matrixTile
  {
    let (c, stride) = (UnsafeMutableRawPointer(call.c), 4 &* call.ldc)
    T.store(0, c, stride)
    T.store(1, c + tileRowBytes, stride)
    T.store(2, c + 16 &* stride, stride)
    T.store(3, c + (16 &* stride &+ tileRowBytes), stride)
  } else {
    storeScaled(unit, lanes, 0, call)
    if call.columns > 16 { storeScaled(unit, lanes, 1, call) }
    if call.rows > 16 { storeScaled(unit, lanes, 2, call) }
    if call.rows > 16 && call.columns > 16 { storeScaled(unit, lanes, 3, call) }
  }
  T.release()
}

/// The loop over k of both types: `steps` steps of 64 bytes of each row of A.
@_alwaysEmitIntoClient @inline(__always)
package func addProducts<T: TileUnit>(
  _ unit: T.Type, _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ steps: Int, _ rows: Int,
  _ columns: Int, _ dot: (_ sum: Int) -> Void
) {
  switch (rows > 16, columns > 16) {
  case (false, false): addProducts(unit, TileShape<1, 1>.self, a, b, steps, dot)
  case (false, true): addProducts(unit, TileShape<1, 2>.self, a, b, steps, dot)
  case (true, false): addProducts(unit, TileShape<2, 1>.self, a, b, steps, dot)
  case (true, true): addProducts(unit, TileShape<2, 2>.self, a, b, steps, dot)
  }
}

/// The same for R x C tiles of sums.
@_alwaysEmitIntoClient @inline(__always)
package func addProducts<T: TileUnit, let R: Int, let C: Int>(
  _: T.Type, _: TileShape<R, C>.Type, _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ steps: Int,
  _ dot: (_ sum: Int) -> Void
) {
  var (a, b, remaining) = (a, b, steps)
  let stride = C &* tileRowBytes
  while remaining > 0 {
    T.load(4, a, tileRowBytes)
    T.load(6, b, stride)
    dot(0)
    if C == 2 {
      T.load(7, b + tileRowBytes, stride)
      dot(1)
    }
    if R == 2 {
      T.load(5, a + 16 &* tileRowBytes, tileRowBytes)
      dot(2)
      if C == 2 { dot(3) }
    }
    a += matrixTile &* tileRowBytes
    b += 16 &* stride
    remaining &-= 1
  }
}

/// One tile of sums to C, only its valid part.
@_alwaysEmitIntoClient @inline(__always)
package func storeScaled<T: TileUnit, I: InstructionSet>(
  _: T.Type, _: I.Type, _ tile: Int, _ call: TileCall<UInt16>
) {
  let (row, column) = (tile >= 2 ? 16 : 0, tile & 1 != 0 ? 16 : 0)
  let (rows, columns) = (call.rows &- row, call.columns &- column)
  let alpha = I.splat(call.alpha)
  var sums = InlineArray<256, Float>(repeating: 0)
  withUnsafeMutablePointer(to: &sums) { T.store(tile, $0, tileRowBytes) }
  withUnsafePointer(to: &sums) {
    let from = UnsafeRawPointer($0).assumingMemoryBound(to: Float.self)
    let count = columns < I.lanes ? columns : I.lanes
    for r in 0..<16 where r < rows {
      let to = call.c + ((row &+ r) &* call.ldc &+ column)
      let sum = I.load(from + r &* 16)
      var value = I.mul(alpha, sum)
      if let addend = call.addend {
        let from = addend + ((row &+ r) &* call.ldAddend &+ column)
        value = I.fma(alpha, sum, I.load(from, count))
      }
      I.store(to, value, count)
    }
  }
}
