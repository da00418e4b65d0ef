// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

/// Real tokenizers against expected ids of llama.cpp, swift-transformers and Hugging Face.
/// Skipped where the shared data folder is absent.
@Suite(.enabled(if: gpt2File != nil, noSharedData)) struct TokenizerGoldenTests {
  /// llama.cpp's vocabulary tests: blocks of text, and a line of ids for each (no bos).
  private func vocabularyTest(_ name: String) throws -> [(text: String, ids: [Int32])] {
    let base = try #require(TestData.shared("tokenizers/expected/ggml-vocab"))
    let texts = split(
      try FileSystem.text("\(base)/ggml-vocab-\(name).gguf.inp"), "\n__ggml_vocab_test__\n")
    let lines = split(try FileSystem.text("\(base)/ggml-vocab-\(name).gguf.out"), "\n")
    #expect(texts.count == 47)
    return zip(texts, lines).map { text, line in
      (text, line.split(separator: " ").compactMap { Int32($0) })
    }
  }

  private func split(_ text: String, _ separator: String) -> [String] {
    let mark = Array(separator.utf8)
    var parts: [[UInt8]] = [[]]
    for byte in text.utf8 {
      parts[parts.count - 1].append(byte)
      if byte == mark.last, parts[parts.count - 1].suffix(mark.count).elementsEqual(mark) {
        parts[parts.count - 1].removeLast(mark.count)
        parts.append([])
      }
    }
    return parts.map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func gpt2GivesTheIdsOfLlamaCpp() throws {
    let tokenizer = try Tokenizer(file: #require(gpt2File))
    #expect(tokenizer.vocabularySize == 50257)
    for (text, ids) in try vocabularyTest("gpt-2") {
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false) == ids, "\(text.debugDescription)")
      #expect(sameBytes(try tokenizer.decode(ids, skipSpecialTokens: false), text))
    }
  }

  @Test func phi3GivesTheIdsOfLlamaCpp() throws {
    let tokenizer = try Tokenizer(folder: #require(phi3Folder))
    #expect(tokenizer.vocabularySize == 32011)
    #expect(tokenizer.bosID == 1 && tokenizer.eosID == tokenizer.id("<|endoftext|>"))
    for (text, ids) in try vocabularyTest("phi-3") + vocabularyTest("llama-spm") {
      #expect(
        try tokenizer.encode(text, addSpecialTokens: false) == ids, "\(text.debugDescription)")
      #expect(sameBytes(try tokenizer.decode(ids, skipSpecialTokens: false), text))
    }
  }

  @Test func storyLlamaGivesTheIdsOfTheReference() throws {
    let tokenizer = try Tokenizer(folder: #require(storyFolder))
    #expect(tokenizer.bosID == 1 && tokenizer.eosID == 2 && tokenizer.vocabularySize == 2048)
    let expected = try #require(try fixture("story-llama.json").array)
    let texts = try vocabularyTest("gpt-2").map(\.text)
    #expect(expected.count == texts.count)
    for (text, item) in zip(texts, expected) {
      #expect(try tokenizer.encode(text, addSpecialTokens: false) == item["ids"]!.ids)
      #expect(try tokenizer.encode(text, addSpecialTokens: true) == item["with_special"]!.ids)
      let decoded = try tokenizer.decode(item["ids"]!.ids, skipSpecialTokens: true)
      #expect(sameBytes(decoded, item["decoded"]!.string!), "\(text.debugDescription)")
    }
  }

  @Test func storyLlamaGivesTheIdsOfTheGoldenForwardPass() throws {
    let tokenizer = try Tokenizer(folder: #require(storyFolder))
    let golden = try JSON.read(
      path: #require(TestData.shared("vectors/golden/story-llama-0.66M.json")))
    let prompts = try #require(golden["prompts"]?.array)
    #expect(!prompts.isEmpty)
    for prompt in prompts {
      let ids = try tokenizer.encode(prompt["prompt"]!.string!, addSpecialTokens: true)
      #expect(ids == prompt["ids"]!.ids)
    }
  }

  @Test func gpt2GivesTheIdsOfSwiftTransformers() throws {
    let tokenizer = try Tokenizer(file: #require(gpt2File))
    let base = try #require(TestData.shared("tokenizers/expected/swift-transformers"))
    let one = try JSON.read(path: base + "/gpt2_encoded_tokens.json")
    let ids = try tokenizer.encode(one["text"]!.string!, addSpecialTokens: true)
    #expect(ids == one["token_ids"]!.ids)
    #expect(ids.compactMap { tokenizer.token($0) } == one["bpe_tokens"]!.strings)
    let many = try #require(
      try JSON.read(path: base + "/tokenizer_tests.json")["distilgpt2"]?.array)
    #expect(many.count > 5)
    for item in many {
      let expected = item["encoded"]!["input_ids"]!.ids
      #expect(try tokenizer.encode(item["input"]!.string!, addSpecialTokens: true) == expected)
    }
  }

  static let corpora = [
    "sft/tinyshakespeare.txt", "sft/gsm8k_train.jsonl", "sft/tinyfabulist_tf1_sample.jsonl",
    "sft/tinystories/tinystories_train_subset.txt", "sft/tinystories/tinystories_valid_subset.txt",
    "sft/tinystories/tinystories_10k_lines.txt",
    "preference/rasbt-instruction-data-with-preference.json",
  ]

  @Test(arguments: corpora) func wholeFilesComeBackByteForByte(_ path: String) throws {
    var text = try FileSystem.text(#require(TestData.shared(path)))
    // Text around special tokens gains the blank that phi-3's normalizer puts before each piece.
    text = split(text, "<|endoftext|>").joined(separator: "")
    for tokenizer in [
      try Tokenizer(file: #require(gpt2File)), try Tokenizer(folder: #require(phi3Folder)),
    ] {
      let ids = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(sameBytes(try tokenizer.decode(ids, skipSpecialTokens: false), text))
      #expect(ids.count < text.utf8.count / 2)
    }
  }
}
