// SPDX-License-Identifier: Apache-2.0

/// How one model does on the held-out rows. A field is nil where there were no such rows.
public struct ModelScore: Sendable, Equatable {
  /// base, sft, align, merged, dense, sequential, or a folder.
  public let model: String
  public var supervised: Supervised?
  public var preference: Preference?
  public var graded: Graded?

  public struct Supervised: Sendable, Equatable {
    public let rows: Int
    /// Trained tokens.
    public let tokens: Int
    /// Mean cross-entropy per token, in nats.
    public let loss: Double
    /// Share of tokens that were the most probable ones.
    public let tokenAccuracy: Double

    package init(rows: Int, tokens: Int, loss: Double, tokenAccuracy: Double) {
      self.rows = rows
      self.tokens = tokens
      self.loss = loss
      self.tokenAccuracy = tokenAccuracy
    }
  }

  public struct Preference: Sendable, Equatable {
    public let pairs: Int
    /// Share of pairs whose chosen answer has the larger log-probability.
    public let accuracy: Double
    /// The same with log-probabilities per token.
    public let normalizedAccuracy: Double
    /// Share of pairs whose chosen answer gained more over the base: TRL's rewards/accuracies. Nil
    /// for the base, which gains nothing over itself.
    public let rewardAccuracy: Double?
    /// Mean of beta times the difference of these gains: TRL's rewards/margins.
    public let rewardMargin: Double?

    package init(
      pairs: Int, accuracy: Double, normalizedAccuracy: Double, rewardAccuracy: Double?,
      rewardMargin: Double?
    ) {
      self.pairs = pairs
      self.accuracy = accuracy
      self.normalizedAccuracy = normalizedAccuracy
      self.rewardAccuracy = rewardAccuracy
      self.rewardMargin = rewardMargin
    }
  }

  /// Generated answers, for the built-in example.
  public struct Graded: Sendable, Equatable {
    /// Share of answers with the right content, whatever their manner; of held-out instructions.
    public var exactMatch: Double?
    /// Share of answers in the preferred manner; of held-out preference prompts.
    public var preferredStyle: Double?

    package init(exactMatch: Double? = nil, preferredStyle: Double? = nil) {
      self.exactMatch = exactMatch
      self.preferredStyle = preferredStyle
    }
  }

  var isFinite: Bool { supervised?.loss.isFinite ?? true }

  package init(
    model: String, supervised: Supervised? = nil, preference: Preference? = nil,
    graded: Graded? = nil
  ) {
    self.model = model
    self.supervised = supervised
    self.preference = preference
    self.graded = graded
  }
}
