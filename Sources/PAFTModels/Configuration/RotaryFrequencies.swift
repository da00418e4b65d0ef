// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTOps

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Base and scaling of rotary position embedding.
package struct RotaryFrequencies: Sendable, Equatable {
  package enum Scaling: Sendable, Equatable {
    case none
    /// Positions divided by `factor` (Chen et al. 2023).
    case linear(factor: Double)
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a linear blend between.
    case llama3(factor: Double, low: Double, high: Double, original: Double)
  }

  package var theta: Double
  package var scaling: Scaling

  package init(theta: Double, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }

  /// Radians per position of pair `index`.
  package func frequency(_ index: Int, headSize: Int) -> Double {
    let plain = pow(theta, -2 * Double(index) / Double(headSize))
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain / factor
    case .llama3(let factor, let low, let high, let original):
      let turns = original * plain / (2 * Double.pi)  // full turns within the original context
      if turns > high { return plain }
      if turns < low { return plain / factor }
      let blend = (turns - low) / (high - low)
      return (1 - blend) * plain / factor + blend * plain
    }
  }

  package func fill(_ table: RotaryTable, headSize: Int) {
    for position in 0..<table.cos.rows {
      for index in 0..<headSize / 2 {
        // The angle is rounded to Float as Hugging Face does: at position 10^5 that rounding is
        // larger than every other error here, and checkpoints were trained with it.
        let angle = Float(position) * Float(frequency(index, headSize: headSize))
        table.cos.row(position)[index] = cosf(angle)
        table.sin.row(position)[index] = sinf(angle)
      }
    }
  }
}
