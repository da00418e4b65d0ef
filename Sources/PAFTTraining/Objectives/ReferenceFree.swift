// SPDX-License-Identifier: Apache-2.0

/// Losses that need no reference model.
package enum ReferenceFree {
  /// Mean log-probabilities above this count as this: at 0 the odds are infinite.
  static let logpCeiling = -1e-7

  /// log(odds of chosen / odds of rejected), odds = p / (1 - p), from mean log-probabilities per
  /// token; and its slopes 1/(1-exp(p)) with respect to them, taken at the ceiling above it, so that a
  /// rejected answer of probability one is still pushed down.
  package static func logOdds(_ chosen: Double, _ rejected: Double) -> (
    value: Double, dChosen: Double, dRejected: Double
  ) {
    let w = min(chosen, logpCeiling)
    let l = min(rejected, logpCeiling)
    return (
      (w - l) - (StableMath.log1mexp(w) - StableMath.log1mexp(l)),
      1 - StableMath.log1mexpSlope(w), StableMath.log1mexpSlope(l) - 1
    )
  }

  /// b * sp(-log odds): the preference part of ORPO (Hong 2024, equation 6, lambda = beta).
  static func orpo(_ pair: PairLogps, _ settings: PreferenceSettings) -> PairLoss {
    let odds = logOdds(
      pair.policyChosen / pair.chosenLength, pair.policyRejected / pair.rejectedLength)
    let slope = -settings.beta * StableMath.sigmoid(-odds.value)
    return PairLoss(
      loss: settings.beta * StableMath.softplus(-odds.value),
      dPolicyChosen: slope * odds.dChosen / pair.chosenLength,
      dPolicyRejected: slope * odds.dRejected / pair.rejectedLength)
  }

  /// CPO (Xu 2024), SimPO (Meng 2024) and AlphaPO (Gupta 2025), which reshapes the log-probabilities.
  static func contrastive(
    _ loss: PreferenceLoss, _ pair: PairLogps, _ settings: PreferenceSettings
  ) -> PairLoss {
    let averaged = loss == .simpo || loss == .cpoIPO
    let nw = averaged ? pair.chosenLength : 1
    let nl = averaged ? pair.rejectedLength : 1
    let w = reshaped(pair.policyChosen / nw, settings.alphaPO)
    let l = reshaped(pair.policyRejected / nl, settings.alphaPO)
    let b = settings.beta
    let margin = w.value - l.value
    let f: (loss: Double, slope: Double)
    switch loss {
    case .cpoHinge:
      let h = MarginLoss.hinge(b * margin)
      f = (h.loss, h.slope * b)
    case .cpoIPO:
      let d = margin - 1 / (2 * b)
      f = (d * d, 2 * d)
    default:
      let gamma = loss == .simpo ? settings.simpoGamma : 0
      let h = MarginLoss.sigmoid(b * margin - gamma, settings.labelSmoothing)
      f = (h.loss, h.slope * b)
    }
    return PairLoss(
      loss: f.loss, dPolicyChosen: f.slope * w.slope / nw, dPolicyRejected: -f.slope * l.slope / nl)
  }

  /// (1 - exp(-alpha p)) / alpha and its slope; the identity at alpha = 0.
  private static func reshaped(_ p: Double, _ alpha: Double) -> (value: Double, slope: Double) {
    if alpha == 0 { return (p, 1) }
    let e = StableMath.clampedExp(-alpha * p)
    return ((1 - e.value) / alpha, e.slope)
  }
}
