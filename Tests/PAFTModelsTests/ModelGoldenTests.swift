// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import Testing

@Suite("Decoders against transformers")
struct ModelGoldenTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var model: String
    var isa: String
    var checkpointing: Bool
    var testDescription: String { "\(model) on \(isa)\(checkpointing ? ", checkpointing" : "")" }
  }

  static let cases = ModelFixture.names.flatMap { model in
    tables.map { Case(model: model, isa: $0, checkpointing: $0 == tables.last) }
  }

  @Test("logits of every position equal PyTorch's to 1e-4", arguments: cases)
  func logits(_ test: Case) throws {
    try withExecutor(isa: test.isa) { executor in
      let fixture = try ModelFixture(test.model)
      let golden = try fixture.golden("golden.safetensors")
      let model = try LoadedModel(folder: fixture.folder, on: executor)
      let decoder = try model.decoder(on: executor)
      // All sequences at once: packing must not let them see each other.
      executor.withScratch { scratch in
        let batch = fixture.batch(in: scratch)
        let logits = decoder.logits(batch, model.weights, in: scratch)
        for index in fixture.sequences.indices {
          let expected = try! golden["logits.\(index)"]!.floats()
          let start = batch.sequences[index].lowerBound
          #expect(relativeError(logits.row(start), expected) < 1e-4)
        }
      }
    }
  }

  @Test("loss and the gradient of every parameter equal autograd's to 1e-4", arguments: cases)
  func gradients(_ test: Case) throws {
    try withExecutor(isa: test.isa) { executor in
      let fixture = try ModelFixture(test.model)
      let golden = try fixture.golden("golden_grads.safetensors")
      let folder = try ModelFolder(fixture.folder)
      let store = try WeightStore(
        folder.table, folder.configuration, keepsMaster: true, backward: true, name: "test",
        on: executor
      ) { try folder.read($0, into: $1) }
      let decoder = try Decoder(
        folder.configuration, maxTokens: 64, checkpointing: test.checkpointing, on: executor)
      try executor.withScratch { scratch in
        let flat = scratch.allocate(Float.self, count: store.table.floats)
        flat.update(repeating: 0, count: store.table.floats)
        let batch = fixture.batch(in: scratch)
        let gradients = Gradients(store.table, at: flat, folder.configuration)
        let loss = decoder.meanLoss(batch, store.weights, addingTo: gradients)
        #expect(abs(loss - fixture.loss) < 1e-4 * fixture.loss)
        for row in store.table.rows {
          let expected = try golden[row.name]!.floats()
          let error = relativeError(flat + row.offset, expected)
          #expect(error < 1e-4, "\(row.name): \(error)")
        }
      }
    }
  }

  @Test("an adapter's logits, loss and gradients equal peft's to 1e-4", arguments: cases)
  func adapter(_ test: Case) throws {
    try withExecutor(isa: test.isa) { executor in
      let fixture = try ModelFixture(test.model)
      let golden = try fixture.golden("golden.safetensors")
      let goldenGradients = try fixture.golden("adapter/golden_grads.safetensors")
      let base = try BaseModel(ModelFolder(fixture.folder), backward: true, on: executor)
      let store = try fixture.adapter(on: base, executor)
      let weights = store.applied(to: base.weights)
      let decoder = try Decoder(
        base.configuration, maxTokens: 64, checkpointing: test.checkpointing, on: executor)
      try executor.withScratch { scratch in
        let flat = scratch.allocate(Float.self, count: store.table.floats)
        flat.update(repeating: 0, count: store.table.floats)
        let batch = fixture.batch(in: scratch)
        let gradients = Gradients(store.table, at: flat, base.configuration)
        let loss = decoder.meanLoss(batch, weights, addingTo: gradients)
        #expect(abs(loss - fixture.adapterLoss) < 1e-4 * fixture.adapterLoss)
        for row in store.table.rows {
          let expected = try goldenGradients[row.name]!.floats()
          let error = relativeError(flat + row.offset, expected)
          #expect(error < 1e-4, "\(row.name): \(error)")
        }
        let first = fixture.batch(in: scratch, only: 0)
        let logits = decoder.logits(first, weights, in: scratch)
        #expect(relativeError(logits.base, try golden["lora.logits.0"]!.floats()) < 1e-4)
      }
    }
  }

  @Test("thirty greedy tokens equal transformers', prompts side by side or alone", arguments: cases)
  func generation(_ test: Case) throws {
    try withExecutor(isa: test.isa) { executor in
      let fixture = try ModelFixture(test.model)
      let model = try LoadedModel(folder: fixture.folder, on: executor)
      let generator = Generator(try model.decoder(on: executor), model.weights, stops: [])
      let expected = fixture.greedy.map(\.tokens)
      try #require(!expected.isEmpty && expected.allSatisfy { $0.count == expected[0].count })
      let prompts = fixture.greedy.map(\.prompt)
      #expect(try generator.generate(prompts, maxTokens: expected[0].count) == expected)
      for (prompt, tokens) in zip(prompts, expected) {
        #expect(try generator.generate([prompt], maxTokens: tokens.count) == [tokens])
      }
    }
  }

  @Test(
    "a sequence that grows past the length where its rotation changes goes as transformers'",
    arguments: ["phi3", "llama-rope-dynamic"])
  func growing(_ name: String) throws {
    try withExecutor { executor in
      let folder = TestData.fixture("models/" + name)
      let rows = try #require(try JSON.read(path: folder + "/golden_growing.json").array)
      func ids(_ value: JSON?) -> [Int32] { (value?.array ?? []).map { Int32($0.int!) } }
      let model = try LoadedModel(folder: folder, on: executor)
      let generator = Generator(try model.decoder(on: executor), model.weights, stops: [])
      for row in rows {
        let (prompt, expected) = (ids(row["prompt"]), ids(row["tokens"]))
        let found = try generator.generate([prompt], maxTokens: expected.count)
        #expect(found == [expected], "after \(prompt.count) tokens")
      }
      // Beside each other as alone, though they change at different steps.
      let together = try generator.generate(rows.map { ids($0["prompt"]) }, maxTokens: 12)
      #expect(together == rows.map { Array(ids($0["tokens"]).prefix(12)) })
    }
  }

  @Test("both spellings of config.json are one model", arguments: ModelFixture.names)
  func spellings(_ name: String) throws {
    let folder = try ModelFixture(name).folder
    let (old, new) = (folder + "/config.json", folder + "/config.v5.json")
    #expect(
      try ModelConfiguration.read(JSON.read(path: old), path: old)
        == ModelConfiguration.read(JSON.read(path: new), path: new))
  }

  /// Rounding an operand to BF16 moves it by at most 2^-8 of itself. Half of that is counted, because a
  /// sum's terms are moved either way: 2^-8 for a product of two.
  /// A layer chains four GEMMs (q/k/v, o, gate/up, down) and two in attention, the head one; first
  /// order, the errors of the chain add. The backward pass goes through the chain once more with
  /// operands rounded again, and with three values of each layer that waited for it in BF16 (its input,
  /// the stream between its halves, what attention computed), 2^-9 each by the same count.
  @Test("bf16 logits and gradients within bf16's step of PyTorch's", arguments: ModelFixture.names)
  func bf16(_ name: String) throws {
    for isa in tables {
      try withExecutor(compute: .bf16, isa: isa) { executor in
        let fixture = try ModelFixture(name)
        let golden = try fixture.golden("golden.safetensors")
        let goldenGradients = try fixture.golden("golden_grads.safetensors")
        let folder = try ModelFolder(fixture.folder)
        let store = try WeightStore(
          folder.table, folder.configuration, keepsMaster: true, backward: true, name: "test",
          on: executor
        ) { try folder.read($0, into: $1) }
        let decoder = try Decoder(folder.configuration, maxTokens: 64, on: executor)
        let bound = Double(6 * folder.configuration.layers + 1) / 256
        let gradientBound = 2 * bound + 3 * Double(folder.configuration.layers) / 512
        try executor.withScratch { scratch in
          let batch = fixture.batch(in: scratch)
          let logits = decoder.logits(batch, store.weights, in: scratch)
          var worst = 0.0
          for index in fixture.sequences.indices {
            let expected = try golden["logits.\(index)"]!.floats()
            worst = max(
              worst, relativeError(logits.row(batch.sequences[index].lowerBound), expected))
          }
          #expect(worst < bound, "\(isa) logits: \(worst)")
          #expect(worst > 1e-5, "bf16 compute must differ from f32")

          let flat = scratch.allocate(Float.self, count: store.table.floats)
          flat.update(repeating: 0, count: store.table.floats)
          let gradients = Gradients(store.table, at: flat, folder.configuration)
          let loss = decoder.meanLoss(batch, store.weights, addingTo: gradients)
          #expect(abs(loss - fixture.loss) < bound * fixture.loss)
          for row in store.table.rows {
            let error = relativeError(flat + row.offset, try goldenGradients[row.name]!.floats())
            #expect(error < gradientBound, "\(isa) \(row.name): \(error)")
          }
        }
      }
    }
  }
}
