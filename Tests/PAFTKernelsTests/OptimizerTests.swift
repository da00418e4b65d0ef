// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import Testing

@Suite(.pooled) struct OptimizerTests {
  @Test("AdamW equals its formula over several steps", arguments: KernelTable.available)
  func adamW(table: KernelTable) {
    for n in awkwardLengths {
      let ps = Draw("p").floats(n)
      let (p, m, v) = (
        Guarded(ps), Guarded<Float>(n, filledWith: 0), Guarded<Float>(n, filledWith: 0)
      )
      var (tp, tm, tv) = (
        ps.map(Double.init), [Double](repeating: 0, count: n), [Double](repeating: 0, count: n)
      )
      var (c1, c2) = (1.0, 1.0)
      for step in 1...3 {
        let gs = Draw("g\(step)").floats(n, size: 0.3)
        c1 *= Double(Float(0.9))
        c2 *= Double(Float(0.999))
        let scalars = AdamWScalars(
          learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1,
          correction1: Float(1 - c1), correction2: Float(1 - c2), gradientScale: 0.5)
        scalars.withFloats {
          table.optimizer.adamW_f32(p.pointer, m.pointer, v.pointer, Guarded(gs).pointer, n, $0)
        }
        let (rate, decay, eps) = (Double(Float(1e-2)), Double(Float(0.1)), Double(Float(1e-8)))
        let (b1, b2) = (Double(Float(0.9)), Double(Float(0.999)))
        for i in 0..<n {
          let g = Double(gs[i]) * 0.5
          tm[i] = b1 * tm[i] + (1 - b1) * g
          tv[i] = b2 * tv[i] + (1 - b2) * g * g
          let denominator = (tv[i] / Double(scalars.correction2)).squareRoot() + eps
          tp[i] =
            tp[i] * (1 - rate * decay) - rate * (tm[i] / Double(scalars.correction1)) / denominator
        }
      }
      let what = "\(table.name) n \(n)"
      // Moments are sums of at most 0.15 or 0.0225 in all; a step is near the rate, 0.01.
      expectClose(m.values, tm, what) { _ in 12 * roundoff * 0.15 }
      expectClose(v.values, tv, what) { 16 * roundoff * tv[$0] }
      expectClose(p.values, tp, what) { 6 * roundoff * (abs(tp[$0]) + 0.1) + 30 * roundoff * 0.03 }
      #expect(p.isIntact && m.isIntact && v.isIntact)
    }
  }

  @Test("AdamW without gradient only decays", arguments: KernelTable.available)
  func decayOnly(table: KernelTable) {
    let n = 37
    let (p, zeros) = (Guarded<Float>(n, filledWith: 2), Guarded<Float>(n, filledWith: 0))
    let (m, v) = (Guarded<Float>(n, filledWith: 0), Guarded<Float>(n, filledWith: 0))
    AdamWScalars(
      learningRate: 0.5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.5,
      correction1: 0.1, correction2: 0.001, gradientScale: 1
    ).withFloats {
      table.optimizer.adamW_f32(p.pointer, m.pointer, v.pointer, zeros.pointer, n, $0)
    }
    #expect(p.values.allSatisfy { $0 == 1.5 })
    #expect(m.values.allSatisfy { $0 == 0 } && v.values.allSatisfy { $0 == 0 })
  }

  @Test(
    "Soft threshold shrinks the delta and is exactly the base inside",
    arguments: KernelTable.available)
  func softThreshold(table: KernelTable) {
    for n in awkwardLengths {
      let bases = Draw("base").floats(n)
      let deltas = Draw("delta").floats(n, size: 0.02)
      let ps = zip(bases, deltas).map { $0 + $1 }
      let (p, threshold) = (Guarded(ps), Float(0.01))
      table.optimizer.softThreshold_f32(p.pointer, Guarded(bases).pointer, threshold, n)
      #expect(p.isIntact)
      for i in 0..<n {
        let delta = ps[i] - bases[i]
        if delta.magnitude <= threshold {
          #expect(p.pointer[i].bitPattern == bases[i].bitPattern, "\(table.name) n \(n) [\(i)]")
        } else {
          let shrunk = Double(delta) - (delta > 0 ? 1 : -1) * Double(threshold)
          let error = abs(Double(p.pointer[i]) - (Double(bases[i]) + shrunk))
          #expect(error <= roundoff * (1.1 + 0.02), "\(table.name) n \(n) [\(i)]")
        }
      }
    }
    let edges = Guarded<Float>([1.25, 0.75, 1, 1.5, .nan, .infinity, -0.0])
    let bases = Guarded<Float>([1, 1, 1, 1, 1, 1, -0.0])
    table.optimizer.softThreshold_f32(edges.pointer, bases.pointer, 0.25, 7)
    #expect(Array(edges.values[0..<4]) == [1, 1, 1, 1.25])
    #expect(edges.pointer[4].isNaN && edges.pointer[5] == .infinity)
    #expect(edges.pointer[6].bitPattern == (-0.0 as Float).bitPattern)
    table.optimizer.softThreshold_f32(bases.pointer, bases.pointer, 0, 7)
    #expect(bases.values == [1, 1, 1, 1, 1, 1, 0])
    #expect(bases.pointer[6].bitPattern == (-0.0 as Float).bitPattern)
  }
}
