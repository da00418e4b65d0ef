// SPDX-License-Identifier: Apache-2.0

/// Losses of single rated completions: r = log pi / pi_ref of one completion, label good or bad.
package enum UnpairedLoss: String, Sendable, CaseIterable {
  /// Ethayarajh 2024: good 1 - sg(b (r - z)), bad 1 - sg(b (z - r)); z is the batch's KL estimate.
  case kto
  /// D'Oosterlinck 2024: good 1 - sg(b r), bad sg(b r).
  case apoZeroUnpaired = "apo_zero_unpaired"

  /// The loss and its slope with respect to the policy's log-probability. `kl` passes no gradient.
  package func callAsFunction(ratio: Double, desirable: Bool, beta: Double, kl: Double) -> (
    loss: Double, slope: Double
  ) {
    let centre = self == .kto ? kl : 0
    let x = beta * (ratio - centre)
    let slope = beta * StableMath.sigmoidSlope(x)
    return desirable ? (StableMath.sigmoid(-x), -slope) : (StableMath.sigmoid(x), slope)
  }
}
