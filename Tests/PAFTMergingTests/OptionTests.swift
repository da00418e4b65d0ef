// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMerging
import PAFTTestSupport
import Testing

private let fixtures = TestData.fixture("merging/options")

/// Filters, gradients, slices and adapters at once, on two families: as mergekit merges them.
@Suite final class OptionTests {
  let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  private static let cases = ["qwen2", "gpt2"].flatMap { family in
    ((try? FileSystem.list(fixtures + "/" + family)) ?? []).filter { $0.hasSuffix(".yml") }
      .map { (family, String($0.dropLast(4))) }
  }

  /// Element by element, relative to the element or to its tensor's root mean square.
  private func expectEqual(
    _ found: String, _ expected: String, _ location: SourceLocation = #_sourceLocation
  ) throws {
    let (found, expected) = (try TensorArchive(path: found), try TensorArchive(path: expected))
    #expect(Set(found.names) == Set(expected.names), sourceLocation: location)
    for entry in expected.entries {
      let other = try #require(found[entry.name], sourceLocation: location)
      let (a, b) = (try other.floats().map(Double.init), try entry.floats().map(Double.init))
      try #require(a.count == b.count && other.shape == entry.shape, sourceLocation: location)
      let size = (b.reduce(0) { $0 + $1 * $1 } / Double(max(b.count, 1))).squareRoot()
      let worst = zip(a, b).map { abs($0 - $1) / max(size, abs($1), 1e-30) }.max() ?? 0
      #expect(worst <= 1e-5, "\(entry.name) differs by \(worst)", sourceLocation: location)
    }
  }

  @Test func everyMethodIsThere() {
    // One family or the other has each case of tools/golden/merge_cases.py; then slices with bases of
    // their own.
    #expect(Self.cases.count == 30)
  }

  @Test(arguments: cases) func allOptionsAtOnce(family: String, name: String) throws {
    let path = fixtures + "/" + family + "/" + name
    var configuration = try MergeConfiguration.parse(path: path + ".yml")
    // As in RunTests: mergekit has no clamp.
    if name == "model_stock" {
      configuration.parameters["model_stock_clamp"] = .scalar(0)
    }
    try Merge.run(
      configuration, output: folder + "/out", lanes: Lanes(threaded, block: 16, strip: 48))
    try expectEqual(folder + "/out", path + ".safetensors")
    // Two layers and one; what is said of each layer goes with it.
    let config = try JSON.read(path: folder + "/out/config.json")
    #expect((config["num_hidden_layers"] ?? config["n_layer"])?.int == 3)
    if let types = config["layer_types"]?.array { #expect(types.count == 3) }
  }

  @Test func stackedLayersKeepTheirTypes() throws {
    let model = fixtures + "/qwen2/left"
    let text = """
      merge_method: passthrough
      slices:
        - sources: [{model: \(model), layer_range: [0, 3]}]
        - sources: [{model: \(model), layer_range: [1, 3]}]
      """
    try Merge.run(
      MergeConfiguration.parse(text, source: "test"), output: folder + "/out")
    let config = try JSON.read(path: folder + "/out/config.json")
    #expect(config["num_hidden_layers"]?.int == 5)
    let types = try #require(try JSON.read(path: model + "/config.json")["layer_types"]?.array)
    #expect(config["layer_types"]?.array == types + types[1...])
  }

  @Test func adaptersOfTransposedWeightsMergeAsPEFTMergesThem() throws {
    let base = fixtures + "/gpt2/base"
    let reference = ModelReference(model: base, adapter: fixtures + "/gpt2/tuned")
    let merge = try MergeConfiguration(
      base: base, branches: [.init(reference)], method: "task_arithmetic")
    try Merge.run(merge, output: folder + "/out")
    try expectEqual(folder + "/out", fixtures + "/gpt2/tuned.safetensors")
  }

  /// mergekit takes the base for the first of the two when it is not listed.
  @Test func slerpMayLeaveItsBaseUnlisted() throws {
    for (models, out) in [("base, far", "listed"), ("far", "unlisted")] {
      let list = models.split(separator: ", ").map { "  - {model: \(fixtures)/qwen2/\($0)}\n" }
      let text =
        "merge_method: slerp\nbase_model: \(fixtures)/qwen2/base\nmodels:\n\(list.joined())"
        + "parameters: {t: 0.3}\n"
      try Merge.run(
        MergeConfiguration.parse(text, source: "test"), output: folder + "/" + out)
    }
    #expect(
      try FileSystem.read(folder + "/listed/model.safetensors")
        == FileSystem.read(folder + "/unlisted/model.safetensors"))
  }

  /// Writes that workers do not wait for, and one that fails.
  @Test func writingInTheBackgroundGivesTheSameBytes() throws {
    func run(_ out: String, _ lanes: Lanes) throws {
      var merge = try MergeConfiguration.parse(path: fixtures + "/qwen2/ties.yml")
      merge.maximumShardBytes = 2000
      try Merge.run(merge, output: folder + "/" + out, lanes: lanes)
    }
    try run("plain", Lanes())
    try run("background", Lanes(threaded, block: 16, strip: 48, background: onThread))
    let (a, b) = (
      try TensorArchive(path: folder + "/plain"), try TensorArchive(path: folder + "/background")
    )
    #expect(a.files.count > 2)
    for entry in a.entries {
      #expect(b[entry.name].map { Array($0.bytes) } == Array(entry.bytes))
    }
  }
}
