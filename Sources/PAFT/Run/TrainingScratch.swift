// SPDX-License-Identifier: Apache-2.0

import PAFTModels
import PAFTTraining

/// Upper bound of the scratch of a training step: address space, used where it is touched.
enum TrainingScratch {
  static func bytes(
    _ c: ModelConfiguration, _ configuration: BranchConfiguration, longest: Int, largestTensor: Int
  ) -> Int {
    // A pass holds one row at least, a pair being two sequences.
    let tokens = max(Double(configuration.tokensPerPass), 2 * Double(longest))
    let rank: Int
    if case .lora(let lora) = configuration.adaptation { rank = lora.rank } else { rank = 0 }
    let linear = c.queryWidth + 2 * c.keyWidth
    // One layer's activations, floats per token: inputs and norms, q k v with their raw forms, the
    // attention and its statistics, the MLP, and x Aᵀ of seven modules.
    let layer = 8 * c.hidden + 3 * linear + 4 * c.heads + 3 * c.intermediate + 7 * rank + 64
    // Gradients and packed copies alive at once while one layer goes backwards. Keys and values are
    // packed four ways per sequence, each padded to a panel of at most 64 columns.
    let backward =
      10 * c.hidden + 8 * linear + 8 * c.intermediate + 8 * rank + 4 * 64 * 4 * c.keyWidth
    let kept = configuration.activationCheckpointing ? c.hidden : layer + c.hidden
    let perToken = Double(c.layers) * Double(kept) + Double(layer + backward + 4 * c.hidden)
    return ScratchBound.bytes(
      ScratchBound.updates(c, configuration) + 4 * tokens * perToken + 3 * Double(largestTensor)
        + ScratchBound.workers(c, positions: longest))
  }
}
