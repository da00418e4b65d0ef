// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTOps
import PAFTTestSupport
import Testing

@Suite("Weights and sizes")
struct WeightsTests {
  @Test("weights can be used after the model they came from is gone")
  func lifetime() throws {
    try withExecutor { executor in
      let fixture = try ModelFixture("llama")
      func weights() throws -> Weights {
        try LoadedModel(
          folder: fixture.folder, adapter: fixture.folder + "/adapter", on: executor
        ).weights
      }
      // The base's arena and the adapter's are unmapped with their last holder.
      let orphans = try weights()
      let loaded = try LoadedModel(
        folder: fixture.folder, adapter: fixture.folder + "/adapter", on: executor)
      let decoder = try loaded.decoder(on: executor)
      let rows = fixture.sequences.map { ScoreRequest(ids: $0.ids) }
      let expected = try Scorer(decoder, loaded.weights).score(rows)
      let found = try Scorer(decoder, orphans).score(rows)
      #expect(found.map(\.logprobs) == expected.map(\.logprobs))
      withExtendedLifetime(loaded) {}
    }
  }

  @Test("generation ends with the positions, however many tokens are asked for")
  func endOfPositions() throws {
    try withExecutor { executor in
      let loaded = try LoadedModel(folder: ModelFixture("llama").folder, on: executor)
      let generator = Generator(
        try loaded.decoder(maxTokens: 12, on: executor), loaded.weights, stops: [])
      let answers = try generator.generate(
        [[1], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]], maxTokens: .max)
      // The last token is chosen from the last position and never fed.
      #expect(answers.map(\.count) == [12, 2])
    }
  }

  @Test(
    "sizes that are sane one by one and absurd together are refused with 65",
    arguments: [["num_hidden_layers": 4096], ["vocab_size": 1 << 28, "num_hidden_layers": 1]])
  func absurdSizes(_ sizes: [String: Int]) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    var config: JSONObject = try #require(
      JSON.read(path: TestData.fixture("models/llama/config.json")).object)
    config.set("hidden_size", JSON(1 << 28))
    config.set("intermediate_size", JSON(1 << 28))
    config.set("num_attention_heads", JSON(1 << 16))
    config.set("num_key_value_heads", JSON(1 << 16))
    config.set("head_dim", JSON(1 << 12))
    for (key, value) in sizes { config.set(key, JSON(value)) }
    try FileSystem.replace(
      folder + "/config.json", with: JSON.object(config).serialized().utf8)
    let fault = #expect(throws: Fault.self) { try ModelFolder(folder) }
    #expect(fault?.exitCode == .data)
    #expect(fault?.message.contains("trillion parameters") == true)
  }
}
