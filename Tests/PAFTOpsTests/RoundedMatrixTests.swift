// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps
import Testing

@Suite("Rows that wait rounded")
struct RoundedMatrixTests {
  @Test("hold what BF16 makes of each value, whole or side by side", arguments: Mode.all)
  func values(_ mode: Mode) throws {
    try withExecutor(mode, threads: 3) { executor in
      for (m, k, n) in [(1, 1, 1), (7, 33, 5), (50, 64, 31), (65, 17, 96)] {
        let (left, right) = (Grid(m, k, random: "left"), Grid(m, n, padding: 3, random: "right"))
        executor.withScratch { scratch in
          let whole = RoundedMatrix(in: scratch, rows: m, columns: k)
          let both = RoundedMatrix(in: scratch, rows: m, columns: k + n)
          executor.parallel(m) { range in
            whole.round(range, of: left.matrix, executor)
            both.round(range, of: left.matrix, executor)
            both.round(range, of: right.matrix, at: k, executor)
          }
          let (one, two) = (
            whole.floats(in: scratch, on: executor), both.floats(in: scratch, on: executor)
          )
          for row in 0..<m {
            for column in 0..<k {
              let expected = BF16(left.matrix.row(row)[column]).float
              #expect(one.row(row)[column] == expected && two.row(row)[column] == expected)
            }
            for column in 0..<n {
              #expect(two.row(row)[k + column] == BF16(right.matrix.row(row)[column]).float)
            }
          }
        }
      }
    }
  }
}
