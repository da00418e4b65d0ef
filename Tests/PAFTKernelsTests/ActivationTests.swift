// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTBase
import PAFTKernels
import Testing

@Suite(.pooled) struct ActivationTests {
  @Test("SwiGLU equals its formula", arguments: KernelTable.available)
  func forward(table: KernelTable) {
    for n in awkwardLengths {
      let (gates, ups) = (gateValues(n), Draw("up").floats(n, size: 2))
      let (gate, up) = (Guarded(gates), Guarded(ups))
      let (y, streamed) = (
        Guarded<Float>(n, filledWith: .nan), Guarded<Float>(n, filledWith: .nan)
      )
      table.rows.swiglu_f32(y.pointer, gate.pointer, up.pointer, n, 0)
      table.rows.swiglu_f32(streamed.pointer, gate.pointer, up.pointer, n, 1)
      #expect(streamed.values == y.values && streamed.isIntact)
      let expected = (0..<n).map { i in
        Double(gates[i]) / (1 + exp(-Double(gates[i]))) * Double(ups[i])
      }
      // The power of two (3 roundings), its argument (1.5 |g| where the gate is negative: it is rounded
      // and its factor is), a sum, a quotient (3), two products; gates below -86 are taken as that: 2 * 86 * e^-86 < 2^-116.
      expectClose(y.values, expected, "\(table.name) n \(n)") {
        roundoff * (12 + 1.5 * abs(Double(gates[$0]))) * abs(expected[$0]) + 0x1p-116
      }
      #expect(y.isIntact)
    }
  }

  @Test("The gradient of SwiGLU equals its formula, in place too", arguments: KernelTable.available)
  func backward(table: KernelTable) {
    for n in awkwardLengths {
      for inPlace in [false, true] {
        let (gates, ups) = (gateValues(n), Draw("up").floats(n, size: 2))
        let dys = Draw("dy").floats(n)
        let (gate, up, dy) = (Guarded(gates), Guarded(ups), Guarded(dys))
        let dgate = inPlace ? gate : Guarded<Float>(n, filledWith: .nan)
        let dup = inPlace ? up : Guarded<Float>(n, filledWith: .nan)
        table.rows.swigluBackward_f32(
          dgate.pointer, dup.pointer, dy.pointer, gate.pointer, up.pointer, n)
        var (gateExpected, upExpected, bounds) = ([Double](), [Double](), [Double]())
        for i in 0..<n {
          let (g, u, d) = (Double(gates[i]), Double(ups[i]), Double(dys[i]))
          let s = 1 / (1 + exp(-g))
          gateExpected.append(d * u * s * (1 + g * exp(-g) * s))
          upExpected.append(d * g * s)
          // 1 - s is known to one rounding of 1, and is multiplied by g.
          bounds.append(
            roundoff * ((12 + 1.5 * min(abs(g), 86)) * abs(d * u * s) * (1 + min(abs(g), 86) * 3))
              + 0x1p-115)
        }
        expectClose(
          dgate.values, gateExpected.map { $0.isNaN ? 0 : $0 }, "\(table.name) dgate \(n)"
        ) {
          bounds[$0]
        }
        expectClose(dup.values, upExpected, "\(table.name) dup \(n)") {
          roundoff * (12 + 1.5 * abs(Double(gates[$0]))) * abs(upExpected[$0]) + 0x1p-115
        }
        #expect(dgate.isIntact && dup.isIntact)
      }
    }
  }

  @Test(
    "Keeping gate and up rounds them beside the same product", arguments: KernelTable.available,
    [false, true])
  func keeping(table: KernelTable, isGELU: Bool) {
    for n in awkwardLengths {
      let (gate, up) = (Guarded(gateValues(n)), Guarded(Draw("up").floats(n, size: 2)))
      let (y, plain) = (
        Guarded<Float>(n, filledWith: .nan), Guarded<Float>(n, filledWith: .nan)
      )
      let kept = (
        Guarded<UInt16>(n, filledWith: 0x7FFF), Guarded<UInt16>(n, filledWith: 0x7FFF)
      )
      (isGELU ? table.rows.gegluKeeping_bf16 : table.rows.swigluKeeping_bf16)(
        y.pointer, kept.0.pointer, kept.1.pointer, gate.pointer, up.pointer, n)
      (isGELU ? table.rows.geglu_f32 : table.rows.swiglu_f32)(
        plain.pointer, gate.pointer, up.pointer, n, 0)
      #expect(y.values == plain.values && y.isIntact && kept.0.isIntact && kept.1.isIntact)
      for (kept, source) in [(kept.0, gate), (kept.1, up)] {
        for (bits, x) in zip(kept.values, source.values) {
          let isFlushed = abs(x) < 0x1p-126 && bits & 0x7FFF == 0
          if bits != BF16(x).bits && !isFlushed {
            Issue.record("\(table.name) \(n): \(x) as \(BF16(bits: bits).float)")
            return
          }
        }
      }
    }
  }

  @Test(
    "Gradients of a rounded gate are those of its values, with the product beside",
    arguments: KernelTable.available, [false, true])
  func rounded(table: KernelTable, isGELU: Bool) {
    for n in awkwardLengths {
      for inPlace in [false, true] {
        let (gates, ups) = (
          gateValues(n).map { BF16($0) }, Draw("up").floats(n, size: 2).map { BF16($0) }
        )
        let (gate, up) = (Guarded(gates.map(\.bits)), Guarded(ups.map(\.bits)))
        let dy = Guarded(Draw("dy").floats(n))
        let plain = (
          gate: Guarded(gates.map(\.float)), up: Guarded(ups.map(\.float)), y: Guarded(dy.values)
        )
        (isGELU ? table.rows.geglu_f32 : table.rows.swiglu_f32)(
          plain.y.pointer, plain.gate.pointer, plain.up.pointer, n, 0)
        (isGELU ? table.rows.gegluBackward_f32 : table.rows.swigluBackward_f32)(
          plain.gate.pointer, plain.up.pointer, dy.pointer, plain.gate.pointer, plain.up.pointer, n)
        let (dgate, dup) = (
          Guarded<Float>(n, filledWith: .nan), Guarded<Float>(n, filledWith: .nan)
        )
        let kernel = isGELU ? table.rows.gegluBackward_bf16 : table.rows.swigluBackward_bf16
        // Without what is rounded, dup in place of dy.
        let (alone, both) = (Guarded<Float>(n, filledWith: .nan), Guarded(dy.values))
        kernel(
          alone.pointer, both.pointer, nil, nil, nil, both.pointer, gate.pointer, up.pointer, n)
        #expect(alone.values == plain.gate.values && both.values == plain.up.values)
        // With it, in place of gate, up and dy, or apart.
        let half = (0..<3).map { _ in Guarded<UInt16>(n, filledWith: 0x7FFF) }
        let (product, roundedGate, roundedUp) =
          inPlace
          ? (
            gate.pointer, up.pointer,
            UnsafeMutableRawPointer(dy.pointer).bindMemory(
              to: UInt16.self, capacity: 2 * n)
          )
          : (half[0].pointer, half[1].pointer, half[2].pointer)
        kernel(
          dgate.pointer, dup.pointer, roundedGate, roundedUp, product, dy.pointer, gate.pointer,
          up.pointer, n)
        #expect(dgate.values == plain.gate.values && dup.values == plain.up.values)
        #expect([dgate, dup, dy, alone, both].allSatisfy { $0.isIntact })
        #expect((half + [gate, up]).allSatisfy { $0.isIntact })
        for (rounded, source) in [(roundedGate, dgate), (roundedUp, dup)] {
          for (i, x) in source.values.enumerated() {
            let isFlushed = abs(x) < 0x1p-126 && rounded[i] & 0x7FFF == 0
            if rounded[i] != BF16(x).bits && !isFlushed {
              Issue.record("\(table.name) \(n): \(x) as \(BF16(bits: rounded[i]).float)")
              return
            }
          }
        }
        // Two products in another order are two roundings apart, of which bf16 sees its own at most.
        expectClose(
          (0..<n).map { BF16(bits: product[$0]).float }, plain.y.values.map { Double($0) },
          "\(table.name) \(n), product"
        ) { (0x1p-8 + 4 * roundoff) * abs(Double(plain.y.values[$0])) + 0x1p-116 }
      }
    }
  }

  /// GELU's tanh form and its derivative, by the formula with tanh.
  private func gelu(_ g: Double) -> (value: Double, slope: Double) {
    let factor = (2 / Double.pi).squareRoot()
    let t = tanh(factor * (g + 0.044715 * g * g * g))
    let inner = factor * (1 + 3 * 0.044715 * g * g)
    return (0.5 * g * (1 + t), 0.5 * (1 + t) + 0.5 * g * (1 - t * t) * inner)
  }

  /// Where the sigmoid's argument a is negative its error is 1.5 |a| units, and that of a itself four
  /// roundings of it; gates below -5 are where 1 + tanh leaves nothing of the formula in Double.
  @Test("GeGLU and its gradient equal their formulas", arguments: KernelTable.available)
  func geglu(table: KernelTable) {
    for n in awkwardLengths {
      let gates = gateValues(n).map { abs($0) < 1e3 ? min(max($0, -5), 12) : $0 }
      let (ups, dys) = (Draw("up").floats(n, size: 2), Draw("dy").floats(n))
      let (gate, up, dy) = (Guarded(gates), Guarded(ups), Guarded(dys))
      let (y, streamed) = (
        Guarded<Float>(n, filledWith: .nan), Guarded<Float>(n, filledWith: .nan)
      )
      table.rows.geglu_f32(y.pointer, gate.pointer, up.pointer, n, 0)
      table.rows.geglu_f32(streamed.pointer, gate.pointer, up.pointer, n, 1)
      #expect(streamed.values == y.values && streamed.isIntact)
      // With 2.5 + 4 units of |a| <= 18 and a dozen roundings, of g sigmoid.
      let all = gates.map { gelu(Double($0)) }
      expectClose(y.values, (0..<n).map { all[$0].value * Double(ups[$0]) }, "\(table.name) \(n)") {
        roundoff * 130 * abs(all[$0].value * Double(ups[$0])) + 0x1p-100
      }
      table.rows.gegluBackward_f32(
        gate.pointer, up.pointer, dy.pointer, gate.pointer, up.pointer, n)
      // The slope is a sum of two such terms, the second up to |a'| <= 9 times the value.
      expectClose(
        gate.values, (0..<n).map { Double(dys[$0]) * Double(ups[$0]) * all[$0].slope },
        "\(table.name) dgate \(n)"
      ) {
        let size = 1 + min(abs(Double(gates[$0])), 12)
        return roundoff * 130 * abs(Double(dys[$0]) * Double(ups[$0])) * size + 0x1p-100
      }
      expectClose(
        up.values, (0..<n).map { Double(dys[$0]) * all[$0].value }, "\(table.name) dup \(n)"
      ) { roundoff * 130 * abs(Double(dys[$0]) * all[$0].value) + 0x1p-100 }
      #expect(gate.isIntact && up.isIntact && y.isIntact)
    }
  }

  /// Gates of every size that matters, with both saturated ends among them.
  private func gateValues(_ n: Int) -> [Float] {
    var gates = Draw("gate").floats(n, size: 12)
    for (i, extreme) in ([0, -0.0, 1e4, -1e4, 80, -80, 1e-40] as [Float]).enumerated()
    where 5 * i + 3 < n {
      gates[5 * i + 3] = extreme
    }
    return gates
  }
}
