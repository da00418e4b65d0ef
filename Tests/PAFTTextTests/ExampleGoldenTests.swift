// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

/// The token sequences that TRL's trainers make of the same rows (tools/golden/text.py).
@Suite struct ExampleGoldenTests {
  private let golden: JSON
  private let builder: ExampleBuilder

  init() throws {
    golden = try fixture("examples.json")
    let corpus = try fixture("trainer.json")
    let eos = try #require(golden["eos"]?.string)
    let trained = try BPETrainer(
      vocabularySize: corpus["vocabulary_size"]!.int!,
      specialTokens: corpus["special_tokens"]!.strings
    ).train(corpus["texts"]!.strings)
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    try trained.write(to: folder, eos: eos)
    builder = ExampleBuilder(
      tokenizer: try Tokenizer(folder: folder),
      options: ExampleOptions(maxLength: golden["max_length"]!.int!))
  }

  private func rows(_ part: String) throws -> DataSet {
    try DataSet.parse(Array(golden[part]!["rows"]!.serialized().utf8), path: part)
  }

  @Test(arguments: ["completions", "texts"])
  func supervisedExamplesAreThoseOfTRL(_ part: String) throws {
    let expected = golden[part]!["examples"]!.array!.map {
      SFTExample(ids: $0["ids"]!.ids, labels: $0["labels"]!.ids)
    }
    let (examples, summary) = try builder.sft(try rows(part))
    #expect(examples == expected)
    #expect(summary.kept == expected.count && summary.truncated > 0)
    #expect(summary.kept + summary.droppedCount == summary.rows)
  }

  @Test func pairsAreThoseOfTRL() throws {
    let expected = golden["pairs"]!["examples"]!.array!.map {
      PreferenceExample(
        prompt: $0["prompt"]!.ids, chosen: $0["chosen"]!.ids, rejected: $0["rejected"]!.ids)
    }
    let (examples, summary) = try builder.preference(try rows("pairs"))
    #expect(examples == expected)
    #expect(summary.dropped[.promptTooLong]?.isEmpty == false && summary.truncated > 0)
  }
}
