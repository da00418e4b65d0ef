// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import Testing

@Suite("Adapters that PEFT wrote")
struct AdapterTests {
  @Test("ranks and alphas of single modules, rank-stabilised: PEFT's logits", arguments: tables)
  func patterns(_ isa: String) throws {
    try withExecutor(isa: isa) { executor in
      let fixture = try ModelFixture("phi3")
      let path = fixture.folder + "/adapter-pattern"
      let golden = try fixture.golden("adapter-pattern/golden.safetensors")
      let model = try LoadedModel(folder: fixture.folder, adapter: path, on: executor)
      let plain = try LoadedModel(folder: fixture.folder, on: executor)
      let decoder = try model.decoder(on: executor)
      let expected = try golden["logits.0"]!.floats()
      executor.withScratch { scratch in
        let batch = fixture.batch(in: scratch, only: 0)
        let logits = Matrix(
          in: scratch, rows: batch.tokens, columns: model.configuration.vocabulary)
        func error(_ weights: Weights) -> Double {
          let hidden = decoder.inference(batch, weights, finishing: nil)
          decoder.logits(hidden, weights, into: logits)
          return relativeError(logits.base, expected)
        }
        #expect(error(model.weights) < 1e-4)
        #expect(error(plain.weights) > 1e-2)
      }
    }
  }

  @Test("what is written is what was read")
  func roundTrip() throws {
    let fixture = try ModelFixture("phi3")
    let model = try ModelConfiguration.read(folder: fixture.folder)
    let folder = try AdapterFolder(fixture.folder + "/adapter-pattern", model)
    let written = folder.configuration.peft(base: "..")
    let read = try JSON.read(path: fixture.folder + "/adapter-pattern/adapter_config.json")
    for key in ["r", "use_rslora", "rank_pattern"] {
      #expect(written[key]?.serialized() == read[key]?.serialized())
    }
    for (name, value) in try #require(read["alpha_pattern"]?.object) {
      #expect(written["alpha_pattern"]?[name]?.double == value.double)
    }
  }

  static let mistakes: [(String, JSON, String)] = [
    ("use_dora", true, "use_dora"),
    ("modules_to_save", ["lm_head"], "modules_to_save"),
    ("rank_pattern", ["qkv_proj": 0], "rank_pattern"),
    ("rank_pattern", ["layers\\.[01].*": 2], "rank_pattern"),
    ("alpha_pattern", ["qkv_proj": "two"], "alpha_pattern"),
  ]

  @Test("what is not supported is refused with 65, and named", arguments: mistakes)
  func refused(_ key: String, _ value: JSON, _ named: String) throws {
    let fixture = try ModelFixture("phi3")
    let model = try ModelConfiguration.read(folder: fixture.folder)
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let source = fixture.folder + "/adapter-pattern/adapter_config.json"
    var config: JSONObject = try #require(JSON.read(path: source).object)
    config.set(key, value)
    try FileSystem.replace(
      folder + "/adapter_config.json", with: JSON.object(config).serialized().utf8)
    let fault = #expect(throws: Fault.self) { try AdapterFolder(folder, model) }
    #expect(fault?.exitCode == .data)
    #expect(fault?.message.contains(named) == true)
  }
}
