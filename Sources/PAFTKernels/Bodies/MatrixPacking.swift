// SPDX-License-Identifier: Apache-2.0

// Panels for the matrix tile (layouts: MatrixTile.swift). B is packed as for the pair instruction,
// with k padded to 32; A needs rows of 32 values, so a row-major source is only rounded, and a
// transposed one goes through blocks of 16 x 16 pairs on the stack. Needs 16 lanes.

@_alwaysEmitIntoClient @inline(__always)
package func packMatrixA_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  let zero = I.splat(0)
  var p = 0
  while p < k {
    let block = dst + p &* matrixTile
    let valid = k &- p
    for r in 0..<matrixTile {
      let (to, from) = (block + r &* 32, src + (r < rows ? r &* stride &+ p : 0))
      var (first, second) = (zero, zero)
      if r < rows {
        first = I.load(from, valid < 16 ? valid : 16)
        if valid > 16 { second = I.load(from + 16, valid < 32 ? valid &- 16 : 16) }
      }
      I.storeBF16(to, first)
      I.storeBF16(to + 16, second)
    }
    p &+= 32
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packMatrixAT_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  let zero = I.splat(0)
  var pairs = InlineArray<16, I.Pairs>(repeating: I.pair(even: zero, odd: zero))
  var p = 0
  while p < k {
    var row = 0
    while row < matrixTile {
      let valid = rows &- row < 16 ? rows &- row : 16
      for i in 0..<16 {
        let at = p &+ 2 &* i
        let from = src + (at < k && valid > 0 ? at &* stride &+ row : 0)
        let even = at < k && valid > 0 ? I.load(from, valid) : zero
        let odd = at &+ 1 < k && valid > 0 ? I.load(from + stride, valid) : zero
        pairs[i] = I.pair(even: even, odd: odd)
      }
      let to = UnsafeMutableRawPointer(dst + (p &* matrixTile &+ row &* 32))
        .assumingMemoryBound(to: Float.self)
      withUnsafePointer(to: &pairs) {
        let block = UnsafeRawPointer($0).assumingMemoryBound(to: Float.self)
        // 32-bit pairs in quarters: dst[r][i] = pairs[i][r].
        I.transpose_f32(to, 16, block, 16, 8, 8)
        I.transpose_f32(to + 8, 16, block + 8 &* 16, 16, 8, 8)
        I.transpose_f32(to + 8 &* 16, 16, block + 8, 16, 8, 8)
        I.transpose_f32(to + 8 &* 17, 16, block + 8 &* 17, 16, 8, 8)
      }
      row &+= 16
    }
    p &+= 32
  }
}

/// Zeros behind the pairs of a B panel, up to a multiple of 32 values of k.
@_alwaysEmitIntoClient @inline(__always)
package func padMatrixB_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ columns: Int, _ k: Int
) {
  let width = panelWidth(I.self, columns)
  let zero = I.pair(even: I.splat(0), odd: I.splat(0))
  var at = (k &+ 1) / 2 &* 2 &* width
  let end = (k &+ 31) / 32 &* 32 &* width
  while at < end {
    I.storePairs(dst + at, zero)
    at &+= 2 &* I.lanes
  }
}
