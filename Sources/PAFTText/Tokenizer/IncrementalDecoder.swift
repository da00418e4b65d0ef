// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Text of a growing sequence of ids, for streaming: each call gives what has become certain. Bytes
/// of a character that is not complete yet are held back.
///
/// A token's text may depend on the one before it (the first token of a text loses its blank), so a
/// short window of ids is decoded again each time: those already spoken and those not yet.
package struct IncrementalDecoder {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  private var window: [Int32] = []
  /// The first `spoken` ids of the window gave `prefix`, which the caller has.
  private var spoken = 0
  private var prefix: [UInt8] = []

  /// No character needs more byte tokens; a longer wait means bytes that will never be one.
  private static let longestWait = 8

  package init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// The text that `id` completes, often empty in the middle of a character.
  package mutating func append(_ id: Int32) throws(Fault) -> String {
    window.append(id)
    let text = Array(try tokenizer.decode(window, skipSpecialTokens: skipSpecialTokens).utf8)
    let incomplete = text.suffix(3).elementsEqual("\u{FFFD}".utf8)
    if text.count <= prefix.count || (incomplete && window.count - spoken < Self.longestWait) {
      return ""
    }
    return try speak(text)
  }

  /// Whatever was held back, broken characters as U+FFFD.
  package mutating func finish() throws(Fault) -> String {
    let text = Array(try tokenizer.decode(window, skipSpecialTokens: skipSpecialTokens).utf8)
    defer {
      window.removeAll()
      spoken = 0
      prefix.removeAll()
    }
    return String(decoding: text.dropFirst(common(text)), as: UTF8.self)
  }

  private mutating func speak(_ text: [UInt8]) throws(Fault) -> String {
    let news = String(decoding: text.dropFirst(common(text)), as: UTF8.self)
    window.removeFirst(spoken)
    spoken = window.count
    prefix = Array(try tokenizer.decode(window, skipSpecialTokens: skipSpecialTokens).utf8)
    return news
  }

  private func common(_ text: [UInt8]) -> Int {
    zip(text, prefix).prefix { $0 == $1 }.count
  }
}
