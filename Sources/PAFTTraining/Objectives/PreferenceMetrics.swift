// SPDX-License-Identifier: Apache-2.0

/// Running means of one logging window, under TRL's names.
package struct PreferenceMetrics: Sendable, Equatable {
  package private(set) var pairs = 0
  private var loss = 0.0
  private var rewardChosen = 0.0
  private var rewardRejected = 0.0
  private var wins = 0
  private var logpChosen = 0.0
  private var logpRejected = 0.0

  package init() {}

  package mutating func add(
    _ pair: PairLogps, loss: Double, rewards: (chosen: Double, rejected: Double)
  ) {
    pairs += 1
    self.loss += loss
    rewardChosen += rewards.chosen
    rewardRejected += rewards.rejected
    // Strictly greater: at step 0 policy and reference agree and the accuracy is 0.
    if rewards.chosen > rewards.rejected { wins += 1 }
    logpChosen += pair.policyChosen
    logpRejected += pair.policyRejected
  }

  package var meanLoss: Double { mean(loss) }
  package var rewardsChosen: Double { mean(rewardChosen) }
  package var rewardsRejected: Double { mean(rewardRejected) }
  package var rewardsMargins: Double { mean(rewardChosen) - mean(rewardRejected) }
  package var rewardsAccuracies: Double { mean(Double(wins)) }
  package var logpsChosen: Double { mean(logpChosen) }
  package var logpsRejected: Double { mean(logpRejected) }

  private func mean(_ sum: Double) -> Double { pairs == 0 ? 0 : sum / Double(pairs) }
}
