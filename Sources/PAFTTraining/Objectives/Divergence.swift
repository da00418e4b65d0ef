// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Scores of a log-ratio r = log pi / pi_ref under an f-divergence (Wang et al. 2023, f-DPO).
/// The default, reverse KL, is the identity: plain DPO.
package enum Divergence: Sendable, Equatable {
  case reverseKL
  case forwardKL
  case jensenShannon
  case alpha(Double)

  static let names = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]

  /// By TRL's `f_divergence_type`; `coefficient` is `f_alpha_divergence_coef`.
  package static func named(_ name: String, coefficient: Double = 0.5) throws(Fault) -> Divergence {
    switch name {
    case "reverse_kl": return .reverseKL
    case "forward_kl": return .forwardKL
    case "js_divergence", "js": return .jensenShannon
    case "alpha_divergence", "alpha": return .alpha(coefficient)
    default: throw .unknown("f_divergence_type", name, among: names)
    }
  }

  /// The score of `r` and its slope. Exponents stop at 80, where the score goes flat.
  package func score(_ r: Double) -> (value: Double, slope: Double) {
    switch self {
    case .reverseKL:
      return (r, 1)
    case .forwardKL:
      let e = StableMath.clampedExp(-r)
      return (-e.value, e.slope)
    case .jensenShannon:
      return (-StableMath.softplus(-r), StableMath.sigmoid(-r))
    case .alpha(let alpha):
      let k = alpha - 1
      if abs(k) < 1e-6 { return (r, 1) }
      let e = StableMath.clampedExp(k * r)
      return (e.value / k, e.slope)
    }
  }
}

extension Fault {
  /// "key: found x, expected one of …" with the nearest name as hint.
  static func unknown<S: Sequence<String>>(_ key: String, _ found: String, among names: S) -> Fault
  {
    Fault(
      .configuration,
      "\(key): found \"\(found)\", expected one of \(names.joined(separator: ", "))",
      hint: nearest(to: found, in: names).map { "did you mean \"\($0)\"?" })
  }
}
