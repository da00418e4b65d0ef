// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

/// A row by the definition of IntegerKernels, written out apart from the kernels.
private func quantized(_ row: [Float]) -> (scale: Float, bytes: [Int]) {
  let size = row.reduce(Float(0)) { max($0, abs($1)) }
  if size == 0 { return (0, row.map { _ in 0 }) }
  return (size / 127, row.map { Int(($0 * (127 / size)).rounded(.toNearestOrEven)) })
}

@Suite("8-bit products against integers and Double")
struct IntegerLinearTests {
  static let modes = KernelTable.available.map { Mode(isa: $0.name, compute: .f32) } + Mode.emulated

  struct Case: Sendable {
    var m: Int
    var out: Int
    var inputs: Int
    var biased = false
    var accumulate = false
  }

  struct Operands {
    let x: Grid
    let w: Grid
    let bias: Grid
    let y: Grid

    init(_ c: Case) {
      x = Grid(c.m, c.inputs, padding: 3, random: "x", size: 3)
      w = Grid(c.out, c.inputs, padding: 2, random: "w", size: 0.1)
      bias = Grid(1, c.out, random: "bias")
      y =
        c.accumulate
        ? Grid(c.m, c.out, padding: 5, random: "y") : Grid(unset: c.m, c.out, padding: 5)
    }
  }

  private func forward(_ c: Case, _ o: Operands, on executor: Executor) -> Grid {
    let y = o.y.copy
    executor.withScratch { scratch in
      let weight = PackedIntegerWeight(
        in: scratch, outputs: c.out, inputs: c.inputs, backward: false, on: executor)
      weight.pack(from: o.w.matrix, on: executor)
      let x = QuantizedRows(in: scratch, m: c.m, k: c.inputs, on: executor)
      x.quantize(o.x.matrix, on: executor)
      IntegerLinear.forward(
        x, weight, bias: c.biased ? o.bias.pointer : nil, into: y.matrix, accumulate: c.accumulate,
        on: executor)
    }
    #expect(y.isIntact)
    return y
  }

  /// Exact sums of the quantised operands in 64 bits, and the four operations that scale them.
  private func expected(_ c: Case, _ o: Operands) -> [UInt32] {
    let rows = (0..<c.m).map { row in quantized((0..<c.inputs).map { o.x[row, $0] }) }
    let channels = (0..<c.out).map { n in quantized((0..<c.inputs).map { o.w[n, $0] }) }
    return rows.indices.flatMap { row in
      channels.indices.map { n -> UInt32 in
        var sum = 0
        rows[row].bytes.withUnsafeBufferPointer { a in
          channels[n].bytes.withUnsafeBufferPointer { b in
            for p in 0..<c.inputs { sum += a[p] * b[p] }
          }
        }
        let left = Float(sum) * rows[row].scale
        var value = left * channels[n].scale
        if c.biased { value = o.bias[0, n].addingProduct(left, channels[n].scale) }
        return (c.accumulate ? value + o.y[row, n] : value).bitPattern
      }
    }
  }

  @Test("every side of the tile, to the bit", arguments: modes)
  func sides(_ mode: Mode) throws {
    let tile = mode.kernels.integer.tile
    @Sendable func around(_ size: Int) -> [Int] { [1, size - 1, size, size + 1, 2 * size + 3] }
    try withExecutor(mode) { executor in
      for m in around(tile.rows) {
        for out in around(tile.columns) + [tile.lanes + 1] {
          for (inputs, biased, accumulate) in [
            (1, false, false), (2, true, true), (7, true, false), (61, false, true),
          ] {
            let c = Case(m: m, out: out, inputs: inputs, biased: biased, accumulate: accumulate)
            let operands = Operands(c)
            let found = forward(c, operands, on: executor).values.map(\.bitPattern)
            #expect(found == expected(c, operands), "\(c)")
          }
        }
      }
    }
  }

  @Test("several slices of the reduced dimension, several blocks of rows", arguments: modes)
  func slices(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for c in [
        Case(m: 13, out: 70, inputs: 4095), Case(m: 7, out: 67, inputs: 4097, accumulate: true),
        Case(m: 265, out: 5, inputs: 4099, biased: true), Case(m: 271, out: 66, inputs: 130),
        Case(m: 8, out: 3, inputs: 14336, biased: true, accumulate: true),
      ] {
        let operands = Operands(c)
        let found = forward(c, operands, on: executor).values.map(\.bitPattern)
        #expect(found == expected(c, operands), "\(c)")
      }
    }
  }

  @Test("no rows, no columns and nothing to sum are defined", arguments: modes)
  func empty(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for c in [
        Case(m: 0, out: 3, inputs: 4), Case(m: 3, out: 0, inputs: 4),
        Case(m: 3, out: 5, inputs: 0, biased: true),
      ] {
        let operands = Operands(c)
        let found = forward(c, operands, on: executor).values.map(\.bitPattern)
        #expect(found == expected(c, operands), "\(c)")
      }
    }
  }

  @Test("the same bits on 1, 2 and 3 workers, by every table, and of any row alone")
  func workers() throws {
    for c in [
      Case(m: 50, out: 200, inputs: 777), Case(m: 300, out: 50, inputs: 4500, biased: true),
    ] {
      let operands = Unshared(Operands(c))
      var first: [Float]?
      for mode in Self.modes where mode.isa != "reference" || c.inputs < 1000 {
        try expectSameBits(mode) { forward(c, operands.value, on: $0).values }
        let found = try withExecutor(mode) { forward(c, operands.value, on: $0).values }
        #expect(found == first ?? found, "\(mode.isa)")
        first = found
      }
    }
    for mode in Self.modes {
      try withExecutor(mode) { executor in
        let (many, one) = (Case(m: 29, out: 131, inputs: 600), Case(m: 1, out: 131, inputs: 600))
        let all = forward(many, Operands(many), on: executor).values
        #expect(Array(all.prefix(131)) == forward(one, Operands(one), on: executor).values)
      }
    }
  }

  /// With x = a*q + e, |e| <= a/2, and w = s*v + f, |f| <= s/2, the product is off by at most
  /// sum(|x||f| + |w||e| + |e||f|).
  private func errors(
    _ x: Grid, _ w: (Int, Int) -> Double, _ stepX: (Int) -> Double, _ stepW: (Int, Int) -> Double,
    columns: Int
  ) -> [Estimate] {
    (0..<x.rows).flatMap { row in
      (0..<columns).map { column -> Estimate in
        var (sum, error) = (0.0, 0.0)
        let e = stepX(row) / 2
        for p in 0..<x.columns {
          let (a, b, f) = (Double(x[row, p]), w(p, column), stepW(p, column) / 2)
          sum += a * b
          error += (abs(a) * f + abs(b) * e + e * f) * 1.0001
        }
        return Estimate(value: sum, error: error + 1e-6 * abs(sum))
      }
    }
  }

  private func step(_ grid: Grid, _ row: Int, _ factor: (Int) -> Double = { _ in 1 }) -> Double {
    (0..<grid.columns).reduce(0) { max($0, abs(Double(grid[row, $1]) * factor($1))) } / 127
  }

  @Test("products and input gradients are as near as their steps allow", arguments: modes)
  func accuracy(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for (m, out, inputs) in [(1, 5, 3), (7, 70, 33), (13, 131, 90), (6, 64, 300)] {
        let c = Case(m: m, out: out, inputs: inputs)
        let o = Operands(c)
        let steps = (0..<out).map { step(o.w, $0) }
        let y = forward(c, o, on: executor)
        expectClose(
          y,
          errors(
            o.x, { Double(o.w[$1, $0]) }, { step(o.x, $0) }, { steps[$1] }, columns: out),
          "forward \(c)")

        let dy = Grid(m, out, padding: 1, random: "dy")
        let start = Grid(m, inputs, padding: 4, random: "dx")
        for accumulate in [false, true] {
          let dx = start.copy
          executor.withScratch { scratch in
            let weight = PackedIntegerWeight(
              in: scratch, outputs: out, inputs: inputs, backward: true, on: executor)
            weight.pack(from: o.w.matrix, on: executor)
            let rows = QuantizedRows(in: scratch, m: m, k: out, on: executor)
            rows.quantize(dy.matrix, columns: weight.scales, on: executor)
            IntegerLinear.backwardInput(
              rows, weight, into: dx.matrix, accumulate: accumulate, on: executor)
          }
          // dY * s is rounded in steps of its own; seen from dY, a step is that much over s.
          let scaled = Grid(m, out) { Float(Double(dy[$0, $1]) * steps[$1]) }
          var expected = errors(
            scaled, { Double(o.w[$0, $1]) / steps[$0] }, { step(scaled, $0) }, { _, _ in 1 },
            columns: inputs)
          if accumulate {
            for i in expected.indices { expected[i].value += Double(start.values[i]) }
          }
          expectClose(dx, expected, "backward \(c)")
        }
      }
    }
  }

  @Test("a weight packed in blocks of rows is the weight packed at once", arguments: modes)
  func streamed(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      let tile = executor.kernels.integer.tile
      let grain = max(tile.columns, tile.depth)
      let (out, inputs) = (5 * grain + 7, 150)
      let w = Grid(out, inputs, padding: 1, random: "w")
      let dy = Grid(9, out, random: "dy")
      let x = Grid(9, inputs, random: "x")
      let results = [out, grain, 2 * grain].map { size in
        executor.withScratch { scratch -> [Float] in
          let weight = PackedIntegerWeight(
            in: scratch, outputs: out, inputs: inputs, backward: true, on: executor)
          for first in stride(from: 0, to: out, by: size) {
            weight.packRows(
              from: w.matrix.rows(first..<min(first + size, out)), at: first, on: executor)
          }
          weight.finish(on: executor)
          let (y, dx) = (Grid(unset: 9, out), Grid(unset: 9, inputs))
          let rows = QuantizedRows(in: scratch, m: 9, k: inputs, on: executor)
          rows.quantize(x.matrix, on: executor)
          IntegerLinear.forward(rows, weight, into: y.matrix, on: executor)
          let gradients = QuantizedRows(in: scratch, m: 9, k: out, on: executor)
          gradients.quantize(dy.matrix, columns: weight.scales, on: executor)
          IntegerLinear.backwardInput(
            gradients, weight, into: dx.matrix, accumulate: false, on: executor)
          return y.values + dx.values
        }
      }
      #expect(results[1] == results[0] && results[2] == results[0])
      #expect(results[0].allSatisfy { $0.isFinite })
    }
  }

  @Test("a row or channel that is not finite is NaN all along, and only it", arguments: modes)
  func notFinite(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for bad in [Float.nan, .infinity] {
        let c = Case(m: 9, out: 20, inputs: 50)
        let o = Operands(c)
        o.x[4, 31] = bad
        o.w[11, 7] = bad
        let y = forward(c, o, on: executor)
        for row in 0..<c.m {
          for n in 0..<c.out { #expect(y[row, n].isNaN == (row == 4 || n == 11)) }
        }
      }
    }
  }

  @Test("a norm quantised on the way is the norm quantised after", arguments: modes)
  func norm(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      let (m, dim, out) = (31, 130, 70)
      let x = Grid(m, dim, padding: 6, random: "x", size: 5)
      let weight = Grid(1, dim, random: "g")
      let w = Grid(out, dim, random: "w")
      let (y, normed) = (Grid(unset: m, out), Grid(unset: m, dim))
      let (r, s) = (Grid(unset: 1, m), Grid(unset: 1, m))
      RMSNorm.forward(
        x.matrix, weight: weight.pointer, dim: dim, eps: 1e-6, into: normed.matrix,
        inverse: s.pointer, on: executor)
      executor.withScratch { scratch in
        let packed = PackedIntegerWeight(
          in: scratch, outputs: out, inputs: dim, backward: false, on: executor)
        packed.pack(from: w.matrix, on: executor)
        let rows = QuantizedRows(in: scratch, m: m, k: dim, on: executor)
        rows.quantizeNorm(
          x.matrix, weight: weight.pointer, eps: 1e-6, inverse: r.pointer, on: executor)
        IntegerLinear.forward(rows, packed, into: y.matrix, on: executor)
      }
      #expect(r.values == s.values)
      expectClose(
        y,
        errors(
          normed, { Double(w[$1, $0]) }, { step(normed, $0) }, { step(w, $1) + 0 * Double($0) },
          columns: out), "norm")
    }
  }
}

/// Operands that no two tasks touch at once.
private struct Unshared<T>: @unchecked Sendable {
  let value: T
  init(_ value: T) { self.value = value }
}
