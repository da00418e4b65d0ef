// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// A token that is found in the text before the model sees it.
struct AddedToken: Sendable {
  let content: String
  let id: Int32
  /// Control tokens: left out by `decode(skipSpecialTokens: true)`, plain text to
  /// `encode(allowSpecial: false)`.
  let special: Bool
  /// Swallows the white space on that side.
  let stripsLeft: Bool
  let stripsRight: Bool
  /// Only where no word character touches it.
  let singleWord: Bool
  /// Sought in the normalized text instead of the raw one.
  let normalized: Bool

  init(_ component: Component) throws(Fault) {
    content = try component.string("content")
    guard !content.isEmpty else {
      throw Fault(.data, "\(component.place).content: an empty token")
    }
    let id = try component.int("id")
    guard (0..<Vocabulary.idLimit).contains(id) else {
      throw Fault(
        .data, "\(component.place).id: \(id), expected 0 to \(Vocabulary.idLimit - 1)")
    }
    self.id = Int32(id)
    special = try component.bool("special", default: false)
    stripsLeft = try component.bool("lstrip", default: false)
    stripsRight = try component.bool("rstrip", default: false)
    singleWord = try component.bool("single_word", default: false)
    normalized = try component.bool("normalized", default: !special)
  }
}

/// Finds a set of tokens in a text, the leftmost and there the longest first.
///
/// A tree of bytes; the search starts anew at each byte that begins some token, so a step costs at
/// most the length of the longest token (honest sets have a few hundred tokens that begin with a
/// handful of bytes).
struct AddedTokenMatcher: Sendable {
  private struct Node {
    var children: [(byte: UInt8, node: Int32)] = []
    var token: Int32 = -1
  }

  private let tokens: [AddedToken]
  /// Nothing is ever found.
  var isEmpty: Bool { tokens.isEmpty }
  private var nodes: [Node] = [Node()]
  private var starts = [Bool](repeating: false, count: 256)

  /// - Parameter spelling: how a token looks in the text that is searched; the first of two tokens
  ///   with one spelling wins.
  init(_ tokens: [AddedToken], spelling: (AddedToken) throws(Fault) -> [UInt8]) throws(Fault) {
    self.tokens = tokens
    for (index, token) in tokens.enumerated() {
      let bytes = try spelling(token)
      guard let first = bytes.first else { continue }
      starts[Int(first)] = true
      var node = 0
      for byte in bytes { node = child(of: node, byte) }
      if nodes[node].token < 0 { nodes[node].token = Int32(index) }
    }
  }

  private mutating func child(of node: Int, _ byte: UInt8) -> Int {
    if let known = nodes[node].children.first(where: { $0.byte == byte }) { return Int(known.node) }
    nodes.append(Node())
    nodes[node].children.append((byte, Int32(nodes.count - 1)))
    return nodes.count - 1
  }

  enum Part {
    case text(Range<Int>)
    /// The id, and its bytes with the blanks that it swallows.
    case token(Int32, Range<Int>)
  }

  /// Cuts `bytes` into tokens and the text between them.
  ///
  /// - Parameter data: stretches, in order, that no special token may touch: there its text is text.
  func cut(
    _ bytes: [UInt8], allowSpecial: Bool, data: [Range<Int>] = [],
    _ part: (Part) throws(Fault) -> Void
  ) throws(Fault) {
    if tokens.isEmpty {
      if !bytes.isEmpty { try part(.text(0..<bytes.count)) }
      return
    }
    var done = 0
    var at = 0
    var nextData = data[...]
    while at < bytes.count {
      at = nextStart(bytes, at)
      if at == bytes.count { break }
      while let first = nextData.first, first.upperBound <= at { nextData.removeFirst() }
      let border = nextData.first.map { max(at, $0.lowerBound) } ?? bytes.count
      guard let (token, length) = longest(bytes, at, specialBefore: border) else {
        at += 1
        continue
      }
      let match = at..<at + length
      at = match.upperBound
      if token.special && !allowSpecial { continue }
      if token.singleWord && touchesWord(bytes, match) { continue }
      // White space that the token before this one swallowed is gone.
      let lower = max(
        done, token.stripsLeft ? spaceStart(bytes, match.lowerBound) : match.lowerBound)
      if done < lower { try part(.text(done..<lower)) }
      done = token.stripsRight ? spaceEnd(bytes, match.upperBound) : match.upperBound
      try part(.token(token.id, lower..<done))
      at = max(at, done)
    }
    if done < bytes.count { try part(.text(done..<bytes.count)) }
  }

  /// The next place where a token may begin.
  private func nextStart(_ bytes: [UInt8], _ start: Int) -> Int {
    starts.withUnsafeBufferPointer { starts in
      bytes.withUnsafeBufferPointer { bytes in
        var at = start
        while at < bytes.count, !starts[Int(bytes[at])] { at += 1 }
        return at
      }
    }
  }

  /// - Parameter specialBefore: where special tokens must have ended.
  private func longest(
    _ bytes: [UInt8], _ start: Int, specialBefore border: Int
  ) -> (AddedToken, Int)? {
    var node = 0
    var at = start
    var best: (AddedToken, Int)?
    while at < bytes.count,
      let next = nodes[node].children.first(where: { $0.byte == bytes[at] })
    {
      node = Int(next.node)
      at += 1
      guard nodes[node].token >= 0 else { continue }
      let token = tokens[Int(nodes[node].token)]
      if at <= border || !token.special { best = (token, at - start) }
    }
    return best
  }

  // MARK: - Neighbours

  private func touchesWord(_ bytes: [UInt8], _ match: Range<Int>) -> Bool {
    if let before = scalar(bytes, endingAt: match.lowerBound), Self.isWord(before.0) { return true }
    if let after = scalar(bytes, startingAt: match.upperBound), Self.isWord(after.0) { return true }
    return false
  }

  private func spaceStart(_ bytes: [UInt8], _ end: Int) -> Int {
    var at = end
    while let (scalar, length) = scalar(bytes, endingAt: at), scalar.properties.isWhitespace {
      at -= length
    }
    return at
  }

  private func spaceEnd(_ bytes: [UInt8], _ start: Int) -> Int {
    var at = start
    while let (scalar, length) = scalar(bytes, startingAt: at), scalar.properties.isWhitespace {
      at += length
    }
    return at
  }

  private func scalar(_ bytes: [UInt8], startingAt at: Int) -> (Unicode.Scalar, Int)? {
    guard at < bytes.count else { return nil }
    let end = min(at + Scalars.length(bytes[at]), bytes.count)
    return String(decoding: bytes[at..<end], as: UTF8.self).unicodeScalars.first.map {
      ($0, end - at)
    }
  }

  private func scalar(_ bytes: [UInt8], endingAt end: Int) -> (Unicode.Scalar, Int)? {
    guard end > 0 else { return nil }
    var at = end - 1
    while at > 0, bytes[at] & 0xC0 == 0x80 { at -= 1 }
    return scalar(bytes, startingAt: at)
  }

  /// `\w` as Rust's regex crate has it: alphabetic, mark, decimal digit, connector, join control.
  static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.properties.isAlphabetic || scalar.properties.isJoinControl { return true }
    return switch scalar.properties.generalCategory {
    case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark: true
    default: false
    }
  }
}
