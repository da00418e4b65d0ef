// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Pairwise preference losses by TRL's `loss_type` names, as pure functions of four summed
/// log-probabilities and two lengths. With a, c the log-ratios of chosen and rejected, s their
/// divergence scores, n the lengths, b = beta, e = label smoothing and x = b (s_w - s_l):
///
///     sigmoid       (1-e) sp(-x) + e sp(x)                DPO, Rafailov 2023; e > 0: cDPO, Mitchell 2023
///     hinge         max(0, 1 - x)                         SLiC, Zhao 2023
///     ipo           (s_w/n_w - s_l/n_l - 1/(2b))^2        Azar 2023, length-averaged
///     robust        ((1-e) sp(-x) - e sp(x)) / (1-2e)     Chowdhury 2024
///     exo_pair      KL(sigmoid(x) || 1-e)                 Ji 2024
///     nca_pair      sp(-b s_w) + (sp(b s_w) + sp(b s_l))/2   Chen 2024
///     bco_pair      sp(delta - b s_w) + sp(b s_l - delta)    Jung 2024
///     sppo_hard     (s_w - 1/(2b))^2 + (s_l + 1/(2b))^2   Wu 2024
///     apo_zero      1 - sg(b a) + sg(b c)                 D'Oosterlinck 2024
///     apo_down      sg(b a) + 1 - sg(x)
///     discopop      (1-m) sp(-x) + m exp(-x), m = sg(x/tau)   Lu 2024
///     sigmoid_norm  sp(-b (s_w/n_w - s_l/n_l))
///     orpo          b sp(-log odds ratio of the mean log-probabilities)   Hong 2024
///     simpo         sigmoid form of b X - gamma, X = mean - mean          Meng 2024
///     cpo, cpo_hinge (X = sum - sum), cpo_ipo (X = mean - mean)           Xu 2024
package enum PreferenceLoss: String, Sendable, CaseIterable {
  case sigmoid
  case hinge
  case ipo
  case robust
  case exoPair = "exo_pair"
  case ncaPair = "nca_pair"
  case bcoPair = "bco_pair"
  case sppoHard = "sppo_hard"
  case apoZero = "apo_zero"
  case apoDown = "apo_down"
  case discopop
  case sigmoidNorm = "sigmoid_norm"
  case orpo
  case simpo
  case cpo
  case cpoHinge = "cpo_hinge"
  case cpoIPO = "cpo_ipo"

  /// By name; `dpo` and `cdpo` are `sigmoid`. An unknown name is a configuration fault.
  package static func named(_ name: String) throws(Fault) -> PreferenceLoss {
    if name == "dpo" || name == "cdpo" { return .sigmoid }
    if let loss = PreferenceLoss(rawValue: name) { return loss }
    throw .unknown("loss_type", name, among: ["dpo", "cdpo"] + allCases.map(\.rawValue))
  }

  /// Whether the reference model's log-probabilities matter.
  package var needsReference: Bool {
    switch self {
    case .orpo, .simpo, .cpo, .cpoHinge, .cpoIPO: false
    default: true
    }
  }

  /// The loss of one pair and its slopes. ORPO's and CPO's likelihood term is the branch's
  /// (`PreferenceObjective.nllWeight`).
  package func callAsFunction(_ pair: PairLogps, _ settings: PreferenceSettings) -> PairLoss {
    switch self {
    case .orpo: ReferenceFree.orpo(pair, settings)
    case .simpo, .cpo, .cpoHinge, .cpoIPO: ReferenceFree.contrastive(self, pair, settings)
    default: scored(pair, settings)
    }
  }

  private func scored(_ pair: PairLogps, _ settings: PreferenceSettings) -> PairLoss {
    let b = settings.beta
    let e = settings.labelSmoothing
    let w = settings.divergence.score(pair.chosenRatio)
    let l = settings.divergence.score(pair.rejectedRatio)
    let x = b * (w.value - l.value)
    /// A loss f(x) of the scaled margin only.
    func margin(_ f: (loss: Double, slope: Double)) -> PairLoss {
      PairLoss(
        loss: f.loss, dPolicyChosen: f.slope * b * w.slope, dPolicyRejected: -f.slope * b * l.slope)
    }
    /// A loss f(s_w) + g(s_l), slopes with respect to the scores.
    func separate(_ f: (loss: Double, slope: Double), _ g: (loss: Double, slope: Double))
      -> PairLoss
    {
      PairLoss(
        loss: f.loss + g.loss, dPolicyChosen: f.slope * w.slope, dPolicyRejected: g.slope * l.slope)
    }
    switch self {
    case .hinge:
      return margin(MarginLoss.hinge(x))
    case .robust:
      return margin(MarginLoss.robust(x, e))
    case .exoPair:
      return margin(MarginLoss.exo(x, e))
    case .discopop:
      return margin(MarginLoss.discopop(x, tau: settings.discopopTau))
    case .ipo:
      let d = w.value / pair.chosenLength - l.value / pair.rejectedLength - 1 / (2 * b)
      return PairLoss(
        loss: d * d, dPolicyChosen: 2 * d * w.slope / pair.chosenLength,
        dPolicyRejected: -2 * d * l.slope / pair.rejectedLength)
    case .sigmoidNorm:
      let f = MarginLoss.sigmoid(
        b * (w.value / pair.chosenLength - l.value / pair.rejectedLength), 0)
      return PairLoss(
        loss: f.loss, dPolicyChosen: f.slope * b * w.slope / pair.chosenLength,
        dPolicyRejected: -f.slope * b * l.slope / pair.rejectedLength)
    case .ncaPair:
      let u = b * w.value
      let v = b * l.value
      return separate(
        (
          StableMath.softplus(-u) + 0.5 * StableMath.softplus(u),
          b * (0.5 * StableMath.sigmoid(u) - StableMath.sigmoid(-u))
        ),
        (0.5 * StableMath.softplus(v), 0.5 * b * StableMath.sigmoid(v)))
    case .bcoPair:
      let u = b * w.value - settings.bcoDelta
      let v = b * l.value - settings.bcoDelta
      return separate(
        (StableMath.softplus(-u), -b * StableMath.sigmoid(-u)),
        (StableMath.softplus(v), b * StableMath.sigmoid(v)))
    case .sppoHard:
      let u = w.value - 1 / (2 * b)
      let v = l.value + 1 / (2 * b)
      return separate((u * u, 2 * u), (v * v, 2 * v))
    case .apoZero:
      // Raw log-ratios, not scores, as TRL.
      let u = b * pair.chosenRatio
      let v = b * pair.rejectedRatio
      return PairLoss(
        loss: StableMath.sigmoid(-u) + StableMath.sigmoid(v),
        dPolicyChosen: -b * StableMath.sigmoidSlope(u),
        dPolicyRejected: b * StableMath.sigmoidSlope(v))
    case .apoDown:
      let u = b * pair.chosenRatio
      var result = margin((StableMath.sigmoid(-x), -StableMath.sigmoidSlope(x)))
      result.loss += StableMath.sigmoid(u)
      result.dPolicyChosen += b * StableMath.sigmoidSlope(u)
      return result
    case .sigmoid, .orpo, .simpo, .cpo, .cpoHinge, .cpoIPO:
      return margin(MarginLoss.sigmoid(x, e))
    }
  }
}
