// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTFormats
import PAFTTestSupport
import Testing

/// Plans of memory against what runs then take, as the kernel counts their pages.
@Suite(
  "Plans", .serialized,
  .enabled(if: Tool.path != nil, "the paft executable was not built beside the tests"))
struct PlanTests {
  /// A model of some millions of parameters, so that its memory stands out.
  private func model(_ folder: String) throws -> String {
    let texts = folder + "/texts.jsonl"
    try FileSystem.write(
      (0..<40).map { "{\"text\":\"the \($0)th cat sat on mat \($0)\"}\n" }.joined(), to: texts)
    let made = try RunningTool.run([
      "pretrain", "--data", texts, "--output", folder + "/base", "--hidden", "256", "--layers",
      "4", "--heads", "4", "--vocabulary", "300", "--max-steps", "1", "--threads", "1",
    ])
    try #require(made.status == 0, "\(made.errors)")
    return folder + "/base"
  }

  private func recipe(_ folder: String, _ extra: String) throws -> String {
    var rows = ""
    var pairs = ""
    for row in 0..<64 {
      func ids(_ count: Int, _ from: Int) -> String {
        (0..<count).map { "\(5 + (from * 7 + $0 * 3 + row) % 250)" }.joined(separator: ",")
      }
      let length = 40 + row % 60
      // Two of three begin alike, which is computed once.
      let head = row % 3 == 0 ? ids(30, 9) : (0..<30).map { "\(5 + $0)" }.joined(separator: ",")
      let unlabelled = String(repeating: "-100,", count: 30)
      rows += "{\"input_ids\":[\(head),\(ids(length, 1))],"
      rows += "\"labels\":[\(unlabelled)\(ids(length, 1))]}\n"
      pairs += "{\"prompt_input_ids\":[\(head),\(ids(20, 2))],"
      pairs += "\"chosen_input_ids\":[\(ids(length, 3))],"
      pairs += "\"rejected_input_ids\":[\(ids(30, 4))]}\n"
    }
    try FileSystem.write(rows, to: folder + "/sft.jsonl")
    try FileSystem.write(pairs, to: folder + "/pairs.jsonl")
    try FileSystem.write(
      """
      model: \(folder)/base
      output: \(folder)/run
      batch_size: 32
      max_steps: 2
      sft: {data: \(folder)/sft.jsonl}
      align: {data: \(folder)/pairs.jsonl}
      \(extra)

      """, to: folder + "/recipe.yaml")
    return folder + "/recipe.yaml"
  }

  private func plan(_ path: String, _ set: [String] = []) throws -> (code: Int32, json: JSON) {
    let outcome = try RunningTool.run(
      ["plan", path, "--json"] + set.flatMap { ["--set", $0] })
    return (outcome.status, try JSON.parse(Array(outcome.output.utf8), source: "plan"))
  }

  @Test(
    "what branches hold is predicted within a tenth",
    arguments: [
      "adapter: lora", "adapter: full", "gradient_checkpointing: true",
      "adapter: full\noptimizer: sgd\nmomentum: 0.5", "dtype: f32",
      "adapter: full\nmaster_weights: false\nmax_grad_norm: 0\noptimizer: adamw_8bit",
    ])
  func memory(_ extra: String) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try model(folder)
    let path = try recipe(folder, extra)
    let (code, planned) = try plan(path)
    try #require(code == 0)
    let run = try RunningTool.run(["run", path, "--json", "--quiet"])
    try #require(run.status == 0, "\(run.errors)")
    let report = try JSON.parse(Array(run.output.utf8), source: "run")
    for (plan, branch) in zip(planned["branches"]!.array!, report["branches"]!.array!) {
      let name = try #require(plan["name"]?.string)
      #expect(plan["steps"]?.int == branch["steps"]?.int)
      #expect(plan["tokens"]?.int == branch["tokens"]?.int)
      let memory = try #require(branch["placement"]?["memory"]?.array)
      func pages(_ names: [String]) -> Int? {
        var sum = 0
        for part in memory where names.contains(where: part["name"]!.string!.hasSuffix) {
          guard let nodes = part["pages_by_node"]?.object else { return nil }
          for (_, count) in nodes { sum += 4096 * count.int! }
        }
        return sum
      }
      for (key, names) in [
        ("trained_bytes", ["weights", "adapter"]), ("optimizer_bytes", ["gradients", "moments"]),
        ("scratch_bytes", ["scratch"]),
      ] {
        guard let found = pages(names), let wanted = plan[key]?.int else { continue }
        // Huge pages round each of them up.
        let slack = 0.1 * Double(found) + Double(2 << 20)
        #expect(
          abs(Double(wanted - found)) <= slack, "\(name) \(key): \(wanted) planned, \(found) held")
      }
    }
  }

  @Test("a penalty on adapters' products is part of the time", arguments: ["f32", "bf16"])
  func penalty(_ dtype: String) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let base = try model(folder)
    let path = try recipe(folder, "dtype: \(dtype)\nadapter: {r: 8}")
    func operations(_ set: [String]) throws -> Double {
      try #require(plan(path, set).json["branches"]?.array?[0]["operations"]?.double)
    }
    let c = try JSON.read(path: base + "/config.json")
    func size(_ name: String) throws -> Double { try #require(c[name]?.double) }
    let (hidden, inner) = (try size("hidden_size"), try size("intermediate_size"))
    let keys = try hidden * size("num_key_value_heads") / size("num_attention_heads")
    let entries = try size("num_hidden_layers") * hidden * (2 * hidden + 2 * keys + 3 * inner)
    // Two steps: each has the product twice, its two gradients and, in so short a run, a measurement,
    // two operations each for an entry and rank. Products of Floats take twice those of BF16.
    let wanted = 2 * 5 * 2 * 8 * entries * (dtype == "bf16" ? 2 : 1)
    let found = try operations(["sft.l1.lambda=1e-4"]) - operations([])
    #expect(abs(found - wanted) <= 1e-9 * wanted, "\(found) for \(wanted)")
  }

  @Test("products in 8 bits are those with the base's weights, of as many operations")
  func integers() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let base = try model(folder)
    let path = try recipe(folder, "adapter: {r: 8}")
    let branches = try ["int8", "bf16"].map {
      try #require(plan(path, ["base_dtype=\($0)"]).json["branches"]?.array)
    }
    for (quantized, plain) in zip(branches[0], branches[1]) {
      #expect(plain["int8_operations"]?.double == 0)
      let (found, all) = (quantized["operations"]?.double ?? 0, plain["operations"]?.double ?? -1)
      #expect(abs(found - all) <= 1e-12 * all)
    }
    let c = try JSON.read(path: base + "/config.json")
    func size(_ name: String) throws -> Double { try #require(c[name]?.double) }
    let (hidden, inner) = (try size("hidden_size"), try size("intermediate_size"))
    let keys = try hidden * size("num_key_value_heads") / size("num_attention_heads")
    let (before, after) = (hidden * (hidden + 2 * keys), hidden * (hidden + 3 * inner))
    let tokens = try #require(branches[0][0]["computed_tokens"]?.double)
    // A tenth of the 64 rows is held out, the others are seen once; 30 tokens of each have no label.
    let labels = try #require(branches[0][0]["tokens"]?.double) - 58 * 30
    // Forward and for the gradient of the input, which the first layer's attention needs none of; only
    // rows with a label go on from the last layer's attention.
    let layers =
      try (size("num_hidden_layers") - 1) * tokens * (before + after) + tokens * before
      + labels * after
    let wanted = 4 * layers - 2 * tokens * before
    let found = try #require(branches[0][0]["int8_operations"]?.double)
    #expect(abs(found - wanted) <= 1e-9 * wanted, "\(found) for \(wanted)")
  }

  @Test("one branch alone is planned too, its reference's passes larger than its steps'")
  func alone() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try model(folder)
    _ = try recipe(folder, "")
    let path = folder + "/align.yaml"
    try FileSystem.write(
      """
      model: \(folder)/base
      output: \(folder)/alone
      align: {data: \(folder)/pairs.jsonl, batch_size: 1, epochs: 1}
      """, to: path)
    let (code, planned) = try plan(path)
    try #require(code == 0)
    let branch = try #require(planned["branches"]?.array?.first)
    #expect(planned["branches"]?.array?.count == 1)
    #expect(branch["name"]?.string == "align")
    let run = try RunningTool.run([
      "align", "--model", folder + "/base", "--data", folder + "/pairs.jsonl", "--output",
      folder + "/alone", "--set", "batch_size=1", "--json", "--quiet",
    ])
    try #require(run.status == 0, "\(run.errors)")
    let report = try JSON.parse(Array(run.output.utf8), source: "align")
    let memory = report["branches"]?.array?.first?["placement"]?["memory"]?.array ?? []
    let scratch = memory.first { $0["name"]!.string!.hasSuffix("scratch") }
    if let nodes = scratch?["pages_by_node"]?.object {
      let found = nodes.reduce(0) { $0 + 4096 * $1.1.int! }
      let wanted = try #require(branch["scratch_bytes"]?.int)
      let slack = 0.1 * Double(found) + Double(2 << 20)
      #expect(abs(Double(wanted - found)) <= slack, "\(wanted) planned, \(found) held")
      // Pages are the kernel's count of the whole process, too: nothing else may be large.
      let peak = try #require(planned["peak_bytes"]?.int)
      let resident = try #require(report["machine"]?["peak_bytes"]?.int)
      #expect(abs(Double(peak - resident)) <= 0.1 * Double(resident) + Double(4 << 20))
    }
  }

  @Test("a memory limit is kept by recomputing and by smaller passes, or refused with the figure")
  func limit() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try model(folder)
    let path = try recipe(folder, "")
    let free = try plan(path).json
    let peak = try #require(free["peak_bytes"]?.int)
    let kept = try plan(path, ["machine.memory_limit=\(peak - (4 << 20))"])
    #expect(kept.code == 0)
    #expect(try #require(kept.json["peak_bytes"]?.int) <= peak - (4 << 20))
    let branches = try #require(kept.json["branches"]?.array)
    #expect(branches.contains { $0["gradient_checkpointing"]?.bool == true })
    let refused = try RunningTool.run(["run", path, "--set", "machine.memory_limit=1MiB"])
    #expect(refused.status == 81)
    #expect(refused.errors.contains("machine.memory_limit is 1 MiB"), "\(refused.errors)")
    #expect(!FileSystem.exists(folder + "/run"))
    for text in ["4 elephants", "-1", "0", "nan", "1e400TiB"] {
      let wrong = try RunningTool.run(["plan", path, "--set", "machine.memory_limit='\(text)'"])
      #expect(wrong.status == 78, "\(text): \(wrong.errors)")
      #expect(wrong.errors.contains("expected bytes"), "\(text): \(wrong.errors)")
    }
    // Activations that are computed again are the same, and so is the result.
    var results: [[UInt8]] = []
    for limit in [[], ["--set", "machine.memory_limit=\(peak - (4 << 20))"]] {
      let run = try RunningTool.run(["run", path, "--quiet"] + limit)
      try #require(run.status == 0, "\(run.errors)")
      results.append(try FileSystem.read(folder + "/run/merged/model.safetensors"))
      try FileSystem.remove(folder + "/run")
    }
    #expect(results[0] == results[1])
  }
}
