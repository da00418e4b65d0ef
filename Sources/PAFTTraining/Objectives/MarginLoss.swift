// SPDX-License-Identifier: Apache-2.0

/// Losses of one scaled margin x, each with its slope; e is the label smoothing.
enum MarginLoss {
  typealias Value = (loss: Double, slope: Double)

  /// (1-e) sp(-x) + e sp(x): DPO, and cDPO when e > 0.
  static func sigmoid(_ x: Double, _ e: Double) -> Value {
    if e == 0 { return (StableMath.softplus(-x), -StableMath.sigmoid(-x)) }
    return (
      (1 - e) * StableMath.softplus(-x) + e * StableMath.softplus(x),
      e * StableMath.sigmoid(x) - (1 - e) * StableMath.sigmoid(-x)
    )
  }

  /// max(0, 1 - x).
  static func hinge(_ x: Double) -> Value { x < 1 ? (1 - x, -1) : (0, 0) }

  /// ((1-e) sp(-x) - e sp(x)) / (1-2e): unbiased under labels flipped with probability e < 1/2.
  static func robust(_ x: Double, _ e: Double) -> Value {
    let scale = 1 / (1 - 2 * e)
    return (
      scale * ((1 - e) * StableMath.softplus(-x) - e * StableMath.softplus(x)),
      -scale * ((1 - e) * StableMath.sigmoid(-x) + e * StableMath.sigmoid(x))
    )
  }

  /// sg(x) (log sg(x) - log(1-e)) + sg(-x) (log sg(-x) - log e); the slope collapses to
  /// sg(x) sg(-x) (x - log((1-e)/e)).
  static func exo(_ x: Double, _ e: Double) -> Value {
    let logKept = StableMath.ln(1 - e)
    let logFlipped = StableMath.ln(e)
    let loss =
      StableMath.sigmoid(x) * (-StableMath.softplus(-x) - logKept)
      + StableMath.sigmoid(-x) * (-StableMath.softplus(x) - logFlipped)
    return (loss, StableMath.sigmoidSlope(x) * (x - logKept + logFlipped))
  }

  /// (1-m) sp(-x) + m exp(-x), m = sg(x/tau). The last term is one exponential, because for
  /// x << 0 its factors are 0 and infinity.
  static func discopop(_ x: Double, tau: Double) -> Value {
    let t = x / tau
    let kept = StableMath.sigmoid(-t)
    let logistic = StableMath.softplus(-x)
    let exponential = StableMath.clampedExp(-x - StableMath.softplus(-t)).value
    let slope =
      -StableMath.sigmoidSlope(t) / tau * logistic - kept * StableMath.sigmoid(-x)
      + exponential * (kept / tau - 1)
    return (kept * logistic + exponential, slope)
  }
}
