// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

extension ModelConfiguration {
  /// Reads and checks `folder/config.json`.
  ///
  /// Throws a `Fault`: 66 when the file is missing, 65 when a field is absent, of the wrong type,
  /// out of range, or names something that is not supported.
  package static func read(folder: String) throws -> ModelConfiguration {
    let path = folder + "/config.json"
    guard FileSystem.exists(path) else {
      throw Fault(
        .missingInput, "\(path): no such file",
        hint: "a model is a Hugging Face folder with config.json, model.safetensors, tokenizer.json"
      )
    }
    return try read(JSON.read(path: path), path: path)
  }

  /// The same from what a config.json holds; `path` is for messages.
  package static func read(_ json: JSON, path: String) throws -> ModelConfiguration {
    try ConfigurationReader(json: json, path: path).configuration()
  }
}

/// One pass over config.json; each helper names the key in its error.
private struct ConfigurationReader {
  let json: JSON
  let path: String

  /// Larger than any real model, small enough that products of two fit in 2^62.
  static let largest = 1 << 28
  /// A hundred times the largest models known; sums of buffers of that many floats fit an Int.
  static let mostParameters = 0x1p48

  func configuration() throws -> ModelConfiguration {
    guard json.object != nil else { throw fault("found \(json.kind), expected an object") }
    let family = try family()
    let hidden = try size("hidden_size")
    let layers = try size("num_hidden_layers", atMost: 4096)
    let heads = try size("num_attention_heads", atMost: 1 << 16)
    let keyHeads = try size("num_key_value_heads", or: heads, atMost: 1 << 16)
    let headSize: Int
    if let given = json["head_dim"], !given.isNull {
      headSize = try size("head_dim", atMost: 1 << 12)
    } else {
      guard hidden % heads == 0 else {
        throw fault("hidden_size \(hidden) is not a multiple of num_attention_heads \(heads)")
      }
      headSize = hidden / heads
    }
    guard heads % keyHeads == 0 else {
      throw fault(
        "num_attention_heads \(heads) is not a multiple of num_key_value_heads \(keyHeads)")
    }
    guard headSize % 2 == 0 else {
      throw fault("head size \(headSize) is odd; rotary embedding needs pairs")
    }
    let activation = json["hidden_act"]?.string ?? "silu"
    guard activation == "silu" || activation == "swish" else {
      throw fault("hidden_act is \"\(activation)\", expected \"silu\"")
    }
    if let partial = json["partial_rotary_factor"]?.double, partial != 1 {
      throw fault("partial_rotary_factor \(partial) is not supported")
    }
    let attentionBias = try flag("attention_bias", or: family == .qwen2)
    let configuration = ModelConfiguration(
      family: family, vocabulary: try size("vocab_size"), hidden: hidden, layers: layers,
      heads: heads, keyHeads: keyHeads, headSize: headSize,
      intermediate: try size("intermediate_size"),
      maxPositions: try size("max_position_embeddings", or: 2048),
      normEpsilon: Float(try positive("rms_norm_eps", or: 1e-6)), rope: try rope(),
      tiedHead: try flag("tie_word_embeddings", or: false),
      attentionBias: family == .qwen2 ? true : attentionBias,
      outputBias: family == .qwen2 ? false : attentionBias,
      mlpBias: try flag("mlp_bias", or: false), headNorm: family == .qwen3,
      windows: try windows(family, layers: layers),
      bosID: try ids("bos_token_id").first, eosIDs: try ids("eos_token_id"))
    try checkSize(configuration)
    return configuration
  }

  /// Each number may be sane and their product absurd. In Double, which does not overflow.
  private func checkSize(_ c: ModelConfiguration) throws {
    let layer = Module.allCases.reduce(0.0) {
      $0 + Double(c.outputs($1)) * Double(c.inputs($1) + 1)
    }
    let parameters =
      Double(c.layers) * (layer + 4 * Double(c.hidden))
      + 2 * Double(c.vocabulary) * Double(c.hidden)
    guard parameters < Self.mostParameters else {
      throw fault(
        "the sizes describe a model of \(Int(parameters * 1e-12)) trillion parameters",
        hint: "look at hidden_size, intermediate_size, vocab_size and num_hidden_layers")
    }
  }

  private func fault(_ found: String, hint: String? = nil) -> Fault {
    Fault(.data, "\(path): \(found)", hint: hint)
  }

  private func family() throws -> Family {
    let named = json["architectures"]?.array?.first?.string
    if let named {
      if let family = Family.allCases.first(where: { $0.architecture == named }) { return family }
    } else if let type = json["model_type"]?.string, let family = Family(rawValue: type) {
      return family
    }
    let found = named ?? json["model_type"]?.string ?? "none"
    throw fault(
      "architecture \"\(found)\" is not supported",
      hint: "supported: " + Family.allCases.map(\.architecture).joined(separator: ", "))
  }

  private func size(_ key: String, or fallback: Int? = nil, atMost: Int = largest) throws -> Int {
    guard let value = json[key], !value.isNull else {
      guard let fallback else { throw fault("\"\(key)\" is missing") }
      return fallback
    }
    guard let number = value.int, number >= 1, number <= atMost else {
      throw fault("\"\(key)\" is \(value.serialized()), expected an integer from 1 to \(atMost)")
    }
    return number
  }

  private func positive(_ key: String, or fallback: Double, in object: JSON? = nil) throws -> Double
  {
    guard let value = (object ?? json)[key], !value.isNull else { return fallback }
    guard let number = value.double, number > 0, number.isFinite else {
      throw fault("\"\(key)\" is \(value.serialized()), expected a positive number")
    }
    return number
  }

  private func flag(_ key: String, or fallback: Bool) throws -> Bool {
    guard let value = json[key], !value.isNull else { return fallback }
    guard let flag = value.bool else {
      throw fault("\"\(key)\" is \(value.serialized()), expected true or false")
    }
    return flag
  }

  /// An id, a list of ids, or nothing.
  private func ids(_ key: String) throws -> [Int32] {
    guard let value = json[key], !value.isNull else { return [] }
    let numbers = value.array?.map(\.int) ?? [value.int]
    return try numbers.map {
      guard let id = $0, id >= 0, id < Self.largest else {
        throw fault("\"\(key)\" is \(value.serialized()), expected a token id or a list of them")
      }
      return Int32(id)
    }
  }

  /// `rope_theta` and `rope_scaling`, or both inside `rope_parameters` (transformers 5).
  private func rope() throws -> RotaryFrequencies {
    let nested = json["rope_parameters"].flatMap { $0.object == nil ? nil : $0 }
    let theta = try positive("rope_theta", or: positive("rope_theta", or: 10000, in: nested))
    guard
      let scaling = [json["rope_scaling"], nested].compactMap({ $0 }).first(where: { !$0.isNull })
    else { return RotaryFrequencies(theta: theta) }
    guard scaling.object != nil else {
      throw fault("\"rope_scaling\" is \(scaling.serialized()), expected an object or null")
    }
    let type = scaling["rope_type"]?.string ?? scaling["type"]?.string ?? "default"
    func need(_ key: String) throws -> Double {
      let value = try positive(key, or: -1, in: scaling)
      guard value > 0 else { throw fault("rope_scaling of type \(type) lacks \"\(key)\"") }
      return value
    }
    switch type {
    case "default": return RotaryFrequencies(theta: theta)
    case "linear":
      return RotaryFrequencies(theta: theta, scaling: .linear(factor: try need("factor")))
    case "llama3":
      let low = try need("low_freq_factor")
      let high = try need("high_freq_factor")
      guard high > low else {
        throw fault("rope_scaling: high_freq_factor \(high) is not above low_freq_factor \(low)")
      }
      return RotaryFrequencies(
        theta: theta,
        scaling: .llama3(
          factor: try need("factor"), low: low, high: high,
          original: try need("original_max_position_embeddings")))
    default:
      throw fault(
        "rope_scaling type \"\(type)\" is not supported", hint: "supported: linear, llama3")
    }
  }

  private func windows(_ family: Family, layers: Int) throws -> [Int?] {
    let none = [Int?](repeating: nil, count: layers)
    guard let value = json["sliding_window"], !value.isNull else { return none }
    let window = try size("sliding_window")
    switch family {
    case .llama: return none
    case .mistral: return [Int?](repeating: window, count: layers)
    case .qwen2, .qwen3:
      guard try flag("use_sliding_window", or: false) else { return none }
      if let types = json["layer_types"]?.array, types.count == layers {
        return types.map { $0.string == "sliding_attention" ? window : nil }
      }
      let full = json["max_window_layers"]?.int ?? layers
      return (0..<layers).map { $0 >= full ? window : nil }
    }
  }
}
