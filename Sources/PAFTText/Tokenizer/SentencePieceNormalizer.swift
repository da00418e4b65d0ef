// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// How SentencePiece prepares a text before it cuts it: compiled rules, of which the longest that fits
/// applies at each place; blanks as "▁", one put in front; perhaps none at the ends and never two.
/// What a person defined as a piece is left as it is.
struct SentencePieceNormalizer: Sendable {
  private let rules: CharacterMap?
  private let addsPrefix: Bool
  private let removesExtraBlanks: Bool
  private let defined: PieceTrie?

  private static let mark: [UInt8] = Array("▁".utf8)
  private static let blank = UInt8(ascii: " ")

  init(_ model: SentencePieceModel, source: String) throws(Fault) {
    rules =
      model.characterMap.isEmpty
      ? nil
      : try CharacterMap(
        Array(model.characterMap), place: "\(source): normalizer_spec.precompiled_charsmap")
    addsPrefix = model.addsPrefix
    removesExtraBlanks = model.removesExtraBlanks
    var defined = PieceTrie()
    var hasDefined = false
    for (id, piece) in model.pieces.enumerated() where piece.type == .userDefined {
      defined.insert(piece.text.utf8, Int32(id))
      hasDefined = true
    }
    self.defined = hasDefined ? defined : nil
  }

  /// - Parameter bytes: well-formed UTF-8.
  func apply(_ bytes: [UInt8]) -> [UInt8] {
    var at = 0
    if removesExtraBlanks {
      while at < bytes.count {
        let (text, length) = next(bytes, at)
        guard text.count == 1, text.first == Self.blank else { break }
        at += length
      }
    }
    if at == bytes.count { return [] }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count + bytes.count / 2 + 8)
    if addsPrefix { result.append(contentsOf: Self.mark) }
    var isBehindBlank = removesExtraBlanks
    while at < bytes.count {
      var (text, length) = next(bytes, at)
      at += length
      if isBehindBlank { text = text.drop { $0 == Self.blank } }
      guard let last = text.last else { continue }
      for byte in text {
        if byte == Self.blank {
          result.append(contentsOf: Self.mark)
        } else {
          result.append(byte)
        }
      }
      isBehindBlank = removesExtraBlanks && last == Self.blank
    }
    if removesExtraBlanks {
      while result.count >= 3, result[(result.count - 3)...] == Self.mark[...] {
        result.removeLast(3)
      }
    }
    return result
  }

  /// What stands at a place, after the rules, and how many bytes it is made of.
  @inline(__always)
  private func next(_ bytes: [UInt8], _ at: Int) -> (text: ArraySlice<UInt8>, length: Int) {
    if let end = definedEnd(bytes, at) { return (bytes[at..<end], end - at) }
    if let (text, length) = rules?.longest(bytes, at) { return (text, length) }
    let length = min(Scalars.length(bytes[at]), bytes.count - at)
    return (bytes[at..<at + length], length)
  }

  /// Where the longest defined piece that begins here ends.
  private func definedEnd(_ bytes: [UInt8], _ start: Int) -> Int? {
    guard let defined else { return nil }
    var (node, at) = (Int32(-1), start)
    var end: Int?
    while at < bytes.count {
      node = defined.next(node, bytes[at])
      if node < 0 { break }
      at += 1
      if defined.piece(node) >= 0 { end = at }
    }
    return end
  }
}
