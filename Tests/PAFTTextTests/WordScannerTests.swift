// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase
import PAFTFormats
import PAFTText
import Testing

/// What is done by hand for speed, against the compiled expression it stands for and against the
/// rules of Unicode.
@Suite struct WordScannerTests {
  /// A byte-level tokenizer that merges nothing but two blanks.
  private static func tokenizer(
    pattern: String, prefix: Bool, normalizer: JSON = nil
  ) throws -> Tokenizer {
    var vocabulary = JSONObject()
    for byte in 0..<256 { vocabulary.set(String(PieceTests.printable(byte)), JSON(byte)) }
    vocabulary.set("ĠĠ", 256)
    let file: JSON = [
      "normalizer": normalizer,
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": [
          [
            "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
            "invert": false,
          ],
          ["type": "ByteLevel", "add_prefix_space": JSON(prefix), "use_regex": false],
        ],
      ],
      "decoder": ["type": "ByteLevel"],
      "model": ["type": "BPE", "vocab": .object(vocabulary), "merges": [["Ġ", "Ġ"]]],
    ]
    return try Tokenizer(Array(file.serialized().utf8), source: "bytes")
  }

  static let patterns = [
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
  ]

  /// A blank is put before each word, and two blanks in one word are one token: the ids show every
  /// border.
  @Test(arguments: patterns) func wordsAreThoseOfTheExpression(_ pattern: String) throws {
    let scanned = try Self.tokenizer(pattern: pattern, prefix: true)
    let direct = try Self.tokenizer(pattern: pattern, prefix: false)
    // Behind a group the pattern is not recognised, and means the same.
    let compiled = try Self.tokenizer(pattern: "(?:\(pattern))", prefix: true)
    let directCompiled = try Self.tokenizer(pattern: "(?:\(pattern))", prefix: false)
    let characters: [String] = [
      "a", "Z", "é", "ß", "ſ", "\u{212A}", "字", "ह", "\u{93F}", "ع", "\u{64B}", "\u{301}", "ǅ",
      "7", "٣", "½", "Ⅷ", "1234567", "'", "'", "s", "S", "t", "re", "VE", "ll", "lL", "d", "M", "r",
      "’s", " ", " ", "  ", "\t", "\n", "\r", "\r\n", "\u{B}", "\u{85}", "\u{A0}", "\u{2028}",
      "\u{3000}", "\u{180E}", "\u{200B}", "\u{1C}", "\0", "!", "_", "…", "👩‍👧", "🏳️‍🌈", "€", "/", "-",
      "\u{FFFD}", "\u{10FFFF}", "\u{E000}",
    ]
    var state: UInt64 = 7
    func random(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(count))
    }
    for _ in 0..<4000 {
      let text = (0...random(24)).map { _ in characters[random(characters.count)] }.joined()
      #expect(
        try scanned.encode(text, addSpecialTokens: false)
          == compiled.encode(text, addSpecialTokens: false), "\(text.debugDescription)")
      #expect(
        try direct.encode(text, addSpecialTokens: false)
          == directCompiled.encode(text, addSpecialTokens: false), "\(text.debugDescription)")
    }
  }

  /// Every character alone, behind a letter and behind a blank.
  @Test(arguments: patterns) func everyCharacterHasItsClass(_ pattern: String) throws {
    let scanned = try Self.tokenizer(pattern: pattern, prefix: true)
    let compiled = try Self.tokenizer(pattern: "(?:\(pattern))", prefix: true)
    for start in stride(from: 0, to: 0x110000, by: 0x400) {
      var view = String.UnicodeScalarView()
      for value in start..<start + 0x400 {
        guard let scalar = Unicode.Scalar(UInt32(value)) else { continue }
        view.append(contentsOf: [scalar, "a", scalar, " ", scalar, "1"])
      }
      let text = String(view)
      #expect(
        try scanned.encode(text, addSpecialTokens: false)
          == compiled.encode(text, addSpecialTokens: false), "U+\(String(start, radix: 16))")
    }
  }

  /// Unicode 3.12: what is a syllable and what is none, at the borders of the ranges.
  @Test(arguments: [
    ("\u{1100}\u{1161}", "\u{AC00}"), ("\u{1112}\u{1175}", "\u{D788}"),
    ("\u{1112}\u{1175}\u{11C2}", "\u{D7A3}"), ("\u{D788}\u{11A8}", "\u{D789}"),
    ("\u{1113}\u{1161}", "\u{1113}\u{1161}"), ("\u{1100}\u{1176}", "\u{1100}\u{1176}"),
    ("\u{1100}\u{1160}", "\u{1100}\u{1160}"), ("\u{AC00}\u{11A7}", "\u{AC00}\u{11A7}"),
    ("\u{AC00}\u{11C3}", "\u{AC00}\u{11C3}"), ("\u{AC01}\u{11A8}", "\u{AC01}\u{11A8}"),
    ("\u{1113}\u{301}\u{1176}e\u{301}", "\u{1113}\u{301}\u{1176}\u{E9}"),
  ]) func hangulIsComposedByTheRules(_ text: String, _ expected: String) throws {
    let tokenizer = try Self.tokenizer(
      pattern: Self.patterns[2], prefix: false, normalizer: ["type": "NFC"])
    let decoded = try tokenizer.decode(
      tokenizer.encode(text, addSpecialTokens: false), skipSpecialTokens: false)
    #expect(sameBytes(decoded, expected))
  }

  /// Texts that composition is known to leave alone are not given to the library: it must agree, for
  /// every character alone, doubled, behind a letter and behind its neighbour.
  @Test func whatIsNotComposedIsComposedAlready() throws {
    let tokenizer = try Self.tokenizer(
      pattern: Self.patterns[2], prefix: false, normalizer: ["type": "NFC"])
    var previous: Unicode.Scalar = "a"
    for value in UInt32(0x80)..<0x20000 {
      // Foundation is wrong about some single letters of Hangul, see above.
      guard !(0x1100..<0x1200).contains(value), let scalar = Unicode.Scalar(value) else { continue }
      var view = String.UnicodeScalarView()
      view.append(contentsOf: [previous, scalar, "e", scalar, scalar, "A", scalar])
      previous = scalar
      let text = String(view)
      let ids = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(
        try sameBytes(
          tokenizer.decode(ids, skipSpecialTokens: false),
          text.precomposedStringWithCanonicalMapping),
        "U+\(String(value, radix: 16))")
    }
  }

  /// A file may leave ids out: they stand for nothing, and the others for what they stood for.
  @Test func aHoleInAVocabularyIsNothing() throws {
    let file = #"{"model":{"type":"BPE","vocab":{"a":0,"b":2,"ab":5},"merges":["a b"]}}"#
    let tokenizer = try Tokenizer(Array(file.utf8), source: "hole")
    #expect(try tokenizer.encode("aba", addSpecialTokens: false) == [5, 0])
    #expect(tokenizer.vocabularySize == 6)
    #expect(tokenizer.token(3) == nil)
    #expect(try tokenizer.decode([5, 3, 4, 2], skipSpecialTokens: false) == "ab b")
  }
}
