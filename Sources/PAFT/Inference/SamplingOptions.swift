// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTModels

/// How answers are drawn, and how long they may get: what `paft generate` and `paft chat` share.
package struct SamplingOptions: Sendable {
  /// Of one answer.
  package var maxTokens: Int
  /// 0 takes the most probable token.
  package var temperature: Double
  /// Probability of the smallest set of tokens that is drawn from.
  package var topP: Double
  package var seed: Int

  package init(
    maxTokens: Int = 128, temperature: Double = 0, topP: Double = 1, seed: Int = 42
  ) {
    self.maxTokens = maxTokens
    self.temperature = temperature
    self.topP = topP
    self.seed = seed
  }

  /// - Parameter turn: counts the answers of a conversation: each has draws of its own.
  func sampling(turn: Int = 0) -> Sampling {
    Sampling(temperature: temperature, topP: topP, seed: UInt64(seed) &+ UInt64(turn))
  }

  /// Throws 64 for a value that no option may have.
  func check() throws(Fault) {
    guard temperature.isFinite, temperature >= 0 else {
      throw Fault(.usage, "--temperature \(temperature): expected a number >= 0")
    }
    guard topP > 0, topP <= 1 else {
      throw Fault(.usage, "--top-p \(topP): expected 0 < p <= 1")
    }
    guard maxTokens >= 1 else {
      throw Fault(.usage, "--max-tokens \(maxTokens): expected at least 1")
    }
    guard seed >= 0 else { throw Fault(.usage, "--seed \(seed): expected a number >= 0") }
  }
}
