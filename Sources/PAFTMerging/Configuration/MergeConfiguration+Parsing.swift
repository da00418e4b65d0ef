// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
package import PAFTFormats

extension MergeConfiguration {
  /// Reads mergekit's YAML. Throws `ConfigError` with the line, or `Fault`.
  package static func parse(path: String) throws -> MergeConfiguration {
    let text = try FileSystem.text(path, limit: 4 << 20)
    return try parse(text, source: path, relativeTo: FileSystem.parent(of: path))
  }

  package static func parse(_ text: String, source: String, relativeTo folder: String = ".") throws
    -> MergeConfiguration
  {
    var configuration = try parse(ConfigNode.parse(text, source: source), relativeTo: folder)
    configuration.text = text
    return configuration
  }

  /// From a tree that may be part of a larger file.
  package static func parse(_ root: ConfigNode, relativeTo folder: String = ".") throws
    -> MergeConfiguration
  {
    try root.check(known: knownKeys)
    let kinds = ["models", "slices", "modules"].filter { root[$0] != nil }
    guard kinds.count == 1 else {
      throw root.error(
        kinds.isEmpty ? "no models or slices" : "both \(kinds.joined(separator: " and ")) given",
        hint: "give exactly one of models and slices")
    }
    let methodNode = try root.required("merge_method")
    let method = try MergeMethod.named(methodNode.choice(MergeMethod.all.map(\.name)))!
    let base = try root["base_model"].flatMap { try reference($0, folder) }
    // One module's models and parameters are the whole's: its parameters go before the top level's.
    var body = root
    var shared = try parameters(root["parameters"], method)
    if let modules = root["modules"] {
      let entries = try modules.entries()
      guard entries.count == 1, let module = entries.first?.value else {
        throw modules.error(
          "\(entries.count) modules given, models of several modules are not merged",
          hint: "give the one module there is, or models or slices without modules")
      }
      try module.check(known: ["models", "slices", "parameters"])
      guard (module["models"] == nil) != (module["slices"] == nil) else {
        throw module.error("expected exactly one of models and slices")
      }
      body = module
      shared.merge(try parameters(module["parameters"], method)) { $1 }
    }
    var slices: [Slice] = []
    if let models = body["models"] {
      slices = [
        Slice(sources: try sources(models, method, folder, layered: false), parameters: [:])
      ]
    } else if let list = body["slices"] {
      for node in try list.elements() {
        try node.check(known: ["sources", "base_model", "residual_weight", "parameters"])
        if let weight = node["residual_weight"], !weight.isNull {
          throw weight.error(
            "residual_weight has no effect in mergekit", hint: "leave it out, or scale the models")
        }
        var slice = Slice(
          sources: try sources(node.required("sources"), method, folder, layered: true),
          parameters: try parameters(node["parameters"], method))
        slice.base = try node["base_model"].flatMap { try reference($0, folder) }
        slices.append(slice)
      }
    }
    if let compat = root["compat"], !compat.isNull,
      try compat.choice(["none", "mergekit"]) == "mergekit"
    {
      for (name, value) in mergekitQuirks
      where method.parameters.contains(where: { $0.name == name }) && shared[name] == nil {
        shared[name] = .scalar(value)
      }
    }
    var configuration = MergeConfiguration(
      method: method, base: base, slices: slices,
      parameters: shared, outputType: try outputType(root), seed: try seed(root))
    if let node = root["allow_mismatch"] { configuration.allowMismatch = try node.bool() }
    configuration.vocabulary = try VocabularySettings(root, relativeTo: folder)
    if let node = root["chat_template"], !node.isNull {
      configuration.chatTemplate = try ChatTemplateChoice(node)
    }
    try configuration.check()
    return configuration
  }

  private static let knownKeys = [
    "merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype", "out_dtype",
    "tokenizer", "tokenizer_source", "chat_template", "random_seed", "allow_mismatch", "name",
    "compat", "output",
  ]

  /// Where a method can do as mergekit does although that is not what is meant: `compat: mergekit`.
  private static let mergekitQuirks: [(name: String, value: Double)] = [
    ("model_stock_clamp", 0), ("breadcrumbs_slice_bug", 1), ("karcher_include_base", 1),
    ("quantile_subsample", 1), ("strict_density", 1),
  ]

  // MARK: - Parts

  private static func reference(_ node: ConfigNode, _ folder: String) throws -> ModelReference? {
    if node.isNull { return nil }
    return ModelReference(try node.string(), relativeTo: folder)
  }

  private static func sources(
    _ list: ConfigNode, _ method: MergeMethod, _ folder: String, layered: Bool
  ) throws -> [Source] {
    var sources: [Source] = []
    for node in try list.elements() {
      try node.check(
        known: layered ? ["model", "layer_range", "parameters"] : ["model", "parameters"])
      guard let reference = try reference(node.required("model"), folder) else { continue }
      var layers: Range<Int>?
      if let range = node["layer_range"] {
        let ends = try range.elements()
        guard ends.count == 2 else { throw range.error("expected two layer numbers") }
        let from = try ends[0].int(in: 0...100_000)
        let to = try ends[1].int(in: 0...100_000)
        guard from < to else { throw range.error("expected a range that runs forwards") }
        layers = from..<to
      } else if layered {
        throw node.error("no key 'layer_range', which slices need")
      }
      sources.append(
        Source(reference, layers: layers, parameters: try parameters(node["parameters"], method)))
    }
    guard !sources.isEmpty else { throw list.error("expected at least one model") }
    return sources
  }

  private static func parameters(_ node: ConfigNode?, _ method: MergeMethod) throws
    -> [String: ParameterValue]
  {
    guard let node, !node.isNull else { return [:] }
    try node.check(known: method.parameters.map(\.name) + MergeMethod.ignoredParameters)
    var values: [String: ParameterValue] = [:]
    for parameter in method.parameters {
      guard let given = node[parameter.name] else { continue }
      values[parameter.name] = try ParameterValue(given, parameter.kind)
    }
    return values
  }

  private static func outputType(_ root: ConfigNode) throws -> DType? {
    let words = ["float32", "bfloat16", "float16", "auto"]
    let types: [DType?] = [.f32, .bf16, .f16, nil]
    for key in ["out_dtype", "dtype"] {
      guard let node = root[key], !node.isNull else { continue }
      return types[words.firstIndex(of: try node.choice(words))!]
    }
    return nil
  }

  private static func seed(_ root: ConfigNode) throws -> UInt64 {
    guard let node = root["random_seed"], !node.isNull else { return 0 }
    return UInt64(try node.int(in: 0...Int.max))
  }
}
