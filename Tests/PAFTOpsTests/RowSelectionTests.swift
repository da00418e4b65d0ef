// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps
import Testing

@Suite("Rows taken out of a matrix and put back")
struct RowSelectionTests {
  @Test(
    "gathered rows are the selected ones; scattered ones return to their places among zeros",
    arguments: [0, 1, 2, 15, 16, 17, 53], [1, 2, 3])
  func roundTrip(rows: Int, threads: Int) throws {
    let columns = 19
    let all = (0..<rows).map(Int32.init)
    let sets = [[], all, all.filter { $0 % 3 == 1 }, Array(all.dropFirst(rows / 2)), all.suffix(1)]
    try withExecutor(Mode(isa: "reference", compute: .f32), threads: threads) { executor in
      for selected in sets {
        executor.withScratch { scratch in
          let indices = scratch.allocate(Int32.self, count: max(1, selected.count))
          for (index, row) in selected.enumerated() { indices[index] = row }
          let selection = RowSelection(indices, count: selected.count)
          let x = Grid(rows, columns, padding: 5) { Float(100 * $0 + $1) }
          let y = selection.gather(x.matrix, in: scratch, on: executor)
          #expect(y.rows == selected.count)
          for (index, row) in selected.enumerated() {
            for i in 0..<columns { #expect(y.row(index)[i] == x[Int(row), i]) }
          }
          let z = Grid(unset: rows, columns, padding: 5)
          selection.scatter(y, into: z.matrix, on: executor)
          for row in 0..<rows {
            let kept = selected.contains(Int32(row))
            for i in 0..<columns { #expect(z[row, i] == (kept ? x[row, i] : 0)) }
            for i in 0..<5 { #expect(z[row, columns + i].isNaN) }
          }
        }
      }
    }
  }
}
