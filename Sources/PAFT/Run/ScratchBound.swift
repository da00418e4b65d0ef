// SPDX-License-Identifier: Apache-2.0

import PAFTModels
import PAFTOps
import PAFTTraining

/// What the bounds of training's and inference's scratch have in common. They are reckoned in
/// Double: sizes come from files and recipes, and a sum that is too large shall be refused by the
/// arena, with its message, not trap on the way there.
enum ScratchBound {
  /// More than any machine has.
  private static let mostWorkers = 1024.0

  /// Private buffers of all workers, and what does not grow with anything.
  static func workers(_ c: ModelConfiguration, positions: Int) -> Double {
    // Floats: attention's blocks of scores and packed operands (96 rows by 256 keys or one head),
    // a row of scores over all cached positions, a row of an adapter's product.
    let attention = (1 << 16) + 1024 * max(256, c.headSize)
    let rows = positions + max(c.hidden, c.intermediate, c.queryWidth)
    let head = HeadLoss.scratchFloats(hidden: c.hidden)
    return mostWorkers * 4 * Double(attention + rows + head.worker) + 4 * Double(head.shared)
      + Double(512 << 20)
  }

  /// Blocks of weights and of the vocabulary's gradient that workers have at a time, where updates are
  /// part of the backward pass.
  static func updates(_ c: ModelConfiguration, _ configuration: BranchConfiguration) -> Double {
    if configuration.masterWeights { return 0 }
    let widest = max(c.hidden, c.intermediate, c.queryWidth)
    return mostWorkers
      * Double(
        TrainedOperand.Work.bytes(width: widest, workers: 1)
          + 4 * VocabularyGradient.rows * c.hidden)
  }

  /// As a capacity: at most the address space of a process, which no arena gets.
  static func bytes(_ bytes: Double) -> Int { Int(min(bytes, 0x1p47)) }
}
