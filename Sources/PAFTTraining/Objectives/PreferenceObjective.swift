// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// A weighted sum of preference losses as a recipe names it (`loss_type`, `loss_weights`), plus the
/// weight of the likelihood of the chosen answer, which the branch computes with the language-model
/// head: RPO is ["sigmoid", "sft"], MPO is ["sigmoid", "bco_pair", "sft"] with [.8, .2, 1].
package struct PreferenceObjective: Sendable, Equatable {
  package struct Term: Sendable, Equatable {
    package var loss: PreferenceLoss
    package var weight: Double
  }

  package let terms: [Term]
  package let settings: PreferenceSettings
  /// Factor on the token-mean cross entropy of the chosen answers; 0 means not needed.
  package let nllWeight: Double
  /// ORPO trains on the prompt's tokens as well.
  package let nllCoversPrompt: Bool

  /// `weights` default to 1. `cpoAlpha` is the likelihood's weight in CPO; SimPO proper has none, so
  /// it applies to `cpo*` alone.
  package init(
    losses: [String] = ["sigmoid"], weights: [Double]? = nil, cpoAlpha: Double = 1,
    settings: PreferenceSettings = PreferenceSettings()
  ) throws(Fault) {
    guard !losses.isEmpty else {
      throw Fault(.configuration, "loss_type: found an empty list, expected at least one name")
    }
    let weights = weights ?? Array(repeating: 1, count: losses.count)
    guard weights.count == losses.count, weights.allSatisfy(\.isFinite) else {
      throw Fault(
        .configuration,
        "loss_weights: found \(weights.count) values, expected \(losses.count) finite ones, one per loss_type"
      )
    }
    var terms: [Term] = []
    var nll = 0.0
    var prompt = false
    for (name, weight) in zip(losses, weights) {
      if name == "sft" {
        nll += weight
        continue
      }
      let loss = try PreferenceLoss.named(name)
      try settings.check(for: loss)
      terms.append(Term(loss: loss, weight: weight))
      switch loss {
      case .orpo:
        nll += weight
        prompt = true
      case .cpo, .cpoHinge, .cpoIPO: nll += weight * cpoAlpha
      default: break
      }
    }
    guard !prompt || terms.count == 1 else {
      throw Fault(
        .configuration, "loss_type: found orpo with other losses, expected it alone",
        hint: "its likelihood covers the prompt, theirs does not")
    }
    self.terms = terms
    self.settings = settings
    nllWeight = nll
    nllCoversPrompt = prompt
  }

  package var needsReference: Bool { terms.contains { $0.loss.needsReference } }

  /// The weighted sum over the terms for one pair.
  package func callAsFunction(_ pair: PairLogps) -> PairLoss {
    var sum = PairLoss.zero
    for term in terms { sum.add(term.loss(pair, settings), weight: term.weight) }
    return sum
  }

  /// The implicit rewards that logs show: beta times the raw log-ratio; without a reference, beta
  /// times the log-probability (mean per token where the loss uses means).
  package func rewards(_ pair: PairLogps) -> (chosen: Double, rejected: Double) {
    if needsReference {
      return (settings.beta * pair.chosenRatio, settings.beta * pair.rejectedRatio)
    }
    let sums = terms.contains { $0.loss == .cpo || $0.loss == .cpoHinge }
    return (
      settings.beta * pair.policyChosen / (sums ? 1 : pair.chosenLength),
      settings.beta * pair.policyRejected / (sums ? 1 : pair.rejectedLength)
    )
  }
}
