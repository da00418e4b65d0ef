// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// C[rows, 64] (+)= L·X of operands as they lie (contract with the other products): the thin factors of
// an adapter, whose products are looked at once and thrown away, so that packing would cost as much as
// it saves.
//
// A tile is four rows by two vectors, which 16 registers hold, for all instruction sets: eight sums are
// what hides the latency of an addition on two units of eight lanes or one of sixteen, and six loads go
// with eight products. The values of L are broadcast one by one from wherever their strides say.

/// R rows by C vectors of C.
@_alwaysEmitIntoClient @inline(__always)
func unpackedTile<I: InstructionSet, let R: Int, let C: Int>(
  _: I.Type, _: TileShape<R, C>.Type, _ c: UnsafeMutablePointer<Float>, _ accumulate: Int,
  _ l: UnsafePointer<Float>, _ lRow: Int, _ lStep: Int, _ x: UnsafePointer<Float>, _ steps: Int
) {
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  if accumulate != 0 {
    for r in 0..<R {
      for j in 0..<C { sums[r][j] = I.load(c + (r &* 64 &+ j &* I.lanes)) }
    }
  }
  var (left, right) = (l, x)
  for _ in 0..<steps {
    var columns = InlineArray<C, I.F>(repeating: I.splat(0))
    for j in 0..<C { columns[j] = I.load(right + j &* I.lanes) }
    for r in 0..<R {
      let value = I.splat(left[r &* lRow])
      for j in 0..<C { sums[r][j] = I.fma(value, columns[j], sums[r][j]) }
    }
    left += lStep
    right += 64
  }
  for r in 0..<R {
    for j in 0..<C { I.store(c + (r &* 64 &+ j &* I.lanes), sums[r][j]) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func multiplyUnpacked_f32<I: InstructionSet>(
  _: I.Type, _ c: UnsafeMutablePointer<Float>, _ accumulate: Int, _ l: UnsafePointer<Float>,
  _ lRow: Int, _ lStep: Int, _ x: UnsafePointer<Float>, _ rows: Int, _ steps: Int
) {
  var row = 0
  while row < rows {
    let (from, to) = (l + row &* lRow, c + row &* 64)
    let isFull = row &+ 4 <= rows
    var column = 0
    while column < 64 {
      if isFull {
        unpackedTile(
          I.self, TileShape<4, 2>.self, to + column, accumulate, from, lRow, lStep, x + column,
          steps)
      } else {
        unpackedTile(
          I.self, TileShape<1, 2>.self, to + column, accumulate, from, lRow, lStep, x + column,
          steps)
      }
      column &+= 2 &* I.lanes
    }
    row &+= isFull ? 4 : 1
  }
}
