// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTModels
import PAFTOps
import PAFTText
import PAFTTraining

/// The passes a branch will make, found by walking its steps over the lengths of its rows: the
/// order of the rows and the cut into passes are known before any work is done.
struct TrainingShape: Sendable {
  /// One forward and backward pass.
  struct Pass: Sendable, Equatable {
    /// Of each sequence, in tokens; of a pair with a shared prompt the prompt's and the answers'.
    var lengths: [Int] = []
    var labels = 0
    /// Queries times the keys that each of them sees.
    var scores = 0.0
    /// Tokens of its rows, a shared prompt counted with each answer.
    var counted = 0
    var tokens: Int { lengths.reduce(0, +) }
  }

  let steps: Int
  /// Passes of the step that has most.
  private(set) var mostPasses = 0
  /// Of the whole training: tokens of its rows, as its metrics count them, and those computed.
  private(set) var tokens = 0
  private(set) var computed = 0
  private(set) var labels = 0
  /// Queries times the keys that each of them sees: what attention grows with.
  private(set) var scores = 0.0
  /// Different passes worth a look: those with most tokens, labels or sequences so far.
  private(set) var largest: [Pass] = []
  /// Computed tokens, labels and scores of one walk over the rows that the steps use: what a reference
  /// costs.
  private(set) var walkTokens = 0
  private(set) var walkLabels = 0
  private(set) var walkScores = 0.0
  /// Its passes, chosen as `largest` is.
  private(set) var walk: [Pass] = []

  /// More steps than this are extrapolated: they repeat what was seen.
  private static let mostSteps = 100_000

  init(_ configuration: BranchConfiguration, _ data: TrainingData) throws {
    let plan = try TrainingPlan(
      rows: data.count, batchSize: configuration.batchSize,
      accumulation: configuration.accumulation, epochs: configuration.epochs,
      maxSteps: configuration.maxSteps)
    steps = plan.totalSteps
    let rows = Self.rows(data, configuration)
    var sampler = Sampler(
      plan, seed: CounterRandom(seed: configuration.seed).stream(configuration.name).key,
      shuffles: configuration.shuffle)
    let most = configuration.tokensPerPass
    let used = plan.rowsUsed(&sampler)
    let walked = rows.indices.filter { used?[$0] ?? true }.map { Int32(truncatingIfNeeded: $0) }
    walked.withUnsafeBufferPointer {
      Self.cut($0, rows, most) { pass in
        walkTokens += pass.tokens
        walkLabels += pass.labels
        walkScores += pass.scores
        Self.keep(pass, in: &walk)
      }
    }
    let seen = min(steps, Self.mostSteps)
    for step in 0..<seen {
      var passes = 0
      defer { mostPasses = max(mostPasses, passes) }
      Self.cut(sampler.window(step), rows, most) { pass in
        passes += 1
        tokens += pass.counted
        computed += pass.tokens
        labels += pass.labels
        scores += pass.scores
        Self.keep(pass, in: &largest)
      }
    }
    if seen < steps {
      let factor = Double(steps) / Double(seen)
      tokens = Int(Double(tokens) * factor)
      computed = Int(Double(computed) * factor)
      labels = Int(Double(labels) * factor)
      scores *= factor
    }
  }

  /// Cuts rows into passes as training does.
  private static func cut(
    _ window: UnsafeBufferPointer<Int32>, _ rows: [Pass], _ most: Int, _ body: (Pass) -> Void
  ) {
    for indices in PassCut.passes(window, capacity: most, length: { rows[Int($0)].tokens }) {
      var pass = Pass()
      for index in indices {
        let row = rows[Int(index)]
        pass.lengths += row.lengths
        pass.labels += row.labels
        pass.scores += row.scores
        pass.counted += row.counted
      }
      body(pass)
    }
  }

  private static func keep(_ pass: Pass, in passes: inout [Pass]) {
    let isLarger = passes.allSatisfy {
      pass.tokens > $0.tokens || pass.labels > $0.labels || pass.lengths.count > $0.lengths.count
    }
    guard isLarger else { return }
    passes.removeAll {
      $0.tokens <= pass.tokens && $0.labels <= pass.labels
        && $0.lengths.count <= pass.lengths.count
    }
    passes.append(pass)
  }

  private static func rows(_ data: TrainingData, _ configuration: BranchConfiguration) -> [Pass] {
    switch data {
    case .sequences(let rows):
      return rows.map {
        Pass(
          lengths: [$0.ids.count], labels: $0.trainedTokens, scores: Work.pairs($0.ids.count),
          counted: $0.ids.count)
      }
    case .pairs(let rows):
      var coversPrompt = false
      if case .preference(let preference) = configuration.objective {
        coversPrompt = preference.nllCoversPrompt
      }
      return rows.map { pair in
        let layout = PairLayout(pair, sharesPrompt: configuration.sharesPrompts)
        let answers = [layout.chosen, layout.rejected]
        return Pass(
          lengths: layout.shared > 0 ? [layout.shared] + answers : answers,
          labels: pair.chosen.count + pair.rejected.count
            + (coversPrompt ? max(0, pair.prompt.count - 1) : 0),
          scores: answers.reduce(Work.pairs(layout.shared)) {
            $0 + Work.pairs($1, before: layout.shared)
          }, counted: pair.tokens)
      }
    }
  }
}
