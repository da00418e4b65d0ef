// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

/// SentencePiece models against SentencePiece, and components that the zoo has not against the
/// tokenizers library (tools/golden/pieces.py).
@Suite struct PieceTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let json: JSON
    var testDescription: String { name }
    var cases: [JSON] { json["cases"]?.array ?? [] }
  }

  private static func cases(_ key: String, _ file: String = "pieces.json") -> [Case] {
    ((try? fixture(file))?[key]?.array ?? []).map {
      Case(name: $0["name"]!.string!, json: $0)
    }
  }

  /// The second file has rules of normalization, equal scores and pieces that a person defined.
  static let models = cases("sentencepiece") + cases("sentencepiece", "sentencepiece.json")
  static let tokenizers = cases("tokenizers")

  private func bytes(_ model: Case) throws -> [UInt8] {
    Array(try #require(Data(base64Encoded: model.json["model"]!.string!)))
  }

  @Test func theFixturesAreThere() {
    #expect(Self.models.count == 9)
    #expect(Self.tokenizers.count >= 7)
    #expect((Self.models + Self.tokenizers).allSatisfy { $0.cases.count > 30 })
  }

  @Test(arguments: models) func idsAreThoseOfSentencePiece(_ model: Case) throws {
    let tokenizer = try Tokenizer(bytes(model), source: model.name)
    for item in model.cases {
      let text = item["text"]!.string!
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false) == item["ids"]!.ids,
        "\(text.debugDescription)")
    }
    let around = try tokenizer.encode("a", addSpecialTokens: true)
    #expect(try around == [1] + tokenizer.encode("a", addSpecialTokens: false))
  }

  @Test(arguments: tokenizers) func idsAndTextsAreThoseOfTheLibrary(_ kind: Case) throws {
    let tokenizer = try Tokenizer(
      Array(kind.json["tokenizer"]!.serialized().utf8), source: kind.name)
    for item in kind.cases {
      let text = item["text"]!.string!
      let ids = item["ids"]!.ids
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false) == ids, "\(text.debugDescription)")
      let decoded = try tokenizer.decode(ids, skipSpecialTokens: false)
      #expect(
        sameBytes(decoded, item["decoded"]?.string ?? text), "\(text.debugDescription)")
    }
  }

  @Test(.enabled(if: TestData.shared("tokenizers/mistral/tokenizer.model.v1") != nil, noSharedData))
  func mistralsModelGivesTheIdsOfLlamaCpp() throws {
    let file = try #require(TestData.shared("tokenizers/mistral/tokenizer.model.v1"))
    let tokenizer = try Tokenizer(folder: file)
    #expect(tokenizer.vocabularySize == 32000)
    // "Hello world" and "This is a test." as mistral-common's own tests have them.
    #expect(try tokenizer.encode("Hello world", addSpecialTokens: true) == [1, 22557, 1526])
    #expect(try tokenizer.decode([22557, 1526], skipSpecialTokens: true) == "Hello world")
  }

  /// GPT-2's ranks are its ids: the file made of them must give the ids of tokenizer.json.
  @Test(.enabled(if: gpt2File != nil, noSharedData)) func ranksGiveTheIdsOfTheirTokenizer() throws {
    let reference = try Tokenizer(file: #require(gpt2File))
    let bytes = Dictionary(
      uniqueKeysWithValues: (0..<256).map { (Self.printable($0), UInt8($0)) })
    var lines = ""
    for id in 0..<50256 {
      let token = try #require(reference.token(Int32(id)))
      let raw = Data(token.unicodeScalars.map { bytes[$0]! })
      lines += "\(raw.base64EncodedString()) \(id)\n"
    }
    let tokenizer = try Tokenizer(Array(lines.utf8), source: "ranks")
    #expect(tokenizer.vocabularySize == 50257)
    let base = try #require(TestData.shared("tokenizers/expected/ggml-vocab"))
    let text = try FileSystem.text(base + "/ggml-vocab-gpt-2.gguf.inp")
    let expected = try reference.encode(text, addSpecialTokens: false)
    #expect(expected.count > 500)
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == expected)
    #expect(
      try tokenizer.encode("a<|endoftext|>", addSpecialTokens: false) == [64, 50256])
  }

  /// GPT-2's spelling of a byte, from its paper's code: printable ones stand for themselves.
  static func printable(_ byte: Int) -> Unicode.Scalar {
    func isPrintable(_ b: Int) -> Bool {
      (33...126).contains(b) || (161...172).contains(b) || (174...255).contains(b)
    }
    if isPrintable(byte) { return Unicode.Scalar(UInt8(byte)) }
    return Unicode.Scalar(UInt32(256 + (0..<byte).count { !isPrintable($0) }))!
  }

  // MARK: - Hostile files

  @Test(arguments: models) func cutModelsAreAFaultOrAModel(_ model: Case) throws {
    let whole = try bytes(model)
    for length in stride(from: 0, to: whole.count, by: 7) {
      let error = fault { _ = try Tokenizer(Array(whole[..<length]), source: "cut") }
      // A cut between two fields is a smaller model, anything else is named.
      if let error { #expect(error.exitCode == .data && !error.message.contains("\n")) }
    }
    var random = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var damaged = whole
      for _ in 0..<4 {
        damaged[Int.random(in: 0..<damaged.count, using: &random)] = UInt8.random(in: 0...255)
      }
      let error = fault {
        let tokenizer = try Tokenizer(damaged, source: "damaged")
        _ = try tokenizer.encode("the cat\u{FB01} 12", addSpecialTokens: true)
      }
      if let error { #expect(error.exitCode == .data, "\(error.message)") }
    }
  }

  static let damages: [(String, [String])] = [
    ("\n\u{7F}\n", ["byte 0", "length", "127"]),
    ("\n\u{3}\n\u{5}a", ["piece 0", "length of 5"]),
    ("YQ== 0\nYg== 2\n", [":2", "rank 2", "expected 1"]),
    ("YQ== 0\nYQ== 1\n", [":2", "twice"]),
    ("YQ== 0\n!!! 1\n", [":2", "base64"]),
    ("YQ== 0\nYg== 1\n", ["2 ranks", "no known vocabulary"]),
    (#"{"model":{"type":"Unigram","vocab":[["a",-1]]}}"#, ["unk_id"]),
    (#"{"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":1}}"#, ["unk_id", "1"]),
    (#"{"model":{"type":"Unigram","vocab":[["a"]],"unk_id":0}}"#, ["vocab[0]"]),
    (#"{"model":{"type":"Unigram","vocab":[["a",0],["a",1]],"unk_id":0}}"#, ["'a'", "twice"]),
    (#"{"model":{"type":"WordPiece","vocab":{}}}"#, ["model", "'WordPiece'", "not supported"]),
    (
      #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"model":{}}"#,
      ["precompiled_charsmap", "3 bytes"]
    ),
    (
      #"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="},"model":{}}"#,
      ["precompiled_charsmap", "trie"]
    ),
  ]

  @Test(arguments: damages) func damageIsOneLine(_ text: String, _ words: [String]) throws {
    let error = try #require(fault { _ = try Tokenizer(Array(text.utf8), source: "t") })
    #expect(error.exitCode == .data)
    #expect(!error.message.contains("\n"))
    for word in words { #expect(error.message.contains(word), "\(error.message)") }
  }
}
