// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// A Hugging Face `tokenizer.json` with a BPE model, byte-level (GPT-2, Llama 3, Qwen) or over
/// characters with byte fallback (Llama 2, Phi-3), or a unigram model: the same ids as the
/// `tokenizers` library gives. SentencePiece models and tiktoken ranks are read as the
/// tokenizer.json they would be (`TokenizerFile`).
///
/// The way of a text: added tokens are cut out of the raw text; the rest is normalized; added tokens
/// are cut out of that; the rest is pre-tokenized into words; each word is merged into tokens; the
/// post-processor puts special tokens around the whole. Everything is worked out on UTF-8 bytes.
///
/// Safe to use from any number of threads.
package final class Tokenizer: Sendable {
  private let normalizer: Normalizer?
  private let preTokenizer: PreTokenizer?
  private let scanner: WordScanner?
  private let model: TokenModel
  private let postProcessor: PostProcessor
  private let decoder: Decoder
  private let vocabulary: Vocabulary
  private let rawTokens: AddedTokenMatcher
  private let normalizedTokens: AddedTokenMatcher
  /// `rawTokens` and all special tokens: what a chat template may write.
  private let chatTokens: AddedTokenMatcher
  private let special: Set<Int32>
  private let workspaces = Workspaces()

  /// Begin- and end-of-text tokens, where the model folder names them.
  package let bosID: Int32?
  package let eosID: Int32?
  /// The model folder this was read from; nil for a file alone.
  package let folder: String?

  /// Positions are kept in 32 bits.
  private static let longestText = Int(Int32.max) / 4

  // MARK: - Loading

  /// The tokenizer of a model folder (`TokenizerFile.names` says in which files it may be), with the
  /// bos and eos tokens that its other files name; or a tokenizer file alone, which does not say
  /// which tokens begin and end a text.
  package convenience init(folder: String) throws(Fault) {
    if FileSystem.isFile(folder) {
      try self.init(file: folder)
      return
    }
    let file = try TokenizerFile(folder: folder)
    try self.init(
      file, ends: try ModelFolder.specialTokens(folder), folder: folder)
  }

  /// A tokenizer file alone.
  package convenience init(file: String) throws(Fault) {
    try self.init(TokenizerFile(file), ends: ModelFolder.SpecialTokens())
  }

  /// - Parameter source: the name for error messages.
  package convenience init(_ bytes: [UInt8], source: String) throws(Fault) {
    try self.init(TokenizerFile(bytes, source: source), ends: ModelFolder.SpecialTokens())
  }

  private init(
    _ source: TokenizerFile, ends: ModelFolder.SpecialTokens, folder: String? = nil
  ) throws(Fault) {
    let file = try Component(source.json, source.path)
    if let pieces = source.pieces {
      // SentencePiece prepares and cuts a text as a whole.
      normalizer = .sentencePiece(try SentencePieceNormalizer(pieces, source: source.path))
      preTokenizer = nil
    } else {
      normalizer =
        if let part = try file.component("normalizer") { try Normalizer(part) } else { nil }
      preTokenizer =
        if let part = try file.component("pre_tokenizer") { try PreTokenizer(part) } else { nil }
    }
    scanner = preTokenizer?.scanner
    guard let modelPart = try file.component("model") else {
      throw file.missing("model", "an object")
    }
    model = try TokenModel(
      modelPart, overBytes: preTokenizer?.usesBytes ?? false, pieces: source.pieces)

    var vocabulary = model.vocabulary
    var added: [AddedToken] = []
    if file.member("added_tokens") != nil {
      for part in try file.components("added_tokens") {
        let token = try AddedToken(part)
        if let id = vocabulary.id(token.content) {
          guard id == token.id else {
            throw Fault(
              .data,
              "\(part.place): \(quoted(token.content, limit: 40)) has id \(token.id), but "
                + "\(id) elsewhere in the file")
          }
        } else {
          try vocabulary.add(token.content, Int(token.id), place: part.place)
        }
        added.append(token)
      }
    }
    self.vocabulary = vocabulary
    special = Set(added.filter(\.special).map(\.id))
    // SentencePiece finds the pieces that a person defined in the prepared text, which has them as they
    // are; a unigram model takes them for the best cut.
    var defined: [AddedToken] = []
    if let pieces = source.pieces {
      let isDefined = { (token: AddedToken) in pieces.pieces[Int(token.id)].type == .userDefined }
      if pieces.kind == .bpe { defined = added.filter(isDefined) }
      added.removeAll(where: isDefined)
    }
    func spelling(_ token: AddedToken) -> [UInt8] { Array(token.content.utf8) }
    rawTokens = try AddedTokenMatcher(added.filter { !$0.normalized }, spelling: spelling)
    chatTokens = try AddedTokenMatcher(
      added.filter { !$0.normalized || $0.special }, spelling: spelling)
    let matcher = Matcher()
    normalizedTokens =
      try source.pieces != nil
      ? AddedTokenMatcher(defined, spelling: spelling)
      : AddedTokenMatcher(added.filter(\.normalized)) { [normalizer] (token) throws(Fault) in
        try normalizer?.apply(spelling(token), matcher) ?? spelling(token)
      }

    postProcessor =
      if let part = try file.component("post_processor") {
        try PostProcessor(part, vocabulary)
      } else { PostProcessor() }
    decoder = if let part = try file.component("decoder") { try Decoder(part) } else { .spaced }
    self.folder = folder
    bosID = try ends.bos?.id(in: vocabulary)
    eosID = try ends.eos?.id(in: vocabulary)
  }

  // MARK: - Tokens

  /// Largest id plus one; ids may have gaps below it.
  package var vocabularySize: Int { vocabulary.size }

  package func token(_ id: Int32) -> String? { vocabulary.token(id) }

  package func id(_ token: String) -> Int32? { vocabulary.id(token) }

  /// Whether `decode(skipSpecialTokens: true)` leaves the token out.
  package func isSpecial(_ id: Int32) -> Bool { special.contains(id) }

  // MARK: - Encoding

  /// - Parameters:
  ///   - addSpecialTokens: put around the text what the post-processor says (often a bos token).
  ///   - allowSpecial: false takes the text of special tokens as plain text: data from outside
  ///     cannot then act as control.
  /// - Throws: exit code 65 if a pattern of the file backtracks without end on this text, or the
  ///   text is longer than half a gigabyte.
  package func encode(
    _ text: String, addSpecialTokens: Bool, allowSpecial: Bool = true
  ) throws(Fault) -> [Int32] {
    var ids = addSpecialTokens ? postProcessor.before : []
    try encode(Array(text.utf8), allowSpecial: allowSpecial, into: &ids)
    if addSpecialTokens { ids.append(contentsOf: postProcessor.behind) }
    return ids
  }

  /// With the special tokens in front of the text but without those behind it: a beginning that
  /// goes on.
  package func encodeOpen(_ text: String, allowSpecial: Bool = true) throws(Fault) -> [Int32] {
    var ids = postProcessor.before
    try encode(Array(text.utf8), allowSpecial: allowSpecial, into: &ids)
    return ids
  }

  /// A text that a chat template wrote, with nothing put around it.
  ///
  /// - Parameters:
  ///   - text: well-formed UTF-8.
  ///   - data: stretches of it, in order, that came from messages: special tokens spelt there are text.
  /// - Returns: the ids, and which bytes became which of them, part by part.
  package func encode(
    chat text: [UInt8], data: [Range<Int>]
  ) throws(Fault) -> (ids: [Int32], parts: [TokenizedPart]) {
    var ids: [Int32] = []
    var parts: [TokenizedPart] = []
    try encode(text, allowSpecial: true, data: data, into: &ids) { range, first, count in
      parts.append(TokenizedPart(bytes: range, ids: first..<count))
    }
    return (ids, parts)
  }

  /// The bytes that a token stands for, without the decoder's rules for a whole text; nil for ids
  /// without a token.
  package func surface(_ id: Int32) -> [UInt8]? {
    guard let token = vocabulary.token(id) else { return nil }
    if special.contains(id) { return Array(token.utf8) }
    if preTokenizer?.usesBytes ?? false { return ByteAlphabet.decode(token) }
    if token.utf8.count == 6, token.hasPrefix("<0x"), token.hasSuffix(">"),
      let byte = UInt8(token.dropFirst(3).dropLast(), radix: 16)
    {
      return [byte]
    }
    return Array(token.replacing("\u{2581}", with: " ").utf8)
  }

  /// - Parameter data: nil where the text is not a chat's.
  private func encode(
    _ bytes: [UInt8], allowSpecial: Bool, data: [Range<Int>]? = nil, into ids: inout [Int32],
    part note: (Range<Int>, Int, Int) -> Void = { _, _, _ in }
  ) throws(Fault) {
    guard bytes.count <= Self.longestText else {
      throw Fault(
        .data, "a text of \(bytes.count) bytes, expected at most \(Self.longestText)",
        hint: "split it into several rows")
    }
    let workspace = workspaces.take()
    defer { workspaces.giveBack(workspace) }
    ids.reserveCapacity(ids.count + bytes.count / 3)
    let matcher = data == nil ? rawTokens : chatTokens
    // Of a chat, the special tokens that the template wrote are all found in the raw text.
    let allowNormalized = allowSpecial && data == nil
    try matcher.cut(bytes, allowSpecial: allowSpecial, data: data ?? []) { (part) throws(Fault) in
      let first = ids.count
      switch part {
      case .token(let id, let range):
        ids.append(id)
        note(range, first, ids.count)
      case .text(let range):
        let isNormal = bytes.withUnsafeBufferPointer {
          normalizer?.leaves(UnsafeBufferPointer(rebasing: $0[range])) ?? true
        }
        if isNormal, let scanner, normalizedTokens.isEmpty {
          bytes.withUnsafeBufferPointer {
            encode(
              UnsafeBufferPointer(rebasing: $0[range]), wordsBy: scanner, workspace, into: &ids)
          }
          note(range, first, ids.count)
          return
        }
        let raw = Array(bytes[range])
        let normal = isNormal ? raw : try normalizer?.apply(raw, workspace.matcher) ?? raw
        try normalizedTokens.cut(normal, allowSpecial: allowNormalized) { (part) throws(Fault) in
          switch part {
          case .token(let id, _): ids.append(id)
          case .text(let inner):
            if let scanner {
              normal.withUnsafeBufferPointer {
                encode(
                  UnsafeBufferPointer(rebasing: $0[inner]), wordsBy: scanner, workspace, into: &ids)
              }
            } else {
              let starts = range.lowerBound == 0 && inner.lowerBound == 0
              try encode(Array(normal[inner]), startsText: starts, workspace, into: &ids)
            }
          }
        }
        note(range, first, ids.count)
      }
    }
  }

  /// The way of most text through most tokenizers: each word is looked up as it is found.
  private func encode(
    _ text: UnsafeBufferPointer<UInt8>, wordsBy scanner: WordScanner, _ workspace: Workspace,
    into ids: inout [Int32]
  ) {
    scanner.forEach(text) { range in
      encode(word: UnsafeBufferPointer(rebasing: text[range]), workspace, into: &ids)
    }
  }

  private func encode(
    _ bytes: [UInt8], startsText: Bool, _ workspace: Workspace, into ids: inout [Int32]
  ) throws(Fault) {
    var pieces = Pieces(bytes, startsText: startsText)
    try preTokenizer?.apply(&pieces, workspace.matcher)
    pieces.bytes.withUnsafeBufferPointer { buffer in
      for range in pieces.ranges {
        let piece = UnsafeBufferPointer(rebasing: buffer[range])
        if let mark = model.safeMark {
          cutSafely(piece, mark) { encode(word: $0, workspace, into: &ids) }
        } else {
          encode(word: piece, workspace, into: &ids)
        }
      }
    }
  }

  /// Cuts before each mark that follows something else (see `BPEModel.safeMark`).
  private func cutSafely(
    _ piece: UnsafeBufferPointer<UInt8>, _ mark: [UInt8],
    _ word: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    let (first, second, third) = (mark[0], mark[1], mark[2])
    func isMark(_ at: Int) -> Bool {
      at >= 0 && at + 3 <= piece.count && piece[at] == first && piece[at + 1] == second
        && piece[at + 2] == third
    }
    var start = 0
    var at = 1
    while at < piece.count {
      if isMark(at), !isMark(at - 3) {
        word(UnsafeBufferPointer(rebasing: piece[start..<at]))
        start = at
      }
      at += 1
    }
    word(UnsafeBufferPointer(rebasing: piece[start...]))
  }

  @inline(__always)
  private func encode(
    word: UnsafeBufferPointer<UInt8>, _ workspace: Workspace, into ids: inout [Int32]
  ) {
    let isShort = word.count <= ShortWordCache.longestWord
    if isShort, workspace.shortWords.append(word, to: &ids) { return }
    encode(otherWord: word, isShort: isShort, workspace, into: &ids)
  }

  @inline(never)
  private func encode(
    otherWord word: UnsafeBufferPointer<UInt8>, isShort: Bool, _ workspace: Workspace,
    into ids: inout [Int32]
  ) {
    let first = ids.count
    let caches = word.count <= WordCache.longestWord
    if !caches || !workspace.words.append(word, to: &ids) {
      model.encode(word, workspace, into: &ids)
      if caches { workspace.words.remember(word, ids[first...]) }
    }
    if isShort { workspace.shortWords.remember(word, ids[first...]) }
  }

  // MARK: - Decoding

  /// Ids without a token are left out, as are special tokens if wanted; bytes that are not UTF-8
  /// come out as U+FFFD.
  package func decode(_ ids: [Int32], skipSpecialTokens: Bool) throws(Fault) -> String {
    let workspace = workspaces.take()
    defer { workspaces.giveBack(workspace) }
    var tokens: [String] = []
    tokens.reserveCapacity(ids.count)
    for id in ids where !(skipSpecialTokens && special.contains(id)) {
      if let token = vocabulary.token(id) { tokens.append(token) }
    }
    return try decoder.text(tokens, workspace.matcher)
  }
}
