// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTMerging
import PAFTModels
import PAFTOps
import PAFTText
import PAFTTraining

/// What a run will hold in memory at each stage, found before anything big is allocated: weights and
/// optimizer by the parameter tables, scratch by the passes that the rows make.
struct MemoryPlan: Sendable, Equatable {
  struct Stage: Sendable, Equatable {
    let name: String
    let bytes: Int
  }

  /// This process with its program, tokenizer and rows, as it stands.
  let process: Int
  /// One copy of the base, and how many there will be: one for each memory node.
  let base: Int
  let copies: Int
  /// In the order of the jobs.
  let branches: [BranchMemory]
  let stages: [Stage]

  /// The stage that needs most.
  var peak: Stage { stages.max { $0.bytes < $1.bytes }! }

  init(_ preparation: Preparation) throws {
    let (jobs, places) = (preparation.jobs, preparation.places)
    let (folder, kernels) = (preparation.model, preparation.kernels)
    let (c, compute) = (folder.configuration, preparation.recipe.dtype.compute)
    func sizes(_ place: Place) -> ScratchSizes {
      ScratchSizes(kernels, compute, workers: place.count)
    }
    let whole = sizes(preparation.whole)
    func weights(backward: Bool) -> Int {
      BranchMemory.weights(
        folder.table, c, keepsMaster: false, backward: backward, quantizes: preparation.quantizes,
        turns: preparation.turns, whole)
    }
    process = Machine.resident
    base = weights(backward: preparation.needsBackward)
    copies = Set(preparation.homes).count
    let shapes = try jobs.map { try TrainingShape($0.configuration, $0.data.training) }
    func branch(_ index: Int, _ sizes: ScratchSizes) -> BranchMemory {
      BranchMemory(
        c, jobs[index].configuration, shapes[index], reference: jobs[index].data.training.count,
        quantizes: preparation.quantizes, turns: preparation.turns, sizes: sizes)
    }
    branches = jobs.indices.map { branch($0, sizes(places[$0])) }

    let resting = process + (preparation.needsBase ? copies * base : 0)
    // A part of a tensor as Floats, and as it lies in its file.
    let loading = 2 * min(folder.largestTensor, WeightStore.partBytes)
    let training = branches.map(\.bytes).reduce(0) {
      preparation.isSequential ? max($0, $1) : $0 + $1
    }
    var stages = [
      Stage(name: "loading", bytes: resting + loading),
      Stage(name: "training", bytes: resting + training),
    ]
    if jobs.count == 2 {
      stages.append(Stage(name: "merging", bytes: resting + Self.merging(preparation, branches)))
      for baseline in preparation.recipe.baselines {
        let own = baseline == .sequential ? base + branch(1, whole).bytes : 0
        stages.append(
          Stage(
            name: "baselines", bytes: resting + max(branch(0, whole).bytes, own)))
      }
    }
    let evaluator = Evaluator(preparation)
    if !evaluator.isEmpty {
      let isModel = jobs.count == 2 || jobs[0].configuration.adaptation == .full
      let own = isModel ? weights(backward: false) + loading : 0
      stages.append(
        Stage(
          name: "evaluation",
          bytes: process + base * (preparation.needsBase ? copies : 1) + own
            + (try Self.scoring(evaluator, c, jobs, quantizes: preparation.quantizes, whole))))
    }
    self.stages = stages
  }

  /// Base, result and two models of the largest tensor that is merged whole, and two of them as they lie
  /// in files: one that an adapter changes, or any where the method asks for it. Adapters as they lie in
  /// theirs, and what is needed beside.
  private static func merging(_ preparation: Preparation, _ branches: [BranchMemory]) -> Int {
    let folder = preparation.model
    let width = folder.storage.size
    let adapted = preparation.jobs.contains { $0.configuration.adaptation != .full }
    let method = MergeMethod.named(preparation.recipe.merge.method)
    let layers = folder.table.rows.filter { $0.layer != nil }.map { 4 * $0.count }.max() ?? 0
    let whole = method?.streams != true ? folder.largestTensor : adapted ? layers : 0
    let adapters = zip(preparation.jobs, branches).reduce(0) { sum, part in
      sum + (part.0.configuration.adaptation == .full ? 0 : part.1.trained)
    }
    return 6 * whole + adapters
      + Merge.room(
        workers: preparation.whole.count, count: folder.table.rows.map(\.count).max() ?? 0,
        bytes: folder.table.rows.reduce(0) { $0 + $1.count } * width, width: width)
  }

  /// Scratch of scoring the held-out rows, and of generating answers where a grader wants some.
  private static func scoring(
    _ evaluator: Evaluator, _ c: ModelConfiguration, _ jobs: [BranchJob], quantizes: Bool,
    _ sizes: ScratchSizes
  ) throws -> Int {
    let rank = jobs.reduce(0) { most, job in
      if case .lora(let lora) = job.configuration.adaptation { max(most, lora.rank) } else { most }
    }
    let memory = PassMemory(inferenceOf: c, rank: rank, quantizes: quantizes, sizes)
    var most = 0
    func score(_ rows: [(tokens: Int, labels: Int)]) {
      var pass = TrainingShape.Pass()
      for row in rows {
        if !pass.lengths.isEmpty, pass.tokens + row.tokens > 2048 {
          most = max(most, memory.inference(pass))
          pass = TrainingShape.Pass()
        }
        pass.lengths.append(row.tokens)
        pass.labels += row.labels
      }
      most = max(most, memory.inference(pass))
    }
    score(evaluator.sequences.map { ($0.ids.count, $0.trainedTokens) })
    score(
      evaluator.pairs.flatMap { pair in
        [pair.chosen, pair.rejected].map { (pair.prompt.count + $0.count, $0.count) }
      })
    guard let grading = evaluator.grading else { return most }
    let longest = try evaluator.longest(c)
    let answers = min(
      grading.batchSize, max(1, grading.instructions.count + grading.preferences.count))
    let prompts = TrainingShape.Pass(
      lengths: [Int](repeating: longest, count: answers), labels: answers)
    let cache = 2 * c.layers * sizes.floats(answers * longest, c.keyWidth)
    return max(most, cache + memory.inference(prompts) + sizes.floats(answers, c.vocabulary))
  }
}

// MARK: - Keeping a limit

extension Preparation {
  /// Makes the run fit: where nodes' copies of the base are too much, one is shared. And
  /// `machine.memory_limit` is kept, by what changes no result first: activations
  /// computed again instead of kept, of the branch with the larger scratch; then smaller passes,
  /// which round differently and so belong to the fingerprint of the checkpoints.
  mutating func keepMemoryLimit() throws {
    var plan = try MemoryPlan(self)
    let limits = [recipe.machine.memoryLimit, machine.memory.limit].compactMap { $0 }
    if plan.copies > 1, let least = limits.min(), plan.peak.bytes > least {
      sharesBase = true
      plan = try MemoryPlan(self)
    }
    guard let limit = recipe.machine.memoryLimit else { return }
    while plan.peak.bytes > limit, let smaller = try shrunk(plan) {
      jobs = smaller
      plan = try MemoryPlan(self)
    }
  }

  /// The jobs with the next saving; nil when there is none left.
  private func shrunk(_ plan: MemoryPlan) throws -> [BranchJob]? {
    let order = jobs.indices.sorted { plan.branches[$0].scratch > plan.branches[$1].scratch }
    var smaller = jobs
    if let index = order.first(where: { !jobs[$0].configuration.activationCheckpointing }) {
      smaller[index].configuration.activationCheckpointing = true
      return smaller
    }
    for index in order {
      let tokens = jobs[index].configuration.tokensPerPass / 2
      // A pass holds one row at least.
      guard tokens >= max(64, jobs[index].data.training.longest),
        jobs[index].configuration.masterWeights
      else { continue }
      smaller[index].configuration.tokensPerPass = tokens
      smaller[index].configuration.fingerprint =
        jobs[index].configuration.fingerprint + "\ntokens per pass \(tokens)"
      return smaller
    }
    return nil
  }

  /// Refuses a run that cannot fit, before anything is allocated.
  /// - Throws: `Fault(.memoryBudget)` with the figure.
  func requireMemory(_ plan: MemoryPlan) throws {
    let (name, bytes) = (plan.peak.name, plan.peak.bytes)
    if let limit = recipe.machine.memoryLimit, bytes > limit {
      throw Fault(
        .memoryBudget,
        "the run needs \(ByteCount(bytes)) while \(name), machine.memory_limit is "
          + "\(ByteCount(limit))",
        hint: "lower max_length or the adapter's rank, or run the branches in turn "
          + "(machine.partitions: sequential); paft plan shows what needs how much")
    }
    try machine.require(bytes: bytes, for: "the run, \(name),")
  }
}
