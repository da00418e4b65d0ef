// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// The tokenizer of a model folder as GGUF metadata.
package enum GGUFTokenizerWriter {
  /// - Parameters:
  ///   - folder: a model folder; without a tokenizer the file says so.
  ///   - size: rows of the embedding: ids without a token are filled up.
  package static func metadata(
    folder: String, size: Int
  ) throws -> [(key: String, value: GGUFValue)] {
    guard TokenizerFile.path(folder: folder) != nil else {
      return [(GGUFVocabulary.prefix + "model", .string("none"))]
    }
    let file = try TokenizerFile(folder: folder)
    let tokenizer = try Tokenizer(folder: folder)
    return try Writer(
      json: file.json, place: file.path, tokenizer: tokenizer, folder: folder, size: size
    ).metadata()
  }

  private struct Writer {
    let json: JSON
    let place: String
    let tokenizer: Tokenizer
    let folder: String
    let size: Int

    func metadata() throws -> [(key: String, value: GGUFValue)] {
      guard let model = json["model"] else { throw fault("no model") }
      let type = model["type"]?.string ?? "BPE"
      guard type == "BPE" else {
        throw fault("a \(type) tokenizer cannot be written as GGUF", hint: "supported: BPE")
      }
      guard tokenizer.vocabularySize <= size else {
        throw fault(
          "\(tokenizer.vocabularySize) tokens, but the model has an embedding for \(size)")
      }
      let isByteLevel = json["pre_tokenizer"].flatMap(GGUFVocabulary.name)
      var result: [(key: String, value: GGUFValue)] = []
      func add(_ key: String, _ value: GGUFValue) {
        result.append((GGUFVocabulary.prefix + key, value))
      }
      if let name = isByteLevel {
        add("model", .string("gpt2"))
        add("pre", .string(name))
      } else {
        guard model["byte_fallback"]?.bool == true else {
          throw fault(
            "llama.cpp has no name for this pre_tokenizer",
            hint: "known: "
              + (GGUFVocabulary.patterns.map(\.name) + [GGUFVocabulary.digitsName]).joined(
                separator: ", ") + ", and SentencePiece's")
        }
        // llama.cpp knows of blanks alone.
        if let step = normalizers.first(where: { !isBlankStep($0) }) {
          throw fault(
            "llama.cpp would not apply the normalizer \(quoted(step["type"]?.string ?? "?"))")
        }
        add("model", .string("llama"))
        add("pre", .string("default"))
      }
      let merges = try self.merges(model)
      add("tokens", .strings((0..<size).map { tokenizer.token(Int32($0)) ?? "[PAD\($0)]" }))
      if isByteLevel == nil { add("scores", .floats(scores(merges))) }
      add("token_type", .int32s(types(byteLevel: isByteLevel != nil)))
      if isByteLevel != nil { add("merges", .strings(merges.map { "\($0.0) \($0.1)" })) }
      for (name, id) in [("bos", tokenizer.bosID), ("eos", tokenizer.eosID), ("unknown", unknown)] {
        if let id { add("\(name)_token_id", .uint32(UInt32(id))) }
      }
      let around = try tokenizer.encode("", addSpecialTokens: true)
      add("add_bos_token", .bool(tokenizer.bosID != nil && around.first == tokenizer.bosID))
      add(
        "add_eos_token",
        .bool(
          tokenizer.eosID != nil && around.count > 0 && around.last == tokenizer.eosID
            && tokenizer.bosID != tokenizer.eosID))
      if isByteLevel == nil { add("add_space_prefix", .bool(prependsMark)) }
      let templates = try ChatTemplates.sources(folder)
      let others = templates.filter { $0.name != "default" }
      if !others.isEmpty {
        result.append(("tokenizer.chat_templates", .strings(others.map(\.name))))
      }
      for (name, text, _) in templates {
        let key = "tokenizer.chat_template"
        result.append((name == "default" ? key : key + "." + name, .string(text)))
      }
      return result
    }

    private func fault(_ text: String, hint: String? = nil) -> Fault {
      Fault(.data, "\(place): \(text)", hint: hint)
    }

    private var unknown: Int32? {
      (json["model"]?["unk_token"]?.string).flatMap { tokenizer.id($0) }
    }

    private var normalizers: [JSON] {
      json["normalizer"]?["normalizers"]?.array ?? [json["normalizer"] ?? .null]
    }

    private func isBlankStep(_ step: JSON) -> Bool {
      switch step["type"]?.string {
      case nil: true
      case "Prepend": step["prepend"]?.string == "▁"
      case "Replace":
        step["pattern"]?["String"]?.string == " " && step["content"]?.string == "▁"
      default: false
      }
    }

    private var prependsMark: Bool {
      normalizers.contains { $0["type"]?.string == "Prepend" }
        || json["pre_tokenizer"]?["type"]?.string == "Metaspace"
          && json["pre_tokenizer"]?["prepend_scheme"]?.string != "never"
    }

    private func merges(_ model: JSON) throws -> [(String, String)] {
      try (model["merges"]?.array ?? []).enumerated().map { rank, merge in
        guard let pair = BPEModel.pair(merge) else { throw fault("merges[\(rank)] is damaged") }
        return pair
      }
    }

    /// SentencePiece knows no merges but scores: a token is worth as much as the first merge that
    /// makes it. Characters need none; the rest cannot be made at all.
    private func scores(_ merges: [(String, String)]) -> [Float] {
      var scores = [Float](repeating: -1e6, count: size)
      for (rank, merge) in merges.enumerated() {
        guard let id = tokenizer.id(merge.0 + merge.1), Int(id) < size else { continue }
        scores[Int(id)] = max(scores[Int(id)], -Float(rank))
      }
      return scores
    }

    private func types(byteLevel: Bool) -> [Int32] {
      var added: [Int32: Bool] = [:]
      for token in json["added_tokens"]?.array ?? [] {
        if let id = token["id"]?.int.flatMap({ Int32(exactly: $0) }) {
          added[id] = token["special"]?.bool ?? false
        }
      }
      return (0..<Int32(size)).map { id in
        let type: GGUFVocabulary.TokenType
        if tokenizer.token(id) == nil {
          type = .unused
        } else if !byteLevel && id == unknown {
          type = .unknown
        } else if let special = added[id] {
          type = special ? .control : .userDefined
        } else if !byteLevel, Decoder.byteValue(Array(tokenizer.token(id)!.utf8)) != nil {
          type = .byte
        } else {
          type = .normal
        }
        return type.rawValue
      }
    }
  }
}
