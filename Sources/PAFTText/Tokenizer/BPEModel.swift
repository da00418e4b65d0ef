// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// The `model` of a tokenizer file: byte pair encoding over characters or over bytes.
struct BPEModel: Sendable {
  let vocabulary: Vocabulary
  let merges: MergeTable
  /// A whole word that is a token is taken as it is, whatever the merges say.
  private let ignoresMerges: Bool
  private let fusesUnknown: Bool
  private let unknown: Int32?
  /// Byte-level models: the token of each byte; -1 where the vocabulary has none.
  private let byteTokens: [Int32]?
  /// `<0x00>` … `<0xFF>` where a missing character falls back to its bytes.
  private let fallback: [Int32]?
  /// "▁", if no token has it behind another character: then no merge crosses the place before it,
  /// and cutting there first gives the same ids from short words that a cache can hold.
  let safeMark: [UInt8]?

  /// - Parameters:
  ///   - overBytes: the pre-tokenizer is byte-level.
  ///   - pieces: the SentencePiece file that `component` was made of.
  init(
    _ component: Component, overBytes: Bool, pieces: SentencePieceModel? = nil
  ) throws(Fault) {
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let affix = try component.optionalString(key), !affix.isEmpty {
        throw Fault(.data, "\(component.place).\(key): \(quoted(affix)) is not supported")
      }
    }
    if let dropout = component.member("dropout"), dropout.double != 0 {
      throw Fault(
        .data, "\(component.place).dropout: merges that are dropped at random are not supported",
        hint: "set it to null")
    }
    let vocabulary = try Self.readVocabulary(component)
    merges = try Self.readMerges(component, vocabulary, pieces)
    ignoresMerges = try component.bool("ignore_merges", default: false)
    fusesUnknown = try component.bool("fuse_unk", default: false)
    if let token = try component.optionalString("unk_token") {
      guard let id = vocabulary.id(token) else {
        throw Fault(
          .data, "\(component.place).unk_token: \(quoted(token)) is not in the vocabulary")
      }
      unknown = id
    } else {
      unknown = nil
    }
    byteTokens =
      overBytes
      ? ByteAlphabet.scalars.map { vocabulary.id(String($0)) ?? -1 } : nil
    if try component.bool("byte_fallback", default: false) {
      fallback = (0..<256).map { vocabulary.id(Self.byteName($0)) ?? -1 }
    } else {
      fallback = nil
    }
    safeMark = overBytes ? nil : Self.safeMark(vocabulary)
    self.vocabulary = vocabulary
  }

  /// `<0x0A>`.
  static func byteName(_ byte: Int) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "<0x" + (digits.count < 2 ? "0" : "") + digits + ">"
  }

  /// Appends the initial symbols of a word, before any merge.
  func symbols(of word: UnsafeBufferPointer<UInt8>, into symbols: inout [Int32]) {
    if let byteTokens {
      for byte in word {
        let id = byteTokens[Int(byte)]
        if id >= 0 { symbols.append(id) } else if let unknown { symbols.append(unknown) }
      }
      return
    }
    var at = 0
    // An unknown character waits: with fuse_unk its unknown neighbours join it.
    var pending = false
    while at < word.count {
      let length = min(Scalars.length(word[at]), word.count - at)
      let scalar = UnsafeBufferPointer(rebasing: word[at..<at + length])
      at += length
      if let id = vocabulary.id(scalar) {
        if pending, let unknown { symbols.append(unknown) }
        pending = false
        symbols.append(id)
      } else if let fallback, scalar.allSatisfy({ fallback[Int($0)] >= 0 }) {
        for byte in scalar { symbols.append(fallback[Int(byte)]) }
      } else if let unknown {
        if pending && !fusesUnknown { symbols.append(unknown) }
        pending = true
      }
    }
    if pending, let unknown { symbols.append(unknown) }
  }

  /// The id of a word that needs no merging, if there is one.
  func whole(_ word: UnsafeBufferPointer<UInt8>) -> Int32? {
    guard ignoresMerges else { return nil }
    return byteTokens == nil
      ? vocabulary.id(word) : vocabulary.id(ByteAlphabet.encode(word))
  }

  // MARK: - Reading

  private static func readVocabulary(_ component: Component) throws(Fault) -> Vocabulary {
    guard let value = component.member("vocab") else {
      throw component.missing("vocab", "an object of tokens and ids")
    }
    guard let object = value.object else {
      throw component.wrong("vocab", value, "an object of tokens and ids")
    }
    var vocabulary = Vocabulary(expecting: object.count)
    let place = component.place + ".vocab"
    for (token, id) in object {
      guard let id = id.int else {
        throw Fault(
          .data,
          "\(place): token \(quoted(token, limit: 40)) has \(id.kind), expected an integer id")
      }
      try vocabulary.add(token, id, place: place)
    }
    return vocabulary
  }

  /// In a SentencePiece file merges into pieces of one score have one rank: the leftmost goes first.
  private static func readMerges(
    _ component: Component, _ vocabulary: Vocabulary, _ pieces: SentencePieceModel?
  ) throws(Fault) -> MergeTable {
    guard let value = component.member("merges") else {
      throw component.missing("merges", "an array")
    }
    guard let array = value.array else { throw component.wrong("merges", value, "an array") }
    var table = MergeTable(expecting: array.count)
    var before: (score: Float, rank: UInt32)?
    for (rank, merge) in array.enumerated() {
      guard let (left, right) = pair(merge) else {
        throw Fault(
          .data,
          "\(component.place).merges[\(rank)]: expected \"left right\" or [\"left\", \"right\"]")
      }
      func known(_ token: String) throws(Fault) -> Int32 {
        guard let id = vocabulary.id(token) else {
          throw Fault(
            .data,
            "\(component.place).merges[\(rank)]: \(quoted(token, limit: 40)) is not in the "
              + "vocabulary")
        }
        return id
      }
      var merge = MergeTable.Merge(rank: UInt32(rank), result: try known(left + right))
      if let pieces {
        let score = pieces.pieces[Int(merge.result)].score
        if let before, before.score == score { merge.rank = before.rank }
        before = (score, merge.rank)
      }
      table.insert(try known(left), try known(right), merge)
    }
    return table
  }

  /// Merges come as `"a b"` (no token holds a blank there) or as `["a", "b"]`.
  static func pair(_ merge: JSON) -> (String, String)? {
    if let parts = merge.array {
      guard parts.count == 2, let left = parts[0].string, let right = parts[1].string else {
        return nil
      }
      return (left, right)
    }
    guard let text = merge.string else { return nil }
    let parts = text.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    guard parts.count == 2, let left = String(parts[0]), let right = String(parts[1]) else {
      return nil
    }
    return (left, right)
  }

  private static func safeMark(_ vocabulary: Vocabulary) -> [UInt8]? {
    let mark: Unicode.Scalar = "▁"
    guard vocabulary.id(String(mark)) != nil else { return nil }
    for id in 0..<vocabulary.size {
      var previous = mark
      for scalar in (vocabulary.token(Int32(id)) ?? "").unicodeScalars {
        if scalar == mark && previous != mark { return nil }
        previous = scalar
      }
    }
    return Array(String(mark).utf8)
  }
}
