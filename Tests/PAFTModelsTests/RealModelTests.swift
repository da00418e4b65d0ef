// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTOps
import PAFTTestSupport
import Testing

/// Real models against an independent float64 forward pass. They live outside the repository;
/// without them these tests are skipped.
@Suite(
  "Real models",
  .enabled(
    if: TestData.shared("vectors/golden") != nil && TestData.shared("models") != nil,
    "the shared data folder with the real models is not on this machine"))
struct RealModelTests {
  struct Model: Sendable, CustomTestStringConvertible {
    var folder: String
    var golden: String
    var testDescription: String { golden }
  }

  static let models = [
    Model(folder: "models/story-llama-0.66M", golden: "story-llama-0.66M.json"),
    Model(folder: "models/stories260K-hf", golden: "stories260K.json"),
  ]

  private func ids(_ value: JSON?) -> [Int32] {
    (value?.array ?? []).compactMap { $0.int.map { Int32($0) } }
  }

  @Test("log-probabilities of whole texts to 1e-4", arguments: models)
  func scores(_ model: Model) throws {
    let golden = try JSON.read(path: TestData.shared("vectors/golden/" + model.golden)!)
    try withExecutor { executor in
      let loaded = try LoadedModel(folder: TestData.shared(model.folder)!, on: executor)
      let scorer = Scorer(try loaded.decoder(on: executor), loaded.weights)
      let sequences = golden["sequences"]?.array ?? []
      try #require(!sequences.isEmpty)
      let results = try scorer.score(sequences.map { ScoreRequest(ids: ids($0["ids"])) })
      for (result, sequence) in zip(results, sequences) {
        let expected = sequence["token_logprobs"]!.array!.map { $0.double! }
        try #require(result.logprobs.count == expected.count)
        for (a, b) in zip(result.logprobs, expected) {
          #expect(abs(Double(a) - b) < 1e-4 * max(1, abs(b)))
        }
      }
    }
  }

  @Test("greedy continuations, token for token", arguments: models)
  func greedy(_ model: Model) throws {
    let golden = try JSON.read(path: TestData.shared("vectors/golden/" + model.golden)!)
    try withExecutor { executor in
      let loaded = try LoadedModel(folder: TestData.shared(model.folder)!, on: executor)
      let generator = Generator(try loaded.decoder(on: executor), loaded.weights)
      // Either continuations of several prompts, or one from the start token.
      var cases = (golden["prompts"]?.array ?? []).compactMap { prompt in
        prompt["greedy40"].map { (prompt: ids(prompt["ids"]), expected: ids($0)) }
      }
      if let whole = golden["greedy_from_bos"] {
        cases.append((Array(ids(whole).prefix(1)), Array(ids(whole).dropFirst())))
      }
      try #require(!cases.isEmpty)
      // Together, so that sequences of different lengths share every step.
      let answers = try generator.generate(cases.map(\.prompt), maxTokens: 30)
      for (answer, test) in zip(answers, cases) {
        // A golden text shorter than 30 ended with the end token, which is not part of an answer.
        let ended = test.expected.count < 30
        let expected =
          ended ? test.expected.filter { !generator.stops.contains($0) } : test.expected
        #expect(answer == Array(expected.prefix(30)))
      }
    }
  }
}
