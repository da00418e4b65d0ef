// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Numbers that shape a preference loss. Defaults are TRL's.
package struct PreferenceSettings: Sendable, Equatable {
  package var beta: Double
  /// Probability that a label is flipped; used by `sigmoid` (cDPO), `robust`, `exo_pair`, `cpo`, `simpo`.
  package var labelSmoothing: Double
  package var divergence: Divergence
  /// Target margin of SimPO, in units of beta * mean log-probability.
  package var simpoGamma: Double
  /// Shape of AlphaPO; 0 is off.
  package var alphaPO: Double
  /// Temperature of DiscoPOP's modulation.
  package var discopopTau: Double
  /// Running mean reward of the older `bco_pair`; 0 is TRL >= 0.29.
  package var bcoDelta: Double

  package init(
    beta: Double = 0.1, labelSmoothing: Double = 0, divergence: Divergence = .reverseKL,
    simpoGamma: Double = 0.5, alphaPO: Double = 0, discopopTau: Double = 0.05, bcoDelta: Double = 0
  ) {
    self.beta = beta
    self.labelSmoothing = labelSmoothing
    self.divergence = divergence
    self.simpoGamma = simpoGamma
    self.alphaPO = alphaPO
    self.discopopTau = discopopTau
    self.bcoDelta = bcoDelta
  }

  /// Throws a configuration fault for the first value that `loss` cannot work with.
  package func check(for loss: PreferenceLoss) throws(Fault) {
    guard beta.isFinite, beta > 0 else {
      throw Fault(.configuration, "beta: found \(beta), expected a number > 0")
    }
    guard labelSmoothing >= 0, labelSmoothing < 1 else {
      throw Fault(.configuration, "label_smoothing: found \(labelSmoothing), expected 0 <= x < 1")
    }
    if loss == .robust, labelSmoothing >= 0.5 {
      throw Fault(
        .configuration,
        "label_smoothing: found \(labelSmoothing), expected 0 <= x < 0.5 for robust",
        hint: "robust divides by 1 - 2 * label_smoothing")
    }
    if loss == .exoPair, labelSmoothing == 0 {
      throw Fault(
        .configuration, "label_smoothing: found 0, expected > 0 for exo_pair",
        hint: "exo_pair takes the logarithm of label_smoothing; 1e-3 is customary")
    }
    guard simpoGamma.isFinite, alphaPO.isFinite, bcoDelta.isFinite else {
      throw Fault(.configuration, "simpo_gamma, alpha: expected finite numbers")
    }
    // At tau >= 1 DiscoPOP's exp(-x) outruns its modulation and the loss is unbounded.
    guard discopopTau > 0, discopopTau < 1 else {
      throw Fault(.configuration, "discopop_tau: found \(discopopTau), expected 0 < x < 1")
    }
    if case .alpha(let alpha) = divergence, !alpha.isFinite {
      throw Fault(
        .configuration, "f_alpha_divergence_coef: found \(alpha), expected a finite number")
    }
  }
}
