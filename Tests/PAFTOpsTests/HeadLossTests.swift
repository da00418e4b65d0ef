// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase
import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

@Suite("Head and loss against whole logits in Double")
struct HeadLossTests {
  static let hidden = 24

  struct Size: Sendable, CustomTestStringConvertible {
    let vocabulary: Int
    let rows: Int
    let compute: ComputeType
    var testDescription: String { "\(rows) rows, vocabulary \(vocabulary), \(compute.rawValue)" }

    /// Around the vocabulary tile (4096) and the chunk of rows (256).
    static let all = ComputeType.allCases.flatMap { compute in
      [1, 97, 4096, 4097, 9001].flatMap { vocabulary in
        [0, 1, 255, 257].map { Size(vocabulary: vocabulary, rows: $0, compute: compute) }
      }
    }
  }

  /// One head with rows that have targets; tokens at the edges of tiles are likely ones, so that
  /// losing one shows.
  struct Case: Sendable {
    let x: Grid
    let w: Grid
    let targets: [Int32]
    let coefficients: Grid
    let dweight: Grid

    init(vocabulary: Int, rows: Int) {
      let edges = [0, 4095, 4096, 8191, 8192, vocabulary - 1].filter { $0 < vocabulary }
      let random = CounterRandom(seed: 7).stream("targets")
      x = Grid(rows, HeadLossTests.hidden, padding: 3, random: "x")
      w = Grid(vocabulary, HeadLossTests.hidden, padding: 1, random: "w")
      for edge in edges {
        for column in 0..<HeadLossTests.hidden { w[edge, column] *= 3 }
      }
      targets = (0..<rows).map {
        Int32(
          $0 % 3 == 0 ? edges[$0 / 3 % edges.count] : random.integer(UInt64($0), below: vocabulary))
      }
      coefficients = Grid(1, max(1, rows), random: "c")
      dweight = Grid(vocabulary, HeadLossTests.hidden, padding: 2, random: "dw")
    }
  }

  struct Result: Sendable {
    var logp: [Float]
    var lse: [Float]
    var correct: [UInt8]
    var dhidden: Grid
    var dweight: Grid
  }

  enum Way { case parts, together, frozen }

  private func run(_ c: Case, _ way: Way, on executor: Executor) -> Result {
    executor.withScratch { scratch in
      let head = executor.packedWeight(
        in: scratch, outputs: c.w.rows, inputs: Self.hidden, backward: true)
      head.pack(from: c.w.matrix, on: executor)
      let count = c.x.rows
      let rows = HeadLoss.Rows(in: scratch, count: count)
      let dhidden = Grid(unset: count, Self.hidden, padding: 5)
      let dweight = c.dweight.copy
      c.targets.withUnsafeBufferPointer { targets in
        let targets = targets.baseAddress ?? UnsafePointer(scratch.allocate(Int32.self, count: 1))
        if way == .together {
          HeadLoss.forwardBackward(
            hidden: c.x.matrix, head: head, targets: targets, rows: rows,
            coefficients: c.coefficients.pointer, dhidden: dhidden.matrix,
            dweight: dweight.matrix, on: executor)
        } else {
          HeadLoss.forward(
            hidden: c.x.matrix, head: head, targets: targets, rows: rows, on: executor)
          HeadLoss.backward(
            hidden: c.x.matrix, head: head, targets: targets, rows: rows,
            coefficients: c.coefficients.pointer, dhidden: dhidden.matrix,
            dweight: way == .frozen ? nil : dweight.matrix, on: executor)
        }
      }
      return Result(
        logp: (0..<count).map { rows.logp[$0] }, lse: (0..<count).map { rows.lse[$0] },
        correct: (0..<count).map { rows.correct[$0] }, dhidden: dhidden, dweight: dweight)
    }
  }

  /// What one row of whole logits says.
  private struct Oracle {
    var logp: [Estimate] = []
    var lse: [Estimate] = []
    /// nil where rounding may decide.
    var correct: [UInt8?] = []
    var dhidden: [Estimate] = []
    var dweight: [Estimate] = []

    init(_ c: Case, _ type: ComputeType) {
      let size = HeadLossTests.hidden
      let vocabulary = c.w.rows
      let (x, w) = (c.x.operands(type), c.w.operands(type))
      let start = c.dweight.values.map(Double.init)
      var weightError = start.map { abs($0) * Double(c.x.rows / 256 + 4) * roundoff }
      var weightSum = start
      for row in 0..<c.x.rows {
        var z = [Double](repeating: 0, count: vocabulary)
        var zError = 0.0
        for v in 0..<vocabulary {
          var sum = ProductSum()
          for d in 0..<size { sum.add(x[row * size + d], w[v * size + d]) }
          z[v] = sum.sum
          zError = max(zError, sum.estimate().error)
        }
        let top = z.max()!
        let total = z.reduce(0) { $0 + exp($1 - top) }
        let lse = top + log(total)
        let lseError =
          zError + (Double(vocabulary) + 4 * abs(top) + 4 * abs(lse) + 16) * roundoff
        let target = Int(c.targets[row])
        self.lse.append(Estimate(value: lse, error: lseError))
        logp.append(
          Estimate(
            value: z[target] - lse,
            error: zError + lseError + 2 * roundoff * (abs(z[target]) + abs(lse))))
        let rival = z.indices.filter { $0 != target }.map { z[$0] }.max() ?? -.infinity
        correct.append(abs(z[target] - rival) <= 2 * zError ? nil : z[target] > rival ? 1 : 0)

        let coefficient = Double(c.coefficients[0, row])
        var gradient = [Double](repeating: 0, count: size)
        var error = gradient
        for v in 0..<vocabulary {
          let p = exp(z[v] - lse)
          let dz = coefficient * ((v == target ? 1 : 0) - p)
          let pError = p * (zError + lseError + (2 * abs(z[v]) + 2 * abs(lse) + 16) * roundoff)
          let dzError =
            abs(coefficient) * (pError + 2 * roundoff * (v == target ? 1 : 0))
            + abs(dz) * (4 * roundoff + storing(type))
          for d in 0..<size {
            let (wv, xd) = (w[v * size + d], x[row * size + d])
            gradient[d] += dz * wv
            error[d] += dzError * abs(wv) + Double(vocabulary + 8) * roundoff * abs(dz * wv)
            weightSum[v * size + d] += dz * xd
            weightError[v * size + d] +=
              dzError * abs(xd) + Double(c.x.rows + 8) * roundoff * abs(dz * xd)
          }
        }
        for d in 0..<size {
          dhidden.append(Estimate(value: gradient[d], error: error[d] + 1e-37))
        }
      }
      dweight = weightSum.indices.map {
        Estimate(value: weightSum[$0], error: weightError[$0] + 1e-37)
      }
    }
  }

  @Test("log-probabilities, hits and both gradients, on every table", arguments: Size.all)
  func oracle(_ size: Size) throws {
    let c = Case(vocabulary: size.vocabulary, rows: size.rows)
    let oracle = Oracle(c, size.compute)
    for table in KernelTable.available {
      let mode = Mode(isa: table.name, compute: size.compute)
      let found = try withExecutor(mode) { run(c, .parts, on: $0) }
      expectClose(found.logp, oracle.logp, "\(mode.isa) logp")
      expectClose(found.lse, oracle.lse, "\(mode.isa) lse")
      expectClose(found.dhidden, oracle.dhidden, "\(mode.isa) dhidden")
      expectClose(found.dweight, oracle.dweight, "\(mode.isa) dweight")
      for row in 0..<size.rows {
        if let hit = oracle.correct[row] {
          #expect(found.correct[row] == hit, "\(mode.isa) row \(row)")
        }
      }
    }
  }

  @Test("together, in parts and frozen are the same bits", arguments: Mode.all)
  func ways(_ mode: Mode) throws {
    for (vocabulary, rows) in [(97, 257), (4096, 3), (4097, 20), (9001, 5)] {
      let c = Case(vocabulary: vocabulary, rows: rows)
      try withExecutor(mode) { executor in
        let parts = run(c, .parts, on: executor)
        let together = run(c, .together, on: executor)
        let frozen = run(c, .frozen, on: executor)
        #expect(together.logp == parts.logp && together.correct == parts.correct)
        #expect(together.dhidden.values == parts.dhidden.values)
        #expect(together.dweight.values == parts.dweight.values)
        #expect(frozen.dhidden.values == parts.dhidden.values)
        #expect(frozen.dweight.values == c.dweight.values, "a frozen head has no gradient")
      }
    }
  }

  @Test("the same bits on 1, 2 and 3 workers", arguments: Mode.all)
  func workers(_ mode: Mode) throws {
    try expectSameBits(mode) { executor in
      let found = run(Case(vocabulary: 4200, rows: 35), .together, on: executor)
      return found.logp + found.lse + found.dhidden.values + found.dweight.values
    }
  }
}
