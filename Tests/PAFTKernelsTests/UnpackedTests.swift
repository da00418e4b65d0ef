// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

@Suite(.pooled) struct UnpackedTests {
  private static let width = GEMMKernels.unpackedColumns

  @Test("A product of operands as they lie", arguments: KernelTable.available)
  func product(table: KernelTable) {
    for rows in [0, 1, 3, 4, 5, 8, 17, 64] {
      for steps in [0, 1, 2, 7, 16, 61] {
        for (lRow, lStep) in [(steps + 3, 1), (1, rows + 2), (2 * steps + 1, 2)] {
          for accumulate in [0, 1] {
            multiply(table, rows, steps, lRow, lStep, accumulate)
          }
          Pool.current.drain()
        }
      }
    }
  }

  private func multiply(
    _ table: KernelTable, _ rows: Int, _ steps: Int, _ lRow: Int, _ lStep: Int, _ accumulate: Int
  ) {
    let width = Self.width
    let last = rows == 0 || steps == 0 ? 0 : (rows - 1) * lRow + (steps - 1) * lStep + 1
    let l = Guarded<Float>(last, filledWith: .nan)
    let values = Draw("l").floats(rows * steps)
    for i in 0..<rows {
      for j in 0..<steps { l.pointer[i * lRow + j * lStep] = values[i * steps + j] }
    }
    let x = Draw("x").matrix(steps, width, stride: width)
    let before = accumulate != 0 ? Draw("c").floats(rows * width) : []
    let c = Guarded<Float>(rows * width, filledWith: .nan)
    for (i, value) in before.enumerated() { c.pointer[i] = value }
    table.gemm.multiplyUnpacked_f32(
      c.pointer, accumulate, l.pointer, lRow, lStep, x.pointer, rows, steps)
    #expect(c.isIntact && l.isIntact && x.isIntact)
    func terms(_ at: Int) -> [Double] {
      (0..<steps).map {
        Double(values[at / width * steps + $0]) * Double(x.pointer[$0 * width + at % width])
      }
    }
    let expected = (0..<rows * width).map { at in
      terms(at).reduce(accumulate != 0 ? Double(before[at]) : 0, +)
    }
    // One rounding for each term, of a partial sum that the sum of magnitudes bounds.
    expectClose(
      c.values, expected, "\(table.name) \(rows)x\(steps), \(lRow) \(lStep) \(accumulate)"
    ) {
      let size = terms($0).reduce(accumulate != 0 ? Double(abs(before[$0])) : 0) { $0 + abs($1) }
      return Double(steps + 1) * roundoff * size
    }
  }

  @Test("The transpose has the same bits", arguments: KernelTable.available)
  func transposed(table: KernelTable) {
    let (width, rank) = (Self.width, 13)
    let x = Draw("x").matrix(rank, width, stride: width)
    let y = Draw("y").matrix(width, rank, stride: rank)
    let turned = Guarded<Float>(rank * width, filledWith: .nan)
    for i in 0..<width {
      for k in 0..<rank { turned.pointer[k * width + i] = y.pointer[i * rank + k] }
    }
    let straight = Guarded<Float>(width * width, filledWith: .nan)
    let other = Guarded<Float>(width * width, filledWith: .nan)
    table.gemm.multiplyUnpacked_f32(
      straight.pointer, 0, y.pointer, rank, 1, x.pointer, width, rank)
    table.gemm.multiplyUnpacked_f32(
      other.pointer, 0, x.pointer, 1, width, turned.pointer, width, rank)
    for i in 0..<width {
      for j in 0..<width where straight.pointer[i * width + j] != other.pointer[j * width + i] {
        Issue.record("\(table.name): \(i), \(j)")
        return
      }
    }
  }
}
