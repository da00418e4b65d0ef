// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTFormats

/// What to merge and how, as mergekit's YAML says it.
package struct MergeConfiguration: Sendable {
  package struct Source: Sendable {
    package var reference: ModelReference
    /// Layers taken, in slices.
    package var layers: Range<Int>?
    package var parameters: [String: ParameterValue]

    package init(
      _ reference: ModelReference, layers: Range<Int>? = nil,
      parameters: [String: ParameterValue] = [:]
    ) {
      self.reference = reference
      self.layers = layers
      self.parameters = parameters
    }
  }

  /// Some consecutive layers of the output. A configuration by `models` is one slice of all layers.
  package struct Slice: Sendable {
    package var sources: [Source]
    package var parameters: [String: ParameterValue]
    /// In place of the configuration's.
    package var base: ModelReference?
  }

  package var method: MergeMethod
  package var base: ModelReference?
  package var slices: [Slice]
  package var parameters: [String: ParameterValue]
  /// Type of the stored result; nil keeps that of the base. Computation is always in f32 or better.
  package var outputType: DType?
  package var seed: UInt64
  /// Whose tokenizer the result carries; nil is the base's, or the first model's.
  package var tokenizer: ModelReference?
  /// The tokens of the result where they are not all the base's as they are: models of other
  /// vocabularies are brought to them.
  package var vocabulary: VocabularySettings?
  /// Nil: the one that is copied with the tokenizer.
  package var chatTemplate: ChatTemplateChoice?
  /// Merge what fits although tokenizers or configurations differ.
  package var allowMismatch: Bool
  package var maximumShardBytes: Int
  /// The YAML as read, copied to the output.
  package var text: String?

  package init(
    method: MergeMethod, base: ModelReference?, slices: [Slice],
    parameters: [String: ParameterValue] = [:], outputType: DType? = nil, seed: UInt64 = 0
  ) {
    self.method = method
    self.base = base
    self.slices = slices
    self.parameters = parameters
    self.outputType = outputType
    self.seed = seed
    allowMismatch = false
    maximumShardBytes = SafetensorsWriter.defaultShardBytes
  }

  /// A branch to merge, for callers without YAML.
  package struct Branch: Sendable {
    package var reference: ModelReference
    package var weight: Double
    package var density: Double

    package init(_ reference: ModelReference, weight: Double = 1, density: Double = 1) {
      self.reference = reference
      self.weight = weight
      self.density = density
    }
  }

  /// Branches of one base by a method's name. `lambda` and densities are dropped where the method
  /// has no such parameter. slerp knows no base beside its two models: it starts at the first
  /// branch, and its `t` is the second's share of the weights unless given.
  package init(
    base: String, branches: [Branch], method name: String, lambda: Double = 1, seed: UInt64 = 0,
    outputType: DType? = nil, parameters extra: [String: Double] = [:]
  ) throws(Fault) {
    let method = try Self.method(named: name)
    func takes(_ parameter: String) -> Bool { method.parameters.contains { $0.name == parameter } }
    var sources: [Source] = []
    for branch in branches {
      var values: [String: ParameterValue] = [:]
      if takes("weight") { values["weight"] = .scalar(branch.weight) }
      if takes("density") { values["density"] = .scalar(branch.density) }
      sources.append(Source(branch.reference, parameters: values))
    }
    var shared: [String: ParameterValue] = [:]
    if takes("lambda") { shared["lambda"] = .scalar(lambda) }
    for (name, value) in extra {
      guard takes(name) else {
        throw Fault(
          .configuration, "merge method \(method.name) takes no parameter \(quoted(name))",
          hint: "it takes \(method.parameters.map(\.name).joined(separator: ", "))")
      }
      shared[name] = .scalar(value)
    }
    var start = ModelReference(model: base)
    if method.base == .first, !sources.contains(where: { $0.reference == start }),
      let first = branches.first, let last = branches.last
    {
      start = first.reference
      let total = first.weight + last.weight
      if shared["t"] == nil, total != 0 { shared["t"] = .scalar(last.weight / total) }
    }
    self.init(
      method: method, base: start,
      slices: [Slice(sources: sources, parameters: [:])], parameters: shared,
      outputType: outputType, seed: seed)
    try check()
  }

  package static func method(named name: String) throws(Fault) -> MergeMethod {
    if let method = MergeMethod.named(name) { return method }
    let names = MergeMethod.all.map(\.name)
    throw Fault(
      .configuration, "unknown merge method \(quoted(name))",
      hint: nearest(to: name, in: names).map { "did you mean '\($0)'?" }
        ?? "methods: \(names.joined(separator: ", "))")
  }

  package func base(of slice: Slice) -> ModelReference? { slice.base ?? base }

  /// Bases and sources, each as often as it is named.
  var references: (bases: [ModelReference], sources: [ModelReference]) {
    (
      ([base] + slices.map(\.base)).compactMap { $0 },
      slices.flatMap(\.sources).map(\.reference)
    )
  }

  /// The models that are operands in a slice, as the method wants them: without the base where it
  /// is the reference, with it in front where it must be first.
  package func operands(of slice: Slice) -> [Source] {
    guard let base = base(of: slice) else { return slice.sources }
    switch method.base {
    case .ignored: return slice.sources
    case .reference, .optional: return slice.sources.filter { $0.reference != base }
    case .first:
      let others = slice.sources.filter { $0.reference != base }
      // A base that no slice places is one of the models, whole.
      let isAbsent = others.count == slice.sources.count && others.allSatisfy { $0.layers == nil }
      return (isAbsent ? [Source(base)] : slice.sources.filter { $0.reference == base }) + others
    }
  }

  /// Whether the method works on deltas here, and so the base is added at the end.
  package func usesDeltas(_ slice: Slice) -> Bool {
    switch method.operands {
    case .deltas: true
    case .tensors: false
    case .deltasIfBase: base(of: slice) != nil
    }
  }

  /// What can be said without opening a model: numbers of models, the base's role, layer counts.
  package func check() throws(Fault) {
    func refuse(_ what: String, _ hint: String? = nil) -> Fault {
      Fault(.configuration, "merge method \(method.name): \(what)", hint: hint)
    }
    guard !slices.isEmpty else { throw refuse("no models") }
    for slice in slices {
      let base = base(of: slice)
      if base == nil, method.base == .reference || method.base == .first {
        throw refuse("needs a base_model")
      }
      let operands = operands(of: slice)
      if method.base == .first,
        operands.first?.reference != base
          || !slice.sources.contains(where: { $0.reference == base }) && slice.sources.count > 1
      {
        throw refuse("base_model must be one of the two models")
      }
      guard method.models.contains(operands.count) else {
        let range = method.models
        let expected =
          range.upperBound == range.lowerBound
          ? "exactly \(range.lowerBound)" : "at least \(range.lowerBound)"
        throw refuse(
          "\(operands.count) models\(method.base == .ignored ? "" : " beside the base"), expected \(expected)"
        )
      }
      let lengths = Set(slice.sources.map { $0.layers?.count })
      guard lengths.count <= 1 else { throw refuse("the sources of a slice differ in layer count") }
    }
  }

  // MARK: - Parameters

  /// Values for one output tensor. Precedence: source, slice, top level, default; parameters of the
  /// method as a whole skip the source. Throws 78 for a required one that nobody gives.
  package func values(
    slice: Int, source: Source?, tensor: String, t: Double
  ) throws(Fault) -> ParameterValues {
    var values = ParameterValues()
    for parameter in method.parameters where parameter.perModel == (source != nil) {
      let levels = [source?.parameters, slices[slice].parameters, parameters]
      var found: Double?
      for level in levels where found == nil {
        found = level?[parameter.name]?.evaluate(tensor: tensor, t: t)
      }
      guard let value = found ?? parameter.defaultValue else {
        throw Fault(
          .configuration,
          "merge method \(method.name): no \(parameter.name) for tensor \(tensor)"
            + (source.map { " of \($0.reference.text)" } ?? ""),
          hint: "give it under parameters, or a last filter without name")
      }
      values[parameter.name] = value
    }
    return values
  }
}
