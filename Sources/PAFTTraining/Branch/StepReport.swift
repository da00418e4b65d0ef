// SPDX-License-Identifier: Apache-2.0

/// What one optimizer step did. A value without references: making one allocates nothing.
package struct StepReport: Sendable {
  /// Steps done, this one included.
  package var step = 0
  package var totalSteps = 0
  package var epoch = 0.0
  /// The objective, L1 excluded.
  package var loss = 0.0
  package var learningRate = 0.0
  /// Norm of the gradient before clipping.
  package var gradientNorm = 0.0
  /// Tokens of this step, prompts included.
  package var tokens = 0
  /// All tokens so far.
  package var totalTokens = 0
  package var seconds = 0.0
  /// Share of the labelled tokens that were the most probable ones.
  package var tokenAccuracy = 0.0
  /// Of preference objectives.
  package var preference: PreferenceMetrics?
  /// ORPO and kin: token-mean cross-entropy of the chosen answers.
  package var nll: Double?
  package var l1: L1Report?

  package init() {}
}

package struct L1Report: Sendable {
  package var lambda = 0.0
  /// Sum of the absolute delta.
  package var norm = 0.0
  /// Penalised parameters.
  package var count = 0
  /// As last measured by the controller.
  package var sparsity: Double?
  /// Of the last step, where the smallest entries were cut to reach the target.
  package var sparsityBeforeSettling: Double?
}

extension MetricsWriter {
  /// One row under TRL's names.
  package mutating func write(_ report: StepReport) throws {
    begin(step: report.step)
    field("loss", report.loss)
    field("learning_rate", report.learningRate)
    field("grad_norm", report.gradientNorm)
    field("tokens", report.tokens)
    field("seconds", report.seconds)
    field("num_tokens", report.totalTokens)
    field("epoch", report.epoch)
    field("mean_token_accuracy", report.tokenAccuracy)
    if let p = report.preference {
      field("rewards/chosen", p.rewardsChosen)
      field("rewards/rejected", p.rewardsRejected)
      field("rewards/accuracies", p.rewardsAccuracies)
      field("rewards/margins", p.rewardsMargins)
      field("logps/chosen", p.logpsChosen)
      field("logps/rejected", p.logpsRejected)
    }
    if let nll = report.nll { field("nll_loss", nll) }
    if let l1 = report.l1 {
      field("l1_norm", l1.norm)
      field("lambda", l1.lambda)
      field("l1_to_loss", l1.lambda * Double(l1.count) / max(report.loss, 1e-30))
      if let sparsity = l1.sparsity { field("sparsity", sparsity) }
      if let before = l1.sparsityBeforeSettling { field("sparsity_before_settling", before) }
    }
    try end()
  }
}
