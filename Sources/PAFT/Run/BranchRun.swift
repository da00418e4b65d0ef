// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTTraining

/// `paft sft`, `paft align`: one branch alone, written straight into the output folder.
package struct BranchRun: Sendable {
  package let recipe: Recipe
  package let scope: Recipe.Scope
  package var resume = false
  package var isa: String?
  /// About keys that change nothing.
  private let notices: [String]

  /// - Parameter values: what the command line says about model, data and output.
  package init(
    _ scope: Recipe.Scope, values: [(key: String, text: String)], overrides: [String]
  ) throws(PAFTError) {
    self.scope = scope
    (recipe, notices) = try PAFTError.wrapping {
      var tree = ConfigNode(
        value: .mapping([]), line: 1, source: "the command line", path: "")
      for (key, text) in values { try tree.set(key, to: JSON.string(text).serialized()) }
      // Keys of the branch may come without its name in front: there is only one.
      return try Recipe.resolve(tree, overrides: overrides, folder: Paths.current, scope: scope)
    }
  }

  package func run(_ observer: RunObserver) throws(PAFTError) -> Report {
    try PAFTError.wrapping {
      let clock = Stopwatch()
      try RunFolder.check(recipe, scope: scope, resume: resume)
      let preparation = try Preparation(recipe, isa: isa, nested: false)
      let folder = try RunFolder(recipe, scope: scope, resume: resume)
      for notice in notices + preparation.notices { observer.onEvent(.notice(notice)) }
      var timing = Report.Timing()
      observer.onEvent(.stage("loading \(recipe.model)"))
      let base = try preparation.load(
        preparation.model, backward: preparation.needsBackward, on: preparation.places[0])
      timing.preparation = clock.seconds
      observer.onEvent(.stage("training"))
      let outcome = try TrainingStage(
        preparation: preparation, observer: observer, resume: resume
      ).run(preparation.jobs, on: preparation.places, bases: [base], atOnce: false)[0]
      timing.training = clock.seconds - timing.preparation
      let job = preparation.jobs[0]
      observer.onEvent(.stage("evaluating"))
      let before = clock.seconds
      let isFull = job.configuration.adaptation == .full
      let scores = try EvaluationStage(
        preparation: preparation, evaluator: Evaluator(preparation)
      ).run(
        [
          EvaluationStage.Candidate(
            name: job.name, model: isFull ? outcome.path : recipe.model,
            adapter: isFull ? nil : outcome.path)
        ], base: base, stop: RunStopper(observer))
      timing.evaluation = clock.seconds - before
      timing.total = clock.seconds
      let report = Report(
        recipe: recipe, machine: preparation.report([base]), timing: timing,
        branches: [try job.report(outcome)], merge: nil, scores: scores, sparsity: [])
      try report.write(into: folder.path)
      try report.refuseNotFinite()
      return report
    }
  }
}

extension Preparation {
  /// - Parameter bases: as the branches used them, replicas once.
  func report(_ bases: [BaseModel]) -> Report.Machine {
    Report.Machine(
      model: machine.topology.model, kernels: kernels.name,
      workers: isSequential ? whole.count : Set(places.flatMap(\.cpus)).count,
      peakBytes: Machine.peakResident,
      bases: bases.flatMap { $0.memory.map(Residence.init) })
  }
}

extension BranchJob {
  func report(_ outcome: BranchOutcome) throws -> Report.Branch {
    let log = try TrainingLog(folder: folder)
    return Report.Branch(
      name: name, objective: recipe.preference?.losses.joined(separator: " + ") ?? "sft",
      rows: data.training.count,
      heldOutRows: data.heldOut.sequences.count + data.heldOut.pairs.count, steps: outcome.steps,
      parameters: outcome.parameters, tokens: log.tokens, seconds: log.seconds,
      firstLoss: log.firstLoss, finalLoss: log.finalLoss, place: outcome.place,
      path: outcome.path, placement: outcome.placement)
  }
}

extension Report {
  /// A branch whose last step blew up has no later step to notice it. Its report is written all the
  /// same, for it tells what happened.
  ///
  /// Throws exit code 80.
  func refuseNotFinite() throws(Fault) {
    guard let score = scores.first(where: { !$0.isFinite }) else { return }
    throw Fault(
      .notFinite, "\(score.model): the loss on held-out rows is not finite after training",
      hint: "lower the learning rate; the report is in \(recipe.output)")
  }

  func write(into folder: String) throws {
    try writeCards(into: folder)
    try FileSystem.replace(folder + "/report.md", with: markdown.utf8)
    // Last: who finds report.json finds everything.
    try FileSystem.replace(folder + "/report.json", with: json.utf8)
  }
}
