// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTOps

/// A model's shape, as config.json gives it. Every field was checked: products cannot overflow,
/// heads divide, so code behind it may compute without guards.
package struct ModelConfiguration: Sendable, Equatable {
  package var family: Family
  package var vocabulary: Int
  package var hidden: Int
  package var layers: Int
  package var heads: Int
  package var keyHeads: Int
  package var headSize: Int
  package var intermediate: Int
  package var maxPositions: Int
  package var normEpsilon: Float
  /// The head is the embedding matrix.
  package var tiedHead: Bool
  package var bosID: Int32?
  package var eosIDs: [Int32]

  /// Width of each head that is rotated, from its start.
  package var rotaryWidth: Int
  package var ropes: [RotaryFrequencies] = []
  /// Which of `ropes` a layer is rotated by; nil for none.
  package var layerRopes: [Int?] = []
  /// Sliding attention window per layer in tokens, itself included; nil for full attention.
  package var windows: [Int?] = []
  /// Bias of q, k and v; bias of o; bias of gate, up and down.
  package var attentionBias = false
  package var outputBias = false
  package var mlpBias = false

  /// Factors of embeddings, of scores (nil: 1/sqrt(headSize)), of what attention and MLP add to the
  /// residual stream, and of logits.
  package var embeddingScale: Float = 1
  package var attentionFactor: Double?
  package var residualScale: Float = 1
  package var logitScale: Float = 1
  package var attentionCap: Softcap?
  package var logitCap: Softcap?

  package var queryWidth: Int { heads * headSize }
  package var keyWidth: Int { keyHeads * headSize }

  /// Whether a sequence's length decides what it is rotated by.
  package var rotatesByLength: Bool { ropes.contains { $0.dependsOnLength } }

  /// The length up to which LongRoPE rotates by its short factors.
  package var rotationSwitch: Int? {
    for case .longRope(_, _, let original) in ropes.map(\.scaling) { return original }
    return nil
  }

  /// What the norms of q and k run over.
  package var queryNormWidth: Int { headNorm == .all ? queryWidth : headSize }
  package var keyNormWidth: Int { headNorm == .all ? keyWidth : headSize }
  /// Whether what attention and MLP compute goes into the residual stream as it is.
  package var addsPlainly: Bool {
    residualScale == 1 && norms.attentionOutput == nil && norms.mlpOutput == nil
  }

  package var norms: BlockNorms { family.norms }
  package var normOffset: Float { family.normOffset }
  package var headNorm: HeadNorm { family.headNorm }
  package var activation: Activation { family.activation }
  package var isFused: Bool { family.isFused }

  package func attention(layer: Int) -> AttentionShape {
    AttentionShape(
      heads: heads, keyHeads: keyHeads, headSize: headSize, window: windows[layer],
      factor: attentionFactor, cap: attentionCap)
  }
}

/// A linear layer of a decoder block. A block has either the three parts of a fused one or the
/// fused one itself: `ModelConfiguration.modules`.
package enum Module: Int, Sendable, CaseIterable {
  case q, k, v, qkv, o, gate, up, gateUp, down

  /// Hugging Face's name, the last part of the tensor's path.
  package var name: String {
    switch self {
    case .q: "q_proj"
    case .k: "k_proj"
    case .v: "v_proj"
    case .qkv: "qkv_proj"
    case .o: "o_proj"
    case .gate: "gate_proj"
    case .up: "up_proj"
    case .gateUp: "gate_up_proj"
    case .down: "down_proj"
    }
  }

  /// Whether it makes what attention reads, and so is of every token also in the last block.
  package var precedesAttention: Bool { rawValue < Self.o.rawValue }

  /// Path inside a layer.
  package var path: String { (rawValue <= Self.o.rawValue ? "self_attn." : "mlp.") + name }
}

extension ModelConfiguration {
  /// The linear layers of a block, in `Module` order.
  package var modules: [Module] {
    isFused ? [.qkv, .o, .gateUp, .down] : [.q, .k, .v, .o, .gate, .up, .down]
  }

  package func outputs(_ module: Module) -> Int {
    switch module {
    case .q: queryWidth
    case .k, .v: keyWidth
    case .qkv: queryWidth + 2 * keyWidth
    case .o, .down: hidden
    case .gate, .up: intermediate
    case .gateUp: 2 * intermediate
    }
  }

  package func inputs(_ module: Module) -> Int {
    switch module {
    case .q, .k, .v, .qkv, .gate, .up, .gateUp: hidden
    case .o: queryWidth
    case .down: intermediate
    }
  }

  package func hasBias(_ module: Module) -> Bool {
    switch module {
    case .q, .k, .v, .qkv: attentionBias
    case .o: outputBias
    case .gate, .up, .gateUp, .down: mlpBias
    }
  }
}
