// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTOps
import PAFTTestSupport
import PAFTText
import PAFTTraining
import Synchronization
import Testing

@Suite("Rows and moments at the edge")
struct EdgeTests {
  private func make(
    _ objective: Objective, _ data: TrainingData, lora: LoRAConfiguration?, on executor: Executor
  ) throws -> Branch {
    let base = try BaseModel(
      ModelFolder(TestData.fixture("models/llama")), backward: true, on: executor)
    let branch = try Branch(
      BranchConfiguration(
        name: "edge", objective: objective, adaptation: lora.map { .lora($0) } ?? .full,
        optimizer: Optimizer.named("adamw"), learningRate: 1e-2, maxSteps: 2, batchSize: 8),
      base: base, model: base.configuration, data: data, on: executor)
    branch.prepare()
    return branch
  }

  private func values(_ branch: Branch) -> [UInt32] {
    (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
  }

  @Test("a window without a label has loss 0 and moves nothing", arguments: ComputeType.allCases)
  func noLabels(_ compute: ComputeType) throws {
    try withExecutor(compute: compute) { executor in
      let rows = [
        SFTExample(ids: [5], labels: [5]),
        SFTExample(ids: [1, 2, 3], labels: [1, Record.ignored, Record.ignored]),
      ]
      let branch = try make(.sft, .sequences(rows), lora: nil, on: executor)
      let before = values(branch)
      let report = try branch.advance()
      #expect(report.loss == 0)
      #expect(report.gradientNorm == 0)
      #expect(values(branch) == before)
    }
  }

  @Test("a row without a label changes nothing beside one with labels")
  func maskedRowBeside() throws {
    try withExecutor { executor in
      let row = SFTExample(ids: [4, 9, 2, 7], labels: [Record.ignored, 9, 2, 7])
      let silent = SFTExample(ids: [3], labels: [3])
      let alone = try make(.sft, .sequences([row]), lora: nil, on: executor).advance()
      let both = try make(.sft, .sequences([row, silent]), lora: nil, on: executor).advance()
      #expect(abs(alone.loss - both.loss) < 1e-6 * alone.loss)
      #expect(abs(alone.gradientNorm - both.gradientNorm) < 1e-5 * alone.gradientNorm)
    }
  }

  @Test(
    "pairs of one token, and without a prompt, give finite steps; DPO starts at ln 2",
    arguments: ["sigmoid", "orpo", "ipo"])
  func shortPairs(_ loss: String) throws {
    try withExecutor(compute: .bf16) { executor in
      let pairs = [
        PreferenceExample(prompt: [1], chosen: [2], rejected: [3]),
        PreferenceExample(prompt: [], chosen: [4, 5], rejected: [6, 7, 8]),
        // Nothing of the chosen answer can be predicted.
        PreferenceExample(prompt: [], chosen: [4], rejected: [6, 7]),
      ]
      // A rank above every dimension of the model.
      let branch = try make(
        .preference(PreferenceObjective(losses: [loss])), .pairs(pairs),
        lora: LoRAConfiguration(rank: 333, alpha: 333, targets: [.o, .down]), on: executor)
      let first = try branch.advance()
      if loss == "sigmoid" { #expect(abs(first.loss - 0.693_147_180_559_945) < 1e-12) }
      let second = try branch.advance()
      #expect(first.gradientNorm > 0 && second.loss.isFinite && second.gradientNorm.isFinite)
    }
  }

  @Test("asked to stop while the reference scores, a run ends before its first step")
  func stopInReference() throws {
    try withExecutor { executor in
      let folder = TestData.temporaryFolder()
      defer { try? FileSystem.remove(folder) }
      let fixture = try TrainingFixture()
      let steps = Atomic<Int>(0)
      let asked = Atomic<Int>(0)
      let fault = #expect(throws: Fault.self) {
        try fixture.branch("dpo_lora", on: executor) { $0.tokensPerPass = 1 }.run(
          in: folder, base: fixture.base, resume: false,
          events: BranchEvents(
            onStep: { _ in steps.add(1, ordering: .relaxed) },
            shouldStop: {
              asked.add(1, ordering: .relaxed).newValue == 3 ? .interrupt : .none
            }))
      }
      #expect(fault?.exitCode == .interrupted)
      #expect(steps.load(ordering: .relaxed) == 0)
      // Resuming finds nothing and begins at the beginning.
      let whole = try fixture.branch("dpo_lora", on: executor) { $0.tokensPerPass = 1 }
      let result = try whole.run(
        in: folder, base: fixture.base, resume: true, events: BranchEvents())
      #expect(result.steps == 20)
    }
  }

  @Test("a result that cannot be written leaves its last step as a checkpoint")
  func unwritableResult() throws {
    try withExecutor { executor in
      let folder = TestData.temporaryFolder()
      defer { try? FileSystem.remove(folder) }
      let fixture = try TrainingFixture()
      try FileSystem.replace(folder + "/adapter", with: "in the way".utf8)
      let first = try fixture.branch("sft_lora", on: executor)
      #expect(throws: Fault.self) {
        try first.run(in: folder, base: fixture.base, resume: false, events: BranchEvents())
      }
      try FileSystem.remove(folder + "/adapter")
      let steps = Atomic<Int>(0)
      let second = try fixture.branch("sft_lora", on: executor)
      let result = try second.run(
        in: folder, base: fixture.base, resume: true,
        events: BranchEvents(onStep: { _ in steps.add(1, ordering: .relaxed) }))
      #expect(result.steps == 20)
      #expect(steps.load(ordering: .relaxed) == 0)
      #expect(values(second) == values(first))
    }
  }
}
