// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

/// What is packed or quantised beside its computation: the values of the operation alone (which has its own
/// oracle), and the panels that packing them afterwards gives (which products are held against).
@Suite("Rows packed where they are computed")
struct PackedRowsTests {
  private static let shapes = [(1, 1), (5, 33), (29, 67), (131, 200)]

  /// Unfilled, in the executor's type and in 8 bits.
  private func rows(
    _ m: Int, _ k: Int, columns: UnsafePointer<Float>? = nil, in scratch: Arena,
    on executor: Executor
  ) -> LinearRows {
    LinearRows(
      in: scratch, m: m, k: k, packed: true, quantized: true, columns: columns, on: executor)
  }

  private func bytes(_ rows: PackedRows) -> [UInt8] {
    let count = PackedRows.bytes(m: rows.m, k: rows.k, type: rows.type, tile: rows.tile)
    return Array(UnsafeRawBufferPointer(start: rows.base, count: count))
  }

  /// The product with the identity: what quantised rows hold, without a look at how.
  private func sums(_ rows: QuantizedRows, in scratch: Arena, on executor: Executor) -> [Float] {
    let weight = PackedIntegerWeight(
      in: scratch, outputs: rows.k, inputs: rows.k, backward: false, on: executor)
    let identity = Grid(rows.k, rows.k) { $0 == $1 ? 1 : 0 }
    weight.pack(from: identity.matrix, on: executor)
    let y = Grid(unset: rows.m, rows.k)
    IntegerLinear.forward(rows, weight, into: y.matrix, on: executor)
    return y.values
  }

  private func expectRows(
    _ rows: LinearRows, of y: Grid, columns: UnsafePointer<Float>? = nil, _ what: String,
    in scratch: Arena, on executor: Executor
  ) {
    let expected = Linear.pack(y.matrix, in: scratch, on: executor)
    #expect(bytes(rows.packed!) == bytes(expected), "\(what) \(y.rows)x\(y.columns)")
    let quantized = QuantizedRows(in: scratch, m: y.rows, k: y.columns, on: executor)
    quantized.quantize(y.matrix, columns: columns, on: executor)
    #expect(
      sums(rows.quantized!, in: scratch, on: executor)
        == sums(quantized, in: scratch, on: executor), "\(what) \(y.rows)x\(y.columns)")
    #expect(y.isIntact, "\(what) \(y.rows)x\(y.columns)")
  }

  @Test("RMSNorm", arguments: Mode.all)
  func norm(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for (m, k) in Self.shapes {
        let (x, w) = (Grid(m, k, padding: 3, random: "x"), Grid(1, k, random: "w"))
        let (plain, y) = (Grid(unset: m, k, padding: 3), Grid(unset: m, k, padding: 3))
        let (r, inverse) = (Grid(unset: 1, m), Grid(unset: 1, m))
        RMSNorm.forward(
          x.matrix, weight: w.pointer, dim: k, eps: 1e-6, into: plain.matrix, inverse: r.pointer,
          on: executor)
        executor.withScratch { scratch in
          let packed = rows(m, k, in: scratch, on: executor)
          RMSNorm.forward(
            x.matrix, weight: w.pointer, eps: 1e-6, into: y.matrix, inverse: inverse.pointer,
            packed: packed, on: executor)
          #expect(y.values == plain.values && inverse.values == r.values, "\(m)x\(k)")
          expectRows(packed, of: plain, "norm", in: scratch, on: executor)
        }
      }
    }
  }

  @Test("SwiGLU and its gradients", arguments: Mode.all)
  func swiglu(_ mode: Mode) throws {
    try withExecutor(mode) { executor in
      for (m, k) in Self.shapes {
        let gate = Grid(m, k, padding: 1, random: "gate", size: 8)
        let (up, dy) = (Grid(m, k, padding: 2, random: "up"), Grid(m, k, padding: 5, random: "dy"))
        let (plain, y) = (Grid(unset: m, k, padding: 4), Grid(unset: m, k, padding: 4))
        let (dgate, dup) = (gate.copy, up.copy)
        let scales = Grid(1, k, random: "scales", size: 2)
        SwiGLU.forward(gate: gate.matrix, up: up.matrix, into: plain.matrix, on: executor)
        SwiGLU.backward(
          dy.matrix, gate: gate.matrix, up: up.matrix, dgate: dgate.matrix, dup: dup.matrix,
          on: executor)
        executor.withScratch { scratch in
          let packed = (
            rows(m, k, in: scratch, on: executor),
            gate: rows(m, k, columns: scales.pointer, in: scratch, on: executor),
            up: rows(m, k, in: scratch, on: executor)
          )
          SwiGLU.forward(
            gate: gate.matrix, up: up.matrix, into: y.matrix, packed: packed.0, on: executor)
          #expect(y.values == plain.values, "\(m)x\(k)")
          expectRows(packed.0, of: plain, "product", in: scratch, on: executor)
          SwiGLU.backward(
            dy.matrix, gate: gate.matrix, up: up.matrix, packed: (packed.gate, packed.up),
            on: executor)
          #expect(gate.values == dgate.values && up.values == dup.values, "\(m)x\(k)")
          expectRows(
            packed.gate, of: dgate, columns: scales.pointer, "dgate", in: scratch, on: executor)
          expectRows(packed.up, of: dup, "dup", in: scratch, on: executor)
        }
      }
    }
  }

  /// Values as they are kept in BF16, by a rounding of the tests' own.
  private func rounded(_ x: Grid) -> Grid {
    let kept = x.copy
    for i in 0..<x.rows {
      for j in 0..<x.columns {
        kept.matrix.row(i)[j] = Float(operand(x.matrix.row(i)[j], .bf16))
      }
    }
    return kept
  }

  @Test(
    "a gated product and its gradients from gate and up that were kept rounded", arguments: Mode.all
  )
  func kept(_ mode: Mode) throws {
    try withExecutor(mode, threads: 3) { executor in
      // The last one takes a row in two pieces.
      for (m, k) in Self.shapes + [(2, 1100)] {
        let gate = Grid(m, k, padding: 1, random: "gate", size: 8)
        let (up, dy) = (Grid(m, k, padding: 2, random: "up"), Grid(m, k, random: "dy"))
        let (plain, y) = (Grid(unset: m, k, padding: 4), Grid(unset: m, k, padding: 4))
        executor.withScratch { scratch in
          let kept = RoundedGates(in: scratch, rows: m, columns: k)
          let packed = rows(m, k, in: scratch, on: executor)
          SwiGLU.forward(
            gate: gate.matrix, up: up.matrix, keeping: kept, packed: packed, on: executor)
          SwiGLU.forward(gate: gate.matrix, up: up.matrix, into: plain.matrix, on: executor)
          expectRows(
            packed, of: plain, "product of what was not rounded", in: scratch, on: executor)

          let (dgate, dup) = (rounded(gate), rounded(up))
          SwiGLU.forward(gate: dgate.matrix, up: dup.matrix, into: plain.matrix, on: executor)
          SwiGLU.forward(kept, by: .silu, into: y.matrix, on: executor)
          #expect(y.values == plain.values, "\(m)x\(k)")

          SwiGLU.backward(
            dy.matrix, gate: dgate.matrix, up: dup.matrix, dgate: dgate.matrix, dup: dup.matrix,
            on: executor)
          let found = (Grid(unset: m, k), Grid(unset: m, k, padding: 3))
          SwiGLU.backward(
            dy.matrix, kept, by: .silu, dgate: found.0.matrix, dup: found.1.matrix, on: executor)
          #expect(found.0.values == dgate.values && found.1.values == dup.values, "\(m)x\(k)")

          kept.fill(gate: gate.matrix, up: up.matrix, on: executor)
          let operands = (
            gate: rows(m, k, in: scratch, on: executor), up: rows(m, k, in: scratch, on: executor)
          )
          SwiGLU.backward(
            dy.matrix, kept, by: .silu, dgate: found.0.matrix, dup: dy.matrix, packed: operands,
            on: executor)
          #expect(found.0.values == dgate.values && dy.values == dup.values, "\(m)x\(k)")
          expectRows(operands.gate, of: dgate, "dgate", in: scratch, on: executor)
          expectRows(operands.up, of: dup, "dup", in: scratch, on: executor)
        }
      }
    }
  }
}
