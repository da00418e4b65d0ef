// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

@Suite struct BPETrainerTests {
  private let golden = try! fixture("trainer.json")

  private func train(_ texts: [String]) throws -> TrainedTokenizer {
    try BPETrainer(
      vocabularySize: golden["vocabulary_size"]!.int!,
      specialTokens: golden["special_tokens"]!.strings
    ).train(texts)
  }

  @Test func mergesAreThoseOfTheReference() throws {
    let trained = try train(golden["texts"]!.strings)
    let merges = golden["merges"]!.array!.map { ($0[0]!.string!, $0[1]!.string!) }
    #expect(trained.merges.count == merges.count)
    let difference = merges.indices.first { trained.merges[$0] != merges[$0] }
    #expect(difference == nil, "first difference at merge \(difference ?? -1)")
    #expect(trained.vocabulary == golden["vocabulary"]!.strings)
  }

  @Test func theOrderOfTextsDoesNotMatter() throws {
    let texts = golden["texts"]!.strings
    let one = try train(texts)
    let other = try train(texts.reversed())
    #expect(one.vocabulary == other.vocabulary)
    #expect(one.merges.elementsEqual(other.merges, by: ==))
  }

  @Test func whatItWritesIsATokenizer() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let texts = golden["texts"]!.strings
    let trained = try train(texts)
    try trained.write(to: folder, bos: "<|begin|>", eos: "<|end|>")
    let tokenizer = try Tokenizer(folder: folder)
    #expect(tokenizer.bosID == 0 && tokenizer.eosID == 1)
    #expect(tokenizer.vocabularySize == trained.vocabulary.count)
    for text in texts {
      let ids = try tokenizer.encode(text, addSpecialTokens: true)
      #expect(ids.first == 0)
      #expect(sameBytes(try tokenizer.decode(ids, skipSpecialTokens: true), text))
    }
    let ids = try tokenizer.encode("a<|end|>b", addSpecialTokens: false)
    #expect(ids.contains(1))
  }

  @Test func aVocabularyTooSmallForTheBytesIsRefused() {
    let error = fault {
      _ = try BPETrainer(vocabularySize: 256, specialTokens: ["<s>"]).train(["a"])
    }
    #expect(error?.exitCode == .configuration)
    #expect(error?.message.contains("expected 257") == true)
    #expect(
      fault { _ = try BPETrainer(vocabularySize: 300, specialTokens: ["x"]).train([]) } != nil)
  }
}
