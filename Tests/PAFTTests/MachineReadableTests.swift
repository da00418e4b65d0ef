// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTFormats
import PAFTTestSupport
import Testing

/// With `--json`, standard output is JSON and nothing else: one value, or one to a line.
@Suite("--json", .enabled(if: Tool.path != nil, "paft is not built beside the tests"))
struct MachineReadableTests {
  private let model = TestData.fixture("models/llama")
  private let rows = TestData.fixture("training/sft.jsonl")
  private let pairs = TestData.fixture("training/pairs.jsonl")

  private func value(_ arguments: [String]) throws -> JSON {
    let outcome = try Tool.run(arguments + ["--json"])
    #expect(outcome.code == 0, "\(outcome.error)")
    return try JSON.parse(Array(outcome.output.utf8), source: arguments[0])
  }

  private func lines(_ arguments: [String]) throws -> [JSON] {
    let outcome = try Tool.run(arguments + ["--json"])
    #expect(outcome.code == 0, "\(outcome.error)")
    return try outcome.output.split(separator: "\n").map {
      try JSON.parse(Array($0.utf8), source: arguments[0])
    }
  }

  @Test("training, merging and comparing answer with one value")
  func training() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let short = ["--model", model, "--threads", "1", "--set", "max_steps=2", "--output"]
    let sft = try value(["sft", "--data", rows] + short + [folder + "/sft"])
    #expect(sft["branches"]?.array?.first?["steps"]?.int == 2)
    // Reaches the branch without its name in front.
    let sparse = try value(
      ["sft", "--data", rows, "--set", "l1.lambda=0.1"] + short + [folder + "/sparse"])
    #expect(sparse["recipe"]?["sft"]?["l1"]?["lambda"]?.double == 0.1)
    let align = try value(["align", "--data", pairs] + short + [folder + "/align"])
    #expect(align["branches"]?.array?.first?["objective"]?.string == "dpo")
    let config = folder + "/merge.yaml"
    try FileSystem.write(
      """
      merge_method: task_arithmetic
      base_model: \(model)
      models:
        - {model: \(model)+\(folder)/sft/adapter, parameters: {weight: 1}}
        - {model: \(model)+\(folder)/align/adapter, parameters: {weight: 1}}

      """, to: config)
    let merged = try value(["merge", config, folder + "/merged"])
    #expect(merged["output"]?.string == folder + "/merged")
    let diff = try value(["diff", model, folder + "/merged"])
    #expect(try #require(diff["all"]?["norm"]?.double) > 0)
    #expect(try value(["inspect", folder + "/merged"])["kind"]?.string == "model")
    let run = try value(["inspect", folder + "/sft"])
    #expect(run["finished"]?.bool == true)
  }

  @Test("several files after one --task are several lines, each with its file")
  func eval() throws {
    let answers = try lines(["eval", "--model", model, "--task", rows, pairs, "--threads", "1"])
    #expect(answers.map { $0["task"]?.string } == [rows, pairs])
    #expect(answers.map { $0["model"]?.string } == [model, model])
    #expect(answers[0]["supervised"] != nil && answers[1]["preference"] != nil)
  }

  @Test("lists of files are lines")
  func files() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let made = try lines([
      "example", "--output", folder + "/e", "--documents", "3", "--instructions", "3",
      "--preferences", "3", "--held-out", "2",
    ])
    #expect(made.count == 6)
    for file in made { #expect(FileSystem.isFile(try #require(file["file"]?.string))) }
    let verdicts = try lines(["validate", rows, folder + "/e/recipe.yaml"])
    #expect(verdicts.map { $0["valid"]?.bool } == [true, true])
    // The base is made later: no error, but said.
    let notes = try #require(verdicts[1]["notes"]?.array).compactMap(\.string)
    #expect(notes.contains("not there yet: \(folder)/e/base"))
  }

  @Test("pretrain ends with what was made")
  func pretrain() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let texts = folder + "/texts.jsonl"
    try FileSystem.write(
      (0..<20).map { "{\"text\":\"the \($0)th cat sat on mat \($0)\"}\n" }.joined(), to: texts)
    let made = try value([
      "pretrain", "--data", texts, "--output", folder + "/base", "--hidden", "16", "--layers", "1",
      "--heads", "2", "--vocabulary", "280", "--max-steps", "2", "--threads", "1",
    ])
    #expect(made["kind"]?.string == "model" && made["layers"]?.int == 1)
    let answer = try lines([
      "generate", "--model", folder + "/base", "--prompt", "-- the", "--max-tokens", "3",
      "--threads", "1",
    ])
    #expect(answer.count == 1 && answer[0]["prompt"]?.string == "-- the")
  }
}
