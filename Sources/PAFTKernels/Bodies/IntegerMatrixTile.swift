// SPDX-License-Identifier: Apache-2.0

// C[32, 32] = float(start + sum of u*w) * rowScale * columnScale + bias (+ C) on a tile unit: the
// bytes' side of MatrixTile.swift, which says why the tile is what it is.
//
//   A panel: [k/64][32 rows][64] unsigned, 128 where there is nothing
//   B panel: [k/4][W][4] as on AVX-512, zeros up to a multiple of 64 values of k
//
// The sums of the earlier slices are loaded into the tiles and go back from there. What is done with
// the whole sums is the AVX-512 tile's arithmetic in its order, so the bits are those of all tables.

@_alwaysEmitIntoClient @inline(__always)
package func multiplyMatrixTile_u8s8<T: TileUnit, I: ByteVectors>(
  _ unit: T.Type, _ lanes: I.Type, _ call: IntegerTileCall
) {
  var shapes = TileShapes(rows: call.rows)
  T.configure(&shapes)
  let isWide = call.columns > 16
  let (start, stride) = (UnsafeRawPointer(call.start), 4 &* call.startStride)
  T.load(0, start, stride)
  if isWide { T.load(1, start + tileRowBytes, stride) }
  if call.rows > 16 { T.load(2, start + 16 &* stride, stride) }
  if call.rows > 16 && isWide { T.load(3, start + (16 &* stride &+ tileRowBytes), stride) }
  let (a, b) = (UnsafeRawPointer(call.a), UnsafeRawPointer(call.b))
  addProducts(unit, a, b, (call.k &+ 63) / 64, call.rows, call.columns) { T.dotQuads($0) }
  if let partial = call.partial {
    let (to, stride) = (UnsafeMutableRawPointer(partial), isWide ? 2 &* tileRowBytes : tileRowBytes)
    T.store(0, to, stride)
    if isWide { T.store(1, to + tileRowBytes, stride) }
    if call.rows > 16 { T.store(2, to + 16 &* stride, stride) }
    if call.rows > 16 && isWide { T.store(3, to + (16 &* stride &+ tileRowBytes), stride) }
  } else {
    finishTile(unit, lanes, 0, call)
    if isWide { finishTile(unit, lanes, 1, call) }
    if call.rows > 16 { finishTile(unit, lanes, 2, call) }
    if call.rows > 16 && isWide { finishTile(unit, lanes, 3, call) }
  }
  T.release()
}

/// One tile of sums to C, only its valid part.
@_alwaysEmitIntoClient @inline(__always)
package func finishTile<T: TileUnit, I: ByteVectors>(
  _: T.Type, _: I.Type, _ tile: Int, _ call: IntegerTileCall
) {
  let (row, column) = (tile >= 2 ? 16 : 0, tile & 1 != 0 ? 16 : 0)
  let (rows, columns) = (call.rows &- row, call.columns &- column)
  let count = columns < I.lanes ? columns : I.lanes
  var factor = I.splat(1)
  if let scale = call.columnScale { factor = I.load(scale + column, count) }
  var sums = InlineArray<256, Int32>(repeating: 0)
  withUnsafeMutablePointer(to: &sums) { T.store(tile, $0, tileRowBytes) }
  withUnsafePointer(to: &sums) {
    let from = UnsafeRawPointer($0).assumingMemoryBound(to: Int32.self)
    for r in 0..<16 where r < rows {
      let to = call.c + ((row &+ r) &* call.ldc &+ column)
      let scaled = I.mul(
        I.float(I.loadIntegers(from + r &* 16)), I.splat(call.rowScale[row &+ r]))
      var value = I.mul(scaled, factor)
      if let bias = call.bias { value = I.fma(scaled, factor, I.load(bias + column, count)) }
      if call.accumulate != 0 { value = I.add(value, I.load(to, count)) }
      I.store(to, value, count)
    }
  }
}
