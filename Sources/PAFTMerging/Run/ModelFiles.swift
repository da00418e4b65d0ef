// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats

/// The files of a model folder beside its weights.
enum ModelFiles {
  private static let tokenizerNames = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
  ]

  /// Copies what makes the result loadable: the template's configuration with its new type and
  /// number of layers, generation settings, the tokenizer, and the merge configuration.
  static func write(_ plan: MergePlan, into output: OutputFolder) throws {
    let folder = plan.template.reference.model
    if FileSystem.exists(folder + "/config.json") {
      guard var config = try JSON.read(path: folder + "/config.json").object else {
        throw Fault(.data, "\(folder)/config.json: not a JSON object")
      }
      if let type = plan.configuration.outputType {
        // Newer writers call it dtype.
        let key = config["dtype"] != nil ? "dtype" : "torch_dtype"
        config[key] = .string(name(of: type))
      }
      describeLayers(plan.layers, in: &config)
      try output.write("config.json", .object(config))
    }
    if FileSystem.exists(folder + "/generation_config.json") {
      try output.copy(folder + "/generation_config.json")
    }
    var tokenizer = plan.configuration.tokenizer?.model ?? folder
    if case .model(let home)? = plan.configuration.vocabulary?.source { tokenizer = home.model }
    for name in tokenizerNames where FileSystem.exists(tokenizer + "/" + name) {
      try output.copy(tokenizer + "/" + name)
    }
    try output.write(
      "mergekit_config.yml", plan.configuration.text ?? plan.configuration.serialized())
  }

  /// The number of layers, by whichever name, and what is said of each.
  private static func describeLayers(_ layers: [Int], in config: inout JSONObject) {
    guard !layers.isEmpty,
      let key = ["num_hidden_layers", "n_layer"].first(where: { config[$0] != nil })
    else { return }
    config[key] = JSON(layers.count)
    if let types = config["layer_types"]?.array, layers.allSatisfy({ $0 < types.count }) {
      config["layer_types"] = .array(layers.map { types[$0] })
    }
  }

  static func name(of type: DType) -> String {
    switch type {
    case .bf16: "bfloat16"
    case .f16: "float16"
    default: "float32"
    }
  }
}

extension MergeConfiguration {
  /// As mergekit's YAML (JSON, which YAML includes), for configurations made in code.
  func serialized() -> String {
    var root = JSONObject()
    root["merge_method"] = .string(method.name)
    if let base { root["base_model"] = .string(base.text) }
    func values(_ table: [String: ParameterValue]) -> JSON {
      var object = JSONObject()
      for parameter in method.parameters {
        if let value = table[parameter.name] { object[parameter.name] = value.json(parameter.kind) }
      }
      return .object(object)
    }
    func list(_ sources: [Source]) -> JSON {
      .array(
        sources.map { source in
          var entry: JSONObject = ["model": .string(source.reference.text)]
          if let layers = source.layers {
            entry["layer_range"] = [JSON(layers.lowerBound), JSON(layers.upperBound)]
          }
          entry["parameters"] = values(source.parameters)
          return .object(entry)
        })
    }
    if slices.count == 1, slices[0].sources.allSatisfy({ $0.layers == nil }) {
      root["models"] = list(slices[0].sources)
    } else {
      root["slices"] = .array(
        slices.map { slice in
          var entry: JSONObject = [
            "sources": list(slice.sources), "parameters": values(slice.parameters),
          ]
          if let base = slice.base { entry["base_model"] = .string(base.text) }
          return .object(entry)
        })
    }
    root["parameters"] = values(parameters)
    if let outputType { root["out_dtype"] = .string(ModelFiles.name(of: outputType)) }
    root["random_seed"] = .integer(Int64(clamping: seed))
    return JSON.object(root).serialized(pretty: true) + "\n"
  }
}

extension ParameterValue {
  fileprivate func json(_ kind: MergeParameter.Kind) -> JSON {
    switch self {
    case .scalar(let value):
      switch kind {
      case .number: return .number(value)
      case .flag: return .bool(value != 0)
      case .word(let words): return .string(words[Int(value)])
      }
    case .gradient(let values): return .array(values.map { .number($0) })
    case .filtered(let cases):
      return .array(
        cases.map { ["filter": .string($0.filter ?? "*"), "value": $0.value?.json(kind) ?? nil] })
    }
  }
}
