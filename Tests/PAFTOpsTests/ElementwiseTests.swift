// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase
import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

@Suite("Operations on rows against plain loops")
struct ElementwiseTests {
  static let tables = KernelTable.available.map(\.name)

  private func withTable<T: Sendable>(
    _ isa: String, _ body: @escaping @Sendable (Executor) throws -> T
  ) throws -> T {
    try withExecutor(Mode(isa: isa, compute: .f32), body)
  }

  // MARK: rotary

  /// Positions repeat and come in no order, as in packed batches.
  private static let positions: [Int32] = (0..<53).map { Int32($0 * 37 % 61) }

  private func rotate(_ x: Grid, size: Int, sign: Float, on executor: Executor) {
    executor.withScratch { scratch in
      let table = RotaryTable(in: scratch, positions: 61, headSize: size)
      for position in 0..<61 {
        for i in 0..<size / 2 {
          let angle = Double(position) * pow(10_000, -2 * Double(i) / Double(size))
          table.cos.row(position)[i] = Float(cos(angle))
          table.sin.row(position)[i] = Float(sin(angle))
        }
      }
      Self.positions.withUnsafeBufferPointer {
        Rotary.apply(
          x.matrix, positions: $0.baseAddress!, table: table, headSize: size, sign: sign,
          on: executor)
      }
    }
  }

  @Test("rotary turns every pair by its angle, and back", arguments: tables)
  func rotary(_ isa: String) throws {
    for (heads, size) in [(1, 2), (3, 8), (14, 64), (2, 80), (1, 128)] {
      let x = Grid(53, heads * size, padding: 3, random: "x")
      let turned = x.copy
      try withTable(isa) { rotate(turned, size: size, sign: 1, on: $0) }
      let back = turned.copy
      try withTable(isa) { rotate(back, size: size, sign: -1, on: $0) }
      var expected: [Estimate] = []
      var original: [Estimate] = []
      for row in 0..<53 {
        for column in 0..<heads * size {
          let (head, i) = (column / size * size, column % size)
          let half = size / 2
          let a = Double(x[row, head + i % half])
          let b = Double(x[row, head + i % half + half])
          let angle =
            Double(Self.positions[row]) * pow(10_000, -2 * Double(i % half) / Double(size))
          // cos and sin are rounded once, products and the sum once each.
          let error = 4 * roundoff * (abs(a) + abs(b))
          expected.append(
            Estimate(
              value: i < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle),
              error: error))
          original.append(Estimate(value: Double(x[row, column]), error: 4 * error))
        }
      }
      expectClose(turned, expected, "\(heads) heads of \(size)")
      expectClose(back, original, "back, \(heads) heads of \(size)")
    }
  }

  // MARK: SwiGLU

  @Test("SwiGLU and its gradients, in place too", arguments: tables)
  func swiglu(_ isa: String) throws {
    for (rows, columns) in [(1, 1), (9, 67), (30, 4864)] {
      let gate = Grid(rows, columns, padding: 2, random: "gate", size: 12)
      let up = Grid(rows, columns, padding: 5, random: "up")
      let dy = Grid(rows, columns, padding: 3, random: "dy")
      let y = Grid(unset: rows, columns, padding: 1)
      let (dgate, dup) = (gate.copy, up.copy)
      try withTable(isa) { executor in
        SwiGLU.forward(gate: gate.matrix, up: up.matrix, into: y.matrix, on: executor)
        SwiGLU.backward(
          dy.matrix, gate: dgate.matrix, up: dup.matrix, dgate: dgate.matrix, dup: dup.matrix,
          on: executor)
      }
      let (gates, ups, dys) = (
        gate.values.map(Double.init), up.values.map(Double.init), dy.values.map(Double.init)
      )
      let all = gates.indices.map { i -> (Estimate, Estimate, Estimate) in
        let (g, u, d) = (gates[i], ups[i], dys[i])
        let sigma = 1 / (1 + exp(-g))
        // exp(-g) carries 1.5 |g| roundings of its argument, everything else a few.
        let relative = (1.5 * abs(g) + 16) * roundoff
        let slope = sigma * (1 + g * (1 - sigma))
        let slopeError =
          sigma * (relative * (1 + abs(g) * (1 - sigma)) + 4 * abs(g) * roundoff)
        return (
          Estimate(value: g * sigma * u, error: abs(g * sigma * u) * relative + 1e-37),
          Estimate(
            value: d * u * slope,
            error: abs(d * u) * (slopeError + 4 * roundoff * abs(slope)) + 1e-37),
          Estimate(value: d * g * sigma, error: abs(d * g * sigma) * relative + 1e-37)
        )
      }
      expectClose(y, all.map(\.0), "y")
      expectClose(dgate, all.map(\.1), "dgate")
      expectClose(dup, all.map(\.2), "dup")
    }
  }

  // MARK: embedding

  @Test("embedding rows are gathered, and repeated ids add up in order", arguments: tables)
  func embedding(_ isa: String) throws {
    let ids = (0..<71).map { Int32($0 * $0 % 13) }
    for columns in [1, 16, 67, 200] {
      let table = Grid(13, columns, padding: 4, random: "table")
      let dx = Grid(71, columns, padding: 2, random: "dx")
      let x = Grid(unset: 71, columns, padding: 3)
      let dtable = table.copy
      try withTable(isa) { executor in
        ids.withUnsafeBufferPointer {
          Embedding.forward(
            ids: $0.baseAddress!, table: table.matrix, into: x.matrix, on: executor)
          Embedding.backward(
            ids: $0.baseAddress!, dx: dx.matrix, into: dtable.matrix, on: executor)
        }
      }
      let expected = table.copy
      for (row, id) in ids.enumerated() {
        for column in 0..<columns {
          #expect(x[row, column] == table[Int(id), column])
          expected[Int(id), column] += dx[row, column]
        }
      }
      #expect(x.isIntact && dtable.isIntact && dtable.values == expected.values)
    }
  }

  // MARK: sums and copies

  @Test("sums of squares in Double, and what is not finite stays so", arguments: tables)
  func sumSquares(_ isa: String) throws {
    for count in [0, 1, 3, 16_383, 16_384, 16_385, 100_003] {
      let x = Grid(1, max(1, count), random: "x", size: 1e3)
      let sum = try withTable(isa) {
        Elementwise.sumSquares(x.pointer, count: count, on: $0)
      }
      let expected = (0..<count).reduce(0.0) { $0 + Double(x[0, $1]) * Double(x[0, $1]) }
      #expect(abs(sum - expected) <= Double(count) * 0x1p-52 * expected, "\(count)")
      for bad in [Float.nan, .infinity] where count > 0 {
        x[0, count - 1] = bad
        let sum = try withTable(isa) {
          Elementwise.sumSquares(x.pointer, count: count, on: $0)
        }
        #expect(bad.isNaN ? sum.isNaN : sum == .infinity)
      }
    }
  }

  @Test("add, copy and zero leave the rest alone", arguments: tables)
  func rows(_ isa: String) throws {
    for (rows, columns) in [(1, 1), (17, 33), (40, 257)] {
      let x = Grid(rows, columns, padding: 2, random: "x")
      let y = Grid(rows, columns, padding: 3, random: "y")
      let start = y.copy
      let target = Grid(unset: rows, columns, padding: 1)
      try withTable(isa) { executor in
        Elementwise.add(x.matrix, to: y.matrix, alpha: -0.75, on: executor)
        Elementwise.copy(x.matrix, to: target.matrix, on: executor)
      }
      expectClose(
        y,
        zip(x.values, start.values).map {
          let value = Double($1) - 0.75 * Double($0)
          return Estimate(value: value, error: 2 * roundoff * (abs(Double($1)) + abs(Double($0))))
        }, "add")
      #expect(target.values == x.values && target.isIntact)
    }
    let flat = Grid(1, 10_001, random: "flat")
    try withTable(isa) { Elementwise.zero(flat.pointer, count: 10_000, on: $0) }
    #expect(flat.values.prefix(10_000).allSatisfy { $0 == 0 } && flat[0, 10_000] != 0)
  }

  @Test("the same bits on 1, 2 and 3 workers", arguments: tables)
  func workers(_ isa: String) throws {
    try expectSameBits(Mode(isa: isa, compute: .f32)) { executor in
      let x = Grid(53, 640, random: "x", size: 5)
      let gate = Grid(53, 640, random: "gate", size: 5)
      let y = Grid(unset: 53, 640)
      rotate(x, size: 64, sign: 1, on: executor)
      SwiGLU.forward(gate: gate.matrix, up: x.matrix, into: y.matrix, on: executor)
      let table = Grid(5, 640) { _, _ in 0 }
      let ids = (0..<53).map { Int32($0 % 5) }
      ids.withUnsafeBufferPointer {
        Embedding.backward(ids: $0.baseAddress!, dx: y.matrix, into: table.matrix, on: executor)
      }
      let sum = Elementwise.sumSquares(y.pointer, count: 53 * 640, on: executor)
      let bits = sum.bitPattern
      return x.values + y.values + table.values
        + [
          Float(bitPattern: UInt32(truncatingIfNeeded: bits >> 32)),
          Float(bitPattern: UInt32(truncatingIfNeeded: bits)),
        ]
    }
  }
}
