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
  strip_f32(
    a, 0, b, c, k, ldc, rows, columns, alpha, accumulate != 0 ? UnsafePointer(c) : nil, ldc, a, 0, 0
  )
}

func multiply_bf16(
  _ a: KernelTable.In16, _ b: KernelTable.In16, _ c: KernelTable.Out, _ k: Int, _ ldc: Int,
  _ rows: Int, _ columns: Int, _ alpha: Float, _ accumulate: Int
) {
  strip_bf16(
    a, 0, b, c, k, ldc, rows, columns, alpha, accumulate != 0 ? UnsafePointer(c) : nil, ldc, a, 0, 0
  )
}

func strip_f32(
  _ a: KernelTable.In, _ aStride: Int, _ b: KernelTable.In, _ c: KernelTable.Out, _ k: Int,
  _ ldc: Int, _ rows: Int, _ columns: Int, _ alpha: Float, _ addend: KernelTable.In?,
  _ ldAddend: Int, _ ahead: UnsafeRawPointer, _ aheadStep: Int, _ lines: Int
) {
  let width = referenceTile.width(columns)
  for row in 0..<rows {
    let panel = a + row / referenceTile.rows &* aStride
    for column in 0..<columns {
      var sum = 0.0
      for p in 0..<k {
        let x = panel[p &* referenceTile.rows &+ row % referenceTile.rows]
        sum += Double(x) * Double(b[p &* width &+ column])
      }
      let start = addend.map { Double($0[row &* ldAddend &+ column]) } ?? 0
      c[row &* ldc &+ column] = Float(Double(alpha) * sum + start)
    }
  }
}

/// The same over [ceil(k/2)][rows or columns][2] pairs of BF16; products are exact in Double.
func strip_bf16(
  _ a: KernelTable.In16, _ aStride: Int, _ b: KernelTable.In16, _ c: KernelTable.Out, _ k: Int,
  _ ldc: Int, _ rows: Int, _ columns: Int, _ alpha: Float, _ addend: KernelTable.In?,
  _ ldAddend: Int, _ ahead: UnsafeRawPointer, _ aheadStep: Int, _ lines: Int
) {
  let width = referenceTile.width(columns)
  for row in 0..<rows {
    let panel = a + row / referenceTile.rows &* aStride
    for column in 0..<columns {
      var sum = 0.0
      for p in 0..<k {
        let (pair, half) = (p >> 1, p & 1)
        let slot = pair &* referenceTile.rows &+ row % referenceTile.rows
        let x = BF16(bits: panel[slot &* 2 &+ half]).float
        let y = BF16(bits: b[(pair &* width &+ column) &* 2 &+ half]).float
        sum += Double(x) * Double(y)
      }
      let start = addend.map { Double($0[row &* ldAddend &+ column]) } ?? 0
      c[row &* ldc &+ column] = Float(Double(alpha) * sum + start)
    }
  }
}

func multiplyUnpacked_f32(
  _ c: KernelTable.Out, _ accumulate: Int, _ l: KernelTable.In, _ lRow: Int, _ lStep: Int,
  _ x: KernelTable.In, _ rows: Int, _ steps: Int
) {
  let width = GEMMKernels.unpackedColumns
  for row in 0..<rows {
    for column in 0..<width {
      let at = row &* width &+ column
      var sum = accumulate != 0 ? Double(c[at]) : 0
      for step in 0..<steps {
        sum += Double(l[row &* lRow &+ step &* lStep]) * Double(x[step &* width &+ column])
      }
      c[at] = Float(sum)
    }
  }
}

/// `x`: row and column.
func multiplyThin_bf16(
  _ g: KernelTable.Out, _ ldg: Int, _ turned: Int, _ low: KernelTable.In16, _ rows: Int,
  _ columns: Int, _ rank: Int, _ alpha: Float, _ x: (Int, Int) -> BF16
) {
  let width = referencePairTile.width(rank)
  for r in 0..<rank {
    for column in 0..<columns {
      var sum = 0.0
      for row in 0..<rows {
        let left = BF16(bits: low[((row >> 1) &* width &+ r) &* 2 &+ row & 1]).float
        sum += Double(left) * Double(x(row, column).float)
      }
      let at = turned == 0 ? r &* ldg &+ column : column &* ldg &+ r
      g[at] = Float(Double(g[at]) + Double(alpha) * sum)
    }
  }
}
