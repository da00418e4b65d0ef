// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTOps
import PAFTTestSupport
import PAFTText
import PAFTTraining
import Synchronization
import Testing

@Suite("Reference log-probabilities kept between runs")
struct ReferenceCacheTests {
  struct Outcome {
    let values: [UInt32]
    let notes: [String]
    /// How often it was asked to stop: before each pass of the reference, and after each step.
    let asked: Int
  }

  private static func run(
    _ cache: ReferenceCache?, steps: Int = 5, pairs: Int? = nil
  ) throws -> Outcome {
    try withExecutor(compute: .bf16) { executor in
      let folder = TestData.temporaryFolder()
      defer { try? FileSystem.remove(folder) }
      let fixture = try TrainingFixture()
      let notes = Mutex<[String]>([])
      let asked = Atomic<Int>(0)
      let base = try BaseModel(ModelFolder(fixture.base), backward: true, on: executor)
      let configuration = BranchConfiguration(
        name: "align", objective: .preference(try PreferenceObjective(losses: ["sigmoid"])),
        adaptation: .lora(LoRAConfiguration(rank: 4)), optimizer: try Optimizer.named("adamw"),
        learningRate: 1e-2, maxSteps: steps, batchSize: 4, shuffle: false, tokensPerPass: 1,
        referenceCache: cache)
      let branch = try Branch(
        configuration, base: base, model: base.configuration,
        data: .pairs(Array(fixture.pairs.prefix(pairs ?? .max))), on: executor)
      _ = try branch.run(
        in: folder, base: fixture.base, resume: false,
        events: BranchEvents(
          onNote: { note in notes.withLock { $0.append(note) } },
          shouldStop: {
            asked.add(1, ordering: .relaxed)
            return .none
          }))
      return Outcome(
        values: (0..<branch.trainable.floats).map { branch.trainable.values[$0].bitPattern },
        notes: notes.withLock { $0 }, asked: asked.load(ordering: .relaxed))
    }
  }

  @Test("a second run computes none of them, and its bits are those of a run without a cache")
  func reuse() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let cache = ReferenceCache(in: folder, identity: "base a")
    let plain = try Self.run(nil)
    #expect(plain.asked == 20 + 5 && plain.notes == ["align: the base scores 20 pairs first"])
    let first = try Self.run(cache)
    #expect(first.asked == 20 + 5 && first.values == plain.values)
    #expect(try cache.load().count == 20)
    let second = try Self.run(cache)
    #expect(second.asked == 5 && second.notes.isEmpty && second.values == plain.values)
    // Another base knows nothing of them.
    #expect(try ReferenceCache(in: folder, identity: "base b").load().isEmpty)
  }

  @Test("only pairs that the steps meet are computed, and what is missing is added")
  func growing() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let cache = ReferenceCache(in: folder, identity: "base")
    #expect(try Self.run(cache, steps: 1).asked == 4 + 1)
    #expect(try cache.load().count == 4)
    let grown = try Self.run(cache)
    #expect(grown.asked == 16 + 5 && grown.notes == ["align: the base scores 16 pairs first"])
    #expect(grown.values == (try Self.run(nil)).values)
  }

  @Test(
    "a damaged cache is told of and replaced", arguments: ["logps.safetensors", "manifest.json"])
  func damage(_ name: String) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    let cache = ReferenceCache(in: folder, identity: "base")
    let plain = try Self.run(cache)
    let inner = try #require(try FileSystem.list(folder).first { $0.hasPrefix("reference-") })
    let path = folder + "/" + inner + "/" + name
    var bytes = try FileSystem.read(path)
    bytes[bytes.count - 9] ^= 4
    try FileSystem.replace(path, with: bytes)
    let again = try Self.run(cache)
    #expect(again.notes.count == 2 && again.notes[0].hasSuffix("computed anew"), "\(again.notes)")
    #expect(again.asked == 25 && again.values == plain.values)
    #expect(try cache.load().count == 20)
  }

  @Test("pairs that differ in a token, or in where the prompt ends, have keys of their own")
  func keys() {
    let pairs = [
      PreferenceExample(prompt: [1, 2], chosen: [3], rejected: [4]),
      PreferenceExample(prompt: [1], chosen: [2, 3], rejected: [4]),
      PreferenceExample(prompt: [1, 2], chosen: [4], rejected: [3]),
      PreferenceExample(prompt: [1, 2], chosen: [3], rejected: [4, 0]),
      PreferenceExample(prompt: [1, 2], chosen: [3, 0], rejected: [4]),
      PreferenceExample(prompt: [2, 1], chosen: [3], rejected: [4]),
      PreferenceExample(prompt: [], chosen: [1, 2, 3], rejected: [4]),
    ]
    let keys = pairs.map { ReferenceCache.key($0) }
    #expect(Set(keys).count == pairs.count)
    #expect(ReferenceCache.key(pairs[0]) == keys[0])
    // And so has one whose prompt is cut elsewhere, which rounds its sums differently.
    #expect(!keys.contains(ReferenceCache.key(pairs[0], cuts: [1])))
  }
}
