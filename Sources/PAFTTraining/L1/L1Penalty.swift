// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// The L1 penalty on a branch's delta (PAFT, arXiv 2406.17923, equation 1): how strong, on what, and
/// by which update.
package struct L1Penalty: Sendable, Equatable {
  package enum Strength: Sendable, Equatable {
    /// A fixed lambda, sum form.
    case lambda(Double)
    /// The controller drives lambda until this share of the delta counts as zero.
    case targetSparsity(Double)
  }

  package enum Form: String, Sendable, CaseIterable {
    /// lambda * sum|theta - theta_pre|, proximal step after the optimizer's; exact zeros.
    case prox
    /// lambda * (|A|_1 + |B|_1) on LoRA factors, proximal step; depends on the gauge.
    case factor
    /// lambda * |s B A|_1, gradient added after clipping; gauge invariant, no exact zeros.
    case product
  }

  package let strength: Strength
  package let form: Form

  package init(strength: Strength, form: Form) throws(Fault) {
    switch strength {
    case .lambda(let lambda):
      guard lambda.isFinite, lambda >= 0 else {
        throw Fault(.configuration, "l1.lambda: found \(lambda), expected a number >= 0")
      }
    case .targetSparsity(let target):
      guard target >= 0, target < 1 else {
        throw Fault(.configuration, "l1.target_sparsity: found \(target), expected 0 <= x < 1")
      }
    }
    self.strength = strength
    self.form = form
  }

  /// From a recipe's `l1:` block. `form` nil: product for LoRA, prox for full deltas.
  package init(lambda: Double?, targetSparsity: Double?, form: String?, lora: Bool) throws(Fault) {
    let strength: Strength
    switch (lambda, targetSparsity) {
    case (let lambda?, nil): strength = .lambda(lambda)
    case (nil, let target?): strength = .targetSparsity(target)
    case (nil, nil): strength = .targetSparsity(0.9)
    case (_?, _?):
      throw Fault(
        .configuration, "l1: found lambda and target_sparsity, expected one of them",
        hint: "lambda fixes the strength, target_sparsity lets it be found")
    }
    var chosen: Form = lora ? .product : .prox
    if let form {
      guard let known = Form(rawValue: form) else {
        throw .unknown("l1.form", form, among: Form.allCases.map(\.rawValue))
      }
      guard lora == (known != .prox) else {
        throw Fault(
          .configuration,
          "l1.form: found \(form), expected \(lora ? "product or factor with a LoRA adapter" : "prox for a full delta")"
        )
      }
      chosen = known
    }
    try self.init(strength: strength, form: chosen)
  }
}
