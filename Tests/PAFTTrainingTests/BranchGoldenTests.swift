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
import Testing

/// The runs of tools/golden/training.py: twenty steps of a plain PyTorch loop in float64.
struct TrainingFixture: Sendable {
  let settings: JSON
  let runs: JSON
  let base: String
  let sequences: [SFTExample]
  let pairs: [PreferenceExample]

  init() throws {
    let folder = TestData.fixture("training")
    let json = try JSON.read(path: folder + "/golden.json")
    settings = json["settings"]!
    runs = json["runs"]!
    base = TestData.fixture("models/llama")
    let rows = try DataSet.load(path: folder + "/sft.jsonl")
    sequences = try ExampleBuilder(tokenizer: nil).sft(rows).examples
    let pairs = try DataSet.load(path: folder + "/pairs.jsonl")
    self.pairs = try ExampleBuilder(tokenizer: nil).preference(pairs).examples
  }

  /// The branch of run `name` as PyTorch ran it, with changes by `edit`.
  func branch(
    _ name: String, on executor: Executor, edit: (inout BranchConfiguration) -> Void = { _ in }
  ) throws -> Branch {
    let run = runs[name]!
    let isLoRA = run["adapter"]!.string == "lora"
    let kind = run["objective"]!.string!
    let objective: Objective =
      switch kind {
      case "sft": .sft
      case "dpo": .preference(try PreferenceObjective(losses: ["sigmoid"]))
      default: .preference(try PreferenceObjective(losses: ["orpo"]))
      }
    var l1: L1Penalty?
    if let lambda = run["l1"]?["lambda"]?.double {
      let form = name.contains("product") ? "product" : name.contains("factor") ? "factor" : "prox"
      l1 = try L1Penalty(lambda: lambda, targetSparsity: nil, form: form, lora: isLoRA)
    }
    var configuration = BranchConfiguration(
      name: name, objective: objective,
      adaptation: isLoRA ? .lora(LoRAConfiguration(rank: 4, alpha: 8)) : .full,
      optimizer: try Optimizer.named("adamw", weightDecay: run["weight_decay"]!.double!),
      learningRate: run["learning_rate"]!.double!, schedule: .linear, warmup: 5, maxSteps: 20,
      batchSize: 4, shuffle: false, l1: l1)
    edit(&configuration)
    let base = try BaseModel(ModelFolder(base), backward: true, on: executor)
    let branch = try Branch(
      configuration, base: base, model: base.configuration,
      data: kind == "sft" ? .sequences(sequences) : .pairs(pairs), on: executor)
    if isLoRA {
      let start = try TensorArchive(path: TestData.fixture("training/adapter"))
      for row in branch.trainable.table.rows {
        try start[row.name]!.copyFloats(into: branch.trainable.values + row.offset)
      }
      branch.trainable.repack(on: executor)
    }
    branch.prepare()
    return branch
  }
}

func withExecutor<T: Sendable>(
  compute: ComputeType = .f32, isa: String? = nil, threads: Int = 2,
  _ body: @escaping @Sendable (Executor) throws -> T
) throws -> T {
  try Machine.detect().place(threads: threads).run(named: "test") { team in
    try body(Executor.make(team, compute: compute, isa: isa, scratch: 1 << 30))
  }
}

@Suite("Branches against PyTorch loops")
struct BranchGoldenTests {
  static let runs = [
    "sft_full", "sft_lora", "dpo_full", "dpo_lora", "orpo_full", "orpo_lora", "sft_full_prox",
    "sft_lora_factor_prox", "sft_lora_product",
  ]

  @Test("twenty losses and gradient norms equal PyTorch's to 1e-4", arguments: runs)
  func losses(_ name: String) throws {
    try withExecutor { executor in
      let fixture = try TrainingFixture()
      let branch = try fixture.branch(name, on: executor)
      let losses = fixture.runs[name]!["losses"]!.array!.map { $0.double! }
      let norms = fixture.runs[name]!["grad_norms"]!.array!.map { $0.double! }
      for step in 0..<20 {
        let report = try branch.advance()
        #expect(
          abs(report.loss - losses[step]) < 1e-4 * abs(losses[step]),
          "step \(step): \(report.loss) for \(losses[step])")
        #expect(
          abs(report.gradientNorm - norms[step]) < 1e-3 * norms[step],
          "step \(step): norm \(report.gradientNorm) for \(norms[step])")
      }
    }
  }

  @Test("after twenty steps every tensor has PyTorch's sum and norm", arguments: runs)
  func weights(_ name: String) throws {
    try withExecutor { executor in
      let fixture = try TrainingFixture()
      let branch = try fixture.branch(name, on: executor)
      for _ in 0..<20 { _ = try branch.advance() }
      for row in branch.trainable.table.rows {
        let final = fixture.runs[name]!["final"]![row.name]!
        let values = UnsafeBufferPointer(
          start: branch.trainable.values + row.offset, count: row.count)
        let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        #expect(abs(norm - final["norm"]!.double!) < 1e-4 * final["norm"]!.double!, "\(row.name)")
        if let zeros = final["zeros"]?.int {
          let initial = try ModelFolder(fixture.base)
          var base = [Float](repeating: 0, count: row.count)
          if name == "sft_full_prox" {
            try base.withUnsafeMutableBufferPointer { try initial.read(row, into: $0.baseAddress!) }
          }
          let found = zip(values, base).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }
          // A coordinate within rounding of the threshold may fall on either side.
          #expect(
            abs(found - zeros) <= max(1, row.count / 100), "\(row.name): \(found) of \(zeros)")
        }
      }
    }
  }

  @Test(
    "batch 4 = 1 x 4 accumulated = many passes, to rounding",
    arguments: ["sft_full", "dpo_lora", "orpo_full"])
  func accumulation(_ name: String) throws {
    try withExecutor { executor in
      let fixture = try TrainingFixture()
      let whole = try fixture.branch(name, on: executor)
      let parts = try fixture.branch(name, on: executor) {
        $0.batchSize = 1
        $0.accumulation = 4
        $0.tokensPerPass = 1
      }
      for step in 0..<8 {
        let a = try whole.advance()
        let b = try parts.advance()
        #expect(abs(a.loss - b.loss) < 2e-6 * abs(a.loss), "step \(step)")
        #expect(abs(a.gradientNorm - b.gradientNorm) < 1e-5 * a.gradientNorm, "step \(step)")
      }
    }
  }

  @Test(
    "the same bits on one and two workers, on every kernel table",
    arguments: KernelTable.available.map(\.name))
  func teamSize(_ isa: String) throws {
    func bits(_ threads: Int, _ name: String, _ compute: ComputeType) throws -> [UInt32] {
      try withExecutor(compute: compute, isa: isa, threads: threads) { executor in
        let branch = try TrainingFixture().branch(name, on: executor)
        for _ in 0..<4 { _ = try branch.advance() }
        return (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
      }
    }
    for name in ["sft_full_prox", "dpo_lora", "sft_lora_product"] {
      for compute in ComputeType.allCases {
        #expect(try bits(1, name, compute) == bits(2, name, compute), "\(name) \(compute)")
      }
    }
  }

  @Test("activation checkpointing changes no bit")
  func checkpointing() throws {
    func bits(_ checkpointing: Bool) throws -> [UInt32] {
      try withExecutor { executor in
        let branch = try TrainingFixture().branch("sft_lora", on: executor) {
          $0.activationCheckpointing = checkpointing
        }
        for _ in 0..<4 { _ = try branch.advance() }
        return (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
      }
    }
    #expect(try bits(false) == bits(true))
  }

  @Test("lambda 0 is plain SFT bit for bit", arguments: ["sft_full", "sft_lora"])
  func zeroLambda(_ name: String) throws {
    func bits(_ l1: L1Penalty?) throws -> [UInt32] {
      try withExecutor { executor in
        let branch = try TrainingFixture().branch(name, on: executor) {
          $0.l1 = l1
          $0.optimizer = try! Optimizer.named("adamw")
        }
        for _ in 0..<5 { _ = try branch.advance() }
        return (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern }
      }
    }
    let penalty = try L1Penalty(
      lambda: 0, targetSparsity: nil, form: nil, lora: name.hasSuffix("lora"))
    #expect(try bits(nil) == bits(penalty))
  }
}
