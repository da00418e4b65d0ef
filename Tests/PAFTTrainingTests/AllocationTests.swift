// SPDX-License-Identifier: Apache-2.0

import CAllocationCounter
import Foundation
import PAFTKernels
import PAFTMachine
import PAFTOps
import PAFTTestSupport
import PAFTTraining
import Testing

/// One at a time: the counter is one for all watched threads.
@Suite("Memory of a training step", .serialized)
struct AllocationTests {
  /// Runs `body` with the allocations of all workers of the team watched; returns how many calls of
  /// malloc and its kin it made.
  private static func allocations(_ executor: Executor, _ body: () throws -> Void) rethrows -> Int {
    executor.team.run { _ in paft_allocation_watch(1) }
    let before = paft_watched_allocation_count()
    defer { executor.team.run { _ in paft_allocation_watch(0) } }
    try body()
    return Int(paft_watched_allocation_count() - before)
  }

  @Test("the counter sees an allocation of any worker")
  func counts() throws {
    try withExecutor { executor in
      let count = Self.allocations(executor) {
        executor.team.run { _ in
          UnsafeMutablePointer<Float>.allocate(capacity: 1000).deallocate()
        }
      }
      #expect(count >= executor.workers)
    }
  }

  @Test(
    "a step and its row of metrics allocate nothing from the third on",
    arguments: [
      "sft_full_prox", "sft_lora_factor_prox", "sft_lora_product", "dpo_lora", "dpo_full",
      "orpo_full", "orpo_lora", "sft_lora",
    ], ComputeType.allCases)
  func step(_ name: String, _ compute: ComputeType) throws {
    try Self.expectNone(compute) { try TrainingFixture().branch(name, on: $0) }
  }

  @Test(
    "nor where a step has several windows, many passes, or computes activations again",
    arguments: ["sft_full", "sft_lora", "dpo_full", "dpo_lora", "orpo_lora"], [false, true])
  func accumulated(_ name: String, _ recomputes: Bool) throws {
    try Self.expectNone(.bf16) { executor in
      try TrainingFixture().branch(name, on: executor) {
        $0.batchSize = 1
        $0.accumulation = 4
        $0.tokensPerPass = 1
        $0.activationCheckpointing = recomputes
      }
    }
  }

  @Test(
    "nor where weights without masters are updated in the backward pass",
    arguments: LayerwiseTrainingTests.models, ["sft", "dpo", "orpo"])
  func layerwise(_ model: String, _ objective: String) throws {
    let setup = LayerwiseTrainingTests.Setup(model: model, objective: objective)
    try Self.expectNone(.bf16) { try setup.branch(on: $0) }
  }

  @Test(
    "nor with another optimizer, products in 8 bits or activations computed again",
    arguments: ["adamw_8bit", "adamw", "sgd"], [false, true])
  func layerwise(_ optimizer: String, other: Bool) throws {
    let setup = LayerwiseTrainingTests.Setup(
      model: "llama-tied", optimizer: optimizer, integers: other, recomputes: other)
    try Self.expectNone(.bf16) { try setup.branch(on: $0) }
  }

  /// Two steps, and ten in which nothing may be allocated.
  private static func expectNone(
    _ compute: ComputeType, _ make: @escaping @Sendable (Executor) throws -> Branch
  ) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try withExecutor(compute: compute) { executor in
      let branch = try make(executor)
      var metrics = try MetricsWriter(path: folder + "/metrics.jsonl", resumingAfter: 0)
      for _ in 0..<2 { try metrics.write(branch.advance()) }
      var loss = 0.0
      // Across the end of an epoch, and both measuring and not measuring sparsity.
      let count = try allocations(executor) {
        for _ in 2..<12 {
          let report = try branch.advance()
          try metrics.write(report)
          loss += report.loss
        }
      }
      #expect(loss.isFinite)
      #expect(count == 0, "in ten steps")
    }
  }

  @Test("writing down where the time of a step goes allocates nothing and changes no bit")
  func recorded() throws {
    let plain = try Self.weights(recorded: false)
    let recorded = try Self.weights(recorded: true)
    #expect(!plain.isEmpty && plain == recorded)
  }

  /// Bits of the weights after five steps, in the last three of which nothing may be allocated.
  private static func weights(recorded: Bool) throws -> [UInt32] {
    try withExecutor(compute: .bf16) { plain in
      let recorder = recorded ? try Recorder(workers: plain.workers) : nil
      let executor = Executor(
        team: plain.team, kernels: plain.kernels, compute: plain.compute, scratch: plain.scratch,
        recorder: recorder)
      let branch = try TrainingFixture().branch("dpo_lora", on: executor)
      for _ in 0..<2 { _ = try branch.advance() }
      recorder?.isOn = true
      let count = try allocations(executor) { for _ in 0..<3 { _ = try branch.advance() } }
      #expect(count == 0)
      if let recorder { #expect(recorder.spanCount > 300 && recorder.dropped == 0) }
      let values = branch.trainable.values
      return (0..<branch.trainable.floats).map { values[$0].bitPattern }
    }
  }
}
