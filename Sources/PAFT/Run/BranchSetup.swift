// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTTraining

extension Recipe.Branch {
  /// The trainer's configuration, and what of it the trainer cannot do.
  ///
  /// - Parameters:
  ///   - name: "sft" or "align": part of messages and random streams.
  ///   - fingerprint: of base and data.
  func configuration(name: String, seed: Int, dtype: Recipe.Precision, fingerprint: String)
    throws -> BranchConfiguration
  {
    let isLoRA = adapter != .full
    return BranchConfiguration(
      name: name, objective: try preference.map { .preference(try $0.objective()) } ?? .sft,
      adaptation: try adapter.adaptation(), optimizer: try optimizer.trainers(weightDecay),
      learningRate: learningRate, schedule: try Schedule.named(lrScheduler), warmup: warmup,
      epochs: epochs, maxSteps: maxSteps, batchSize: batchSize,
      accumulation: gradientAccumulationSteps, shuffle: shuffle, seed: UInt64(seed),
      maxGradNorm: maxGradNorm,
      l1: try l1.map {
        try L1Penalty(
          lambda: $0.lambda, targetSparsity: $0.targetSparsity, form: $0.form, lora: isLoRA)
      },
      activationCheckpointing: gradientCheckpointing, saveEvery: saveSteps == 0 ? nil : saveSteps,
      keepCheckpoints: saveTotalLimit, masterWeights: masterWeights || isLoRA,
      tokensPerPass: tokensPerPass, sharesPrompts: sharePrompts,
      fingerprint: fingerprint + "\nseed \(seed) dtype \(dtype.rawValue)\n" + deciding)
  }

  /// Without masters a step is one pass, whatever its rows come to.
  private var tokensPerPass: Int {
    let usual = BranchConfiguration.usualTokens
    if masterWeights || adapter != .full { return usual }
    let row = maxLength.multipliedReportingOverflow(by: preference == nil ? 1 : 2)
    let step = row.partialValue.multipliedReportingOverflow(by: batchSize)
    return row.overflow || step.overflow
      ? .max >> 16 : max(usual, min(step.partialValue, .max >> 16))
  }

  /// Every key that decides the result, as text.
  private var deciding: String {
    var object = json.object!
    for key in [
      "data", "eval_data", "save_steps", "save_total_limit", "logging_steps",
      "gradient_checkpointing", "reference_cache",
    ] { object[key] = nil }
    return JSON.object(object).serialized()
  }
}

extension Recipe.Adapter {
  func adaptation() throws -> Adaptation {
    guard case .lora(let r, let alpha, let dropout, let names, let rslora) = self else {
      return .full
    }
    guard dropout == 0 else {
      throw Fault(
        .configuration, "adapter.dropout: found \(Numbers.short(dropout)), expected 0",
        hint: "dropout is not supported yet; weight_decay or fewer epochs also hold back an adapter"
      )
    }
    let known = Module.allCases.map(\.name)
    let targets = try names.map { name in
      guard let module = Module.allCases.first(where: { $0.name == name }) else {
        throw Fault(
          .configuration,
          "adapter.target_modules: found \(quoted(name)), expected all-linear or names of "
            + known.joined(separator: ", "),
          hint: nearest(to: name, in: known).map { "did you mean '\($0)'?" })
      }
      return module
    }
    return .lora(
      LoRAConfiguration(
        rank: r, alpha: alpha, rankStabilized: rslora,
        targets: targets.isEmpty ? Module.allCases : targets))
  }
}

extension Recipe.Adapter {
  /// Refuses modules that the model lacks: without them the adapter is not the one that was asked for.
  func check(_ branch: String, _ model: ModelConfiguration) throws {
    guard case .lora(_, _, _, let names, _) = self, !names.isEmpty else { return }
    let known = model.modules.map(\.name)
    let missing = names.filter { !known.contains($0) }
    guard !missing.isEmpty else { return }
    throw Fault(
      .configuration,
      "\(branch): adapter.target_modules: found \(missing.joined(separator: ", ")), but the modules "
        + "of a \(model.family.architecture) are \(known.joined(separator: ", "))",
      hint: "all-linear takes them all")
  }
}

extension Recipe.Optimizer {
  func trainers(_ weightDecay: Double) throws -> PAFTTraining.Optimizer {
    switch self {
    case .adamw(let beta1, let beta2, let epsilon, let eightBit):
      .adamW(
        try AdamW(
          beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay,
          eightBit: eightBit))
    case .sgd(let momentum): .sgd(try SGD(momentum: momentum, weightDecay: weightDecay))
    }
  }
}
