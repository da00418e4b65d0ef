// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTOps
import Testing

@Suite("GEMM against sums in Double")
struct GEMMTests {
  /// One product with everything that can be asked of it.
  struct Case: Sendable {
    var m: Int
    var n: Int
    var k: Int
    var alpha: Float = 1
    var accumulate = false
    /// Rows of B's reduced dimension before A's begin, and after they end.
    var before = 0
    var after = 0
  }

  /// Sides around the tile of `isa`, and primes.
  private static func sides(_ mode: Mode) -> (rows: [Int], columns: [Int]) {
    let tile = mode.compute == .f32 ? mode.kernels.gemm.tile_f32 : mode.kernels.gemm.tile_bf16
    func around(_ size: Int) -> [Int] { [1, size - 1, size, size + 1, 2 * size + 3] }
    return (around(tile.rows), around(tile.columns) + [tile.lanes + 1])
  }

  private func run(_ c: Case, on executor: Executor) -> (found: Grid, expected: [Estimate]) {
    let type = executor.compute
    let a = Grid(c.m, c.k, padding: 3, random: "a")
    let b = Grid(c.before + c.k + c.after, c.n, padding: 5, random: "b")
    let target =
      c.accumulate
      ? Grid(c.m, c.n, padding: 7, random: "c") : Grid(unset: c.m, c.n, padding: 7)
    let before = target.copy
    executor.withScratch { scratch in
      let left = Linear.pack(a.matrix, in: scratch, on: executor)
      let right = PackedMatrix(
        in: scratch, k: b.rows, n: c.n, type: type, tile: executor.tile)
      right.pack(from: b.matrix, transposed: false, on: executor)
      GEMM.multiply(
        left, right, reduced: c.before, into: target.matrix, alpha: c.alpha,
        accumulate: c.accumulate, on: executor)
    }
    let (x, y) = (a.operands(type), b.operands(type))
    var expected: [Estimate] = []
    for i in 0..<c.m {
      for j in 0..<c.n {
        var sum = ProductSum()
        for p in 0..<c.k { sum.add(x[i * c.k + p], y[(c.before + p) * c.n + j]) }
        expected.append(
          sum.estimate(
            alpha: Double(c.alpha), plus: c.accumulate ? Double(before[i, j]) : 0))
      }
    }
    return (target, expected)
  }

  @Test("every side of the tile, alone and accumulated", arguments: Mode.all)
  func sides(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      let (rows, columns) = Self.sides(mode)
      for m in rows {
        for n in columns {
          for (k, alpha, accumulate) in [
            (1, Float(1), false), (2, 0.75, true), (7, -1.5, false), (61, 1, true),
          ] {
            let c = Case(m: m, n: n, k: k, alpha: alpha, accumulate: accumulate)
            let (found, expected) = run(c, on: executor)
            expectClose(found, expected, "\(c)")
          }
        }
      }
    }
  }

  @Test(
    "reduced dimensions at and beyond a slice, blocks of rows beyond the cache's",
    arguments: Mode.all)
  func slices(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      let cases = [
        Case(m: 13, n: 70, k: 511), Case(m: 13, n: 70, k: 512), Case(m: 13, n: 70, k: 513),
        Case(m: 5, n: 19, k: 1023, alpha: 0.5), Case(m: 5, n: 19, k: 1025, accumulate: true),
        Case(m: 7, n: 67, k: 2053, alpha: -2, accumulate: true), Case(m: 307, n: 9, k: 521),
        Case(m: 1, n: 131, k: 4101), Case(m: 31, n: 130, k: 4099, alpha: 3, accumulate: true),
      ]
      for c in cases {
        let (found, expected) = run(c, on: executor)
        expectClose(found, expected, "\(c)")
      }
    }
  }

  @Test("A may cover a part of B's reduced dimension", arguments: Mode.all)
  func reduced(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for (before, after) in [(2, 0), (64, 3), (512, 1), (0, 5)] {
        let c = Case(m: 9, n: 71, k: 33, accumulate: before > 2, before: before, after: after)
        let (found, expected) = run(c, on: executor)
        expectClose(found, expected, "\(c)")
      }
    }
  }

  @Test("no rows, no columns and nothing to sum are defined", arguments: Mode.all)
  func empty(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for c in [Case(m: 0, n: 3, k: 4), Case(m: 3, n: 0, k: 4), Case(m: 3, n: 5, k: 0)] {
        let (found, expected) = run(c, on: executor)
        expectClose(found, expected, "\(c)")
      }
    }
  }

  @Test("what is added may be a row or another matrix", arguments: Mode.all)
  func addends(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      let (m, n, k) = (29, 131, 1100)
      let (a, b) = (Grid(m, k, random: "a"), Grid(k, n, random: "b"))
      let (row, other) = (Grid(1, n, random: "row"), Grid(m, n, padding: 3, random: "other"))
      let (byRow, byMatrix) = (Grid(unset: m, n, padding: 2), Grid(unset: m, n, padding: 2))
      executor.withScratch { scratch in
        let left = Linear.pack(a.matrix, in: scratch, on: executor)
        let right = PackedMatrix(
          in: scratch, k: k, n: n, type: executor.compute, tile: executor.tile)
        right.pack(from: b.matrix, transposed: false, on: executor)
        GEMM.multiply(
          left, right, into: byRow.matrix, alpha: 0.5, adding: .row(row.pointer), on: executor)
        GEMM.multiply(
          left, right, into: byMatrix.matrix, adding: .matrix(other.matrix), on: executor)
      }
      let (x, y) = (a.operands(mode.compute), b.operands(mode.compute))
      let sums = (0..<m * n).map { flat in
        var sum = ProductSum()
        for p in 0..<k { sum.add(x[flat / n * k + p], y[p * n + flat % n]) }
        return sum
      }
      expectClose(
        byRow, sums.indices.map { sums[$0].estimate(alpha: 0.5, plus: Double(row[0, $0 % n])) },
        "a row")
      expectClose(
        byMatrix, sums.indices.map { sums[$0].estimate(plus: Double(other[$0 / n, $0 % n])) },
        "a matrix")
    }
  }

  @Test("the same bits on 1, 2, 3 and 5 workers, and of any row alone", arguments: Mode.all)
  func workers(_ mode: Mode) throws {
    for c in [
      Case(m: 50, n: 200, k: 777), Case(m: 200, n: 50, k: 1300, accumulate: true),
      Case(m: 128, n: 897, k: 70), Case(m: 1, n: 700, k: 1100), Case(m: 8, n: 333, k: 4100),
    ] {
      try expectSameBits(mode) { run(c, on: $0).found.values }
    }
    try withExecutor(mode) { executor in
      let many = run(Case(m: 29, n: 131, k: 600), on: executor).found.values
      let one = run(Case(m: 1, n: 131, k: 600), on: executor).found.values
      #expect(Array(many.prefix(131)) == one)
    }
  }
}
