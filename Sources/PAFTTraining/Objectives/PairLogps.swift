// SPDX-License-Identifier: Apache-2.0

/// What a preference loss sees of one pair: log-probabilities of the two completions, summed over
/// their tokens, under the policy and the frozen reference. Reference-free losses ignore the latter.
package struct PairLogps: Sendable, Equatable {
  package var policyChosen: Double
  package var policyRejected: Double
  package var referenceChosen: Double
  package var referenceRejected: Double
  /// Completion tokens, end-of-text included; counted as at least 1.
  package var chosenCount: Int
  package var rejectedCount: Int

  package init(
    policyChosen: Double, policyRejected: Double, referenceChosen: Double = 0,
    referenceRejected: Double = 0, chosenCount: Int, rejectedCount: Int
  ) {
    self.policyChosen = policyChosen
    self.policyRejected = policyRejected
    self.referenceChosen = referenceChosen
    self.referenceRejected = referenceRejected
    self.chosenCount = chosenCount
    self.rejectedCount = rejectedCount
  }

  /// log pi / pi_ref of the chosen completion.
  package var chosenRatio: Double { policyChosen - referenceChosen }
  /// log pi / pi_ref of the rejected completion.
  package var rejectedRatio: Double { policyRejected - referenceRejected }

  var chosenLength: Double { Double(max(1, chosenCount)) }
  var rejectedLength: Double { Double(max(1, rejectedCount)) }
}

/// A loss and its slopes with respect to the two summed policy log-probabilities.
package struct PairLoss: Sendable, Equatable {
  package var loss: Double
  package var dPolicyChosen: Double
  package var dPolicyRejected: Double

  package init(loss: Double, dPolicyChosen: Double, dPolicyRejected: Double) {
    self.loss = loss
    self.dPolicyChosen = dPolicyChosen
    self.dPolicyRejected = dPolicyRejected
  }

  package static let zero = PairLoss(loss: 0, dPolicyChosen: 0, dPolicyRejected: 0)

  /// self += weight * other.
  package mutating func add(_ other: PairLoss, weight: Double) {
    loss += weight * other.loss
    dPolicyChosen += weight * other.dPolicyChosen
    dPolicyRejected += weight * other.dPolicyRejected
  }
}
