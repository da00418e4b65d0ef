// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTText
import PAFTTraining

/// A training step that needs no files: its model's shape, its objective, its batch.
package struct StepSettings: Sendable, Equatable {
  /// sft, dpo or orpo; paft is sft and then dpo, each with an adapter of its own beside one base.
  package var objective = "sft"
  package var isFull = false
  /// Of full training: whether weights have Floats as masters; without them nothing is clipped.
  package var masters = true
  package var rank = 16
  /// adamw, adamw_8bit or sgd.
  package var optimizer = "adamw"
  /// Tokens of a sequence, and sequences (sft) or pairs of a step.
  package var length = 512
  package var batch = 4
  /// Share of a sequence, at its end, that has labels: the answer.
  package var labelled = 0.5

  /// Whether activations are computed again on the way back.
  package var checkpointing = false

  /// Layouts of a frozen weight: 1 or 2; nil by the rows of a pass.
  package var layouts: Int?

  package static let objectives = ["sft", "dpo", "orpo", "paft"]

  package init() {}

  /// Throws a usage fault for what cannot be run.
  package func check() throws(Fault) {
    guard Self.objectives.contains(objective) else {
      throw Fault(
        .usage, "--objective \(objective): expected \(Self.objectives.joined(separator: ", "))")
    }
    _ = try Optimizer.named(optimizer)
    for (name, value, range) in [
      ("length", length, 2...(1 << 20)), ("batch", batch, 1...(1 << 20)), ("rank", rank, 1...4096),
    ] where !range.contains(value) {
      throw Fault(
        .usage, "--\(name) \(value): expected \(range.lowerBound) to \(range.upperBound)")
    }
    guard !(objective == "paft" && isFull) else {
      throw Fault(.usage, "--objective paft: both branches share a frozen base: --adapter lora")
    }
    guard masters || isFull else {
      throw Fault(.usage, "--no-master-weights: an adapter's are Floats: expected --adapter full")
    }
    guard labelled > 0, labelled <= 1 else {
      throw Fault(
        .usage, "--labelled \(Numbers.short(labelled)): expected a share above 0, at most 1")
    }
  }

  /// Whether a frozen weight is kept in one layout.
  var turns: Bool {
    layouts.map { $0 == 1 } ?? (sequences * length >= PackedWeight.fewestRowsToTurn)
  }

  /// Labels of one answer.
  var answer: Int { min(length - 1, max(1, Int((labelled * Double(length)).rounded()))) }
  var sequences: Int { objective == "sft" ? batch : 2 * batch }
  /// As a trainer counts them that computes every sequence in full.
  var tokens: Int { parts.reduce(0) { $0 + $1.sequences * $1.length } }

  /// One for each branch.
  var parts: [StepSettings] {
    guard objective == "paft" else { return [self] }
    return ["sft", "dpo"].map { name in
      var part = self
      part.objective = name
      return part
    }
  }

  /// Rows of the output head in a step: answers, and for ORPO the chosen sequence's prompt.
  var headRows: Int {
    sequences * answer + (objective == "orpo" ? batch * (length - answer - 1) : 0)
  }

  /// Tokens of a pair's prompt that both of its answers share.
  private var shared: Int { objective == "sft" ? 0 : length - answer - 1 }

  /// Operations of one step: products, attention and head, forward and backward, nothing computed
  /// twice: a pair's prompt once.
  package func flops(_ c: ModelConfiguration) -> Double {
    parts.reduce(0) { $0 + $1.flopsAlone(c) }
  }

  private func flopsAlone(_ c: ModelConfiguration) -> Double {
    let own = length - shared
    let prompts = objective == "sft" ? 0 : batch
    let tokens = Double(prompts * shared + sequences * own)
    let scores =
      Double(prompts) * Work.pairs(shared) + Double(sequences) * Work.pairs(own, before: shared)
    let adapter = isFull ? nil : LoRAConfiguration(rank: rank)
    let products = c.productOperations(adapter, tokens: tokens, labels: Double(headRows))
    let attention =
      Double(c.layers)
      * [Pass.forward, .backward].reduce(0.0) {
        $0
          + Work.attention(
            pairs: scores, tokens: 0, heads: c.heads, keyHeads: c.keyHeads,
            size: c.headSize, $1
          ).flops
      }
    return products + attention + c.headOperations(isTrained: isFull) * Double(headRows)
  }
}

/// The branches of such a step, in turn: random weights, random tokens, ready to advance.
final class SyntheticStep {
  private var branches: [Branch] = []

  /// - Parameters:
  ///   - steps: how often it will advance, at most.
  ///   - quantizes: whether the layers of the blocks are multiplied in 8 bits.
  init(
    _ c: ModelConfiguration, _ settings: StepSettings, steps: Int, quantizes: Bool,
    on executor: Executor
  ) throws {
    let table = ParameterTable.decoder(c)
    let base =
      settings.isFull
      ? nil
      : try WeightStore(
        table, c, keepsMaster: false, backward: true, quantizes: quantizes, turns: settings.turns,
        name: "base",
        on: executor
      ) { Self.fill($0, $1, on: executor) }
    for part in settings.parts {
      let configuration = try Self.configuration(part, steps: steps)
      let optimizer = configuration.optimizer
      let trainable: Trainable
      if case .lora(let lora) = configuration.adaptation, let base {
        trainable = try Trainable.adapter(
          lora, beside: base.weights, c, optimizer: optimizer, seed: 1, on: executor)
      } else if !settings.masters {
        trainable = try Trainable.layerwise(
          table, c, optimizer: optimizer, seed: 1, quantizes: quantizes, on: executor
        ) { Self.fill($0, $1, on: executor) }
      } else {
        trainable = try Trainable.full(
          table, c, optimizer: optimizer, keepsInitial: false, quantizes: quantizes,
          on: executor
        ) { Self.fill($0, $1, on: executor) }
      }
      branches.append(
        try Branch(
          configuration, base: nil, model: c, trainable: trainable, data: Self.data(c, part),
          on: executor))
    }
  }

  func advance() throws {
    for branch in branches { _ = try branch.advance() }
  }

  private static func configuration(_ settings: StepSettings, steps: Int) throws
    -> BranchConfiguration
  {
    let objective: Objective =
      settings.objective == "sft"
      ? .sft : .preference(try PreferenceObjective(losses: [settings.objective]))
    return BranchConfiguration(
      name: "bench", objective: objective,
      adaptation: settings.isFull ? .full : .lora(LoRAConfiguration(rank: settings.rank)),
      optimizer: try Optimizer.named(settings.optimizer), learningRate: 1e-5, maxSteps: steps,
      batchSize: settings.batch, shuffle: false, maxGradNorm: settings.masters ? 1 : 0,
      activationCheckpointing: settings.checkpointing, masterWeights: settings.masters,
      tokensPerPass: settings.masters
        ? BranchConfiguration.usualTokens : settings.sequences * settings.length)
  }

  private static func data(_ c: ModelConfiguration, _ settings: StepSettings) -> TrainingData {
    let random = CounterRandom(seed: 1).stream("tokens")
    var next: UInt64 = 0
    func ids(_ count: Int) -> [Int32] {
      (0..<count).map { _ in
        next += 1
        return Int32(random.integer(next, below: c.vocabulary))
      }
    }
    let prompt = settings.length - settings.answer
    if settings.objective == "sft" {
      return .sequences(
        (0..<settings.batch).map { _ in
          let all = ids(settings.length)
          let labels = all.indices.map { $0 < prompt ? Record.ignored : all[$0] }
          return SFTExample(ids: all, labels: labels)
        })
    }
    return .pairs(
      (0..<settings.batch).map { _ in
        PreferenceExample(
          prompt: ids(prompt), chosen: ids(settings.answer), rejected: ids(settings.answer))
      })
  }

  /// Uniform with deviation 0.02, norms one, biases zero: the sizes of a real model's activations,
  /// so that no denormal and no infinity has a say in the time.
  private static func fill(
    _ row: Parameter, _ target: UnsafeMutablePointer<Float>, on executor: Executor
  ) {
    let stream = CounterRandom(seed: 1).stream(row.name)
    executor.parallel(row.count, grain: 4096) { range in
      if row.isMatrix {
        for i in range {
          target[i] = Float((stream.uniform(UInt64(i)) - 0.5) * 0.0693)
        }
      } else {
        var value: Float = 1
        if case .bias = row.role { value = 0 }
        for i in range { target[i] = value }
      }
    }
  }

  /// Scratch of its passes.
  static func scratch(_ c: ModelConfiguration, _ settings: StepSettings) throws -> Int {
    let largest = ParameterTable.decoder(c).rows.reduce(0) { max($0, 4 * $1.count) }
    return try settings.parts.reduce(0) {
      max(
        $0,
        TrainingScratch.bytes(
          c, try configuration($1, steps: 1), longest: settings.length, largestTensor: largest))
    }
  }
}
