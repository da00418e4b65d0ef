// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTText
import Testing

/// Small tokenizers, one per component, against the ids and texts that Hugging Face's `tokenizers`
/// gives (tools/golden/text.py).
@Suite struct TokenizerZooTests {
  struct Animal: Sendable, CustomTestStringConvertible {
    let name: String
    let json: JSON
    var testDescription: String { name }
    func tokenizer() throws -> Tokenizer {
      try Tokenizer(Array(json["tokenizer"]!.serialized().utf8), source: name)
    }
    var cases: [JSON] { json["cases"]?.array ?? [] }
  }

  static let zoo: [Animal] =
    ((try? fixture("zoo.json"))?.array ?? []).map { Animal(name: $0["name"]!.string!, json: $0) }

  @Test func theZooIsThere() { #expect(Self.zoo.count >= 20) }

  @Test(arguments: zoo) func idsAreThoseOfTheReference(_ animal: Animal) throws {
    let tokenizer = try animal.tokenizer()
    for item in animal.cases {
      let text = item["text"]!.string!
      let ids = item["ids"]!.ids
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false) == ids, "\(text.debugDescription)")
      #expect(
        try tokenizer.encode(text, addSpecialTokens: true) == item["with_special"]?.ids ?? ids,
        "\(text.debugDescription)")
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false, allowSpecial: false)
          == item["plain"]?.ids ?? ids, "\(text.debugDescription)")
    }
  }

  @Test(arguments: zoo) func textsAreThoseOfTheReference(_ animal: Animal) throws {
    let tokenizer = try animal.tokenizer()
    for item in animal.cases {
      let text = item["text"]!.string!
      let expected = item["decoded"]?.string ?? text
      let all = try tokenizer.decode(item["ids"]!.ids, skipSpecialTokens: false)
      #expect(sameBytes(all, expected), "\(text.debugDescription)")
      let skipped = try tokenizer.decode(item["ids"]!.ids, skipSpecialTokens: true)
      #expect(
        sameBytes(skipped, item["decoded_skip"]?.string ?? expected), "\(text.debugDescription)")
    }
  }

  @Test(arguments: zoo) func streamedTextIsTheDecodedText(_ animal: Animal) throws {
    let tokenizer = try animal.tokenizer()
    for item in animal.cases {
      let ids = item["ids"]!.ids
      let whole = try tokenizer.decode(ids, skipSpecialTokens: false)
      var stream = IncrementalDecoder(tokenizer, skipSpecialTokens: false)
      var text = ""
      for id in ids { text += try stream.append(id) }
      text += try stream.finish()
      #expect(sameBytes(text, whole), "\(item["text"]!.string!.debugDescription)")
    }
  }

  @Test func oneTokenizerServesManyThreads() async throws {
    let animal = try #require(Self.zoo.first { $0.name == "llama3" })
    let tokenizer = try animal.tokenizer()
    let cases = animal.cases.map { ($0["text"]!.string!, $0["ids"]!.ids) }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for worker in 0..<8 {
        group.addTask {
          for round in 0..<cases.count * 4 {
            let (text, ids) = cases[(round * 7 + worker) % cases.count]
            if try tokenizer.encode(text, addSpecialTokens: false) != ids { return false }
          }
          return true
        }
      }
      for try await right in group { #expect(right) }
    }
  }
}
