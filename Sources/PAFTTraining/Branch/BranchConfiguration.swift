// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTModels
import PAFTText

/// What a branch trains: everything, or low-rank factors beside a frozen base.
package enum Adaptation: Sendable, Equatable {
  case full
  case lora(LoRAConfiguration)
}

/// What a branch minimises.
package enum Objective: Sendable, Equatable {
  /// Token-mean cross-entropy.
  case sft
  case preference(PreferenceObjective)
}

/// The rows a branch learns from.
package enum TrainingData: Sendable {
  case sequences([SFTExample])
  case pairs([PreferenceExample])

  package var count: Int {
    switch self {
    case .sequences(let rows): rows.count
    case .pairs(let rows): rows.count
    }
  }

  /// Length of the longest sequence that a step will hold.
  package var longest: Int {
    switch self {
    case .sequences(let rows): rows.reduce(0) { max($0, $1.ids.count) }
    case .pairs(let rows):
      rows.reduce(0) { max($0, $1.prompt.count + max($1.chosen.count, $1.rejected.count)) }
    }
  }
}

/// One branch, fully resolved: names and defaults are the recipe's business.
package struct BranchConfiguration: Sendable {
  /// "sft" or "align": part of messages, thread names and random streams.
  package var name: String
  package var objective: Objective
  package var adaptation: Adaptation
  package var optimizer: Optimizer
  package var learningRate: Double
  package var schedule: Schedule
  /// Below 1 a share of the steps, otherwise a number of steps.
  package var warmup: Double
  package var epochs: Double
  package var maxSteps: Int?
  package var batchSize: Int
  package var accumulation: Int
  package var shuffle: Bool
  package var seed: UInt64
  /// 0 or infinite: no clipping.
  package var maxGradNorm: Double
  package var l1: L1Penalty?
  package var activationCheckpointing: Bool
  /// Whether trained weights are Floats, of which operands are made. If not, full fine-tuning has BF16
  /// weights alone and updates each layer in the backward pass: `LayerwiseTraining`.
  package var masterWeights: Bool
  /// Steps between checkpoints; nil keeps only the one written when the run is interrupted.
  package var saveEvery: Int?
  package var keepCheckpoints: Int
  /// Tokens of one forward pass; a step with more is cut into several and their gradients summed.
  package var tokensPerPass: Int
  /// Enough rows for every product, few enough for a layer's activations to stay near: in passes of twice as
  /// many a 0.5B model trains 3 to 6 % slower, and all keep twice the activations.
  package static let usualTokens = 1024
  /// Whether a pair's prompt is computed once for both answers, and what rows of a pass begin with alike
  /// once for all of them (`PromptTree`): the same loss, rounded differently.
  package var sharesPrompts: Bool
  /// Where reference log-probabilities are kept for the next run; nil: only in this one's checkpoints.
  package var referenceCache: ReferenceCache?
  /// Text of everything that decides the result, the data included; a checkpoint written under
  /// another one is not resumed.
  package var fingerprint: String

  package init(
    name: String, objective: Objective, adaptation: Adaptation, optimizer: Optimizer,
    learningRate: Double, schedule: Schedule = .linear, warmup: Double = 0, epochs: Double = 1,
    maxSteps: Int? = nil, batchSize: Int = 8, accumulation: Int = 1, shuffle: Bool = true,
    seed: UInt64 = 42, maxGradNorm: Double = 1, l1: L1Penalty? = nil,
    activationCheckpointing: Bool = false, saveEvery: Int? = nil, keepCheckpoints: Int = 2,
    masterWeights: Bool = true, tokensPerPass: Int = Self.usualTokens, sharesPrompts: Bool = true,
    referenceCache: ReferenceCache? = nil, fingerprint: String = ""
  ) {
    self.name = name
    self.objective = objective
    self.adaptation = adaptation
    self.optimizer = optimizer
    self.learningRate = learningRate
    self.schedule = schedule
    self.warmup = warmup
    self.epochs = epochs
    self.maxSteps = maxSteps
    self.batchSize = batchSize
    self.accumulation = accumulation
    self.shuffle = shuffle
    self.seed = seed
    self.maxGradNorm = maxGradNorm
    self.l1 = l1
    self.activationCheckpointing = activationCheckpointing
    self.saveEvery = saveEvery
    self.keepCheckpoints = keepCheckpoints
    self.masterWeights = masterWeights
    self.tokensPerPass = tokensPerPass
    self.sharesPrompts = sharesPrompts
    self.referenceCache = referenceCache
    self.fingerprint = fingerprint
  }
}
