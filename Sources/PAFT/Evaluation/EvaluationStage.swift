// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTModels
import PAFTOps

/// Scores the base and then every other model on the same rows, one at a time on all cores.
struct EvaluationStage: Sendable {
  /// A model to score: a folder with or without an adapter.
  struct Candidate: Sendable {
    let name: String
    let model: String
    var adapter: String?
  }

  let preparation: Preparation
  let evaluator: Evaluator

  /// - Parameter base: the loaded base; candidates beside it with an adapter need no second copy.
  func run(_ candidates: [Candidate], base: BaseModel, stop: RunStopper) throws -> [ModelScore] {
    if evaluator.isEmpty { return [] }
    let folder = base.folder
    let longest = try evaluator.longest(folder.configuration)
    let batch = evaluator.grading?.batchSize ?? 1
    let scratch = InferenceScratch.bytes(
      folder, tokens: max(2048, batch * longest), logitRows: batch)
    let preparation = preparation
    let evaluator = evaluator
    return try Workbench.run(
      on: preparation.whole, preparation.kernels, preparation.recipe.dtype, named: "evaluate",
      scratch: scratch
    ) { executor in
      try base.load(on: executor)
      let decoder = try Decoder(folder.configuration, maxTokens: longest, on: executor)
      let (first, reference) = try evaluator.score("base", decoder, base.weights, reference: nil)
      var scores = [first]
      for candidate in candidates {
        try stop.check(before: "evaluating \(candidate.name)")
        let own =
          candidate.model == folder.path
          ? base
          : try BaseModel(
            ModelFolder(candidate.model), backward: false, quantizes: preparation.quantizes,
            on: executor)
        let loaded = try LoadedModel(own, adapter: candidate.adapter, on: executor)
        scores.append(
          try evaluator.score(candidate.name, decoder, loaded.weights, reference: reference).score)
      }
      return scores
    }
  }
}

extension Evaluator {
  /// The held-out rows of all branches of a run.
  init(_ preparation: Preparation) {
    let recipe = preparation.recipe
    var instructions: [(prompt: String, completion: String)] = []
    var preferences: [(prompt: String, completion: String)] = []
    for job in preparation.jobs {
      sequences += job.data.heldOut.sequences
      pairs += job.data.heldOut.pairs
      if job.recipe.preference == nil {
        instructions += job.data.heldOut.texts
      } else {
        preferences += job.data.heldOut.texts
        beta = job.recipe.preference?.beta ?? beta
      }
    }
    if recipe.evaluation.grader == .example, let tokenizer = preparation.tokenizer {
      grading = Grading(
        tokenizer: tokenizer, instructions: instructions, preferences: preferences,
        maxNewTokens: recipe.evaluation.maxNewTokens,
        batchSize: min(recipe.evaluation.batchSize, 1024))
    }
  }
}
