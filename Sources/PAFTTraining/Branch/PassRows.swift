// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTModels
import PAFTText

/// The rows of a branch as its passes see them.
package enum PassRows: Sendable {
  case supervised(SupervisedRows)
  case preference(PreferenceRows, PreferenceObjective)

  /// - Parameter window: rows of a step.
  package init(_ data: TrainingData, _ configuration: BranchConfiguration, window: Int) {
    switch (data, configuration.objective) {
    case (.sequences(let examples), _):
      self = .supervised(SupervisedRows(examples, configuration, window))
    case (.pairs(let examples), .preference(let objective)):
      self = .preference(PreferenceRows(examples, objective, configuration, window), objective)
    case (.pairs, .sft):
      preconditionFailure("pairs need a preference loss")
    }
  }
}

/// Sequences and what they begin with alike.
package struct SupervisedRows: Sendable {
  package let examples: [SFTExample]
  package let prompts: PromptTree

  init(_ examples: [SFTExample], _ configuration: BranchConfiguration, _ window: Int) {
    self.examples = examples
    let ends = examples.map { configuration.sharesPrompts ? $0.sharable : 0 }
    prompts = PromptTree(rows: examples.count, window: window) {
      ends[$0]
    } token: {
      examples[$0].ids[$1]
    }
  }

  package subscript(_ row: Int32) -> SFTExample { examples[Int(row)] }
}

extension SFTExample {
  /// Tokens before the one that predicts the first label.
  fileprivate var sharable: Int {
    max(0, (labels.dropFirst().firstIndex { $0 != Record.ignored } ?? ids.count) - 1)
  }
}

/// Pairs and what their prompts begin with alike.
package struct PreferenceRows: Sendable {
  package let examples: [PreferenceExample]
  package let prompts: PromptTree
  private let sharesPrompts: Bool

  init(
    _ examples: [PreferenceExample], _ objective: PreferenceObjective,
    _ configuration: BranchConfiguration, _ window: Int
  ) {
    self.examples = examples
    sharesPrompts = configuration.sharesPrompts
    // A prompt that has labels is shared by its own answers alone.
    let shares = configuration.sharesPrompts && !objective.nllCoversPrompt
    prompts = PromptTree(rows: examples.count, window: window) {
      shares ? max(0, examples[$0].prompt.count - 1) : 0
    } token: {
      examples[$0].prompt[$1]
    }
  }

  package subscript(_ row: Int32) -> PreferenceExample { examples[Int(row)] }
  /// Of the pair's reference log-probabilities in a cache.
  func key(_ row: Int) -> ContentHash {
    ReferenceCache.key(examples[row], cuts: prompts.cuts(row))
  }
  package func layout(_ row: Int32) -> PairLayout {
    PairLayout(self[row], sharesPrompt: sharesPrompts)
  }
}
