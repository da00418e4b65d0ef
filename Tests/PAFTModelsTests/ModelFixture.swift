// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTestSupport
import Testing

/// A tiny random model with what PyTorch and transformers computed for it
/// (tools/golden/models.py, float64).
struct ModelFixture {
  let name: String
  let folder: String
  let sequences: [(ids: [Int32], labels: [Int32])]
  let loss: Double
  let adapterLoss: Double
  /// Prompts, and the tokens that transformers takes as the likeliest after them.
  let greedy: [(prompt: [Int32], tokens: [Int32])]

  static let names = [
    "gemma", "gemma2", "gemma3", "granite", "llama", "llama-bias", "llama-rope-dynamic",
    "llama-rope-linear", "llama-rope-llama3", "llama-rope-yarn", "llama-tied", "mistral", "olmo2",
    "phi3", "qwen2", "qwen3", "smollm3",
  ]

  init(_ name: String) throws {
    self.name = name
    folder = TestData.fixture("models/" + name)
    let json = try JSON.read(path: folder + "/golden.json")
    func ids(_ value: JSON?) -> [Int32] { (value?.array ?? []).map { Int32($0.int!) } }
    sequences = json["sequences"]!.array!.map { (ids($0["input_ids"]), ids($0["labels"])) }
    loss = json["loss"]!.double!
    adapterLoss = json["lora_loss"]!.double!
    greedy = json["greedy"]!.array!.map { (ids($0["prompt"]), ids($0["tokens"])) }
  }

  func golden(_ file: String) throws -> TensorArchive {
    try TensorArchive(path: folder + "/" + file)
  }

  /// The fixture's adapter on its base.
  func adapter(on base: BaseModel, _ executor: Executor) throws -> AdapterStore {
    let files = try AdapterFolder(folder + "/adapter", base.configuration)
    let store = try AdapterStore(files.configuration, base.configuration, on: executor)
    try files.load(into: store, on: executor)
    return store
  }

  var tokens: Int { sequences.reduce(0) { $0 + $1.ids.count } }

  /// All sequences packed into one batch.
  func batch(in arena: Arena, only index: Int? = nil) -> Batch {
    var batch = Batch(in: arena, tokens: tokens, sequences: sequences.count)
    for (at, sequence) in sequences.enumerated() where index == nil || index == at {
      for (id, label) in zip(sequence.ids, sequence.labels) {
        batch.append(id, labelled: label != -100)
      }
      batch.endSequence()
    }
    return batch
  }
}

/// Runs `body` on a team of `threads` with every kernel table or the one named.
func withExecutor<T: Sendable>(
  compute: ComputeType = .f32, isa: String? = nil, threads: Int = 2,
  _ body: @escaping @Sendable (Executor) throws -> T
) throws -> T {
  try Machine.detect().place(threads: threads).run(named: "test") { team in
    try body(Executor.make(team, compute: compute, isa: isa, scratch: 1 << 30))
  }
}

extension Decoder {
  /// Forward and backward of the token-mean loss.
  func meanLoss(_ batch: Batch, _ weights: Weights, addingTo gradients: Gradients) -> Double {
    executor.withScratch { scratch in
      let rows = HeadLoss.Rows(in: scratch, count: batch.labels, slopes: configuration.hidden)
      let coefficients = scratch.allocate(Float.self, count: batch.labels)
      for i in 0..<batch.labels { coefficients[i] = -1 / Float(batch.labels) }
      let hidden = forward(batch, weights)
      backward(
        hidden, batch, weights, rows: rows, scored: false, coefficients: coefficients,
        into: gradients)
      var sum = 0.0
      for i in 0..<batch.labels { sum -= Double(rows.logp[i]) }
      return sum / Double(batch.labels)
    }
  }

  /// The logits of every token of a batch.
  func logits(_ batch: Batch, _ weights: Weights, in scratch: Arena) -> Matrix {
    let logits = Matrix(in: scratch, rows: batch.tokens, columns: configuration.vocabulary)
    self.logits(inference(batch, weights, finishing: nil), weights, into: logits)
    return logits
  }
}

let tables = KernelTable.available.map(\.name)

/// Largest |a - b| relative to the largest |b|: a gradient's small entries are rounding noise of
/// its large ones.
func relativeError(_ a: UnsafePointer<Float>, _ b: [Float]) -> Double {
  var worst = 0.0
  var scale = 1e-12
  for i in b.indices {
    if !a[i].isFinite { return .infinity }
    worst = max(worst, Double(abs(a[i] - b[i])))
    scale = max(scale, Double(abs(b[i])))
  }
  return worst / scale
}
