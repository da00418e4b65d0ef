// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

@Suite("Linear layers against sums in Double")
struct LinearTests {
  static let shapes = [(1, 1, 1), (3, 5, 7), (17, 130, 67), (61, 33, 129), (257, 20, 600)]

  /// Everything one layer computes: tokens x inputs in, outputs out.
  struct Layer {
    let x: Grid
    let w: Grid
    let dy: Grid
    let bias: Grid
    let weight: PackedWeight
    let executor: Executor

    init(_ shape: (Int, Int, Int), in scratch: Arena, on executor: Executor) {
      let (tokens, inputs, outputs) = shape
      x = Grid(tokens, inputs, padding: 2, random: "x")
      w = Grid(outputs, inputs, padding: 3, random: "w")
      dy = Grid(tokens, outputs, padding: 1, random: "dy")
      bias = Grid(1, outputs, random: "bias")
      self.executor = executor
      weight = executor.packedWeight(
        in: scratch, outputs: outputs, inputs: inputs, backward: true)
      weight.pack(from: w.matrix, on: executor)
    }

    /// sum over the shared index of left(i, p) right(j, p), for all i and j.
    static func products(
      _ left: [Double], _ right: [Double], _ rows: Int, _ columns: Int, _ k: Int,
      _ at: (_ i: Int, _ j: Int, _ p: Int) -> (Int, Int)
    ) -> [ProductSum] {
      (0..<rows * columns).map { flat in
        var sum = ProductSum()
        for p in 0..<k {
          let (l, r) = at(flat / columns, flat % columns, p)
          sum.add(left[l], right[r])
        }
        return sum
      }
    }
  }

  @Test("y = x Wᵀ + b, y += alpha x Wᵀ", arguments: Mode.all)
  func forward(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for shape in Self.shapes {
        executor.withScratch { scratch in
          let (tokens, inputs, outputs) = shape
          let layer = Layer(shape, in: scratch, on: executor)
          let sums = Layer.products(
            layer.x.operands(mode.compute), layer.w.operands(mode.compute), tokens, outputs, inputs
          ) { i, j, p in (i * inputs + p, j * inputs + p) }
          let packed = Linear.pack(layer.x.matrix, in: scratch, on: executor)
          let plain = Grid(unset: tokens, outputs, padding: 4)
          Linear.forward(packed, layer.weight, into: plain.matrix, on: executor)
          expectClose(plain, sums.map { $0.estimate() }, "plain \(shape)")
          let biased = Grid(unset: tokens, outputs, padding: 4)
          Linear.forward(
            packed, layer.weight, bias: layer.bias.pointer, into: biased.matrix, alpha: 1.25,
            on: executor)
          let added = Grid(tokens, outputs, padding: 4, random: "y")
          let start = added.copy
          Linear.forward(
            packed, layer.weight, into: added.matrix, alpha: -0.5, accumulate: true, on: executor)
          expectClose(
            biased,
            sums.indices.map {
              sums[$0].estimate(alpha: 1.25, plus: Double(layer.bias[0, $0 % outputs]))
            }, "bias \(shape)")
          expectClose(
            added,
            sums.indices.map {
              sums[$0].estimate(alpha: -0.5, plus: Double(start[$0 / outputs, $0 % outputs]))
            }, "accumulated \(shape)")
          Linear.addBias(layer.bias.pointer, to: start.matrix, on: executor)
          #expect(start.isIntact)
        }
      }
    }
  }

  @Test("dx = dy W, dW += alpha dyᵀ x, db += columns of dy", arguments: Mode.all)
  func backward(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for shape in Self.shapes {
        executor.withScratch { scratch in
          let (tokens, inputs, outputs) = shape
          let layer = Layer(shape, in: scratch, on: executor)
          let (x, w) = (layer.x.operands(mode.compute), layer.w.operands(mode.compute))
          let dy = layer.dy.operands(mode.compute)
          let packed = Linear.pack(layer.dy.matrix, in: scratch, on: executor)

          let toInput = Layer.products(dy, w, tokens, inputs, outputs) { i, j, p in
            (i * outputs + p, p * inputs + j)
          }
          let dx = Grid(unset: tokens, inputs, padding: 4)
          Linear.backwardInput(
            packed, layer.weight, into: dx.matrix, accumulate: false, on: executor)
          expectClose(dx, toInput.map { $0.estimate() }, "dx \(shape)")
          let before = dx.copy
          Linear.backwardInput(
            packed, layer.weight, into: dx.matrix, alpha: 3, accumulate: true, on: executor)
          expectClose(
            dx,
            toInput.indices.map {
              toInput[$0].estimate(alpha: 3, plus: Double(before[$0 / inputs, $0 % inputs]))
            }, "dx accumulated \(shape)")

          let toWeight = Layer.products(dy, x, outputs, inputs, tokens) { i, j, p in
            (p * outputs + i, p * inputs + j)
          }
          let dw = Grid(outputs, inputs, padding: 2, random: "dw")
          let start = dw.copy
          Linear.backwardWeight(
            layer.dy.matrix, layer.x.matrix, into: dw.matrix, alpha: 0.5, on: executor)
          expectClose(
            dw,
            toWeight.indices.map {
              toWeight[$0].estimate(alpha: 0.5, plus: Double(start[$0 / inputs, $0 % inputs]))
            }, "dW \(shape)")

          let db = Grid(1, outputs, padding: 9, random: "db")
          let from = db.copy
          Linear.backwardBias(layer.dy.matrix, into: db.pointer, on: executor)
          expectClose(
            db,
            (0..<outputs).map { j in
              var sum = ProductSum()
              for i in 0..<tokens { sum.add(Double(layer.dy[i, j]), 1) }
              return sum.estimate(plus: Double(from[0, j]))
            }, "db \(shape)")
        }
      }
    }
  }

  @Test("dW of more tokens than a slice and more outputs than a block", arguments: Mode.all)
  func longWeightGradient(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for (tokens, inputs, outputs) in [(4133, 3, 2083), (1061, 197, 11), (4133, 67, 150)] {
        let dy = Grid(tokens, outputs, padding: 1, random: "dy")
        let x = Grid(tokens, inputs, padding: 2, random: "x")
        let dw = Grid(outputs, inputs, padding: 3, random: "dw")
        let start = dw.copy
        Linear.backwardWeight(dy.matrix, x.matrix, into: dw.matrix, on: executor)
        let sums = Layer.products(
          dy.operands(mode.compute), x.operands(mode.compute), outputs, inputs, tokens
        ) { i, j, p in (p * outputs + i, p * inputs + j) }
        expectClose(
          dw,
          sums.indices.map { sums[$0].estimate(plus: Double(start[$0 / inputs, $0 % inputs])) },
          "dW \(outputs)x\(inputs) of \(tokens)")
        #expect(dw.isIntact)
      }
    }
  }

  @Test("a bias is added to every row", arguments: KernelTable.available.map(\.name))
  func bias(_ isa: String) throws {
    try withExecutor(Mode(isa: isa, compute: .f32)) { executor in
      let y = Grid(23, 37, padding: 2, random: "y")
      let (start, bias) = (y.copy, Grid(1, 37, random: "bias"))
      Linear.addBias(bias.pointer, to: y.matrix, on: executor)
      let expected = (0..<23 * 37).map { start.values[$0] + bias[0, $0 % 37] }
      #expect(y.values == expected && y.isIntact)
    }
  }

  @Test(
    "dW has the same bits whether rows or columns are split", arguments: Mode.all,
    [(70, 200), (400, 10), (10, 400)])
  func weightGradientWorkers(_ mode: Mode, _ sides: (Int, Int)) throws {
    try expectSameBits(mode, on: [2, 3, 5]) { executor in
      let dy = Grid(1100, sides.0, padding: 1, random: "dy")
      let x = Grid(1100, sides.1, padding: 2, random: "x")
      let dw = Grid(sides.0, sides.1) { _, _ in 0.5 }
      Linear.backwardWeight(dy.matrix, x.matrix, into: dw.matrix, alpha: 3, on: executor)
      return dw.values
    }
  }

  @Test(
    "an adapter's part in the same walk has the bits of a product of its own",
    arguments: Mode.all, [(5, 130, 67), (23, 70, 200), (131, 4200, 70), (400, 33, 129)])
  func adapter(_ mode: Mode, _ shape: (Int, Int, Int)) throws {
    try withExecutor(mode) { executor in
      executor.withScratch { scratch in
        let (tokens, inputs, outputs) = shape
        let layer = Layer(shape, in: scratch, on: executor)
        let rank = 13
        let low = Grid(tokens, rank, random: "low")
        let b = Grid(outputs, rank, random: "b")
        let a = Grid(rank, inputs, random: "a")
        let (up, down) = (
          executor.packedWeight(in: scratch, outputs: outputs, inputs: rank, backward: true),
          executor.packedWeight(in: scratch, outputs: rank, inputs: inputs, backward: true)
        )
        up.pack(from: b.matrix, on: executor)
        down.pack(from: a.matrix, on: executor)
        let x = Linear.pack(layer.x.matrix, in: scratch, on: executor)
        let dy = Linear.pack(layer.dy.matrix, in: scratch, on: executor)
        let packed = Linear.pack(low.matrix, in: scratch, on: executor)
        let base = Grid(tokens, outputs, random: "base")

        let (apart, together) = (Grid(unset: tokens, outputs), Grid(unset: tokens, outputs))
        Linear.forward(
          x, layer.weight, bias: layer.bias.pointer, into: apart.matrix, on: executor)
        Linear.forward(packed, up, into: apart.matrix, alpha: 2, accumulate: true, on: executor)
        Linear.forward(
          x, layer.weight, bias: layer.bias.pointer, into: together.matrix,
          adapter: Linear.LowRank(packed, up, scale: 2), on: executor)
        #expect(apart.values == together.values && together.isIntact, "bias \(shape)")

        let (beside, residual) = (Grid(unset: tokens, outputs), Grid(unset: tokens, outputs))
        Linear.forward(x, layer.weight, base: base.matrix, into: beside.matrix, on: executor)
        Linear.forward(packed, up, into: beside.matrix, alpha: 2, accumulate: true, on: executor)
        Linear.forward(
          x, layer.weight, base: base.matrix, into: residual.matrix,
          adapter: Linear.LowRank(packed, up, scale: 2), on: executor)
        #expect(beside.values == residual.values && residual.isIntact, "residual \(shape)")

        let dx = Grid(tokens, inputs, random: "dx")
        let both = dx.copy
        Linear.backwardInput(dy, layer.weight, into: dx.matrix, accumulate: true, on: executor)
        Linear.backwardInput(packed, down, into: dx.matrix, accumulate: true, on: executor)
        Linear.backwardInput(
          dy, layer.weight, into: both.matrix, adapter: Linear.LowRank(packed, down),
          accumulate: true, on: executor)
        #expect(dx.values == both.values && both.isIntact, "dx \(shape)")
      }
    }
  }

  @Test("the same bits on 1, 2 and 3 workers", arguments: Mode.all)
  func workers(_ mode: Mode) throws {
    try expectSameBits(mode) { executor in
      executor.withScratch { scratch in
        let layer = Layer((147, 70, 200), in: scratch, on: executor)
        let dw = Grid(200, 70) { _, _ in 0 }
        let dx = Grid(unset: 147, 70)
        let db = Grid(1, 200) { _, _ in 0 }
        Linear.backwardWeight(layer.dy.matrix, layer.x.matrix, into: dw.matrix, on: executor)
        Linear.backwardInput(
          Linear.pack(layer.dy.matrix, in: scratch, on: executor), layer.weight, into: dx.matrix,
          accumulate: false, on: executor)
        Linear.backwardBias(layer.dy.matrix, into: db.pointer, on: executor)
        return dw.values + dx.values + db.values
      }
    }
  }
}
