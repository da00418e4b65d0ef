// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTModels
import PAFTOps
import Testing

/// What waits for the backward pass, and where: none of it may change a gradient.
@Suite("What waits for the backward pass")
struct WaitingTests {
  /// An adapter's gradients, after its loss.
  private func gradients(
    _ name: String, _ compute: ComputeType, checkpointing: Bool = false, keepsOperands: Bool = true,
    copies: Int = 1, untouched: Int = 0
  ) throws -> (values: [Float], zeroed: Int) {
    try withExecutor(compute: compute) { executor in
      let fixture = try ModelFixture(name)
      let base = try BaseModel(ModelFolder(fixture.folder), backward: true, on: executor)
      let files = try AdapterFolder(fixture.folder + "/adapter", base.configuration)
      let store = try AdapterStore(
        files.configuration, base.configuration, keepsOperands: keepsOperands, on: executor)
      try files.load(into: store, on: executor)
      let decoder = try Decoder(
        base.configuration, maxTokens: 64, checkpointing: checkpointing, on: executor)
      let scratch = executor.scratch
      let flat = scratch.allocate(Float.self, count: store.table.floats)
      flat.update(repeating: 0, count: store.table.floats)
      var batch = Batch(
        in: scratch, tokens: copies * fixture.tokens,
        sequences: copies * fixture.sequences.count)
      for _ in 0..<copies {
        for sequence in fixture.sequences {
          for (id, label) in zip(sequence.ids, sequence.labels) {
            batch.append(id, labelled: label != -100)
          }
          batch.endSequence()
        }
      }
      var gradients = Gradients(store.table, at: flat, base.configuration)
      gradients.untouched = untouched
      let mark = scratch.mark
      // All that the pass will find has been written before.
      let before = scratch.allocate(UInt8.self, count: 256 << 20)
      before.update(repeating: 1, count: 256 << 20)
      scratch.release(to: mark)
      let loss = decoder.meanLoss(batch, store.applied(to: base.weights), addingTo: gradients)
      var zeroed = 0
      for page in 0..<(256 << 20) / Arena.hugePage {
        let start = before + page * Arena.hugePage
        if (0..<Arena.hugePage).allSatisfy({ start[$0] == 0 }) { zeroed += 1 }
      }
      return (
        [Float(loss)] + Array(UnsafeBufferPointer(start: flat, count: store.table.floats)), zeroed
      )
    }
  }

  @Test(
    "computed again or kept, with an adapter's operands for all layers or for one: the same bits",
    arguments: ModelFixture.names, [ComputeType.f32, .bf16])
  func equal(_ name: String, _ compute: ComputeType) throws {
    let found = try gradients(name, compute).values
    #expect(found.allSatisfy(\.isFinite) && found.contains { $0 != 0 })
    #expect(try gradients(name, compute, checkpointing: true).values == found)
    #expect(try gradients(name, compute, keepsOperands: false).values == found)
    #expect(
      try gradients(name, compute, checkpointing: true, keepsOperands: false).values == found)
  }

  @Test(
    "pages that gradients find in place of activations change no bit",
    arguments: [ComputeType.f32, .bf16])
  func pages(_ compute: ComputeType) throws {
    let kept = try gradients("qwen2", compute, copies: 400)
    let given = try gradients("qwen2", compute, copies: 400, untouched: 6 << 20)
    #expect(kept.values == given.values)
    // A huge page may lie across the end of a layer.
    #expect(kept.zeroed == 0 && (1...3).contains(given.zeroed), "\(given.zeroed)")
  }
}
