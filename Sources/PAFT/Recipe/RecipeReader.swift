// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTraining

/// Canonical leaves → typed values, with the defaults of `RecipeKeys` where nothing stands.
/// A leaf is looked up in several places in order: the branch, then what holds for both.
struct RecipeReader {
  let leaves: [String: ConfigNode]
  /// Source name of the recipe file and its folder; paths from elsewhere are relative to `current`.
  let file: (source: String, folder: String)
  let current: String

  // MARK: - Lookup

  private func leaf(_ paths: [String]) -> ConfigNode? {
    for path in paths {
      if var node = leaves[path] {
        if node.isNull { return nil }
        node.path = RecipeFlattening.shown(path)
        return node
      }
    }
    return nil
  }

  /// What stands at the first of `paths` that is set, else the key's default.
  private func node(_ key: RecipeKey, _ paths: [String]) throws -> ConfigNode? {
    if let node = leaf(paths) { return node }
    guard let standard = key.standard else { return nil }
    var node = try ConfigNode.parse(standard, source: "the default")
    node.path = paths[0]
    return node
  }

  private func key(_ section: RecipeSection, _ name: String) -> RecipeKey {
    guard let key = section.keys.first(where: { $0.name == name }) else {
      preconditionFailure("no recipe key \(section.name).\(name)")
    }
    return key
  }

  private func number(_ section: RecipeSection, _ name: String, _ paths: [String]) throws -> Double?
  {
    let key = key(section, name)
    return try node(key, paths).map { try RecipeValue.number($0, key.kind) }
  }

  private func count(_ section: RecipeSection, _ name: String, _ paths: [String]) throws -> Int? {
    let key = key(section, name)
    return try node(key, paths).map { try RecipeValue.count($0, key.kind) }
  }

  private func flag(_ section: RecipeSection, _ name: String, _ paths: [String]) throws -> Bool? {
    try node(key(section, name), paths).map { try $0.bool() }
  }

  private func text(_ section: RecipeSection, _ name: String, _ paths: [String]) throws -> String? {
    let key = key(section, name)
    return try node(key, paths).map {
      if case .choice(let names) = key.kind {
        try RecipeValue.choice($0, names)
      } else {
        try $0.string()
      }
    }
  }

  private func path(_ name: String) throws -> String? {
    try leaf([name]).map { node in
      let written = try node.string()
      guard !written.isEmpty else { throw node.error("expected a path") }
      return Paths.absolute(written, from: node.source == file.source ? file.folder : current)
    }
  }

  private func required(_ name: String) throws -> String {
    if let value = try path(name) { return value }
    throw ConfigError(
      source: file.source, line: 1, what: "no key '\(name)', which is required",
      hint: "add `\(name.replacing(".", with: ": {")): …`".replacing("{: …", with: "…"))
  }

  // MARK: - The recipe

  /// `branches`: those the recipe must have.
  func recipe(_ branches: [String]) throws -> Recipe {
    let dtype = try precision("dtype") ?? .bf16
    let seed = try count(.top, "seed", ["seed"])!
    let recipe = Recipe(
      model: try required("model"), output: try required("output"), seed: seed, dtype: dtype,
      baseDtype: try precision("base_dtype") ?? dtype,
      sft: branches.contains("sft") ? try branch("sft") : nil,
      align: branches.contains("align") ? try branch("align") : nil,
      merge: try merge(seed: seed), baselines: try baselines(), machine: try machine(),
      evaluation: try evaluation())
    try check(recipe)
    return recipe
  }

  private func precision(_ name: String) throws -> Recipe.Precision? {
    try text(.top, name, [name]).flatMap(Recipe.Precision.init)
  }

  /// What weights without masters cannot be combined with: whatever needs all gradients of a step, or
  /// another type than BF16. They are Floats of an adapter in any case.
  private func checkMasters(_ recipe: Recipe, _ name: String, _ branch: Recipe.Branch) throws {
    guard !branch.masterWeights, branch.adapter == .full,
      let node = leaf(["\(name).master_weights", "shared.master_weights"])
    else { return }
    let obstacles = [
      (recipe.dtype != .bf16, "dtype", recipe.dtype.rawValue, "bf16"),
      (branch.maxGradNorm != 0, "max_grad_norm", Numbers.short(branch.maxGradNorm), "0"),
      (
        branch.gradientAccumulationSteps != 1, "gradient_accumulation_steps",
        "\(branch.gradientAccumulationSteps)", "1"
      ),
      (branch.l1 != nil, "l1", "a penalty", "none"),
    ]
    for (isThere, key, found, expected) in obstacles where isThere {
      throw ConfigError(
        source: node.source, line: node.line,
        what: "\(name): master_weights false with \(key): found \(found), expected \(expected)",
        hint: "layers are updated one by one in the backward pass, before the whole gradient is "
          + "known; set \(key), or keep master weights")
    }
  }

  /// What the base's type has to do with the rest.
  private func check(_ recipe: Recipe) throws {
    if let sft = recipe.sft { try checkMasters(recipe, "sft", sft) }
    if let align = recipe.align { try checkMasters(recipe, "align", align) }
    guard recipe.baseDtype != recipe.dtype, let leaf = leaf(["base_dtype"]) else { return }
    guard recipe.baseDtype == .int8 else {
      throw leaf.error(
        "expected \(recipe.dtype.rawValue), which is dtype, or int8", hint: "remove base_dtype")
    }
  }

  private func baselines() throws -> [Recipe.Baseline] {
    guard let node = leaf(["baselines"]) else { return [] }
    var found: [Recipe.Baseline] = []
    let nodes = node.isSequence ? try node.elements() : [node]
    for element in nodes {
      let baseline = try element.choice(Recipe.Baseline.self)
      if !found.contains(baseline) { found.append(baseline) }
    }
    return found
  }

  private func branch(_ name: String) throws -> Recipe.Branch {
    func places(_ key: String) -> [String] { ["\(name).\(key)", "shared.\(key)"] }
    func number(_ key: String) throws -> Double? { try self.number(.branch, key, places(key)) }
    func count(_ key: String) throws -> Int? { try self.count(.branch, key, places(key)) }
    let adapter = try adapter(name)
    let steps = try count("max_steps")!
    if steps == 0 { throw leaf(places("max_steps"))!.error("expected -1 or a whole number >= 1") }
    let warmupSteps = try count("warmup_steps")
    let isLoRA = adapter != .full
    let usualRate =
      name == "sft" ? (isLoRA ? 2e-4 : 2e-5) : (isLoRA ? 5e-6 : 1e-6)
    let rule = try text(.branch, "optimizer", places("optimizer"))
    return Recipe.Branch(
      data: try required("\(name).data"), evalData: try path("\(name).eval_data"),
      evalFraction: try number("eval_fraction")!, adapter: adapter,
      epochs: try number("epochs")!, maxSteps: steps < 0 ? nil : steps,
      learningRate: try number("learning_rate") ?? usualRate,
      lrScheduler: try text(.branch, "lr_scheduler", places("lr_scheduler"))!,
      warmup: try warmupSteps.map(Double.init) ?? number("warmup_ratio")!,
      optimizer: rule == "sgd"
        ? .sgd(momentum: try number("momentum")!)
        : .adamw(
          beta1: try number("adam_beta1")!, beta2: try number("adam_beta2")!,
          epsilon: try number("adam_epsilon")!, eightBit: rule == "adamw_8bit"),
      masterWeights: try flag(.branch, "master_weights", places("master_weights"))!,
      weightDecay: try number("weight_decay")!, maxGradNorm: try number("max_grad_norm")!,
      batchSize: try count("batch_size")!,
      gradientAccumulationSteps: try count("gradient_accumulation_steps")!,
      maxLength: try count("max_length")!,
      assistantOnlyLoss: try flag(
        .branch, "assistant_only_loss", places("assistant_only_loss"))!,
      completionOnlyLoss: try flag(
        .branch, "completion_only_loss", places("completion_only_loss"))!,
      sharePrompts: try flag(.branch, "share_prompts", places("share_prompts"))!,
      maxBadRows: try count("max_bad_rows")!,
      shuffle: try flag(.branch, "shuffle", places("shuffle"))!,
      gradientCheckpointing: try flag(
        .branch, "gradient_checkpointing", places("gradient_checkpointing"))!,
      saveSteps: try count("save_steps")!, saveTotalLimit: try count("save_total_limit")!,
      loggingSteps: try count("logging_steps")!, l1: try penalty(name, lora: isLoRA),
      preference: name == "align" ? try preference() : nil)
  }

  private func adapter(_ branch: String) throws -> Recipe.Adapter {
    func places(_ key: String) -> [String] { ["\(branch).adapter.\(key)", "adapter.\(key)"] }
    if try text(.adapter, "type", places("type")) == "full" { return .full }
    let targets = leaf(places("target_modules"))
    let modules = try targets.map(RecipeValue.texts) ?? []
    let isAll = modules.isEmpty || modules == ["all-linear"] || modules == ["all"]
    return .lora(
      r: try count(.adapter, "r", places("r"))!,
      alpha: try number(.adapter, "alpha", places("alpha"))!,
      dropout: try number(.adapter, "dropout", places("dropout"))!,
      targetModules: isAll ? [] : modules,
      rslora: try flag(.adapter, "rslora", places("rslora"))!)
  }

  private func penalty(_ branch: String, lora: Bool) throws -> Recipe.L1? {
    let switched = try leaf(["\(branch).l1"]).map { try $0.bool() }
    if switched == false { return nil }
    let lambda = try number(.l1, "lambda", ["\(branch).l1.lambda"])
    let target = try number(.l1, "target_sparsity", ["\(branch).l1.target_sparsity"])
    let form = try text(.l1, "form", ["\(branch).l1.form"])
    if switched == nil && lambda == nil && target == nil && form == nil { return nil }
    let node = leaf(["\(branch).l1.lambda", "\(branch).l1.form", "\(branch).l1"])
    do {
      _ = try L1Penalty(lambda: lambda, targetSparsity: target, form: form, lora: lora)
    } catch { throw located(error, node) }
    return Recipe.L1(
      lambda: lambda, targetSparsity: lambda == nil ? target ?? 0.9 : nil, form: form)
  }

  private func preference() throws -> Recipe.Preference {
    func number(_ key: String) throws -> Double {
      try self.number(.preference, key, ["align.\(key)"])!
    }
    let divergence = try text(.preference, "f_divergence_type", ["align.f_divergence_type"])!
    let losses = try leaf(["align.loss"]).map(RecipeValue.texts) ?? ["dpo"]
    let preference = Recipe.Preference(
      losses: losses, lossWeights: try leaf(["align.loss_weights"]).map(RecipeValue.numbers),
      beta: try number("beta"), labelSmoothing: try number("label_smoothing"),
      simpoGamma: try number("simpo_gamma"), cpoAlpha: try number("cpo_alpha"),
      alphaPO: try number("alpha_po"), divergence: divergence,
      divergenceAlpha: try number("f_alpha_divergence_coef"),
      discopopTau: try number("discopop_tau"),
      referenceCache: try path("align.reference_cache"))
    do { _ = try preference.objective() } catch {
      throw located(error, leaf(["align.loss", "align.label_smoothing", "align.loss_weights"]))
    }
    return preference
  }

  private func merge(seed: Int) throws -> Recipe.Merge {
    func number(_ section: RecipeSection, _ name: String, _ path: String) throws -> Double {
      try self.number(section, name, [path])!
    }
    return Recipe.Merge(
      method: try text(.merge, "method", ["merge.method"])!,
      density: Recipe.PerBranch(
        sft: try number(.density, "sft", "merge.density.sft"),
        align: try number(.density, "align", "merge.density.align")),
      weights: Recipe.PerBranch(
        sft: try number(.weights, "sft", "merge.weights.sft"),
        align: try number(.weights, "align", "merge.weights.align")),
      lambda: try number(.merge, "lambda", "merge.lambda"),
      normalize: try flag(.merge, "normalize", ["merge.normalize"]),
      t: try number(.merge, "t", "merge.t"),
      seed: try count(.merge, "seed", ["merge.seed"]) ?? seed,
      dtype: try text(.merge, "dtype", ["merge.dtype"]))
  }

  private func machine() throws -> Recipe.Machine {
    Recipe.Machine(
      partitions: try partitions(), threads: try count(.machine, "threads", ["machine.threads"]),
      memoryLimit: try leaf(["machine.memory_limit"]).map(RecipeValue.bytes))
  }

  private func partitions() throws -> Recipe.Partitions {
    guard let node = leaf(["machine.partitions"]) else { return .auto }
    guard node.isMapping else {
      return try node.choice(["auto", "sequential"]) == "auto" ? .auto : .sequential
    }
    try node.check(known: ["sft", "align"])
    return .cpus(sft: try node.required("sft").string(), align: try node.required("align").string())
  }

  private func evaluation() throws -> Recipe.Evaluation {
    Recipe.Evaluation(
      batchSize: try count(.evaluation, "batch_size", ["eval.batch_size"])!,
      limit: try count(.evaluation, "limit", ["eval.limit"]),
      grader: Recipe.Grader(rawValue: try text(.evaluation, "grader", ["eval.grader"])!)!,
      maxNewTokens: try count(.evaluation, "max_new_tokens", ["eval.max_new_tokens"])!)
  }

  /// The trainer's own complaint about a value, with the line it stands in.
  private func located(_ error: any Error, _ node: ConfigNode?) -> any Error {
    guard let fault = error as? any Diagnosable, let node else { return error }
    return ConfigError(
      source: node.source, line: node.line, what: fault.message, hint: fault.hint)
  }
}

extension Recipe.Preference {
  /// The trainer's objective; throws what it has to say about losses and numbers.
  package func objective() throws -> PreferenceObjective {
    try PreferenceObjective(
      losses: losses, weights: lossWeights, cpoAlpha: cpoAlpha,
      settings: PreferenceSettings(
        beta: beta, labelSmoothing: labelSmoothing,
        divergence: Divergence.named(divergence, coefficient: divergenceAlpha),
        simpoGamma: simpoGamma, alphaPO: alphaPO, discopopTau: discopopTau))
  }
}
