// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// The reference micro-tile: small, so that tests meet every tail quickly.
let referenceTile = Tile(rows: 4, columns: 8, lanes: 4, depth: 1)
let referencePairTile = Tile(rows: 4, columns: 8, lanes: 4, depth: 2)

/// C[rows, columns] = alpha * A·B (+ C); each element is one sum over k in Double.
func multiply_f32(
  _ a: KernelTable.In, _ b: KernelTable.In, _ c: KernelTable.Out, _ k: Int, _ ldc: Int,
  _ rows: Int, _ columns: Int, _ alpha: Float, _ accumulate: Int
) {
  let width = referenceTile.width(columns)
  for row in 0..<rows {
    for column in 0..<columns {
      var sum = 0.0
      for p in 0..<k {
        sum += Double(a[p &* referenceTile.rows &+ row]) * Double(b[p &* width &+ column])
      }
      store(Double(alpha) * sum, c + (row &* ldc &+ column), accumulate)
    }
  }
}

/// The same over [ceil(k/2)][rows or columns][2] pairs of BF16; products are exact in Double.
func multiply_bf16(
  _ a: KernelTable.In16, _ b: KernelTable.In16, _ c: KernelTable.Out, _ k: Int, _ ldc: Int,
  _ rows: Int, _ columns: Int, _ alpha: Float, _ accumulate: Int
) {
  let width = referenceTile.width(columns)
  for row in 0..<rows {
    for column in 0..<columns {
      var sum = 0.0
      for p in 0..<k {
        let (pair, half) = (p >> 1, p & 1)
        let x = BF16(bits: a[(pair &* referenceTile.rows &+ row) &* 2 &+ half]).float
        let y = BF16(bits: b[(pair &* width &+ column) &* 2 &+ half]).float
        sum += Double(x) * Double(y)
      }
      store(Double(alpha) * sum, c + (row &* ldc &+ column), accumulate)
    }
  }
}

private func store(_ value: Double, _ c: KernelTable.Out, _ accumulate: Int) {
  c.pointee = Float(accumulate != 0 ? value + Double(c.pointee) : value)
}
