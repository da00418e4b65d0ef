// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTExample
import PAFTModels
import PAFTOps
import PAFTText

/// Scores models on held-out rows. The first model scored is the reference of the rewards.
struct Evaluator: Sendable {
  var sequences: [SFTExample] = []
  var pairs: [PreferenceExample] = []
  /// What generation-based grading needs; nil: no answers are generated.
  var grading: Grading?
  /// Factor on rewards.
  var beta = 0.1

  struct Grading: Sendable {
    let tokenizer: Tokenizer
    let instructions: [(prompt: String, completion: String)]
    let preferences: [(prompt: String, completion: String)]
    let maxNewTokens: Int
    /// Answers generated together.
    let batchSize: Int
  }

  /// Log-probabilities of a pair's answers.
  struct PairScore: Sendable {
    let chosen: Double
    let rejected: Double
  }

  var isEmpty: Bool { sequences.isEmpty && pairs.isEmpty && grading == nil }

  /// The longest sequence that any pass needs.
  func longest(_ configuration: ModelConfiguration) throws -> Int {
    var longest = sequences.reduce(2) { max($0, $1.ids.count) }
    for pair in pairs {
      longest = max(longest, pair.prompt.count + max(pair.chosen.count, pair.rejected.count))
    }
    if let grading {
      let prompts = try prompts(grading)
      let most = prompts.reduce(0) { max($0, $1.count) }
      longest = max(longest, most + min(grading.maxNewTokens, configuration.maxPositions))
    }
    return min(longest, configuration.maxPositions)
  }

  // MARK: - Scoring

  func score(
    _ name: String, _ decoder: Decoder, _ weights: Weights, reference: [PairScore]?
  ) throws -> (score: ModelScore, pairs: [PairScore]) {
    var result = ModelScore(model: name)
    let scorer = Scorer(decoder, weights)
    if !sequences.isEmpty { result.supervised = try supervised(scorer) }
    var pairScores: [PairScore] = []
    if !pairs.isEmpty {
      (result.preference, pairScores) = try preference(scorer, reference: reference)
    }
    if let grading { result.graded = try graded(grading, decoder, weights) }
    return (result, pairScores)
  }

  private func supervised(_ scorer: Scorer) throws -> ModelScore.Supervised {
    let results = try scorer.score(
      sequences.map { row in
        ScoreRequest(
          ids: row.ids,
          scored: row.labels.enumerated().map { $0 > 0 && $1 != Record.ignored })
      })
    let tokens = results.reduce(0) { $0 + $1.logprobs.count }
    let sum = results.reduce(0) { $0 + $1.sum }
    let correct = results.reduce(0) { $0 + $1.correct.reduce(0) { $0 + ($1 ? 1 : 0) } }
    return ModelScore.Supervised(
      rows: sequences.count, tokens: tokens, loss: -sum / Double(max(1, tokens)),
      tokenAccuracy: Double(correct) / Double(max(1, tokens)))
  }

  private func preference(
    _ scorer: Scorer, reference: [PairScore]?
  ) throws -> (ModelScore.Preference, [PairScore]) {
    let results = try scorer.score(
      pairs.flatMap { pair in
        [pair.chosen, pair.rejected].map {
          ScoreRequest(ids: pair.prompt + $0, from: pair.prompt.count)
        }
      })
    let scores = pairs.indices.map {
      PairScore(chosen: results[2 * $0].sum, rejected: results[2 * $0 + 1].sum)
    }
    func share(_ wins: (Int) -> Bool) -> Double {
      Double(pairs.indices.reduce(0) { $0 + (wins($1) ? 1 : 0) }) / Double(pairs.count)
    }
    func mean(_ index: Int, _ side: Int) -> Double {
      let result = results[2 * index + side]
      return result.sum / Double(max(1, result.logprobs.count))
    }
    let gains = reference.map { reference in
      pairs.indices.map {
        (scores[$0].chosen - reference[$0].chosen) - (scores[$0].rejected - reference[$0].rejected)
      }
    }
    return (
      ModelScore.Preference(
        pairs: pairs.count, accuracy: share { scores[$0].chosen > scores[$0].rejected },
        normalizedAccuracy: share { mean($0, 0) > mean($0, 1) },
        rewardAccuracy: gains.map { gains in share { gains[$0] > 0 } },
        rewardMargin: gains.map { beta * $0.reduce(0, +) / Double(pairs.count) }), scores
    )
  }

  // MARK: - Grading

  private func prompts(_ grading: Grading) throws -> [[Int32]] {
    try (grading.instructions + grading.preferences).map {
      try grading.tokenizer.encodeOpen($0.prompt)
    }
  }

  private func graded(
    _ grading: Grading, _ decoder: Decoder, _ weights: Weights
  ) throws -> ModelScore.Graded {
    let stops = decoder.configuration.eosIDs + (grading.tokenizer.eosID.map { [$0] } ?? [])
    var generator = Generator(decoder, weights, stops: stops)
    generator.batchSize = grading.batchSize
    // A prompt that is empty or fills the model gets no answer: a wrong one, not an error at the
    // end of a long run.
    let prompts = try prompts(grading)
    let answerable = prompts.indices.filter {
      !prompts[$0].isEmpty && prompts[$0].count < decoder.maxPositions
    }
    var answers = [String](repeating: "", count: prompts.count)
    let generated = try generator.generate(
      answerable.map { prompts[$0] }, maxTokens: grading.maxNewTokens)
    for (index, ids) in zip(answerable, generated) {
      answers[index] = try grading.tokenizer.decode(ids, skipSpecialTokens: true)
    }
    let split = grading.instructions.count
    var graded = ModelScore.Graded()
    if split > 0 {
      let right = zip(grading.instructions, answers).reduce(0) { sum, row in
        let wanted = InstructionRow(prompt: row.0.prompt, completion: row.0.completion, task: "")
        return sum + (ExampleWorld.isCorrect(row.1, row: wanted) ? 1 : 0)
      }
      graded.exactMatch = Double(right) / Double(split)
    }
    if !grading.preferences.isEmpty {
      let courteous = answers[split...].reduce(0) {
        $0 + (ExampleWorld.isPreferredStyle($1) ? 1 : 0)
      }
      graded.preferredStyle = Double(courteous) / Double(grading.preferences.count)
    }
    return graded
  }
}
