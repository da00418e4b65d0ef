// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTKernels
import Testing

@Suite(.pooled) struct RotaryTests {
  @Test("RoPE rotates the halves of each head, and back", arguments: KernelTable.available)
  func rotation(table: KernelTable) {
    for dim in [2, 4, 6, 16, 34, 64, 96, 128, 258] {
      for heads in [1, 3] {
        let half = dim / 2
        let angles = (0..<half).map { 0.1 + Double($0) * 0.37 }
        let cosines = Guarded(angles.map { Float(cos($0)) })
        let sines = Guarded(angles.map { Float(sin($0)) })
        let given = Draw("x").floats(heads * dim, size: 4)
        let x = Guarded(given)
        for sign: Float in [1, -1] {
          let before = x.values
          table.rows.rope_f32(x.pointer, cosines.pointer, sines.pointer, heads, dim, sign)
          var expected = before.map(Double.init)
          for head in 0..<heads {
            for i in 0..<half {
              let (p, q) = (head * dim + i, head * dim + i + half)
              let (a, b) = (Double(before[p]), Double(before[q]))
              let (c, s) = (
                Double(cosines.pointer[i]), Double(sign) * Double(sines.pointer[i])
              )
              expected[p] = a * c - b * s
              expected[q] = b * c + a * s
            }
          }
          expectClose(x.values, expected, "\(table.name) dim \(dim)") { _ in roundoff * 3 * 6 }
          #expect(x.isIntact)
        }
        expectClose(x.values, given.map(Double.init), "\(table.name) there and back") { _ in 1e-5 }
      }
    }
  }
}
