// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import PAFTTestSupport
import Testing

/// A run killed at any moment and resumed ends with the bits of a run that nobody disturbed.
@Suite(
  "Killed and resumed", .serialized,
  .enabled(if: Tool.path != nil, "the paft executable was not built beside the tests"))
struct ResumeTests {
  /// The tiny Llama and its token rows: every step takes milliseconds, so kills fall everywhere.
  private func recipe(_ folder: String, adapter: String) throws -> String {
    let text = """
      model: \(TestData.fixture("models/llama"))
      output: \(folder)/run
      seed: 7
      dtype: f32
      adapter: \(adapter)
      sft:
        data: \(TestData.fixture("training/sft.jsonl"))
        eval_fraction: 0.2
        epochs: 40
        batch_size: 4
        learning_rate: 1.0e-3
        save_steps: 3
        l1: {target_sparsity: 0.5}
      align:
        data: \(TestData.fixture("training/pairs.jsonl"))
        eval_fraction: 0.2
        loss: dpo
        epochs: 40
        batch_size: 4
        learning_rate: 1.0e-3
        save_steps: 4
      merge: {method: ties, density: 0.5}
      """
    try text.write(toFile: folder + "/recipe.yaml", atomically: true, encoding: .utf8)
    return folder + "/recipe.yaml"
  }

  /// Bytes of everything that must not depend on interruptions.
  private func results(_ folder: String) -> [String: Data] {
    var found: [String: Data] = [:]
    let run = folder + "/run"
    for case let path as String in FileManager.default.enumerator(atPath: run)! {
      let kept =
        path.hasSuffix(".safetensors") && !path.contains("checkpoint") || path == "recipe.yaml"
      if kept { found[path] = FileManager.default.contents(atPath: run + "/" + path) }
    }
    return found
  }

  @Test(
    "ten SIGKILLs at random moments, then --resume: the same bits",
    arguments: [
      "{type: lora, r: 4, alpha: 8}", "{type: full}",
      "{type: lora, r: 4, alpha: 8}\nbase_dtype: int8",
    ])
  func kills(_ adapter: String) throws {
    let calm = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: calm) }
    let before = ContinuousClock.now
    let undisturbed = try RunningTool.run(["run", try recipe(calm, adapter: adapter)])
    try #require(undisturbed.status == 0, "\(undisturbed.errors)")
    let whole = ContinuousClock.now - before
    // The output path is part of the resolved recipe, so runs are compared without it.
    var expected = results(calm)
    expected["recipe.yaml"] = nil
    try #require(expected.count >= 3, "\(expected.keys)")

    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = try recipe(folder, adapter: adapter)
    var moment = KillingTime(within: whole)
    var kills = 0
    var attempts = 0
    while kills < 10 && attempts < 100 {
      attempts += 1
      let resume = FileManager.default.fileExists(atPath: folder + "/run") ? ["--resume"] : []
      let process = try RunningTool(["run", path] + resume)
      moment.wait()
      if process.isRunning { process.kill(SIGKILL) }
      let outcome = process.wait()
      if outcome.signal == SIGKILL { kills += 1 }
      if outcome.signal == nil && outcome.status == 0 {
        // It came through: what there is must be right; then start again from nothing.
        var found = results(folder)
        found["recipe.yaml"] = nil
        #expect(found == expected, "after \(kills) kills")
        try FileManager.default.removeItem(atPath: folder + "/run")
        if resume.isEmpty { moment.missed() }
      } else {
        #expect(outcome.signal == SIGKILL, "\(outcome.status): \(outcome.errors)")
      }
    }
    #expect(kills == 10)
    let resume = FileManager.default.fileExists(atPath: folder + "/run") ? ["--resume"] : []
    let last = try RunningTool.run(["run", path] + resume)
    try #require(last.status == 0, "\(last.errors)")
    var found = results(folder)
    found["recipe.yaml"] = nil
    #expect(found == expected)
  }

  /// The moment between the lock and the recipe is too short for a random kill to find every time.
  @Test("killed before its recipe was in place, a run begins anew", arguments: [true, false])
  func killedAtOnce(resume: Bool) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = try recipe(folder, adapter: "{type: lora, r: 4, alpha: 8}")
    let run = folder + "/run"
    try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: false)
    for name in ["run.lock", "recipe.yaml.tmp-4711"] {
      try "model: half a rec".write(toFile: run + "/" + name, atomically: false, encoding: .utf8)
    }
    let outcome = try RunningTool.run(["run", path] + (resume ? ["--resume"] : []))
    #expect(outcome.status == 0, "\(outcome.errors)")
    let left = try FileManager.default.contentsOfDirectory(atPath: run)
    #expect(!left.contains { $0.contains(".tmp-") }, "\(left)")
    // Only what the tool itself leaves is passed over.
    try FileManager.default.removeItem(atPath: run)
    try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: false)
    try "mine".write(toFile: run + "/notes.tmp-x", atomically: false, encoding: .utf8)
    let refused = try RunningTool.run(["run", path] + (resume ? ["--resume"] : []))
    #expect(refused.status == 73, "\(refused.errors)")
  }

  @Test("SIGTERM ends with 143 after a checkpoint; --resume goes on to the same bits")
  func terminate() throws {
    let calm = TestData.temporaryFolder()
    let folder = TestData.temporaryFolder()
    defer {
      try? FileManager.default.removeItem(atPath: calm)
      try? FileManager.default.removeItem(atPath: folder)
    }
    let adapter = "{type: lora, r: 4, alpha: 8}"
    let undisturbed = try RunningTool.run(["run", try recipe(calm, adapter: adapter)])
    try #require(undisturbed.status == 0, "\(undisturbed.errors)")
    let path = try recipe(folder, adapter: adapter)
    let process = try RunningTool(["run", path])
    // As soon as training has begun.
    let metrics = folder + "/run/sft/metrics.jsonl"
    for _ in 0..<2000 where !FileManager.default.fileExists(atPath: metrics) { usleep(2000) }
    process.kill(SIGTERM)
    let stopped = process.wait()
    #expect(stopped.signal == nil)
    if stopped.status != 0 {  // unless it was faster than the signal
      #expect(stopped.status == 143, "\(stopped.errors)")
      #expect(stopped.errors.contains("--resume"))
      let rest = try RunningTool.run(["run", path, "--resume"])
      try #require(rest.status == 0, "\(rest.errors)")
    }
    var found = results(folder)
    var expected = results(calm)
    found["recipe.yaml"] = nil
    expected["recipe.yaml"] = nil
    #expect(found == expected)
  }
}
