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
    /// Of each sequence, in tokens: what rows share is one of its own.
    var lengths: [Int] = []
    var labels = 0
    /// Queries times the keys that each of them sees.
    var scores = 0.0
    /// Tokens of its rows, a shared prompt counted with each answer.
    var counted = 0
    var tokens: Int { lengths.reduce(0, +) }

    /// `count` tokens behind `before` others.
    mutating func append(_ count: Int, before: Int) {
      if count == 0 { return }
      lengths.append(count)
      scores += Work.pairs(count, before: before)
    }
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
    let rows = PassRows(data, configuration, window: plan.window)
    var sampler = Sampler(
      plan, seed: CounterRandom(seed: configuration.seed).stream(configuration.name).key,
      shuffles: configuration.shuffle)
    let most = configuration.tokensPerPass
    let used = plan.rowsUsed(&sampler)
    let walked = (0..<data.count).filter { used?[$0] ?? true }.map { Int32(truncatingIfNeeded: $0) }
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

  /// Cuts rows into passes, and lays these out, as training does.
  private static func cut(
    _ window: UnsafeBufferPointer<Int32>, _ rows: PassRows, _ most: Int, _ body: (Pass) -> Void
  ) {
    switch rows {
    case .supervised(let rows):
      cut(window, rows.prompts, most, body) {
        rows[$0].ids.count
      } add: { row, from, pass in
        let example = rows[row]
        pass.append(example.ids.count - from, before: from)
        pass.labels += example.trainedTokens
        pass.counted += example.ids.count
      }
    case .preference(let rows, let objective):
      cut(window, rows.prompts, most, body) {
        rows.layout($0).tokens
      } add: { row, from, pass in
        let (pair, layout) = (rows[row], rows.layout(row))
        pass.append(layout.shared - from, before: from)
        pass.append(layout.chosen, before: layout.shared)
        pass.append(layout.rejected, before: layout.shared)
        pass.labels += pair.chosen.count + pair.rejected.count
        if objective.nllCoversPrompt { pass.labels += max(0, pair.prompt.count - 1) }
        pass.counted += pair.tokens
      }
    }
  }

  /// - Parameter add: adds a row to a pass, of which the first tokens are computed with others'.
  private static func cut(
    _ window: UnsafeBufferPointer<Int32>, _ prompts: PromptTree, _ most: Int,
    _ body: (Pass) -> Void, length: (Int32) -> Int,
    add: (_ row: Int32, _ from: Int, _ pass: inout Pass) -> Void
  ) {
    let shared = prompts.common(window)
    for rows in PassCut.passes(window, capacity: most, shared: shared, length: length) {
      var pass = Pass()
      rows.withUnsafeBufferPointer {
        prompts.walk($0) { beginning, _ in
          pass.append(beginning.ids.count, before: beginning.from)
          return 0
        } row: { row, from, _ in
          add(row, from, &pass)
        }
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
}
