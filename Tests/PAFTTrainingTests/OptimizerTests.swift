// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernelInterface
import PAFTTraining
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Optimizers and schedules")
struct OptimizerTests {
  /// Runs `steps` steps on deterministic gradients; each step's range is cut at `cuts`.
  func run(_ optimizer: Optimizer, steps: Int, cuts: [Int], count: Int = 37) -> [Float] {
    var p = (0..<count).map { Float(CounterRandom(seed: 1).uniform(UInt64($0))) - 0.5 }
    var m = [Float](repeating: 0, count: count)
    var v = [Float](repeating: 0, count: count)
    for step in 1...steps {
      let g = gradients(step, count)
      p.withUnsafeMutableBufferPointer { p in
        m.withUnsafeMutableBufferPointer { m in
          v.withUnsafeMutableBufferPointer { v in
            g.withUnsafeBufferPointer { g in
              let buffers = OptimizerBuffers(
                weights: p.baseAddress!, gradients: g.baseAddress!,
                first: optimizer.momentCount > 0 ? m.baseAddress! : nil,
                second: optimizer.momentCount > 1 ? v.baseAddress! : nil, count: count)
              let scalars = optimizer.scalars(
                step: step, learningRate: 0.01, decays: true, gradientScale: 0.5)
              for (a, b) in zip([0] + cuts, cuts + [count]) {
                Optimizer.update(buffers, a..<b, scalars, KernelTable.reference)
              }
            }
          }
        }
      }
    }
    return p
  }

  func gradients(_ step: Int, _ count: Int) -> [Float] {
    let random = CounterRandom(seed: 2).stream(step)
    return (0..<count).map { Float(2 * random.uniform(UInt64($0)) - 1) }
  }

  @Test("AdamW follows its equations in Double", arguments: [1, 2, 50])
  func adamW(steps: Int) throws {
    let found = run(try .named("adamw", weightDecay: 0.1), steps: steps, cuts: [])
    for i in found.indices {
      var p = Double(Float(CounterRandom(seed: 1).uniform(UInt64(i))) - 0.5)
      var m = 0.0
      var v = 0.0
      for t in 1...steps {
        let g = 0.5 * Double(gradients(t, found.count)[i])
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        let mHat = m / (1 - pow(0.9, Double(t)))
        let vHat = v / (1 - pow(0.999, Double(t)))
        p = p * (1 - 0.01 * 0.1) - 0.01 * mHat / (vHat.squareRoot() + 1e-8)
      }
      #expect(abs(Double(found[i]) - p) < 2e-6 * Double(steps).squareRoot() + 1e-6)
    }
  }

  @Test("SGD follows PyTorch's equations", arguments: [0.0, 0.9])
  func sgd(momentum: Double) throws {
    let found = run(try .named("sgd", weightDecay: 0.1, momentum: momentum), steps: 20, cuts: [])
    for i in found.indices {
      var p = Double(Float(CounterRandom(seed: 1).uniform(UInt64(i))) - 0.5)
      var u = 0.0
      for t in 1...20 {
        u = momentum * u + 0.5 * Double(gradients(t, found.count)[i]) + 0.1 * p
        p -= 0.01 * u
      }
      #expect(abs(Double(found[i]) - p) < 2e-6)
    }
  }

  @Test("However a step is cut among workers, its bits are the same")
  func partition() throws {
    for optimizer in [
      try Optimizer.named("adamw", weightDecay: 0.1), try .named("sgd"),
      try .named("sgd", weightDecay: 0.01, momentum: 0.9),
    ] {
      #expect(run(optimizer, steps: 5, cuts: []) == run(optimizer, steps: 5, cuts: [1, 8, 30]))
    }
  }

  @Test("Bias corrections keep their digits and decay can be withheld")
  func scalars() throws {
    let adam = try AdamW(weightDecay: 0.1)
    let first = adam.scalars(step: 1, learningRate: 1e-3, decays: true, gradientScale: 0.25)
    #expect(first.correction1 == 0.1 && first.correction2 == 0.001)
    #expect(first.weightDecay == 0.1 && first.gradientScale == 0.25 && first.learningRate == 1e-3)
    let late = adam.scalars(step: 1_000_000, learningRate: 1e-3, decays: false, gradientScale: 1)
    #expect(late.correction1 == 1 && late.correction2 == 1 && late.weightDecay == 0)
  }

  @Test("Clipping scales to the maximum, and not below it")
  func clipping() {
    let large = GradientNorm(sumSquares: 16, scale: 0.5, maximum: 1)
    #expect(large.value == 2 && abs(large.gradientScale - 0.25) < 1e-6)
    let small = GradientNorm(sumSquares: 0.25, scale: 1, maximum: 1)
    #expect(small.value == 0.5 && small.gradientScale == 1)
    let off = GradientNorm(sumSquares: 1e8, scale: 1, maximum: 0)
    #expect(off.gradientScale == 1)
    #expect(!GradientNorm(sumSquares: .nan, scale: 1, maximum: 1).isFinite)
    #expect(!GradientNorm(sumSquares: .infinity, scale: 1, maximum: 1).isFinite)
  }

  @Test("Fixed blocks cover a buffer once and sum it in one order")
  func fixedBlocks() {
    for n in [0, 1, FixedBlocks.size, FixedBlocks.size + 1, 3 * FixedBlocks.size - 1] {
      let blocks = FixedBlocks(elements: n)
      #expect((0..<blocks.count).flatMap { Array(blocks.range($0)) } == Array(0..<n))
    }
    let x = gradients(3, 150_000)
    let blocks = FixedBlocks(elements: x.count)
    var partials = [Double](repeating: 0, count: blocks.count)
    for block in (0..<blocks.count).reversed() {
      x.withUnsafeBufferPointer { x in
        partials.withUnsafeMutableBufferPointer {
          blocks.sumSquares(x.baseAddress!, block: block, into: $0.baseAddress!, .reference)
        }
      }
    }
    let exact = x.reduce(0.0) { $0 + Double($1) * Double($1) }
    #expect(abs(blocks.total(partials) - exact) < 1e-9 * exact)
  }

  @Test("Warm-up below 1 is a share of the run, rounded up; unknown names are refused")
  func warmup() throws {
    #expect(
      try LearningRate(peak: 1, schedule: .cosine, warmup: 0.1, totalSteps: 25).warmupSteps == 3)
    #expect(
      try LearningRate(peak: 1, schedule: .cosine, warmup: 5, totalSteps: 25).warmupSteps == 5)
    let constant = try LearningRate(peak: 2, schedule: .constant, warmup: 0.5, totalSteps: 4)
    #expect(constant.rate(0) == 2)
    #expect(throws: Fault.self) {
      try LearningRate(peak: .nan, schedule: .linear, warmup: 0, totalSteps: 1)
    }
    let fault = #expect(throws: Fault.self) { try Schedule.named("cosin") }
    #expect(fault?.hint == "did you mean \"cosine\"?" && fault?.exitCode == .configuration)
    #expect(throws: Fault.self) { try Optimizer.named("lion") }
    #expect(throws: Fault.self) { try AdamW(beta1: 1) }
    #expect(throws: Fault.self) { try SGD(weightDecay: -1) }
  }
}
