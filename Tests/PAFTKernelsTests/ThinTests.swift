// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

/// Gradients of thin factors, of an operand that is not packed.
@Suite(.pooled) struct ThinTests {
  @Test("A thin gradient equals the sum in Double", arguments: KernelTable.available)
  func product(table: KernelTable) {
    let most = table.gemm.tile_bf16.columns
    let ranks = [1, 4, 7, 8, 9, 16, 17, 32, 48, 61, 64].filter { $0 <= most }
    for rank in ranks {
      for (i, rows) in [0, 1, 2, 31, 127, 130].enumerated() {
        for columns in [1, 3, 15, 16, 17, 32, 47, 64, 65, 131] {
          check(table, rank, rows, columns, stride: columns + 3, alpha: i % 2 == 0 ? 1 : -0.75)
        }
        Pool.current.drain()
      }
    }
  }

  @Test("Rows that lie pages apart go in smaller blocks", arguments: KernelTable.available)
  func pages(table: KernelTable) {
    for rows in [31, 64, 259] {
      check(table, min(16, table.gemm.tile_bf16.columns), rows, 70, stride: 1024, alpha: 2)
      check(table, min(5, table.gemm.tile_bf16.columns), rows, 70, stride: 71, alpha: 2)
    }
  }

  private func check(
    _ table: KernelTable, _ rank: Int, _ rows: Int, _ columns: Int, stride: Int, alpha: Float
  ) {
    let tile = table.gemm.tile_bf16
    let l = Draw("l").matrix(max(1, rows), rank, stride: rank + 1)
    let low = Guarded<UInt16>(tile.padded(rows) * tile.width(rank), filledWith: 0x7FFF)
    table.gemm.packB_bf16(low.pointer, l.pointer, rank, rows, rank + 1)
    let x = Draw("x").matrix(rows, columns, stride: stride)
    let room = Guarded<Float>(GEMMKernels.thinRoom, filledWith: .nan)
    // One rounding for each term, of a partial sum that the sum of magnitudes bounds, and one more for
    // what the pair instruction adds to it in between.
    var (sums, sizes) = ([Double](), [Double]())
    let left = l.values.map { Double(BF16($0).float) }
    let right = x.values.map { Double(BF16($0).float) }
    for r in 0..<rank {
      for column in 0..<columns {
        var (sum, size) = (0.0, 0.0)
        for row in 0..<rows {
          let term = left[row * (rank + 1) + r] * right[row * stride + column]
          sum += term
          size += abs(term)
        }
        sums.append(Double(alpha) * sum)
        sizes.append(Double(2 * rows + 2) * Double(abs(alpha)) * size)
      }
    }
    // Rounded before, the same bits come out.
    let half = Guarded<UInt16>(x.values.map { BF16($0).bits })
    for turned in [0, 1] {
      let (height, width) = turned == 0 ? (rank, columns) : (columns, rank)
      let ldg = width + 2
      let g = Draw("g").matrix(height, width, stride: ldg)
      let before = g.values
      table.gemm.multiplyThin_bf16(
        g.pointer, ldg, turned, low.pointer, x.pointer, rows, columns, stride, rank, alpha,
        room.pointer)
      #expect(g.isIntact && x.isIntact && low.isIntact && room.isIntact)
      let after = g.values
      let same = Draw("g").matrix(height, width, stride: ldg)
      table.gemm.multiplyThinRounded_bf16(
        same.pointer, ldg, turned, low.pointer, half.pointer, rows, columns, stride, rank, alpha,
        room.pointer)
      #expect(same.isIntact && half.isIntact)
      if zip(same.values, after).contains(where: { $0.bitPattern != $1.bitPattern }) {
        Issue.record("\(table.name) \(rank)x\(columns) of \(rows): other bits")
        return
      }
      if after.indices.contains(where: { $0 % ldg >= width && !after[$0].isNaN }) {
        Issue.record("\(table.name): written between rows of \(width)")
        return
      }
      func place(_ at: Int) -> Int {
        turned == 0 ? at / columns * ldg + at % columns : at % columns * ldg + at / columns
      }
      expectClose(
        sums.indices.map { after[place($0)] },
        sums.indices.map { Double(before[place($0)]) + sums[$0] },
        "\(table.name) \(rank)x\(columns) of \(rows), turned \(turned)"
      ) { roundoff * (sizes[$0] + Double(abs(before[place($0)]))) }
    }
  }
}
