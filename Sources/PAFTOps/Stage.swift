// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// A worker's part of a product that is kept in BF16: a few panels' rows of one panel's columns, in
/// Floats.
///
/// They stay in the first-level cache while they are summed, an adapter adds its part and they are
/// rounded on their way out. So C is written once, in half the bytes, and no line of it is read before.
struct Stage {
  private let base: UnsafeMutablePointer<Float>
  private let width: Int
  private let c: RoundedMatrix

  /// Panels of A that go together: 48 rows of 64 columns are 12 KiB.
  static let panels = 8

  /// Floats that a worker takes for it.
  static func room(_ tile: Tile) -> Int { panels * tile.rows * tile.columns }

  init(_ base: UnsafeMutablePointer<Float>, _ tile: Tile, for c: RoundedMatrix) {
    self.base = base
    width = tile.columns
    self.c = c
  }

  /// All of C, of which the stage's rows from `row` on and columns from `column` on are there.
  @inline(__always) func view(row: Int, column: Int) -> Matrix {
    Matrix(base - (row * width + column), rows: c.rows, columns: c.columns, stride: width)
  }

  /// Rounds what is there.
  @inline(__always)
  func round(_ rows: Range<Int>, _ columns: Range<Int>, _ kernels: KernelTable) {
    for row in rows {
      kernels.vectors.toBF16(
        c.row(row) + columns.lowerBound, base + (row - rows.lowerBound) * width, columns.count, 0)
    }
  }
}

extension RoundedMatrix {
  /// Receives what is computed as Floats beside it, all of it.
  func fill(on executor: Executor, _ compute: (Matrix) -> Void) {
    executor.withScratch { scratch in
      let floats = Matrix(in: scratch, rows: rows, columns: columns)
      compute(floats)
      fill(from: floats, on: executor)
    }
  }
}

extension GEMM {
  /// C[m, n] = A[m, k] B[k, n] + D, rounded.
  package static func multiply(
    _ a: PackedRows, _ b: PackedMatrix, into c: RoundedMatrix, adding addend: Addend,
    tail: Tail? = nil, on executor: Executor
  ) {
    precondition(
      a.k == b.k && c.rows == a.m && c.columns == b.n && a.type == b.type,
      "gemm: A \(a.m)x\(a.k), B \(b.k)x\(b.n), C \(c.rows)x\(c.columns)")
    guard isStaged(m: a.m, k: a.k, a.type, a.tile) else {
      return c.fill(on: executor) {
        multiply(a, b, into: $0, adding: addend, tail: tail, on: executor)
      }
    }
    let room = Stage.room(a.tile)
    let grid = Grid(a, b, workers: executor.workers)
    let nowhere = Matrix(rowless, rows: c.rows, columns: c.columns)
    executor.withScratch { scratch in
      let rooms = scratch.allocate(Float.self, count: grid.workers * room)
      let product = Product(
        a: a, b: b, reduced: 0, c: nowhere, alpha: 1, addend: addend, tail: tail)
      executor.run { worker in
        guard worker < grid.workers else { return }
        var part = product
        part.stage = Stage(rooms + worker * room, a.tile, for: c)
        part.runBlocks(
          grid.rows(of: a.panels, worker), grid.columns(of: b.panels, worker), executor.kernels)
      }
    }
  }

  /// Whether what is rounded is summed a few rows at a time. Sums of several slices wait in C, and of few
  /// rows, reading B is what takes time.
  static func isStaged(m: Int, k: Int, _ type: ComputeType, _ tile: Tile) -> Bool {
    k <= slice(type) && (m + tile.rows - 1) / tile.rows > fewPanels
  }

  /// Where nothing is written.
  static var rowless: UnsafeMutablePointer<Float> { UnsafeMutablePointer(bitPattern: 64)! }
}
