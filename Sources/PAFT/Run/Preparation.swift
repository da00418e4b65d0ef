// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTText
import PAFTTraining

/// Everything a run needs to know before it works: whatever is wrong with the machine, the model,
/// the recipe or the data is found here.
struct Preparation: Sendable {
  let recipe: Recipe
  let machine: Machine
  let kernels: KernelTable
  /// Of both branches, in order; one for a single branch.
  let places: [Place]
  /// All cores, for what is not a branch.
  let whole: Place
  let model: ModelFolder
  let tokenizer: Tokenizer?
  var jobs: [BranchJob]
  let isSequential: Bool
  /// One copy of the base for branches on different memory nodes too: a copy for each does not fit.
  var sharesBase = false

  /// - Parameters:
  ///   - nested: whether each branch has a folder of its own inside the output.
  ///   - refusesMemory: whether a run that cannot fit is an error (81).
  init(_ recipe: Recipe, isa: String?, nested: Bool, refusesMemory: Bool = true) throws {
    self.recipe = recipe
    kernels = try ComputeOptions(isa: isa).kernels()
    machine = try Machine.detect()
    let threads = recipe.machine.threads
    whole = machine.place(threads: threads)
    guard FileSystem.isFolder(recipe.model) else {
      throw Fault(
        .missingInput, "no model folder \(quoted(recipe.model))",
        hint: "models are read from local folders; nothing is downloaded")
    }
    let model = try ModelFolder(recipe.model)
    self.model = model
    let tokenizer =
      FileSystem.isFile(recipe.model + "/tokenizer.json")
      ? try Tokenizer(folder: recipe.model) : nil
    self.tokenizer = tokenizer
    if let tokenizer, tokenizer.vocabularySize > model.configuration.vocabulary {
      throw Fault(
        .data,
        "\(recipe.model): the tokenizer has ids up to \(tokenizer.vocabularySize - 1), the model "
          + "\(model.configuration.vocabulary) embeddings",
        hint: "tokenizer.json belongs to another model")
    }
    if recipe.sft != nil && recipe.align != nil {
      // Opens no files: only whether such a merge exists.
      _ = try MergeStage(settings: recipe.merge, base: recipe.model).configuration(
        sft: BranchResultFolder(path: "sft", isAdapter: false),
        align: BranchResultFolder(path: "align", isAdapter: false))
    }
    let branches = [("sft", recipe.sft), ("align", recipe.align)].compactMap { name, branch in
      branch.map { (name, $0) }
    }
    jobs = try branches.map { name, branch in
      try Self.job(
        name, branch, recipe, model, tokenizer,
        folder: nested ? recipe.output + "/" + name : recipe.output)
    }
    switch recipe.machine.partitions {
    case .cpus(let sft, let align):
      places = try [machine.place(cpus: sft), machine.place(cpus: align)]
      isSequential = false
    case .sequential:
      places = jobs.map { [whole] _ in whole }
      isSequential = true
    case .auto:
      places =
        jobs.count < 2
        ? [whole]
        : machine.split(
          by: try jobs.map { try BranchWork($0, model.configuration, recipe).weight },
          threads: threads)
      isSequential = false
    }
    // Of the files of rows only what is trained stays.
    Machine.trimHeap()
    try keepMemoryLimit()
    if refusesMemory { try requireMemory(MemoryPlan(self)) }
  }

  private static func job(
    _ name: String, _ branch: Recipe.Branch, _ recipe: Recipe, _ model: ModelFolder,
    _ tokenizer: Tokenizer?, folder: String
  ) throws -> BranchJob {
    // No row can be longer than the model's positions, whatever max_length says.
    var branch = branch
    branch.maxLength = min(branch.maxLength, model.configuration.maxPositions)
    // Before the data is read: cheaper complaints come first.
    _ = try branch.configuration(
      name: name, seed: recipe.seed, dtype: recipe.dtype, fingerprint: "")
    try branch.adapter.check(name, model.configuration)
    let data = try BranchData(
      branch, name: name, seed: recipe.seed, limit: recipe.evaluation.limit, tokenizer: tokenizer,
      vocabulary: model.configuration.vocabulary)
    return try BranchJob(
      name: name, streamName: name, branch, data: data, recipe, model.configuration,
      base: recipe.model, folder: folder)
  }

  /// What a person wants to know before hours pass.
  var notices: [String] {
    var lines: [String] = []
    for (job, place) in zip(jobs, places) {
      let asked = (job.name == "sft" ? recipe.sft : recipe.align)?.maxLength ?? 0
      if asked > job.recipe.maxLength {
        lines.append(
          "\(job.name): max_length \(asked) becomes \(job.recipe.maxLength), the model's positions")
      }
      lines += job.data.summary.report.map { "\(job.name): \($0)" }
      lines += job.data.leftOut.map { "\(job.name): left out \($0.message)" }
      lines.append("\(job.name): on \(TopologyVerb.describe(place))")
    }
    return lines
  }

  /// Of each place the memory nodes that it shares a copy of the base on.
  var homes: [[Int]] { places.map { sharesBase ? [] : machine.nodes(of: $0) } }

  var needsBackward: Bool { jobs.contains { $0.configuration.adaptation != .full } }

  /// Whether training reads the base's weights: beside adapters, or as a reference.
  var needsBase: Bool {
    needsBackward
      || jobs.contains { job in
        if case .preference(let objective) = job.configuration.objective {
          objective.needsReference
        } else {
          false
        }
      }
  }

  /// Loads a model for use on `place`: shared by all who run on its node.
  /// What training does not read is loaded when it is scored.
  func load(_ folder: ModelFolder, backward: Bool, on place: Place) throws -> BaseModel {
    guard needsBase else { return BaseModel(unloaded: folder, quantizes: quantizes) }
    return try Workbench.run(
      on: place, kernels, recipe.dtype, named: "load",
      scratch: 2 * folder.largestTensor + (64 << 20)
    ) { [quantizes, turns] in
      try BaseModel(
        folder, backward: backward, quantizes: quantizes, turns: backward && turns, on: $0)
    }
  }

  /// Whether a frozen base is kept in one layout, which input gradients turn: half the memory for
  /// a part in a hundred of the time where passes are not small (`GEMM+Turned.swift`). The bits are the
  /// same.
  var turns: Bool {
    jobs.allSatisfy { job in
      let tokens =
        switch job.data.training {
        case .sequences(let rows): rows.reduce(0) { $0 + $1.ids.count }
        case .pairs(let rows): rows.reduce(0) { $0 + $1.tokens }
        }
      let window = tokens / max(1, job.data.training.count) * job.configuration.batchSize
      return min(window, job.configuration.tokensPerPass) >= PackedWeight.fewestRowsToTurn
    }
  }

  /// Whether the base is held in 8 bits. What is evaluated beside it is then held so too: numbers
  /// of one table are made in one way.
  var quantizes: Bool { recipe.baseDtype == .int8 }
}

extension BranchJob {
  /// - Parameter streamName: decides the random streams, so that a baseline draws what its model does.
  init(
    name: String, streamName: String, _ branch: Recipe.Branch, data: BranchData, _ recipe: Recipe,
    _ model: ModelConfiguration, base: String, folder: String
  ) throws {
    var configuration = try branch.configuration(
      name: streamName, seed: recipe.seed, dtype: recipe.dtype,
      fingerprint:
        "base \(base)\(recipe.baseDtype == .int8 ? " in int8" : "")\ndata \(data.checksum)")
    // The two answers' lengths may ask for different rotations of the prompt.
    if model.rotatesByLength { configuration.sharesPrompts = false }
    self.init(
      name: name, recipe: branch, configuration: configuration, data: data, model: model,
      base: base, folder: folder, baseDtype: recipe.baseDtype)
  }
}
