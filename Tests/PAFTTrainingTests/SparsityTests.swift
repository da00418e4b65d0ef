// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernelInterface
import PAFTTraining
import Testing

@Suite("Sparsity: soft thresholds, controller")
struct SparsityTests {
  @Test("Soft thresholding of factors")
  func softThreshold() {
    var x: [Float] = [0.5, -0.2, 0.05, -0.03, 0, .nan]
    x.withUnsafeMutableBufferPointer {
      SoftThreshold.factor($0.baseAddress!, threshold: 0.05, count: 6)
    }
    for (found, expected) in zip(x, [0.45, -0.15, 0, 0, 0] as [Float]) {
      #expect(abs(found - expected) < 1e-7)
    }
    #expect(x[2] == 0 && x[3] == 0 && x[5].isNaN)
  }

  @Test("The controller's law: gain two, at most a factor of two, bounds, ramp, frozen tail")
  func law() throws {
    let penalty = try L1Penalty(strength: .targetSparsity(0.9), form: .prox)
    var controller = SparsityController(penalty, totalSteps: 1000)
    #expect(controller.state.lambda == 1e-3)
    #expect(controller.target(300) == 0.45 && controller.target(600) == 0.9)
    #expect(controller.target(900) == 0.9)
    controller.observe(0.35, after: 300)
    #expect(abs(controller.state.lambda - 1e-3 * 1.221402758160170) < 1e-12)
    controller.observe(0, after: 600)
    #expect(abs(controller.state.lambda - 2e-3 * 1.221402758160170) < 1e-12)
    let before = controller.state.lambda
    controller.observe(0.1, after: 900)
    #expect(controller.state.lambda == before && controller.state.sparsity == 0.1)
    for _ in 0..<60 { controller.observe(0, after: 600) }
    #expect(controller.state.lambda == 0.95)
    for _ in 0..<60 { controller.observe(1, after: 20) }
    #expect(controller.state.lambda == 1e-6)
    // Sixty measurements in a short run, one every twenty steps in a long one.
    #expect(!controller.measures(0) && controller.measures(16) && !controller.measures(17))
    #expect(SparsityController(penalty, totalSteps: 1200).period == 20)
    #expect(SparsityController(penalty, totalSteps: 10).period == 1)

    let factor = SparsityController(
      try L1Penalty(strength: .targetSparsity(0.9), form: .factor), totalSteps: 100)
    #expect(factor.lambda(4) == 0 && factor.lambda(5) == 1e-3)
    var fixed = SparsityController(
      try L1Penalty(strength: .lambda(0.25), form: .prox), totalSteps: 9)
    fixed.observe(0, after: 5)
    #expect(fixed.lambda(0) == 0.25 && fixed.lambda(8) == 0.25 && fixed.target(5) == nil)
  }

  /// Least squares under gradient noise that drowns most coordinates' wishes, as in fine-tuning:
  /// most want to move little, some a lot. The rate is constant, for the sparsity that lambda holds
  /// is that of a rate that lasts: one that decays to zero leaves coordinates on their way back.
  func toyRun(resumeAt: Int?, noise amplitude: Float = 2) throws -> (
    sparsity: Double, lambda: Double
  ) {
    let n = 4000
    let steps = 800
    let random = CounterRandom(seed: 9)
    let wants = (0..<n).map { i in
      let u = random.uniform(UInt64(i))
      return Float((random.bits(UInt64(i) + 1_000_000) & 1 == 0 ? 1 : -1) * u * u * u * 0.3)
    }
    let base = (0..<n).map { Float(random.uniform(UInt64($0) + 2_000_000)) - 0.5 }
    let adam = try AdamW()
    let rate = LearningRate(
      peak: 0.01, schedule: .constantWithWarmup, warmupSteps: 40, totalSteps: steps)
    var controller = SparsityController(
      try L1Penalty(strength: .targetSparsity(0.9), form: .prox), totalSteps: steps)
    var (p, m, v) = (base, [Float](repeating: 0, count: n), [Float](repeating: 0, count: n))
    for step in 0..<steps {
      if step == resumeAt {
        let saved = try JSON.parse(controller.json.serialized())
        controller = SparsityController(controller.penalty, totalSteps: steps)
        try controller.restore(saved)
      }
      let noise = random.stream(step)
      let g = (0..<n).map {
        p[$0] - base[$0] - wants[$0] + amplitude * (Float(noise.uniform(UInt64($0))) - 0.5)
      }
      let lr = rate.rate(step)
      let scalars = adam.scalars(step: step + 1, learningRate: lr, decays: false, gradientScale: 1)
      let threshold = Float(lr * controller.lambda(step))
      p.withUnsafeMutableBufferPointer { p in
        m.withUnsafeMutableBufferPointer { m in
          v.withUnsafeMutableBufferPointer { v in
            // An array handed over as a pointer would be gone after the initialiser.
            g.withUnsafeBufferPointer { g in
              let buffers = OptimizerBuffers(
                weights: p.baseAddress!, gradients: g.baseAddress!, first: m.baseAddress!,
                second: v.baseAddress!, count: n)
              Optimizer.update(buffers, 0..<n, .adamW(scalars), .reference)
            }
            KernelTable.reference.optimizer.softThreshold_f32(p.baseAddress!, base, threshold, n)
          }
        }
      }
      if controller.measures(step + 1) {
        controller.observe(Self.sparsity(p, base), after: step + 1)
      }
    }
    return (Self.sparsity(p, base), controller.state.lambda)
  }

  static func sparsity(_ p: [Float], _ base: [Float]) -> Double {
    Double(zip(p, base).count { $0 == $1 }) / Double(p.count)
  }

  @Test("A toy run ends within two points of the wanted sparsity", arguments: [1, 2, 4] as [Float])
  func reachesTarget(noise: Float) throws {
    let run = try toyRun(resumeAt: nil, noise: noise)
    #expect(abs(run.sparsity - 0.9) <= 0.02, "sparsity \(run.sparsity), lambda \(run.lambda)")
  }

  @Test("The controller resumes from its checkpoint to the same bits")
  func resumes() throws {
    let whole = try toyRun(resumeAt: nil)
    let resumed = try toyRun(resumeAt: 333)
    #expect(whole.sparsity == resumed.sparsity && whole.lambda == resumed.lambda)
    var controller = SparsityController(
      try L1Penalty(strength: .lambda(1), form: .prox), totalSteps: 5)
    let fault = #expect(throws: Fault.self) { try controller.restore(["lambda": -1]) }
    #expect(fault?.exitCode == .checkpoint)
  }

  @Test("Recipe values that contradict each other are refused")
  func configuration() throws {
    let product = try L1Penalty(lambda: nil, targetSparsity: 0.8, form: nil, lora: true)
    #expect(product.form == .product && product.strength == .targetSparsity(0.8))
    let prox = try L1Penalty(lambda: 1e-4, targetSparsity: nil, form: nil, lora: false)
    #expect(prox.form == .prox && prox.strength == .lambda(1e-4))
    for make in [
      { try L1Penalty(lambda: 1, targetSparsity: 0.5, form: nil, lora: true) },
      { try L1Penalty(lambda: -1, targetSparsity: nil, form: nil, lora: true) },
      { try L1Penalty(lambda: .nan, targetSparsity: nil, form: nil, lora: true) },
      { try L1Penalty(lambda: nil, targetSparsity: 1, form: nil, lora: true) },
      { try L1Penalty(lambda: 1, targetSparsity: nil, form: "prox", lora: true) },
      { try L1Penalty(lambda: 1, targetSparsity: nil, form: "product", lora: false) },
      { try L1Penalty(lambda: 1, targetSparsity: nil, form: "proxx", lora: false) },
    ] as [() throws -> L1Penalty] {
      let fault = #expect(throws: Fault.self) { _ = try make() }
      #expect(fault?.exitCode == .configuration)
    }
  }
}
