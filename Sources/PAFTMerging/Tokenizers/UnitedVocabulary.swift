// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats

/// Models of different vocabularies brought to one. Every embedding and head is written anew with rows
/// in the order of the result's tokens, into a folder that goes with this object; the merge then reads
/// these in place of the models' own. Rows a model lacks come from, in this order: what the
/// configuration says of the token, its only donor, the base, the mean of the models that have it;
/// zero if none has.
final class UnitedVocabulary {
  /// The rewritten tensors, by the folder of their model.
  private(set) var rewritten: [String: TensorArchive] = [:]
  let count: Int
  private let staging: OutputFolder
  private let tokenizer: JSONObject
  /// Whose files and special tokens the result takes.
  let home: ModelReference

  /// Nil where the models have one vocabulary, and that is what is wanted.
  static func unite(
    _ configuration: MergeConfiguration, _ settings: VocabularySettings, beside output: String
  ) throws -> UnitedVocabulary? {
    if settings.isPlain {
      let files = Set(references(configuration).map { $0.model + "/tokenizer.json" })
      let known = files.filter { FileSystem.isFile($0) }
      // Without a file there is nothing to tell them apart by, as without this setting.
      let isNamed: Bool =
        switch settings.source {
        case .model(let home): files.contains(home.model + "/tokenizer.json")
        default: true
        }
      if isNamed, settings.source == .base || known.count == files.count,
        try Set(known.map { try FileSystem.read($0) }).count <= 1
      {
        return nil
      }
    }
    return try UnitedVocabulary(configuration, settings, beside: output)
  }

  /// - Parameter output: beside which the rewritten tensors stand for the time of the merge.
  init(_ configuration: MergeConfiguration, _ settings: VocabularySettings, beside output: String)
    throws
  {
    let references = Self.references(configuration)
    guard let first = references.first else {
      throw Fault(.configuration, "no models to take tokens from")
    }
    var home = first
    if case .model(let reference) = settings.source {
      guard references.contains(where: { $0.model == reference.model }) else {
        throw Fault(
          .configuration,
          "tokenizer source \(quoted(reference.text)) is not among the models",
          hint: "expected union, base, or one of them")
      }
      home = reference
    }
    self.home = home
    var models: [Model] = []
    for reference in references where !models.contains(where: { $0.folder == reference.model }) {
      try reference.checkExists()
      models.append(try Model(reference.model))
    }
    let own = models.first { $0.folder == home.model }!
    var tokens = own.table.tokens
    var size = (tokens.last?.id ?? -1) + 1
    if settings.source == .union {
      var known = own.table.ids
      for model in models {
        for token in model.table.tokens where known[token.text] == nil {
          known[token.text] = size
          tokens.append((token.text, size))
          size += 1
        }
      }
    }
    for token in settings.tokens where !tokens.contains(where: { $0.text == token.text }) {
      throw Fault(
        .configuration, "tokenizer: token \(quoted(token.text)) is in no vocabulary of the result")
    }
    let multiple = settings.padToMultipleOf
    count = (size + multiple - 1) / multiple * multiple
    tokenizer = Self.extended(own.table, tokens, models)
    staging = try OutputFolder(output + ".vocabulary")
    let donors = try Donors(tokens, count, models, first.model, settings)
    for (number, model) in models.enumerated() {
      let names = model.tables
      let folder = "\(staging.path)/\(number + 1)"
      try FileSystem.makeFolder(folder)
      let writer = try SafetensorsWriter(
        folder: folder,
        tensors: names.map { entry in
          // In the types there are narrow floats of their own for; others become f32.
          let type = [.bf16, .f16].contains(entry.dtype) ? entry.dtype : .f32
          return TensorDeclaration(entry.name, type, [count, entry.shape[1]])
        },
        maximumShardBytes: .max)
      for entry in names { try donors.write(entry, of: number, to: writer) }
      try writer.finish()
      rewritten[model.folder] = try TensorArchive(path: folder)
    }
  }

  private static func references(_ configuration: MergeConfiguration) -> [ModelReference] {
    let named = configuration.references
    return named.bases + named.sources
  }

  /// tokenizer.json with the tokens of others added; merges stay the home's.
  private static func extended(
    _ own: TokenTable, _ tokens: [(text: String, id: Int)], _ models: [Model]
  ) -> JSONObject {
    var json = own.json
    var model = json["model"]?.object ?? JSONObject()
    var vocabulary = model["vocab"]?.object ?? JSONObject()
    var added = own.added
    for (text, id) in tokens where own.ids[text] == nil {
      if let token = models.lazy.compactMap({ $0.table.added(text) }).first,
        var object = token.object
      {
        object["id"] = JSON(id)
        added.append(.object(object))
      } else {
        vocabulary[text] = JSON(id)
      }
    }
    model["vocab"] = .object(vocabulary)
    json["model"] = .object(model)
    if !added.isEmpty { json["added_tokens"] = .array(added) }
    return json
  }

  /// The files that know the vocabulary, over those that were copied.
  func write(into output: OutputFolder) throws {
    try output.write("tokenizer.json", .object(tokenizer))
    let path = output.path + "/config.json"
    guard FileSystem.isFile(path), var config = try JSON.read(path: path).object else { return }
    config["vocab_size"] = JSON(count)
    let source = home.model + "/config.json"
    if FileSystem.isFile(source) {
      let own = try JSON.read(path: source)
      for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let id = own[key] { config[key] = id }
      }
    }
    try output.write("config.json", .object(config))
  }

  // MARK: - Rows

  struct Model {
    let folder: String
    let archive: TensorArchive
    let table: TokenTable
    /// Tensors with a row for each token.
    let tables: [TensorEntry]

    init(_ folder: String) throws {
      self.folder = folder
      let archive = try TensorArchive(path: folder)
      self.archive = archive
      let names = ["embed_tokens.weight", "lm_head.weight", "wte.weight", "embed_in.weight"]
      tables = archive.entries.filter { entry in
        entry.shape.count == 2 && entry.dtype.isFloat && LayerName(entry.name) == nil
          && names.contains { entry.name == $0 || entry.name.hasSuffix("." + $0) }
      }
      guard let rows = tables.first?.shape[0] else {
        throw Fault(.data, "\(folder): no embedding found, whose rows would be united")
      }
      if let other = tables.first(where: { $0.shape[0] != rows }) {
        throw Fault(
          .data,
          "\(folder): \(quoted(other.name)) has \(other.shape[0]) rows, the embedding \(rows)")
      }
      table = try TokenTable(folder, limit: rows)
    }
  }

  /// Where each row of the result comes from.
  private struct Donors {
    /// A row of a model, or the mean of several; none: zero.
    typealias Rows = [(model: Int, row: Int)]

    /// Token by id.
    private let texts: [String?]
    private let fills: [Rows]
    private let forced: Set<Int>
    private let models: [Model]

    init(
      _ tokens: [(text: String, id: Int)], _ count: Int, _ models: [Model], _ base: String,
      _ settings: VocabularySettings
    ) throws {
      self.models = models
      var texts = [String?](repeating: nil, count: count)
      for (text, id) in tokens { texts[id] = text }
      self.texts = texts
      let home = models.firstIndex { $0.folder == base } ?? 0
      var fills = [Rows](repeating: [], count: count)
      for (id, text) in texts.enumerated() {
        guard let text else { continue }
        let owners: Rows = models.indices.compactMap { m in
          models[m].table.ids[text].map { (m, $0) }
        }
        fills[id] = owners.first { $0.model == home }.map { [$0] } ?? owners
      }
      var forced: Set<Int> = []
      for token in settings.tokens {
        guard let id = texts.firstIndex(of: token.text) else { continue }
        if token.force { forced.insert(id) }
        guard let row = token.row else { continue }
        fills[id] = try Self.rows(row, token.text, models)
      }
      self.fills = fills
      self.forced = forced
    }

    private static func rows(
      _ row: VocabularySettings.Row, _ text: String, _ models: [Model]
    ) throws(Fault) -> Rows {
      func find(_ reference: ModelReference, _ text: String) throws(Fault) -> (Int, Int) {
        let m = try model(reference)
        guard let id = models[m].table.ids[text] else {
          throw Fault(.configuration, "\(models[m].table.path): no token \(quoted(text))")
        }
        return (m, id)
      }
      func model(_ reference: ModelReference) throws(Fault) -> Int {
        guard let m = models.firstIndex(where: { $0.folder == reference.model }) else {
          throw Fault(
            .configuration, "tokenizer: \(quoted(reference.text)) is not among the models")
        }
        return m
      }
      switch row {
      case .zero: return []
      case .model(let reference): return [try find(reference, text)]
      case .token(let reference, let other): return [try find(reference, other)]
      case .id(let reference, let id):
        let m = try model(reference)
        guard id < models[m].tables[0].shape[0] else {
          throw Fault(.configuration, "\(models[m].folder): no row \(id) in its embedding")
        }
        return [(m, id)]
      }
    }

    /// One table of model `number` in the new order. Rows without a token get the mean of the others.
    func write(_ entry: TensorEntry, of number: Int, to writer: SafetensorsWriter) throws(Fault) {
      var sums = [Double](repeating: 0, count: entry.shape[1])
      var tokens = 0
      for id in texts.indices {
        guard let row = try row(id, of: entry, number) else { continue }
        for i in sums.indices { sums[i] += Double(row[i]) }
        tokens += 1
      }
      let mean = sums.map { Float($0 / Double(max(tokens, 1))) }
      for id in texts.indices {
        try writer.append(entry.name, try row(id, of: entry, number) ?? mean)
      }
      entry.release()
    }

    /// Nil for padding and ids without a token.
    private func row(_ id: Int, of entry: TensorEntry, _ number: Int) throws(Fault) -> [Float]? {
      guard let text = texts[id] else { return nil }
      let width = entry.shape[1]
      var line = [Float](repeating: 0, count: width)
      var rows = fills[id]
      if !forced.contains(id), let own = models[number].table.ids[text] { rows = [(number, own)] }
      var values = line
      for (m, row) in rows {
        guard let source = models[m].archive[entry.name] else {
          throw Fault(
            .data,
            "\(models[m].folder): no tensor \(quoted(entry.name)), which has a row for "
              + "\(quoted(text))")
        }
        guard source.shape[1] == width else {
          throw Fault(
            .data,
            "\(models[m].folder): rows of \(quoted(entry.name)) have \(source.shape[1]) "
              + "entries, those of \(models[number].folder) \(width)")
        }
        try copy(source, row, into: &values)
        for i in line.indices { line[i] += values[i] / Float(rows.count) }
      }
      return line
    }

    private func copy(_ entry: TensorEntry, _ row: Int, into values: inout [Float]) throws(Fault) {
      let width = entry.shape[1]
      let range = row * width..<(row + 1) * width
      let result = values.withUnsafeMutableBufferPointer { buffer -> Result<Void, Fault> in
        guard let start = buffer.baseAddress else { return .success(()) }
        do throws(Fault) {
          try entry.copyFloats(range, into: start)
          return .success(())
        } catch { return .failure(error) }
      }
      try result.get()
    }
  }
}
