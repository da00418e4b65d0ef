// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats

/// Everything a merge will do, settled before the first byte is written: which tensors come out,
/// what each is made of, with which parameters.
struct MergePlan {
  struct Tensor {
    var name: String
    var type: DType
    /// Position in `sources` of the model that base and template are of.
    var home: Int
    /// Shape and raw bytes (for integer tensors, copied as they are).
    var template: TensorEntry
    var base: TensorEntry?
    var operands: [Operand]
    var parameters: ParameterValues
    var isMerged: Bool { template.dtype.isFloat }

    /// What it is made from.
    var entries: [TensorEntry] { (base.map { [$0] } ?? []) + operands.map(\.entry) }

    /// Nil unless these are two BF16 branches of a BF16 base, and neither is the base itself.
    var storedBranches: StoredBranches? {
      guard let base, operands.count == 2, base.count > 0,
        operands.allSatisfy({
          $0.entry.isAlignedBF16 && $0.entry.isHalves(like: base)
            && $0.entry.bytes.baseAddress != base.bytes.baseAddress
        })
      else { return nil }
      return StoredBranches(
        x: operands[0].entry.halves, y: operands[1].entry.halves, base: base.halves)
    }
  }

  struct Operand {
    /// Position in `sources`.
    var source: Int
    var entry: TensorEntry
    var parameters: ParameterValues
    /// Number of the model in the configuration, which keys its random stream.
    var model: Int
  }

  let configuration: MergeConfiguration
  let sources: [ModelSource]
  /// Position in `sources`.
  let base: Int?
  private(set) var tensors: [Tensor] = []
  private(set) var notes: [String] = []
  /// For each layer of the result, which one of the template's it follows.
  private(set) var layers: [Int] = []

  /// By the folder of their model, tensors that are read in place of its own.
  private let rewritten: [String: TensorArchive]

  init(_ configuration: MergeConfiguration, rewritten: [String: TensorArchive] = [:]) throws {
    try configuration.check()
    self.configuration = configuration
    self.rewritten = rewritten
    var archives: [String: TensorArchive] = [:]
    var references: [ModelReference] = []
    let named = configuration.references
    let bases = configuration.method.base == .ignored ? [] : named.bases
    for reference in bases + named.sources where !references.contains(reference) {
      references.append(reference)
    }
    base = bases.isEmpty ? nil : 0
    sources = try references.map { try ModelSource($0, sharing: &archives) }
    try planTensors()
  }

  /// Bytes of the buffers, for the tensor that needs most: base, result, and each model, of the whole
  /// tensor or of a strip of it.
  var peakBytes: Int {
    tensors.filter(\.isMerged).map { tensor in
      let count =
        streams(tensor) ? min(tensor.template.count, Lanes.strip) : tensor.template.count
      return product([count, 2 + tensor.operands.count, 4]) ?? .max
    }.max() ?? 0
  }

  /// Whether a tensor is merged block by block.
  func streams(_ tensor: Tensor) -> Bool {
    configuration.method.stream != nil
      && tensor.operands.allSatisfy { sources[$0.source].isPlain($0.entry.name) }
      && (tensor.base.map { sources[tensor.home].isPlain($0.name) } ?? true)
  }

  /// Where configuration, tokenizer and names of the result come from.
  var template: ModelSource { sources[base ?? 0] }

  // MARK: - Tensors

  private mutating func planTensors() throws {
    if configuration.slices.count == 1,
      configuration.slices[0].sources.allSatisfy({ $0.layers == nil })
    {
      let archive = template.archive
      layers = Array(0..<(archive.names.compactMap { LayerName($0)?.index }.max() ?? -1) + 1)
      for entry in archive.entries {
        let t = LayerName(entry.name).map { depth($0.index, of: layers.count) } ?? 0
        try plan(entry.name, slice: 0, t: t) { _ in entry.name }
      }
      try refuseExtras(archive)
    } else {
      try planSlices()
    }
  }

  private func depth(_ layer: Int, of count: Int) -> Double {
    count > 1 ? Double(layer) / Double(count - 1) : 1
  }

  private mutating func planSlices() throws {
    let slices = configuration.slices
    // Weights outside the layers: those before them belong to the first slice, others to the last.
    let outside = template.archive.entries.filter { LayerName($0.name) == nil }
    for entry in outside where Self.isBeforeLayers(entry.name) {
      try plan(entry.name, slice: 0, t: 0) { _ in entry.name }
    }
    for (number, slice) in slices.enumerated() {
      guard let length = slice.sources.first?.layers?.count else { continue }
      let home = sources[home(of: slice)]
      let names = home.archive.names.compactMap { LayerName($0) }
      let first = slice.sources.first { $0.reference == home.reference } ?? slice.sources[0]
      for offset in 0..<length {
        let start = first.layers!.lowerBound
        let suffixes = names.filter { $0.index == start + offset }
        guard !suffixes.isEmpty else {
          throw Fault(
            .configuration, "\(home.reference.text) has no layer \(start + offset)",
            hint: "its layers are 0 to \((names.map(\.index).max() ?? 0))")
        }
        for name in suffixes {
          try plan(
            name.with(layers.count), slice: number, t: depth(offset, of: length)
          ) { source in name.with((source?.layers?.lowerBound ?? start) + offset) }
        }
        layers.append(start + offset)
      }
    }
    for entry in outside where !Self.isBeforeLayers(entry.name) {
      try plan(entry.name, slice: slices.count - 1, t: 0) { _ in entry.name }
    }
  }

  /// Position of the model that a slice's tensors follow: its base, or what the whole follows.
  private func home(of slice: MergeConfiguration.Slice) -> Int {
    let base = configuration.method.base == .ignored ? nil : configuration.base(of: slice)
    return base.flatMap { base in sources.firstIndex { $0.reference == base } } ?? self.base ?? 0
  }

  private static func isBeforeLayers(_ name: String) -> Bool {
    name.contains("embed") || name.contains("wte") || name.contains("wpe")
  }

  /// Weights that models leave out when they are tied or can be computed.
  private static func isOptional(_ name: String) -> Bool {
    name == "lm_head.weight" || name.hasSuffix("rotary_emb.inv_freq")
  }

  /// `inputName` tells the name in a source, or in the base for nil.
  private mutating func plan(
    _ name: String, slice: Int, t: Double,
    inputName: (MergeConfiguration.Source?) -> String
  ) throws {
    let home = home(of: configuration.slices[slice])
    guard
      let template = entry(sources[home], inputName(nil)) ?? entry(sources[home], name)
    else {
      throw Fault(.data, "\(sources[home].reference.text): no tensor \(quoted(inputName(nil)))")
    }
    var tensor = Tensor(
      name: name, type: outputType(template.dtype), home: home, template: template,
      base: configuration.usesDeltas(configuration.slices[slice]) ? template : nil, operands: [],
      parameters: try configuration.values(slice: slice, source: nil, tensor: name, t: t))
    guard tensor.isMerged else {
      tensors.append(tensor)
      return
    }
    let operands = configuration.operands(of: configuration.slices[slice])
    for (model, source) in operands.enumerated() {
      let position = sources.firstIndex { $0.reference == source.reference }!
      let wanted = inputName(source)
      guard let entry = entry(sources[position], wanted) else {
        guard Self.isOptional(wanted) else {
          throw Fault(.data, "\(source.reference.text): no tensor \(quoted(wanted))")
        }
        notes.append("\(source.reference.text) has no \(wanted): merged from the others")
        continue
      }
      guard entry.shape == template.shape else {
        throw Fault(
          .data,
          "\(source.reference.text): tensor \(quoted(wanted)) has shape \(entry.shape), "
            + "\(sources[home].reference.text) has \(template.shape)",
          hint: "the models must share one architecture and vocabulary; padding rows are never cut")
      }
      guard entry.dtype.isFloat else {
        throw Fault(
          .data, "\(source.reference.text): tensor \(quoted(wanted)) is \(entry.dtype.rawValue)")
      }
      let values = try configuration.values(slice: slice, source: source, tensor: wanted, t: t)
      if configuration.method.selectsByMagnitude, values["density"] > 0, entry.count > 0,
        Sparsifier.kept(values["density"], of: entry.count) == 0
      {
        notes.append(
          "density \(values["density"]) keeps nothing of \(wanted), \(entry.count) entries")
      }
      tensor.operands.append(
        Operand(source: position, entry: entry, parameters: values, model: model))
    }
    guard configuration.method.models.contains(tensor.operands.count) else {
      let without = operands.filter { source in
        sources.first { $0.reference == source.reference }?.archive[inputName(source)] == nil
      }
      throw Fault(
        .data,
        "tensor \(quoted(name)) is in \(tensor.operands.count) of \(operands.count) models, too few "
          + "for \(configuration.method.name)",
        hint: without.first.map {
          "\($0.reference.text) has none: is it of another family, or are its heads tied?"
        })
    }
    tensors.append(tensor)
  }

  private func entry(_ source: ModelSource, _ name: String) -> TensorEntry? {
    rewritten[source.reference.model]?[name] ?? source.archive[name]
  }

  private mutating func refuseExtras(_ archive: TensorArchive) throws(Fault) {
    for source in sources where source.archive !== archive {
      for name in source.archive.names where archive[name] == nil {
        guard Self.isOptional(name) else {
          throw Fault(
            .data,
            "\(source.reference.text): tensor \(quoted(name)) is not in \(archive.path)",
            hint: "the models must share one architecture")
        }
        notes.append("\(name) of \(source.reference.text) is left out: \(archive.path) has none")
      }
    }
  }

  private func outputType(_ stored: DType) -> DType {
    guard stored.isFloat else { return stored }
    if let type = configuration.outputType { return type }
    switch stored {
    case .f64: return .f32
    case .f8e4m3, .f8e5m2: return .bf16
    default: return stored
    }
  }
}

/// `model.layers.12.mlp.up_proj.weight` taken apart at its first number.
struct LayerName: Equatable {
  var prefix: String
  var index: Int
  var suffix: String

  init?(_ name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let at = parts.firstIndex(where: { !$0.isEmpty && $0.allSatisfy(\.isNumber) }), at > 0,
      let index = Int(parts[at]), index < 1_000_000
    else { return nil }
    prefix = parts[..<at].joined(separator: ".")
    self.index = index
    suffix = parts[(at + 1)...].joined(separator: ".")
  }

  func with(_ index: Int) -> String { "\(prefix).\(index)" + (suffix.isEmpty ? "" : "." + suffix) }
}
