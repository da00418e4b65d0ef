// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFT
import PAFTFormats
import PAFTTestSupport
import Synchronization
import Testing

/// Whole runs on a tiny model, against PyTorch's losses for the same branches.
@Suite("Runs", .serialized)
struct RunTests {
  /// Both branches with the settings of the golden trainings.
  private func yaml(_ output: String) -> String {
    """
    model: \(TestData.fixture("models/llama"))
    output: \(output)
    dtype: f32
    adapter: full
    learning_rate: 2e-3
    weight_decay: 0.01
    lr_scheduler: linear
    warmup_steps: 5
    batch_size: 4
    max_steps: 20
    shuffle: false
    eval_fraction: 0
    sft: {data: \(TestData.fixture("training/sft.jsonl")), eval_data: \(TestData.fixture("training/sft.jsonl"))}
    align: {data: \(TestData.fixture("training/pairs.jsonl")), eval_data: \(TestData.fixture("training/pairs.jsonl"))}
    merge: {method: task_arithmetic, weights: {sft: 0.5, align: 0.25}, density: 1}

    """
  }

  private func losses(_ folder: String) throws -> [Double] {
    let text = try FileSystem.text(folder + "/metrics.jsonl")
    return try text.split(separator: "\n").map {
      try #require(try JSON.parse(Array($0.utf8), source: "metrics")["loss"]?.double)
    }
  }

  private func bytes(_ folder: String) throws -> [UInt8] {
    try FileSystem.read(folder + "/model.safetensors")
  }

  @Test("both branches learn as in PyTorch, and the merge is the sum that was asked for")
  func golden() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = folder + "/run"
    let report = try Run(Recipe.parse(yaml(output))).start()
    let golden = try JSON.read(path: TestData.fixture("training/golden.json"))
    for (branch, name) in [("sft", "sft_full"), ("align", "dpo_full")] {
      let wanted = try #require(golden["runs"]?[name]?["losses"]?.array).map { $0.double! }
      let found = try losses(output + "/" + branch)
      #expect(found.count == wanted.count)
      for (step, (x, y)) in zip(found, wanted).enumerated() {
        #expect(abs(x - y) < 2e-3 * max(1, y), "\(branch) step \(step)")
      }
    }
    // merged = base + (sft - base) / 2 + (align - base) / 4, element by element.
    let parts = try [
      TestData.fixture("models/llama"), output + "/sft/model", output + "/align/model",
      output + "/merged",
    ].map { try Safetensors(path: $0 + "/model.safetensors") }
    for name in parts[0].names {
      let tensors = try parts.map { try #require($0[name]).floats() }
      for i in tensors[0].indices {
        let b = tensors[0][i]
        let wanted = b + 0.5 * (tensors[1][i] - b) + 0.25 * (tensors[2][i] - b)
        #expect(abs(tensors[3][i] - wanted) <= 1e-5 * max(1, abs(wanted)), "\(name)[\(i)]")
        if abs(tensors[3][i] - wanted) > 1e-5 { return }
      }
    }
    // Evaluated on the rows it learned from, the base has the loss of no training at all.
    let scores = Dictionary(uniqueKeysWithValues: report.scores.map { ($0.model, $0) })
    #expect(Set(scores.keys) == ["base", "sft", "align", "merged"])
    let base = try #require(scores["base"]?.supervised)
    let sft = try #require(scores["sft"]?.supervised)
    #expect(sft.loss < base.loss - 1)
    #expect(scores["base"]?.preference?.rewardAccuracy == nil)
    let align = try #require(scores["align"]?.preference)
    #expect(try #require(align.rewardAccuracy) > 0.9)
    #expect(try #require(align.rewardMargin) > 0.5)
    #expect(report.branches.map(\.steps) == [20, 20])
    // Where workers and memory were, as the kernel says.
    let written = try JSON.read(path: output + "/report.json")
    #expect(written["machine"]?["bases"]?.array?.count == 1)
    for branch in try #require(written["branches"]?.array) {
      let placement = try #require(branch["placement"])
      #expect(placement["workers_in_place"]?.int == placement["workers"]?.int)
      #expect(placement["pages_in_place"] == placement["pages"])
      let names = placement["memory"]?.array?.compactMap { $0["name"]?.string } ?? []
      #expect(names.contains("weights") && names.contains("gradients and moments"))
    }
    for file in ["report.json", "report.md", "recipe.yaml", "merged/config.json"] {
      #expect(FileSystem.isFile(output + "/" + file), "\(file)")
    }
    // The resolved recipe runs the same run again.
    #expect(try Recipe.read(output + "/recipe.yaml") == report.recipe)
  }

  @Test("a stopped run resumes to the same bits, whichever step it stopped at", arguments: [1, 7])
  func resume(after steps: Int) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let whole = folder + "/whole"
    let broken = folder + "/broken"
    _ = try Run(Recipe.parse(yaml(whole))).start()
    let recipe = try Recipe.parse(yaml(broken), overrides: ["save_steps=3"])
    let taken = Atomic<Int>(0)
    let observer = RunObserver(
      onEvent: { if case .step = $0 { taken.add(1, ordering: .relaxed) } },
      shouldStop: { taken.load(ordering: .relaxed) >= steps ? .terminate : .none })
    let error = #expect(throws: PAFTError.self) { _ = try Run(recipe).start(observer) }
    #expect(error?.exitCode == 143)
    #expect(!FileSystem.exists(broken + "/merged"))
    // Without --resume the folder is taken; with another recipe it is not the same run.
    #expect(throws: PAFTError.self) { _ = try Run(recipe).start() }
    var other = Run(try Recipe.parse(yaml(broken), overrides: ["beta=0.2"]))
    other.resume = true
    let refused = #expect(throws: PAFTError.self) { _ = try other.start() }
    #expect(refused?.exitCode == 78 && refused?.message.contains("align.beta") == true)
    var again = Run(recipe)
    again.resume = true
    let report = try again.start()
    for part in ["sft/model", "align/model", "merged"] {
      #expect(try bytes(whole + "/" + part) == bytes(broken + "/" + part), "\(part)")
    }
    #expect(try losses(broken + "/sft") == losses(whole + "/sft"))
    #expect(report.branches.map(\.steps) == [20, 20])
  }

  @Test(
    "side by side, in turn and on one CPU give the same bits",
    arguments: [[], ["adapter=lora", "base_dtype=int8"]])
  func partitions(of overrides: [String]) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var seen: [[UInt8]] = []
    for (index, places) in [[], ["machine.partitions=sequential"], ["machine.threads=1"]]
      .enumerated()
    {
      let output = folder + "/\(index)"
      _ = try Run(Recipe.parse(yaml(output), overrides: overrides + places)).start()
      seen.append(try bytes(output + "/merged"))
    }
    #expect(seen[0] == seen[1])
    #expect(seen[0] == seen[2])
  }

  @Test("the branch that goes on takes over the other's cores, and its bits stay the same")
  func handover() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let notices = Mutex<[String]>([])
    let observer = RunObserver(onEvent: { event in
      if case .notice(let text) = event { notices.withLock { $0.append(text) } }
    })
    func run(_ partition: String, steps: Int) throws -> (bytes: [UInt8], moves: Int) {
      let output = folder + "/\(partition)-\(steps)"
      notices.withLock { $0 = [] }
      let report = try Run(
        Recipe.parse(
          yaml(output),
          overrides: [
            "sft.max_steps=1", "align.max_steps=\(steps)", "machine.partitions=\(partition)",
          ])
      ).start(observer)
      #expect(report.branches.map(\.steps) == [1, steps])
      let moves = notices.withLock { $0.count { $0.contains("goes on with CPUs") } }
      return (try bytes(output + "/align/model"), moves)
    }
    // One step against hundreds: the first is done long before the second, unless its core is busy with
    // others.
    let hasTwo = ProcessInfo.processInfo.activeProcessorCount > 1
    for steps in [300, 1000, 3000] {
      let together = try run("auto", steps: steps)
      if hasTwo, together.moves == 0, steps < 3000 { continue }
      let alone = try run("sequential", steps: steps)
      #expect(together.moves == (hasTwo ? 1 : 0))
      #expect(alone.moves == 0)
      #expect(together.bytes == alone.bytes)
      break
    }
  }

  @Test("baselines are trained and scored beside the merge")
  func baselines() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = folder + "/run"
    let recipe = try Recipe.parse(
      yaml(output),
      overrides: [
        "baselines=[sequential, dense]", "sft.l1.lambda=0.3", "adapter.type=lora",
        "weight_decay=0", "max_steps=3", "adapter.r=2", "sft.l1.form=factor",
      ])
    let report = try Run(recipe).start()
    #expect(
      report.scores.map(\.model) == [
        "base", "sft", "align", "merged", "sequential", "dense merge",
      ])
    #expect(report.branches.map(\.name) == ["sft", "align", "dense sft", "sequential"])
    #expect(report.sparsity.map(\.model) == ["sft", "align", "merged"])
    // The penalty made a difference to the SFT branch, and only to that.
    #expect(
      try losses(output + "/sft").last != losses(output + "/baselines/dense/sft").last)
    #expect(
      try losses(output + "/sft").first == losses(output + "/baselines/dense/sft").first)
  }

  @Test("what is wrong is found before anything is written")
  func checks() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = folder + "/run"
    for (override, code) in [
      ("merge.method=tise", 78), ("sft.data=/none", 66),
      ("align.eval_data=/none", 66), ("model=/none", 66),
      ("align.data=\(TestData.fixture("training/sft.jsonl"))", 65),
      ("machine.partitions={sft: '0', align: '99999'}", 78),
    ] as [(String, Int32)] {
      let error = #expect(throws: PAFTError.self, "\(override)") {
        _ = try Run(Recipe.parse(yaml(output), overrides: [override])).start()
      }
      #expect(error?.exitCode == code, "\(override): \(String(describing: error))")
      #expect(!FileSystem.exists(output), "\(override)")
    }
    // One branch failing stops the other and is the error that is told.
    let error = #expect(throws: PAFTError.self) {
      _ = try Run(
        Recipe.parse(
          yaml(output), overrides: ["align.learning_rate=1e30", "align.max_grad_norm=0"])
      ).start()
    }
    #expect(error?.exitCode == 80)
    #expect(error?.message.contains("align") == true)
  }
}
