// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
package import PAFTFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Finds the lambda that gives a wanted sparsity: every `period` steps the delta's sparsity is measured and
/// log(lambda) moves by 2 * (wanted - measured), at most by a factor of two. The wanted sparsity
/// ramps up linearly over the first 60% of the run; the last 10% run with a frozen lambda. With a
/// fixed lambda the controller only reports it.
///
/// Exact zeros hold while the learning rate does. Under one that decays to zero, coordinates that
/// noise has just pushed out come back ever more slowly, and a run ends a few points below what its
/// lambda would hold; pruning at export takes that dust away.
package struct SparsityController: Sendable, Equatable {
  /// What a checkpoint keeps.
  package struct State: Sendable, Equatable {
    package var lambda: Double
    /// The last measurement and the step after which it was taken; nil before the first.
    package var sparsity: Double?
    package var measuredAt: Int?
  }

  /// Steps between measurements: 20, fewer in runs too short for sixty of those, so that lambda can
  /// cross the thirty doublings between where it starts and where it is needed.
  package let period: Int
  static let ramp = 0.6
  static let frozenTail = 0.1
  static let delay = 0.05
  static let gain = 2.0
  /// Steps a product's sparsity takes to answer, about.
  static let productPeriod = 8.0

  package let penalty: L1Penalty
  package let totalSteps: Int
  package private(set) var state: State
  private let bounds: ClosedRange<Double>

  /// - Parameter parameters: trained ones, which set where a product's lambda starts: its gradient
  ///   per factor entry is of the order of lambda, that of a clipped loss 1 / sqrt(parameters).
  package init(_ penalty: L1Penalty, totalSteps: Int, parameters: Int? = nil) {
    self.penalty = penalty
    self.totalSteps = max(1, totalSteps)
    period = min(20, max(1, totalSteps / 60))
    // A uniform threshold is lr * lambda against Adam's moves of about lr: 1 would freeze the delta.
    let uniform = penalty.form != .product
    bounds = uniform ? 1e-6...0.95 : 1e-12...1
    switch penalty.strength {
    case .lambda(let lambda): state = State(lambda: lambda)
    case .targetSparsity:
      let product = parameters.map { 0.02 / Double(max(1, $0)).squareRoot() } ?? 1e-8
      state = State(lambda: uniform ? 1e-3 : penalty.form == .product ? product : 1e-8)
    }
  }

  /// Lambda for step `step` (0-based). Factor form waits for B to leave zero.
  package func lambda(_ step: Int) -> Double {
    guard case .targetSparsity = penalty.strength else { return state.lambda }
    if penalty.form == .factor, Double(step) < Self.delay * Double(totalSteps) { return 0 }
    return state.lambda
  }

  /// The sparsity wanted after `steps` steps.
  package func target(_ steps: Int) -> Double? {
    guard case .targetSparsity(let final) = penalty.strength else { return nil }
    return final * min(1, Double(steps) / (Self.ramp * Double(totalSteps)))
  }

  /// Whether to measure the sparsity after `steps` completed steps.
  package func measures(_ steps: Int) -> Bool { steps > 0 && steps % period == 0 }

  /// Takes a measurement after `steps` completed steps; moves lambda unless fixed or frozen.
  package mutating func observe(_ sparsity: Double, after steps: Int) {
    state.sparsity = sparsity
    state.measuredAt = steps
    guard let target = target(steps), sparsity.isFinite,
      Double(steps) < (1 - Self.frozenTail) * Double(totalSteps)
    else { return }
    // A product answers late: the penalty must first turn the factors round. Measured more often it
    // is therefore moved less each time, or lambda would run past what is needed and freeze there.
    let patience = penalty.form == .product ? min(1, Double(period) / Self.productPeriod) : 1
    let limit = patience * 0.693_147_180_559_945_3
    let move = min(limit, max(-limit, patience * Self.gain * (target - sparsity)))
    state.lambda = min(bounds.upperBound, max(bounds.lowerBound, state.lambda * exp(move)))
  }

  // MARK: - Checkpoint

  package var json: JSON {
    var object = JSONObject()
    object["lambda"] = .number(state.lambda)
    object["sparsity"] = state.sparsity.map { .number($0) } ?? .null
    object["measured_at"] = state.measuredAt.map { JSON($0) } ?? .null
    return .object(object)
  }

  /// Restores a checkpoint's state.
  package mutating func restore(_ json: JSON) throws(Fault) {
    guard let lambda = json["lambda"]?.double, lambda.isFinite, lambda >= 0 else {
      throw Fault(.checkpoint, "l1 state: expected a lambda >= 0")
    }
    state = State(
      lambda: lambda, sparsity: json["sparsity"]?.double,
      measuredAt: json["measured_at"]?.int)
  }
}
