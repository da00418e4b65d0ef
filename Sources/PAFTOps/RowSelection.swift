// SPDX-License-Identifier: Apache-2.0

import PAFTMachine

/// Some rows of a matrix, each once, in rising order. Does not own its memory.
package struct RowSelection: @unchecked Sendable, BitwiseCopyable {
  package let rows: UnsafePointer<Int32>
  package let count: Int

  package init(_ rows: UnsafePointer<Int32>, count: Int) {
    self.rows = rows
    self.count = count
  }

  /// The rows of `x` end to end: [count, columns], in scratch.
  package func gather(_ x: Matrix, in scratch: Arena, on executor: Executor) -> Matrix {
    let y = Matrix(in: scratch, rows: count, columns: x.columns)
    let span = executor.begin(.rows(.copy, count, x.columns, .forward, bytesEach: Work.Each.copy))
    defer { executor.end(span) }
    executor.parallel(count, grain: 16) { range in
      for index in range {
        y.row(index).update(from: x.row(Int(rows[index])), count: x.columns)
      }
    }
    return y
  }

  /// Writes the rows of `y` back to their places in `x` and zeros to all others.
  package func scatter(_ y: Matrix, into x: Matrix, on executor: Executor) {
    let span = executor.begin(.rows(.copy, x.rows, x.columns, .backward, bytesEach: Work.Each.copy))
    defer { executor.end(span) }
    executor.parallel(x.rows, grain: 16) { range in
      var next = first(atOrAfter: range.lowerBound)
      for row in range {
        if next < count && Int(rows[next]) == row {
          x.row(row).update(from: y.row(next), count: x.columns)
          next += 1
        } else {
          x.row(row).update(repeating: 0, count: x.columns)
        }
      }
    }
  }

  private func first(atOrAfter row: Int) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if Int(rows[middle]) < row { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
