// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTFormats
import PAFTTestSupport
import Testing

/// What users really feed a trainer. Every case must end in one line that names the culprit, the
/// documented exit code, and nothing written.
@Suite("Bad inputs", .enabled(if: Tool.path != nil, "paft is not built beside the tests"))
struct BadInputTests {
  /// A folder of broken things, made from the sound fixture.
  private struct Shelf {
    let path = TestData.temporaryFolder()
    let sound = TestData.fixture("models/llama")

    func remove() { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, _ text: String) throws -> String {
      try FileSystem.write(text, to: path + "/" + name)
      return path + "/" + name
    }

    /// The sound model with its weights or its configuration changed.
    func model(
      _ name: String, config: [String: JSON] = [:], weights: (([UInt8]) -> [UInt8])? = nil
    ) throws -> String {
      let folder = path + "/" + name
      try FileSystem.makeFolder(folder)
      var object = try #require(try JSON.read(path: sound + "/config.json").object)
      for (key, value) in config { object[key] = value }
      try FileSystem.write(JSON.object(object).serialized(), to: folder + "/config.json")
      let bytes = try FileSystem.read(sound + "/model.safetensors")
      try FileSystem.write(weights?(bytes) ?? bytes, to: folder + "/model.safetensors")
      return folder
    }

    /// The sound weights with 0xFF from byte `at` of the tensors' data on: NaN in any float type.
    static func nan(_ bytes: [UInt8]) -> [UInt8] {
      var bytes = bytes
      let header = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
      for i in 0..<4 { bytes[8 + header + i] = 0xFF }
      return bytes
    }
  }

  private func fails(
    _ arguments: [String], _ code: Int32, _ words: [String], environment: [String: String] = [:],
    _ location: SourceLocation = #_sourceLocation
  ) throws {
    let outcome = try Tool.run(arguments, environment: environment)
    #expect(outcome.code == code, "\(outcome.error)", sourceLocation: location)
    let errors = outcome.error.split(separator: "\n").filter { $0.hasPrefix("paft: error: ") }
    #expect(errors.count == 1, "\(outcome.error)", sourceLocation: location)
    for word in words {
      #expect(outcome.error.contains(word), "\(outcome.error)", sourceLocation: location)
    }
  }

  @Test("broken models: truncated, lying, unknown, not numbers")
  func models() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let rows = try shelf.file("rows.jsonl", "{\"input_ids\":[1,2,3]}\n")
    let short = try shelf.model("short") { Array($0.dropLast($0.count / 2)) }
    let lying = try shelf.model("lying") { [UInt8](repeating: 0xFF, count: 8) + $0.dropFirst(8) }
    let mamba = try shelf.model("mamba", config: ["architectures": ["MambaForCausalLM"]])
    let narrow = try shelf.model("narrow", config: ["vocab_size": 96])
    let deep = try shelf.model("deep", config: ["num_hidden_layers": 1_000_000_000])
    let nan = try shelf.model("nan", weights: Shelf.nan)
    let text = try shelf.model("text")
    _ = try shelf.file("text/config.json", "{\"hidden_size\": 32,\n \"num\": }")
    for (model, code, words) in [
      (short, 65, ["short/model.safetensors", "truncated"]), (lying, 65, ["lying/model.safe"]),
      (mamba, 65, ["MambaForCausalLM", "LlamaForCausalLM"]), (narrow, 65, ["[97, 32]"]),
      (deep, 65, ["num_hidden_layers"]), (nan, 80, ["rows.jsonl:1", "not finite"]),
      (text, 65, ["config.json line 2"]),
    ] as [(String, Int32, [String])] {
      try fails(["score", "--model", model, "--data", rows], code, words)
    }
    try fails(["eval", "--model", nan, "--task", rows], 80, ["rows.jsonl", "not finite"])
    try fails(["inspect", short], 65, ["short/model.safetensors"])
    try fails(["diff", shelf.sound, short], 65, ["short/model.safetensors"])
  }

  @Test("broken data is named by file and line, before a folder is made")
  func data() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let good = "{\"input_ids\":[1,2,3]}\n"
    let output = shelf.path + "/out"
    for (name, text, code, words) in [
      ("json", good + "{\"input_ids\" [1]}\n", 65, ["json.jsonl:2", "byte"]),
      ("cut", good + "{\"input_ids\":[1,2", 65, ["cut.jsonl:2", "cut off"]),
      ("keys", good + "{\"foo\":1}\n", 65, ["keys.jsonl:2", "'foo'", "input_ids"]),
      ("type", good + "{\"input_ids\":\"1 2\"}\n", 65, ["type.jsonl:2"]),
      ("range", good + "{\"input_ids\":[1,97]}\n", 65, ["range.jsonl:2", "97"]),
      ("empty", "", 65, ["empty.jsonl", "no rows"]),
      ("blank", "\n\n", 65, ["blank.jsonl", "no rows"]),
      ("nothing", "{\"prompt\":\"a\",\"completion\":\"\"}\n", 65, ["nothing.jsonl:1", "empty"]),
      ("untokenised", "{\"prompt\":\"a\",\"completion\":\"b\"}\n", 78, ["untokenised.jsonl:1"]),
      (
        "masked", "{\"input_ids\":[1,2],\"labels\":[-100,-100]}\n", 65, ["masked.jsonl", "none of"]
      ),
      (
        "pairs",
        "{\"prompt_input_ids\":[1],\"chosen_input_ids\":[2],\"rejected_input_ids\":[3]}\n", 65,
        ["pairs.jsonl:1", "preference pair"]
      ),
    ] as [(String, String, Int32, [String])] {
      let file = try shelf.file(name + ".jsonl", text)
      try fails(
        ["sft", "--model", shelf.sound, "--data", file, "--output", output], code, words)
      #expect(!FileSystem.exists(output), "\(name)")
    }
    // Rows that are allowed to be bad are left out, and each is named.
    let some = try shelf.file("some.jsonl", good + "{\"foo\":1}\n" + good)
    let rest = try Tool.run([
      "sft", "--model", shelf.sound, "--data", some, "--output", shelf.path + "/some", "--set",
      "max_bad_rows=1", "--set", "max_steps=1",
    ])
    #expect(rest.code == 0 && rest.error.contains("left out \(some):2: found keys 'foo'"))
    let alike = try shelf.file(
      "alike.jsonl",
      "{\"prompt_input_ids\":[1],\"chosen_input_ids\":[2],\"rejected_input_ids\":[2]}\n")
    let long = try shelf.file(
      "long.jsonl",
      "{\"prompt_input_ids\":[1,2,3,4],\"chosen_input_ids\":[2],\"rejected_input_ids\":[3]}\n")
    let align = ["align", "--model", shelf.sound, "--output", output, "--data"]
    try fails(align + [alike], 65, ["alike.jsonl", "equal"])
    try fails(align + [long, "--set", "max_length=4"], 65, ["long.jsonl", "max_length"])
    #expect(!FileSystem.exists(output))
  }

  @Test("a recipe's mistakes are named by file and line")
  func recipes() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let start = "model: \(shelf.sound)\noutput: out\nsft: {data: a}\nalign: {data: b}\n"
    for (line, words) in [
      ("max_step: 3", ["bad.yaml line 5", "did you mean 'max_steps'?"]),
      ("learning_rate: nan", ["bad.yaml line 5", "'nan'", "> 0"]),
      ("batch_size: many", ["bad.yaml line 5", "'many'"]),
      ("merge: {method: [1", ["bad.yaml line"]),
    ] {
      let file = try shelf.file("bad.yaml", start + line + "\n")
      try fails(["run", file], 78, words)
      try fails(["validate", file], 78, words)
    }
    #expect(!FileSystem.exists(shelf.path + "/out"))
    let option = try Tool.run([
      "sft", "--model", shelf.sound, "--data", "/none", "--output", "/x", "--set", "epochs=0",
    ])
    #expect(option.error.hasPrefix("paft: error: --set epochs: found '0', expected"))
  }

  @Test("an output that cannot be written is refused at once")
  func outputs() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let rows = try shelf.file("rows.jsonl", "{\"input_ids\":[1,2,3]}\n")
    try FileSystem.makeFolder(shelf.path + "/occupied/by")
    for (output, word) in [
      (shelf.path + "/occupied", "not empty"), (rows, "not a folder"),
      ("/dev/full", "not a folder"),
      (rows + "/below", "cannot create"), ("/proc/none", "cannot create"),
    ] {
      try fails(
        ["sft", "--model", shelf.sound, "--data", rows, "--output", output], 73, [word])
    }
    #expect(try FileSystem.list(shelf.path + "/occupied") == ["by"])
  }

  @Test("models that do not belong together are refused, adapters of another base too")
  func strangers() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let other = TestData.fixture("models/llama-bias")
    let config = try shelf.file(
      "merge.yaml",
      """
      merge_method: task_arithmetic
      base_model: \(shelf.sound)
      models: [{model: \(other), parameters: {weight: 1}}]

      """)
    let output = shelf.path + "/merged"
    try fails(["merge", config, output], 65, ["[103, 48]", "[97, 32]", "vocabulary"])
    #expect(!FileSystem.exists(output))
    let rows = try shelf.file("rows.jsonl", "{\"input_ids\":[1,2,3]}\n")
    try fails(
      ["score", "--model", other, "--adapter", shelf.sound + "/adapter", "--data", rows], 65,
      ["another base"])
  }

  @Test("complaint 18: an adapter beside a model of its shape that is not its base is noticed")
  func otherBase() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let rows = TestData.fixture("training/sft.jsonl")
    let adapter = shelf.path + "/run/adapter"
    let trained = try Tool.run([
      "sft", "--model", shelf.sound, "--data", rows, "--output", shelf.path + "/run", "--threads",
      "1", "--set", "max_steps=1", "--set", "eval_fraction=0",
    ])
    #expect(trained.code == 0, "\(trained.error)")
    let copy = try shelf.model("copy")
    for (model, isNoticed) in [(copy, true), (shelf.sound, false)] {
      let outcome = try Tool.run([
        "eval", "--model", model, "--adapter", adapter, "--task", rows, "--threads", "1",
      ])
      #expect(outcome.code == 0, "\(outcome.error)")
      #expect(outcome.error.contains("the adapter was trained on") == isNoticed)
    }
  }

  @Test("an adapter for modules that the model lacks is refused, with those it has")
  func otherModules() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let phi = TestData.fixture("models/phi3")
    let rows = try shelf.file("rows.jsonl", "{\"input_ids\":[1,2,3,4]}\n")
    let output = shelf.path + "/run"
    try fails(
      [
        "sft", "--model", phi, "--data", rows, "--output", output, "--set",
        "adapter.target_modules=[q_proj, o_proj, up_proj]",
      ], 78,
      [
        "sft: adapter.target_modules: found q_proj, up_proj", "Phi3ForCausalLM",
        "qkv_proj, o_proj, gate_up_proj, down_proj", "all-linear",
      ])
    #expect(!FileSystem.exists(output))
  }

  @Test("the environment is checked like options")
  func environment() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let rows = try shelf.file("rows.jsonl", "{\"input_ids\":[1,2,3]}\n")
    for (name, value) in [
      ("PAFT_ISA", "mmx"), ("PAFT_THREADS", "abc"), ("PAFT_THREADS", "0"), ("PAFT_PIN", "maybe"),
    ] {
      try fails(
        ["score", "--model", shelf.sound, "--data", rows], 78, ["'\(value)'"],
        environment: [name: value])
    }
  }

  @Test("a branch that blew up in its last step is an error, with its report")
  func diverged() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let rows = TestData.fixture("training/sft.jsonl")
    let output = shelf.path + "/out"
    try fails(
      [
        "sft", "--model", shelf.sound, "--data", rows, "--eval-data", rows, "--output", output,
        "--threads", "1", "--set", "max_steps=1", "--set", "learning_rate=1e38", "--set",
        "warmup_ratio=0",
      ], 80, ["sft", "not finite"])
    #expect(FileSystem.isFile(output + "/report.md"))
  }

  @Test("a full disk under standard output is exit code 74")
  func fullDisk() throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Tool.path!)
    process.arguments = ["knobs"]
    process.standardOutput = FileHandle(forWritingAtPath: "/dev/full")
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(
      decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 74)
    #expect(text.hasPrefix("paft: error: cannot write to standard output"))
  }

  @Test("files beyond the limit of their size fail like a full disk, not by a signal")
  func fileSizeLimit() throws {
    let shelf = Shelf()
    defer { shelf.remove() }
    let output = shelf.path + "/example"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", "ulimit -f 8; exec \"$0\" example --output \"$1\"", Tool.path!, output,
    ]
    let errors = Pipe()
    process.standardError = errors
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    let text = String(
      decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 74, "\(text)")
    #expect(!FileSystem.exists(output))
  }
}
