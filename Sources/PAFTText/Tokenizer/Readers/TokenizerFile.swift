// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// A tokenizer as a tokenizer.json, from whatever file holds it: the kind is told from the bytes,
/// names are as they come (`tokenizer.model` is SentencePiece for Llama 2 and tiktoken for Llama 3).
package struct TokenizerFile: Sendable {
  package let path: String
  package let json: JSON
  /// What `json` was made of, where that is a SentencePiece file: it has more to it.
  let pieces: SentencePieceModel?

  /// What a model folder may hold, the first that exists counts.
  package static let names = [
    "tokenizer.json", "tokenizer.model", "tokenizer.model.v1", "qwen.tiktoken",
    "tokenizer.tiktoken",
  ]

  private static let limit = 256 << 20

  package init(folder: String) throws(Fault) {
    guard let path = Self.path(folder: folder) else { throw ModelFolder.noTokenizer(folder) }
    let bytes = try FileSystem.read(path, limit: Self.limit)
    try self.init(bytes, source: path, folder: folder)
  }

  package init(_ path: String) throws(Fault) {
    try self.init(try FileSystem.read(path, limit: Self.limit), source: path)
  }

  package init(_ bytes: [UInt8], source: String) throws(Fault) {
    try self.init(bytes, source: source, folder: nil)
  }

  /// The tokenizer file of a model folder, nil if there is none.
  package static func path(folder: String) -> String? {
    names.lazy.map { folder + "/" + $0 }.first { FileSystem.exists($0) }
  }

  private init(_ bytes: [UInt8], source: String, folder: String?) throws(Fault) {
    path = source
    switch Self.kind(bytes) {
    case .json:
      json = try parseJSON(bytes, source: source)
      pieces = nil
    case .sentencePiece:
      let model = try SentencePieceModel(bytes, source: source)
      let ends = try folder.map { (folder) throws(Fault) in try ModelFolder.addedEnds(folder) }
      pieces = model
      json = try model.json(
        source: source, addsBOS: ends?.bos ?? true, addsEOS: ends?.eos ?? false)
    case .tiktoken:
      let ranks = try TiktokenRanks(bytes, source: source)
      let added = try folder.map { (folder) throws(Fault) in try ModelFolder.addedTokens(folder) }
      json = try ranks.json(source: source, added: added ?? [])
      pieces = nil
    }
  }

  private enum Kind { case json, sentencePiece, tiktoken }

  /// A SentencePiece model begins with its first piece (field 1, a message); a ranks file with
  /// base64, which has no such byte; anything else is left to the JSON reader to refuse.
  private static func kind(_ bytes: [UInt8]) -> Kind {
    guard let first = bytes.first else { return .json }
    if first == 0x0A, bytes.count > 2, bytes[2] == 0x0A { return .sentencePiece }
    let line = bytes.prefix(4096).prefix { $0 != UInt8(ascii: "\n") }
    let isRank =
      line.split(separator: UInt8(ascii: " ")).count == 2
      && line.allSatisfy { isBase64($0) || $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }
    return isRank ? .tiktoken : .json
  }

  private static func isBase64(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"),
      UInt8(ascii: "="):
      true
    default: false
    }
  }
}
