// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import PAFTText
import PAFTTraining
import Synchronization
import Testing

/// Full fine-tuning of BF16 weights without masters, against the same with Floats.
@Suite("Branches without master weights")
struct LayerwiseTrainingTests {
  static let models = ["llama", "llama-tied", "qwen2", "qwen3", "gemma2", "phi3"]

  /// One run of a fixture's model over the rows of `TrainingFixture`.
  struct Setup: Sendable {
    var model = "llama"
    var objective = "sft"
    var optimizer = "adamw_8bit"
    var masters = false
    var learningRate = 1e-2
    var steps = 20
    var integers = false
    var recomputes = false

    func branch(on executor: Executor) throws -> Branch {
      let fixture = try TrainingFixture()
      let folder = try ModelFolder(TestData.fixture("models/\(model)"))
      let c = folder.configuration
      let optimizer = try Optimizer.named(optimizer, weightDecay: 0.01)
      func known(_ ids: [Int32]) -> [Int32] { ids.map { $0 % Int32(c.vocabulary) } }
      let isSFT = objective == "sft"
      let data: TrainingData =
        isSFT
        ? .sequences(
          fixture.sequences.map { row in
            SFTExample(
              ids: known(row.ids),
              labels: row.labels.map { $0 == Record.ignored ? $0 : $0 % Int32(c.vocabulary) })
          })
        : .pairs(
          fixture.pairs.map {
            PreferenceExample(
              prompt: known($0.prompt), chosen: known($0.chosen), rejected: known($0.rejected))
          })
      // Both start from what BF16 can hold.
      func fill(_ row: Parameter, _ target: UnsafeMutablePointer<Float>) throws {
        try folder.read(row, into: target)
        if row.isMatrix { for i in 0..<row.count { target[i] = BF16(target[i]).float } }
      }
      let trainable =
        masters
        ? try Trainable.full(
          folder.table, c, optimizer: optimizer, keepsInitial: false, quantizes: integers,
          on: executor, fill: fill)
        : try Trainable.layerwise(
          folder.table, c, optimizer: optimizer, seed: 7, quantizes: integers, on: executor,
          fill: fill)
      let branch = try Branch(
        BranchConfiguration(
          name: objective,
          objective: isSFT ? .sft : .preference(try PreferenceObjective(losses: [objective])),
          adaptation: .full, optimizer: optimizer, learningRate: learningRate,
          schedule: .constant, maxSteps: steps, batchSize: 4, shuffle: false, seed: 7,
          maxGradNorm: 0, activationCheckpointing: recomputes, masterWeights: masters),
        base: BaseModel(folder, backward: false, on: executor), model: c, trainable: trainable,
        data: data, on: executor)
      branch.prepare()
      return branch
    }
  }

  /// Values of all rows, one after the other.
  private static func values(_ branch: Branch) -> [[Float]] {
    branch.trainable.table.rows.enumerated().map { index, row in
      guard let layerwise = branch.trainable.layerwise else {
        let values = branch.trainable.values + row.offset
        return (0..<row.count).map { values[$0] }
      }
      if let vector = layerwise.store.vectors[index] { return (0..<row.count).map { vector[$0] } }
      var values: [Float] = []
      layerwise.store.withValues(index) { part, count in
        values += (0..<count).map { part[$0] }
      }
      return values
    }
  }

  private static func bits(_ branch: Branch) -> [[UInt32]] {
    values(branch).map { $0.map(\.bitPattern) }
  }

  @Test(
    "after one step a weight is a BF16 neighbour of what a master would be", arguments: models,
    ["dpo", "sft"])
  func oneStep(_ model: String, _ objective: String) throws {
    try withExecutor(compute: .bf16) { executor in
      let found = try Setup(model: model, objective: objective).branch(on: executor)
      let exact = try Setup(model: model, objective: objective, masters: true)
        .branch(on: executor)
      let (a, b) = (try found.advance(), try exact.advance())
      #expect(a.loss == b.loss)
      // The same numbers, summed in another order.
      #expect(abs(a.gradientNorm - b.gradientNorm) <= 1e-6 * b.gradientNorm)
      let rows = found.trainable.table.rows
      for ((row, ours), theirs) in zip(zip(rows, Self.values(found)), Self.values(exact)) {
        for (x, y) in zip(ours, theirs) {
          if !row.isMatrix {
            #expect(x == y, "\(row.name)")
          } else {
            // Truncated, or one up in magnitude.
            let up = (x.bitPattern >> 16) &- (y.bitPattern >> 16)
            #expect(x.bitPattern & 0xFFFF == 0 && up <= 1, "\(row.name): \(x) for \(y)")
            if y.bitPattern & 0xFFFF == 0 { #expect(up == 0) }
          }
        }
      }
    }
  }

  @Test("the same bits on one and two workers", arguments: KernelTable.available.map(\.name))
  func teamSize(_ isa: String) throws {
    for (model, integers) in [("llama", false), ("llama-tied", false), ("qwen2", true)] {
      let results = try [1, 2].map { threads in
        try withExecutor(compute: .bf16, isa: isa, threads: threads) { executor in
          let branch = try Setup(model: model, integers: integers).branch(on: executor)
          for _ in 0..<4 { _ = try branch.advance() }
          return Self.bits(branch)
        }
      }
      #expect(results[0] == results[1], "\(model)")
    }
  }

  @Test(
    "a run that is interrupted goes on to the same bits",
    arguments: ["adamw_8bit", "adamw", "sgd"], [false, true])
  func resume(_ optimizer: String, _ integers: Bool) throws {
    try withExecutor(compute: .bf16) { executor in
      let setup = Setup(optimizer: optimizer, integers: integers)
      let base = TestData.fixture("models/llama")
      let (whole, parts) = (TestData.temporaryFolder(), TestData.temporaryFolder())
      defer { for folder in [whole, parts] { try? FileSystem.remove(folder) } }
      let uninterrupted = try setup.branch(on: executor)
      _ = try uninterrupted.run(in: whole, base: base, resume: false, events: BranchEvents())
      let steps = Atomic<Int>(0)
      let first = try setup.branch(on: executor)
      let fault = #expect(throws: Fault.self) {
        try first.run(
          in: parts, base: base, resume: false,
          events: BranchEvents(
            onStep: { _ in steps.add(1, ordering: .relaxed) },
            shouldStop: { steps.load(ordering: .relaxed) == 7 ? .interrupt : .none }))
      }
      #expect(fault?.exitCode == .interrupted)
      let second = try setup.branch(on: executor)
      let result = try second.run(
        in: parts, base: base, resume: true,
        events: BranchEvents(onStep: { _ in steps.add(1, ordering: .relaxed) }))
      #expect(result.steps == 20 && steps.load(ordering: .relaxed) == 20)
      #expect(Self.bits(second) == Self.bits(uninterrupted))
      // What is written is what was trained.
      let written = try ModelFolder(result.path)
      #expect(written.storage == .bf16)
      for (row, values) in zip(second.trainable.table.rows, Self.values(second))
      where row.isMatrix {
        var read = [Float](repeating: 0, count: row.count)
        try read.withUnsafeMutableBufferPointer { try written.read(row, into: $0.baseAddress!) }
        #expect(read == values, "\(row.name)")
      }
    }
  }

  @Test("steps far below a weight's last bit add up to what a master walks, on average")
  func unbiased() throws {
    try withExecutor(compute: .bf16) { executor in
      // A step is about 1/30 of the last bit of a weight of 0.1: rounded to nearest, none would count.
      let (rate, steps) = (1e-5, 40)
      let found = try Setup(learningRate: rate, steps: steps).branch(on: executor)
      let exact = try Setup(masters: true, learningRate: rate, steps: steps).branch(on: executor)
      let start = Self.values(exact)
      for _ in 0..<steps {
        _ = try found.advance()
        _ = try exact.advance()
      }
      let (ours, theirs) = (Self.values(found), Self.values(exact))
      var (along, walked, variance) = (0.0, 0.0, 0.0)
      for (index, row) in exact.trainable.table.rows.enumerated()
      where row.isMatrix && row.layer != nil {
        for i in 0..<row.count {
          let step = Double(theirs[index][i]) - Double(start[index][i])
          along += (Double(ours[index][i]) - Double(start[index][i])) * (step < 0 ? -1 : 1)
          walked += abs(step)
          // A move of d rounded to a grid of u is up with probability d / u: d u at most, each step.
          variance += Double(steps) * rate * Double(max(abs(start[index][i]), 0x1p-20)) / 128
        }
      }
      #expect(walked > 0)
      #expect(
        abs(along - walked) <= 5 * variance.squareRoot() + 0.05 * walked,
        "\(along) of \(walked), deviation \(variance.squareRoot())")
    }
  }

  @Test("losses stay with those of master weights", arguments: ["llama", "llama-tied"])
  func trajectory(_ model: String) throws {
    try withExecutor(compute: .bf16) { executor in
      let found = try Setup(model: model).branch(on: executor)
      let exact = try Setup(model: model, masters: true).branch(on: executor)
      let largest = Self.values(exact).joined().reduce(0) { max($0, abs($1)) } + 0.2
      var (first, last) = (0.0, 0.0)
      for step in 0..<20 {
        let (a, b) = (try found.advance(), try exact.advance())
        // Each of `step` roundings moves a weight by less than its last bit u <= |w| / 128, with mean
        // zero and deviation u / 2 at most: to first order the loss by |gradient| u sqrt(step) / 2.
        let deviation =
          max(a.gradientNorm, b.gradientNorm) * Double(largest) / 256 * Double(step).squareRoot()
        #expect(abs(a.loss - b.loss) <= 5 * deviation + 1e-6, "step \(step): \(a.loss), \(b.loss)")
        if step == 0 { first = a.loss }
        last = a.loss
      }
      #expect(last < 0.7 * first, "\(last) from \(first)")
    }
  }

  @Test("a weight that is not finite stops the run before an update")
  func notFinite() throws {
    try withExecutor(compute: .bf16) { executor in
      let branch = try Setup().branch(on: executor)
      _ = try branch.advance()
      let store = branch.trainable.layerwise!.store
      let index = store.table.rows.firstIndex { $0.role == .finalNorm }!
      store.vectors[index]![0] = .nan
      branch.trainable.repack(on: executor)
      let before = Self.bits(branch)
      let fault = #expect(throws: Fault.self) { try branch.advance() }
      #expect(fault?.exitCode == .notFinite)
      #expect(fault?.message.contains("step 2") == true)
      #expect(Self.bits(branch) == before)
    }
  }

  @Test("activation checkpointing changes no bit")
  func checkpointing() throws {
    let results = try [false, true].map { recomputes in
      try withExecutor(compute: .bf16) { executor in
        let branch = try Setup(model: "qwen2", recomputes: recomputes).branch(on: executor)
        for _ in 0..<3 { _ = try branch.advance() }
        return Self.bits(branch)
      }
    }
    #expect(results[0] == results[1])
  }
}
