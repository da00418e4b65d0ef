// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTOps

/// Decoder families that are understood. They share one block (RMSNorm, rotary attention, SwiGLU)
/// and differ in what `ModelConfiguration` says: biases, q/k norm, windows.
package enum Family: String, Sendable, CaseIterable {
  case llama
  case mistral
  case qwen2
  case qwen3

  /// The class name that Hugging Face puts in `architectures`.
  package var architecture: String {
    switch self {
    case .llama: "LlamaForCausalLM"
    case .mistral: "MistralForCausalLM"
    case .qwen2: "Qwen2ForCausalLM"
    case .qwen3: "Qwen3ForCausalLM"
    }
  }
}

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
  package var rope: RotaryFrequencies
  /// The head is the embedding matrix.
  package var tiedHead: Bool
  /// Bias of q, k and v; bias of o; bias of gate, up and down.
  package var attentionBias: Bool
  package var outputBias: Bool
  package var mlpBias: Bool
  /// RMSNorm over each head of q and k before rotation.
  package var headNorm: Bool
  /// Sliding attention window per layer in tokens, itself included; nil for full attention.
  package var windows: [Int?]
  package var bosID: Int32?
  package var eosIDs: [Int32]

  package var queryWidth: Int { heads * headSize }
  package var keyWidth: Int { keyHeads * headSize }

  package func attention(layer: Int) -> AttentionShape {
    AttentionShape(heads: heads, keyHeads: keyHeads, headSize: headSize, window: windows[layer])
  }
}

/// A linear layer of a decoder block.
package enum Module: Int, Sendable, CaseIterable {
  case q, k, v, o, gate, up, down

  /// Hugging Face's name, the last part of the tensor's path.
  package var name: String {
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"][rawValue]
  }

  /// Path inside a layer.
  package var path: String { (rawValue < 4 ? "self_attn." : "mlp.") + name }
}

extension ModelConfiguration {
  package func outputs(_ module: Module) -> Int {
    switch module {
    case .q: queryWidth
    case .k, .v: keyWidth
    case .o, .down: hidden
    case .gate, .up: intermediate
    }
  }

  package func inputs(_ module: Module) -> Int {
    switch module {
    case .q, .k, .v, .gate, .up: hidden
    case .o: queryWidth
    case .down: intermediate
    }
  }

  package func hasBias(_ module: Module) -> Bool {
    switch module {
    case .q, .k, .v: attentionBias
    case .o: outputBias
    case .gate, .up, .down: mlpBias
    }
  }
}
