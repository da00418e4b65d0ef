// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTFormats
import PAFTTestSupport
import Testing

/// The command as users and scripts meet it. Skipped where the executable was not built.
@Suite("The command", .enabled(if: Tool.path != nil, "paft is not built beside the tests"))
struct CommandTests {
  static let model = TestData.fixture("models/llama")

  static let mistakes: [(arguments: [String], code: Int32, words: [String])] = [
    (["bogus"], 64, ["bogus", "paft --help"]),
    (["run"], 64, ["recipe", "paft run --help"]),
    (["run", "a.yaml", "--bogus"], 64, ["--bogus", "paft run --help"]),
    (["score", "--model", "x"], 64, ["--data", "paft score --help"]),
    (["bench", "gemm", "--shape", "3x3"], 64, ["MxNxK"]),
    (["bench", "gemm", "--threads", "0"], 64, ["at least 1"]),
    (["bench", "gemm", "--dtype", "fp8"], 64, ["bf16, f32 or int8"]),
    (["bench", "attention", "--shape", "3x3"], 64, ["HxHkvxTxD", "Hkv divides H"]),
    (["bench", "--shape", "3x3x3"], 64, ["kinds", "paft bench gemm --shape"]),
    (["bench", "gemm", "--model", "/none"], 66, ["/none", "qwen2.5-0.5b"]),
    (["bench", "gemm", "--baseline", "/none"], 66, ["/none"]),
    (["bench", "step", "--objective", "ppo"], 64, ["ppo", "dpo"]),
    (["bench", "bogus"], 64, ["bogus", "gemm"]),
    (["run", "/none.yaml"], 66, ["/none.yaml"]),
    (["score", "--model", "/none", "--data", "/none"], 66, ["/none"]),
    (["score", "--model", model, "--data", "/none.jsonl"], 66, ["/none.jsonl"]),
    (["score", "--model", model, "--data", "/none", "--isa", "mmx"], 66, ["/none"]),
    (["bench", "gemm", "--isa", "mmx"], 78, ["mmx", "reference"]),
    (["tokenize", "--model", model], 66, ["tokenizer"]),
    (["inspect", "/none"], 66, ["/none"]),
    (["merge", "/none.yaml", "/none-out"], 66, ["/none.yaml"]),
    (["diff", "/none", "/none"], 66, ["/none"]),
    (["example", "--output", "/proc/none/x"], 73, ["/proc/none"]),
    (["sft", "--model", model, "--data", "/none", "--output", "/tmp/paft-none"], 66, ["/none"]),
    (
      ["sft", "--model", model, "--data", "/none", "--output", "/x", "--set", "learning_rat=1"],
      78, ["learning_rat", "did you mean 'learning_rate'?"]
    ),
    (
      ["sft", "--model", model, "--data", "/none", "--output", "/x", "--base-dtype", "int4"],
      78, ["int4", "bf16, f32, int8"]
    ),
    (
      ["sft", "--model", model, "--data", "/none", "--output", "/x", "--set", "lora_dropout=0.1"],
      78, ["dropout"]
    ),
    (
      [
        "sft", "--model", model, "--data", "/none", "--output", "/x", "--set",
        "adapter.target_modules=[q_prj]",
      ], 78, ["q_proj"]
    ),
    (
      ["sft", "--model", model, "--data", "/none", "--output", "/x", "--set", "align.beta=1"],
      78, ["align.beta", "sft alone", "paft run"]
    ),
    (
      ["align", "--model", model, "--data", "/none", "--output", "/x", "--set", "merge.density=1"],
      78, ["merge.density", "align alone"]
    ),
    (["tokenize", "--model", model, "--skip-special-tokens"], 64, ["expected --decode"]),
    (["tokenize", "--model", model, "--decode", "--add-special-tokens"], 64, ["no --decode"]),
    (["topology", "--threads", "-3"], 64, ["--threads -3", "at least 1"]),
    (["merge", "/none.yaml", "/none-out", "--threads", "0"], 64, ["at least 1"]),
    (["merge", "/none.yaml", "/none-out", "--limit", "5"], 64, ["--limit", "--sweep"]),
    (["merge", "/none.yaml", "/none-out", "--max-length", "64"], 64, ["--max-length", "--sweep"]),
    (
      ["merge", "/none.yaml", "/none-out", "--report", "/no-such-folder/report.md"], 73,
      ["report", "/no-such-folder"]
    ),
    (
      ["merge", "/none.yaml", "/none-out", "--report", "/proc/report.md"], 73, ["/proc/report.md"]
    ),
    (["diff", "/none", "/none", "--threads", "0"], 64, ["at least 1"]),
    (["eval", "--model", model, "--task", "/none", "--limit", "0"], 64, ["--limit 0"]),
    (["eval", "--model", model, "--task", "/none.jsonl", "/other"], 66, ["/none.jsonl"]),
    (["generate", "--model", model, "--prompt", "x", "--temperature", "-1"], 64, ["-1", ">= 0"]),
    (["generate", "--model", model, "--prompt", "x", "--seed", "-1"], 64, ["--seed -1"]),
    (["generate", "--model", model, "--prompt", "x", "--max-tokens", "0"], 64, ["at least 1"]),
    (["generate", "--model", model, "--prompt", "-x"], 66, ["tokenizer.json"]),
    (["pretrain", "--data", "/none", "--output", "/x", "--layers", "0"], 64, ["--layers 0"]),
    (["pretrain", "--data", "/none", "--output", "/x", "--max-steps", "0"], 64, ["--max-steps 0"]),
    (["validate", TestData.fixture("models/llama/config.json")], 65, ["config.json"]),
  ]

  @Test("a mistake is one line, perhaps a hint, and its exit code", arguments: mistakes)
  func mistake(arguments: [String], code: Int32, words: [String]) throws {
    let outcome = try Tool.run(arguments)
    #expect(outcome.code == code, "\(outcome.error)")
    let lines = outcome.error.split(separator: "\n")
    #expect(lines.first?.hasPrefix("paft: error: ") == true, "\(outcome.error)")
    #expect(lines.count <= 2)
    #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("hint: ") })
    for word in words { #expect(outcome.error.contains(word), "\(outcome.error)") }
    #expect(outcome.output.isEmpty)
  }

  @Test("a merge of adapters has no report to write, and leaves none behind")
  func adaptersReport() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let adapter = TestData.fixture("training/adapter")
    try FileSystem.write(
      "merge_method: linear\noutput: adapter\nmodels: [{model: \(adapter)}]\n",
      to: folder + "/merge.yaml")
    let report = folder + "/report.md"
    let outcome = try Tool.run(
      ["merge", folder + "/merge.yaml", folder + "/merged", "--report", report])
    #expect(outcome.code == 64 && outcome.error.contains("--report"), "\(outcome.error)")
    #expect(!FileSystem.exists(folder + "/merged") && !FileSystem.exists(report))
  }

  @Test(
    "help is on standard output and names the verb's options",
    arguments: [
      "run", "sft", "align", "pretrain", "merge", "score", "generate", "eval", "tokenize",
      "inspect", "diff", "example", "validate", "plan", "keys", "knobs", "topology", "bench",
      "profile", "export", "import",
    ])
  func help(verb: String) throws {
    let outcome = try Tool.run([verb, "--help"])
    #expect(outcome.code == 0)
    #expect(outcome.output.contains("USAGE: paft \(verb)"))
    #expect(outcome.error.isEmpty)
  }

  @Test("topology --verify finds workers and memory where they were put")
  func verifiedTopology() throws {
    let outcome = try Tool.run(["topology", "--verify", "--json"])
    #expect(outcome.code == 0, "\(outcome.error)")
    let json = try JSON.parse(Array(outcome.output.utf8), source: "topology")
    let placements = try #require(json["placement"]?.array)
    #expect(placements.count == 2)
    for (placement, branch) in zip(placements, ["sft", "align"]) {
      #expect(placement["workers"]?.int == json["branches"]?[branch]?["workers"]?.int)
      #expect(placement["workers_in_place"]?.int == placement["workers"]?.int)
      // Sandboxes that do not tell say null in both.
      #expect(placement["pages_in_place"] == placement["pages"])
      // Huge pages touch the gap before a large allocation too.
      let asked = (64 << 20) / 4096
      if let pages = placement["pages"]?.int { #expect((asked..<asked + 512).contains(pages)) }
    }
  }

  @Test("machine-readable output is JSON", arguments: ["topology", "knobs", "keys"])
  func json(verb: String) throws {
    let outcome = try Tool.run([verb, "--json"])
    #expect(outcome.code == 0)
    _ = try JSON.parse(Array(outcome.output.utf8), source: verb)
  }

  @Test("a bench row has the promised fields and sane values")
  func bench() throws {
    let outcome = try Tool.run([
      "bench", "gemm", "--shape", "64x96x80", "--dtype", "f32", "--threads", "1",
      "--repetitions", "2", "--json",
    ])
    #expect(outcome.code == 0, "\(outcome.error)")
    // Peak and three walks through memory come first, then the passes.
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.count == 9)
    let product = try #require(lines.first { $0.contains("\"kernel\":\"gemm\"") })
    let row = try JSON.parse(Array(product.utf8), source: "row")
    for key in [
      "kernel", "dtype", "shape", "pass", "threads", "median_seconds", "gflops",
      "gbytes_per_second", "peak_fraction", "isa", "commit", "machine",
    ] { #expect(row[key] != nil, "\(key)") }
    #expect(row["shape"]?.string == "64x96x80")
    #expect(row["threads"]?.int == 1)
    let seconds = try #require(row["median_seconds"]?.double)
    let rate = try #require(row["gflops"]?.double)
    #expect(abs(rate * seconds * 1e9 / (2 * 64 * 96 * 80) - 1) < 1e-9)
    let share = try #require(row["peak_fraction"]?.double)
    // How near to 1 that is depends on who else computes meanwhile; the ratio itself does not.
    let first = try JSON.parse(Array(try #require(lines.first).utf8), source: "peak")
    #expect(first["kernel"]?.string == "peak" && first["peak_fraction"]?.isNull == true)
    let peak = try #require(row["peak_gflops"]?.double)
    #expect(share > 0 && abs(share * peak / rate - 1) < 1e-9)
  }

  @Test("example writes rows that validate, and refuses to write twice")
  func example() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let arguments = [
      "example", "--output", folder + "/e", "--documents", "30", "--instructions", "20",
      "--preferences", "20", "--held-out", "5",
    ]
    let outcome = try Tool.run(arguments)
    #expect(outcome.code == 0, "\(outcome.error)")
    let files = outcome.output.split(separator: "\n").map(String.init)
    #expect(files.count == 6)
    let check = try Tool.run(["validate", "--json"] + files)
    #expect(check.code == 0, "\(check.error)")
    #expect(check.output.split(separator: "\n").allSatisfy { $0.contains("\"valid\":true") })
    let again = try Tool.run(arguments)
    #expect(again.code == 73)
    // An option that the verb has not is no hint.
    #expect(again.error.contains("another folder") && !again.error.contains("--overwrite"))
  }
}
