// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMerging
import PAFTTestSupport
import Testing

/// Two BF16 branches of a BF16 base are merged from what the files hold. Files of the same values in F32
/// are not, and their result is the other opinion.
@Suite final class StoredBranchTests {
  private let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  /// Sizes around that from which thresholds are guessed, of odd lengths and tiny.
  private static let shapes = [
    "model.embed_tokens.weight": [331, 701], "model.layers.0.mlp.up_proj.weight": [257, 513],
    "model.layers.0.self_attn.q_proj.weight": [41, 33], "model.layers.0.self_attn.q_proj.bias": [7],
    "model.layers.1.mlp.up_proj.weight": [128, 1024], "model.norm.weight": [64],
  ]

  private func models(_ change: (inout [String: [Float]]) -> Void = { _ in }) throws {
    let random = CounterRandom(seed: 2)
    func rounded(_ values: [Float]) -> [Float] { values.map { BF16($0).float } }
    func draws(_ name: String, _ count: Int, _ scale: Float) -> [Float] {
      let stream = random.stream(name)
      return (0..<count).map { Float(stream.uniform(UInt64($0)) - 0.5) * scale }
    }
    let names = Self.shapes.keys.sorted()
    let base = names.map { rounded(draws($0, Self.shapes[$0]!.reduce(1, *), 0.1)) }
    for model in ["base", "left", "right"] {
      var values: [String: [Float]] = [:]
      for (name, base) in zip(names, base) {
        let change = draws(model + name, base.count, 0.01)
        // A third of a branch is the base's own.
        values[name] = rounded(
          base.indices.map { model == "base" || $0 % 3 == 1 ? base[$0] : base[$0] + change[$0] })
      }
      if model == "left" { change(&values) }
      for type in [DType.bf16, .f32] {
        let path = "\(folder)/\(model)-\(type.rawValue)"
        try FileSystem.makeFolder(path)
        let writer = try SafetensorsWriter(
          folder: path, tensors: names.map { TensorDeclaration($0, type, Self.shapes[$0]!) })
        for name in names { try writer.append(name, values[name]!) }
        try writer.finish()
      }
    }
  }

  private func configuration(
    _ method: String, _ type: DType, _ parameters: [String: Double] = [:], lambda: Double = 0.9
  ) throws -> MergeConfiguration {
    func path(_ model: String) -> String { "\(folder)/\(model)-\(type.rawValue)" }
    return try MergeConfiguration(
      base: path("base"),
      branches: [
        .init(ModelReference(path("left")), weight: 0.7, density: 0.5),
        .init(ModelReference(path("right")), weight: 1.1, density: 0.3),
      ], method: method, lambda: lambda, seed: 5, outputType: .bf16, parameters: parameters)
  }

  private static let cases: [(method: String, parameters: [String: Double])] = [
    ("ties", [:]), ("ties", ["normalize": 0, "ties_variant": 1]), ("ties", ["rescale": 1]),
    ("dare_ties", [:]), ("dare_ties", ["rescale_mode": 1]), ("dare_linear", [:]),
    ("breadcrumbs_ties", [:]), ("task_arithmetic", [:]),
  ]

  @Test(arguments: cases.indices) func theBytesAreThoseOfFloats(number: Int) throws {
    try models()
    let (method, parameters) = Self.cases[number]
    let small = Lanes(threaded, block: 1 << 10, strip: 1 << 13, background: onThread)
    let floats = try Merge.run(
      configuration(method, .f32, parameters), output: folder + "/floats")
    let expected = try TensorArchive(path: folder + "/floats")
    for (name, lanes) in [("plain", Lanes()), ("cut", small)] {
      let report = try Merge.run(
        configuration(method, .bf16, parameters), output: folder + "/" + name, lanes: lanes)
      let found = try TensorArchive(path: folder + "/" + name)
      for entry in expected.entries {
        let other = try #require(found[entry.name])
        #expect(Array(other.bytes) == Array(entry.bytes), "\(method) \(name) \(entry.name)")
      }
      let (a, b) = (report.total, floats.total)
      #expect(a.elements == b.elements && a.sparsity == b.sparsity)
      #expect(a.signConflict(0, 1) == b.signConflict(0, 1))
      for (x, y) in zip(
        a.norms + [a.cosine(0, 1) ?? 2, a.resultNorm ?? -1],
        b.norms + [b.cosine(0, 1) ?? 2, b.resultNorm ?? -1])
      { #expect(abs(x - y) <= 1e-10 * abs(y)) }
    }
  }

  @Test func aBadEntryIsNamed() throws {
    try models { $0["model.layers.0.mlp.up_proj.weight"]![100_003] = .nan }
    let fault = try #require(throws: Fault.self) {
      try Merge.run(
        configuration("ties", .bf16), output: folder + "/out",
        lanes: Lanes(threaded, block: 1 << 10, strip: 1 << 13))
    }
    #expect(fault.exitCode == .data && fault.message.contains("left-BF16"))
    #expect(fault.message.contains("up_proj") && fault.message.contains("element 100003"))
    #expect(!FileSystem.exists(folder + "/out"))
  }

  @Test func aResultBeyondTheTypeIsRefused() throws {
    try models()
    let faults = try [DType.bf16, .f32].map { type in
      try #require(throws: Fault.self) {
        try Merge.run(
          configuration("ties", type, lambda: 1e41), output: folder + "/out")
      }
    }
    #expect(faults[0].exitCode == .notFinite && faults[0].message == faults[1].message)
  }
}
