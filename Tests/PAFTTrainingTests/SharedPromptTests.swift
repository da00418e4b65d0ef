// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import PAFTText
import PAFTTraining
import Testing

/// What is computed once, a pair's prompt and what rows begin with alike, is the same mathematics as
/// computed with each row. What may differ is the order of sums: over the keys of a sequence, which are cut
/// elsewhere, and over what comes back to a prompt.
@Suite("Prompts that answers and rows share")
struct SharedPromptTests {
  /// One step's report and gradient.
  struct Step: Sendable {
    let report: StepReport
    let gradient: [Float]

    var norm: Double { gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot() }

    /// Norm of the difference of the gradients, relatively.
    func distance(_ other: Step) -> Double {
      let sum = zip(gradient, other.gradient).reduce(0.0) {
        let difference = Double($1.0) - Double($1.1)
        return $0 + difference * difference
      }
      return sum.squareRoot() / norm
    }
  }

  private static func steps(
    _ count: Int, _ branch: Branch
  ) throws -> [Step] {
    try (0..<count).map { _ in
      let report = try branch.advance()
      return Step(
        report: report,
        gradient: (0..<branch.trainable.floats).map { branch.trainable.gradient[$0] })
    }
  }

  /// Relative bounds. In f32 a few dozen roundings lie between a token and the loss, and the gradient's
  /// sums are as long again. In bf16 attention rounds each weight P and each dS once (2^-9), but
  /// against another maximum; all later operands that are rounded anew may fall to the other side:
  /// two layers of seven products, at random, are four times one rounding of 2^-8.
  private static func bounds(_ compute: ComputeType) -> (loss: Double, gradient: Double) {
    compute == .f32 ? (32 * 0x1p-24, 256 * 0x1p-24) : (0x1p-8, 4 * 0x1p-8)
  }

  private static func expectSame(_ a: [Step], _ b: [Step], _ compute: ComputeType) {
    let bounds = bounds(compute)
    // AdamW's first steps follow the signs of gradients, whose rounding in bf16 the next steps multiply.
    for (a, b) in zip(a, b).prefix(compute == .f32 ? .max : 1) {
      #expect(a.report.tokens == b.report.tokens)
      #expect(abs(a.report.loss - b.report.loss) <= bounds.loss * abs(a.report.loss))
      #expect(a.distance(b) <= bounds.gradient, "gradients \(a.distance(b)) apart")
      #expect((a.report.preference == nil) == (b.report.preference == nil))
      guard let x = a.report.preference, let y = b.report.preference else { continue }
      for (x, y) in [
        (x.logpsChosen, y.logpsChosen), (x.logpsRejected, y.logpsRejected),
      ] {
        #expect(abs(x - y) <= bounds.loss * abs(x))
      }
      if let x = a.report.nll, let y = b.report.nll { #expect(abs(x - y) <= bounds.loss * x) }
    }
  }

  @Test(
    "loss, metrics and gradient are those of two whole sequences",
    arguments: ["dpo_full", "dpo_lora", "orpo_full", "orpo_lora"], ComputeType.allCases)
  func fixture(_ name: String, _ compute: ComputeType) throws {
    try withExecutor(compute: compute) { executor in
      let fixture = try TrainingFixture()
      let shared = try Self.steps(4, fixture.branch(name, on: executor))
      let apart = try Self.steps(
        4, fixture.branch(name, on: executor) { $0.sharesPrompts = false })
      Self.expectSame(apart, shared, compute)
      // A fixture without prompts would compare nothing.
      #expect(fixture.pairs.allSatisfy { $0.prompt.count > 1 })
    }
  }

  private static func pair(_ prompt: Int, _ chosen: Int, _ rejected: Int, seed: Int)
    -> PreferenceExample
  {
    func ids(_ count: Int, _ salt: Int) -> [Int32] {
      (0..<count).map { Int32(3 + ($0 * 7 + $0 * $0 * 3 + salt * 11 + seed * 5) % 40) }
    }
    return PreferenceExample(
      prompt: ids(prompt, 1), chosen: ids(chosen, 2), rejected: ids(rejected, 3))
  }

  /// Prompts that end in, at and behind attention's blocks of keys, and none at all.
  private static let pairs = [
    pair(193, 5, 70, seed: 1), pair(1, 3, 4, seed: 2), pair(385, 65, 1, seed: 3),
    pair(0, 6, 4, seed: 4), pair(2, 1, 1, seed: 5), pair(450, 200, 7, seed: 6),
  ]

  private static func branch(
    _ loss: String, on executor: Executor, edit: (inout BranchConfiguration) -> Void
  ) throws -> Branch {
    let base = try BaseModel(
      ModelFolder(TestData.fixture("models/llama")), backward: true, on: executor)
    var configuration = BranchConfiguration(
      name: "shared", objective: .preference(try PreferenceObjective(losses: [loss])),
      adaptation: .lora(LoRAConfiguration(rank: 5)), optimizer: try Optimizer.named("adamw"),
      learningRate: 1e-2, maxSteps: 4, batchSize: 6, shuffle: false)
    edit(&configuration)
    let branch = try Branch(
      configuration, base: base, model: base.configuration, data: .pairs(pairs), on: executor)
    branch.prepare()
    return branch
  }

  @Test(
    "long, short and absent prompts beside each other", arguments: ["sigmoid", "orpo"],
    ComputeType.allCases)
  func lengths(_ loss: String, _ compute: ComputeType) throws {
    try withExecutor(compute: compute) { executor in
      let shared = try Self.steps(2, Self.branch(loss, on: executor) { _ in })
      let apart = try Self.steps(
        2, Self.branch(loss, on: executor) { $0.sharesPrompts = false })
      Self.expectSame(apart, shared, compute)
      // The reference scores the same layout with the same weights.
      if loss == "sigmoid" {
        #expect(abs(shared[0].report.loss - 0.693_147_180_559_945) < 1e-12)
      }
    }
  }

  @Test("the same bits on one, two and three workers, recomputed or kept")
  func team() throws {
    @Sendable func bits(_ threads: Int, _ checkpointing: Bool) throws -> [UInt32] {
      try withExecutor(compute: .bf16, threads: threads) { executor in
        let branch = try Self.branch("sigmoid", on: executor) {
          $0.activationCheckpointing = checkpointing
        }
        return try Self.steps(2, branch)[1].gradient.map(\.bitPattern)
      }
    }
    let alone = try bits(1, false)
    #expect(alone.contains { $0 != 0 })
    #expect(try bits(2, false) == alone)
    #expect(try bits(2, true) == alone)
  }

  @Test("cut into passes and accumulated, to rounding")
  func passes() throws {
    try withExecutor { executor in
      let whole = try Self.steps(2, Self.branch("orpo", on: executor) { _ in })
      let cut = try Self.steps(
        2,
        Self.branch("orpo", on: executor) {
          $0.batchSize = 2
          $0.accumulation = 3
          $0.tokensPerPass = 300
        })
      Self.expectSame(whole, cut, .f32)
    }
  }

  // MARK: - Rows that begin alike

  private static func ids(_ count: Int, _ salt: Int) -> [Int32] {
    (0..<count).map { Int32(3 + ($0 * 7 + $0 * $0 * 3 + salt * 11) % 40) }
  }

  /// A head of all, a longer one of three, both across attention's blocks of keys; a row that is no
  /// longer than its head, one without a label, and two that are equal.
  private static let heads: [[Int32]] = {
    let (head, system) = (ids(50, 1), ids(390, 2))
    return [
      head + ids(7, 3), head + system + ids(20, 4), head, head + system,
      head + system + ids(20, 4), head + ids(150, 5),
    ]
  }()

  private static let rows = heads.enumerated().map { row, head in
    let answer = ids([5, 70, 1, 33, 4, 0][row], 6 + row)
    return SFTExample(
      ids: head + answer,
      labels: [Int32](repeating: Record.ignored, count: head.count) + answer)
  }

  private static let alike = heads.enumerated().map { row, head in
    PreferenceExample(
      prompt: head, chosen: ids(1 + 30 * row, 20 + row), rejected: ids(60 - 11 * row, 30 + row))
  }

  private static func branch(
    _ objective: Objective, _ adaptation: Adaptation, _ data: TrainingData,
    on executor: Executor, edit: (inout BranchConfiguration) -> Void
  ) throws -> Branch {
    let base = try BaseModel(
      ModelFolder(TestData.fixture("models/llama")), backward: true, on: executor)
    var configuration = BranchConfiguration(
      name: "alike", objective: objective, adaptation: adaptation,
      // Unlike AdamW's, its steps do not follow the sign of a gradient that is nearly nothing.
      optimizer: try Optimizer.named("sgd"), learningRate: 1, maxSteps: 4, batchSize: 6,
      shuffle: false)
    edit(&configuration)
    let branch = try Branch(
      configuration, base: base, model: base.configuration, data: data, on: executor)
    branch.prepare()
    return branch
  }

  @Test("of rows", arguments: [true, false], ComputeType.allCases)
  func rows(_ isFull: Bool, _ compute: ComputeType) throws {
    try withExecutor(compute: compute) { executor in
      let adaptation = isFull ? Adaptation.full : .lora(LoRAConfiguration(rank: 5))
      @Sendable func steps(_ edit: (inout BranchConfiguration) -> Void) throws -> [Step] {
        try Self.steps(
          2,
          Self.branch(.sft, adaptation, .sequences(Self.rows), on: executor, edit: edit))
      }
      let apart = try steps { $0.sharesPrompts = false }
      Self.expectSame(apart, try steps { _ in }, compute)
      Self.expectSame(
        apart,
        try steps {
          $0.tokensPerPass = 600
          $0.activationCheckpointing = true
        }, compute)
    }
  }

  @Test("of pairs, in one pass and cut", arguments: ["sigmoid", "orpo"], ComputeType.allCases)
  func pairs(_ loss: String, _ compute: ComputeType) throws {
    try withExecutor(compute: compute) { executor in
      let objective = Objective.preference(try PreferenceObjective(losses: [loss]))
      @Sendable func steps(_ edit: (inout BranchConfiguration) -> Void) throws -> [Step] {
        try Self.steps(
          2,
          Self.branch(
            objective, .lora(LoRAConfiguration(rank: 5)), .pairs(Self.alike), on: executor,
            edit: edit))
      }
      let apart = try steps { $0.sharesPrompts = false }
      Self.expectSame(apart, try steps { _ in }, compute)
      Self.expectSame(apart, try steps { $0.tokensPerPass = 600 }, compute)
    }
  }

  @Test("the reference's bits are the policy's, whichever rows stand beside them")
  func neighbours() throws {
    try withExecutor(compute: .bf16) { executor in
      // The reference walks in order, six pairs to a pass; the steps take three at random.
      let objective = Objective.preference(try PreferenceObjective(losses: ["sigmoid"]))
      for seed in 1...3 {
        let branch = try Self.branch(
          objective, .lora(LoRAConfiguration(rank: 5)), .pairs(Self.alike + Self.pairs),
          on: executor
        ) {
          $0.batchSize = 3
          $0.learningRate = 1e-30
          $0.shuffle = true
          $0.seed = UInt64(seed)
        }
        for step in try Self.steps(4, branch) {
          #expect(abs(step.report.loss - 0.693_147_180_559_945) < 1e-12)
        }
      }
    }
  }

  @Test("shared by rows: the same bits on one, two and three workers, recomputed or kept")
  func teamOfRows() throws {
    @Sendable func bits(_ threads: Int, _ checkpointing: Bool) throws -> [UInt32] {
      try withExecutor(compute: .bf16, threads: threads) { executor in
        let branch = try Self.branch(
          .sft, .lora(LoRAConfiguration(rank: 5)), .sequences(Self.rows), on: executor
        ) { $0.activationCheckpointing = checkpointing }
        return try Self.steps(2, branch)[1].gradient.map(\.bitPattern)
      }
    }
    let alone = try bits(1, false)
    #expect(alone.contains { $0 != 0 })
    #expect(try bits(2, false) == alone)
    #expect(try bits(3, true) == alone)
  }
}
