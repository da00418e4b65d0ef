// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import PAFTTraining
import Testing

@Suite("Two branches at once")
struct ConcurrencyTests {
  @Test("each equals itself alone, bit for bit, sharing one base", arguments: ComputeType.allCases)
  func together(_ compute: ComputeType) throws {
    let machine = try Machine.detect()
    let places = machine.split(into: 2, threads: nil)
    let fixture = try TrainingFixture()

    // The base is packed once, on any team, and read by both branches.
    let base = try machine.place(threads: nil).run(named: "load") { team in
      try BaseModel(
        ModelFolder(fixture.base), backward: true,
        on: Executor.make(team, compute: compute, scratch: 1 << 28))
    }
    @Sendable func train(_ name: String, _ team: Team) throws -> [UInt32] {
      let executor = try Executor.make(team, compute: compute, scratch: 1 << 30)
      let sft = name == "sft"
      let branch = try Branch(
        BranchConfiguration(
          name: name, objective: sft ? .sft : .preference(PreferenceObjective()),
          adaptation: .lora(LoRAConfiguration(rank: 4, alpha: 8)),
          optimizer: Optimizer.named("adamw"), learningRate: 1e-2, epochs: 4, batchSize: 4,
          l1: sft ? L1Penalty(lambda: nil, targetSparsity: 0.5, form: nil, lora: true) : nil),
        base: base, model: base.configuration,
        data: sft ? .sequences(fixture.sequences) : .pairs(fixture.pairs), on: executor)
      branch.prepare()
      while branch.steps < branch.plan.totalSteps { _ = try branch.advance() }
      return (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
    }

    let alone = try ["sft", "align"].enumerated().map { index, name in
      try places[index].run(named: name) { try train(name, $0) }
    }
    for _ in 0..<3 {
      let running = ["sft", "align"].enumerated().map { index, name in
        places[index].start(named: name) { try train(name, $0) }
      }
      for (index, branch) in running.enumerated() {
        #expect(try branch.wait() == alone[index])
      }
    }
  }

  @Test("reference log-probabilities are the policy's before the first step: loss ln 2, margin 0")
  func firstStep() throws {
    try withExecutor { executor in
      for name in ["dpo_full", "dpo_lora"] {
        let report = try TrainingFixture().branch(name, on: executor).advance()
        // Reference and policy ran the same kernels on the same rows: equal bits, not just close.
        #expect(report.loss == 0.693_147_180_559_945_3)
        #expect(report.preference?.rewardsMargins == 0)
        #expect(report.preference?.rewardsAccuracies == 0)
      }
    }
  }

  @Test(
    "a weight that is not finite stops the run before an update",
    arguments: ["sft_full", "dpo_lora"])
  func notFinite(_ name: String) throws {
    try withExecutor { executor in
      let branch = try TrainingFixture().branch(name, on: executor)
      _ = try branch.advance()
      // The head's, or the last adapter's: a weight that every row meets.
      branch.trainable.values[branch.trainable.table.rows.last!.offset] = .nan
      branch.trainable.repack(on: executor)
      let before = (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
      let fault = #expect(throws: Fault.self) { try branch.advance() }
      #expect(fault?.exitCode == .notFinite)
      #expect(fault?.message.contains("step 2") == true)
      let after = (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
      #expect(before == after)
    }
  }
}

@Suite("Target sparsity")
struct TargetSparsityTests {
  @Test(
    "a full delta ends with 0.9 +- 0.02 exact zeros, under any schedule",
    arguments: Schedule.allCases)
  func full(_ schedule: Schedule) throws {
    try withExecutor { executor in
      let fixture = try TrainingFixture()
      let branch = try fixture.branch("sft_full", on: executor) {
        $0.schedule = schedule
        $0.maxSteps = 150
        $0.learningRate = 1e-3
        $0.l1 = try! L1Penalty(lambda: nil, targetSparsity: 0.9, form: nil, lora: false)
      }
      var last = StepReport()
      while branch.steps < branch.plan.totalSteps { last = try branch.advance() }
      let folder = try ModelFolder(fixture.base)
      var zeros = 0
      var count = 0
      for row in branch.trainable.table.rows where row.isMatrix {
        var base = [Float](repeating: 0, count: row.count)
        try base.withUnsafeMutableBufferPointer { try folder.read(row, into: $0.baseAddress!) }
        for i in 0..<row.count where branch.trainable.values[row.offset + i] == base[i] {
          zeros += 1
        }
        count += row.count
      }
      let share = Double(zeros) / Double(count)
      #expect(abs(share - 0.9) <= 0.02, "\(share)")
      #expect(last.l1?.sparsity == share)
      // The penalty does the work; the cut at the end only finishes it.
      #expect((last.l1?.sparsityBeforeSettling ?? share) > 0.6)
    }
  }
}
