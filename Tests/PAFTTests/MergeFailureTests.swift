// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

/// What can go wrong with a merge ends in one line, a documented exit code, and no folder that could be
/// taken for a model.
@Suite(
  "Merges that fail", .serialized,
  .enabled(if: Tool.path != nil, "the paft executable was not built beside the tests"))
final class MergeFailureTests {
  private let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  private static let layers = 6

  /// A model of 25 MB or less: `change` may alter names, shapes and values.
  @discardableResult
  private func model(
    _ name: String, seed: UInt64, columns: Int = 1024, config: String = #"{"hidden_size": 512}"#,
    tokenizer: String = #"{"model": {"vocab": {"a": 0, "b": 1}}}"#,
    _ change: (inout [Float]) -> Void = { _ in }
  ) throws -> String {
    let path = folder + "/" + name
    try FileSystem.makeFolder(path)
    let tensors = (0..<Self.layers).flatMap { layer in
      ["q_proj", "o_proj"].map {
        TensorDeclaration("model.layers.\(layer).self_attn.\($0).weight", .f32, [512, columns])
      }
    }
    let writer = try SafetensorsWriter(folder: path, tensors: tensors)
    let random = CounterRandom(seed: seed)
    for (number, tensor) in tensors.enumerated() {
      let count = 512 * columns
      var values = (0..<count).map {
        Float(random.bits(UInt64(number * count + $0)) >> 40) * 0x1p-24
      }
      if number == tensors.count - 1 { change(&values) }
      try writer.append(tensor.name, values)
    }
    try writer.finish()
    try FileSystem.write(config, to: path + "/config.json")
    try FileSystem.write(tokenizer, to: path + "/tokenizer.json")
    return path
  }

  private func configuration(
    _ models: [String], base: String = "base", method: String = "ties"
  ) throws -> String {
    let entries = models.map {
      "  - {model: \(folder)/\($0), parameters: {weight: 1, density: 0.5}}\n"
    }
    let path = folder + "/merge.yaml"
    try FileSystem.write(
      "merge_method: \(method)\nbase_model: \(folder)/\(base)\nmodels:\n\(entries.joined())",
      to: path)
    return path
  }

  private var output: String { folder + "/out/merged" }

  /// The command's exit code and its line; nothing may be left where the output would have been.
  private func fails(
    _ models: [String], base: String = "base", _ code: Int32, _ parts: [String],
    _ location: SourceLocation = #_sourceLocation
  ) throws {
    let outcome = try Tool.run(
      ["merge", try configuration(models, base: base), output, "--quiet", "--threads", "2"])
    expect(outcome.code, outcome.error, code, parts, location)
  }

  private func expect(
    _ found: Int32, _ text: String, _ code: Int32, _ parts: [String], _ location: SourceLocation
  ) {
    #expect(found == code, "\(text)", sourceLocation: location)
    let lines = text.split(separator: "\n")
    #expect(lines.first?.hasPrefix("paft: error: ") == true, "\(text)", sourceLocation: location)
    #expect(
      lines.dropFirst().allSatisfy { $0.trimmingCharacters(in: .whitespaces).hasPrefix("hint:") },
      "\(text)", sourceLocation: location)
    for part in parts { #expect(text.contains(part), "\(text)", sourceLocation: location) }
    let left = (try? FileManager.default.contentsOfDirectory(atPath: folder + "/out")) ?? []
    #expect(left.isEmpty, "left behind: \(left)", sourceLocation: location)
  }

  @Test("models that do not belong together are told before anything is written")
  func unlikeModels() throws {
    try model("base", seed: 1, columns: 4)
    try model("left", seed: 2, columns: 4)
    try model("shape", seed: 3, columns: 5)
    try fails(["left", "shape"], 65, ["/shape", "[512, 5]", "[512, 4]"])
    try model("config", seed: 3, columns: 4, config: #"{"hidden_size": 640}"#)
    try fails(["left", "config"], 65, ["/config/config.json", "hidden_size is 640"])
    try fails(["left"], base: "config", 65, ["hidden_size"])
    try model("words", seed: 3, columns: 4, tokenizer: #"{"model": {"vocab": {"a": 0, "c": 1}}}"#)
    try fails(["left", "words"], 65, ["/words/tokenizer.json", "vocabulary"])
    try fails(["left", "absent"], 66, ["/absent"])
    try fails(["left"], base: "absent", 66, ["/absent"])
  }

  @Test("NaN in the last tensor, found when the others are written, leaves nothing")
  func notANumber() throws {
    try model("base", seed: 1, columns: 64)
    try model("left", seed: 2, columns: 64)
    try model("bad", seed: 3, columns: 64) { $0[777] = .nan }
    try fails(
      ["left", "bad"], 65, ["/bad", "model.layers.5.self_attn.o_proj.weight", "element 777"])
    try fails(["left"], base: "bad", 65, ["/bad", "element 777"])
  }

  @Test("a full disk is exit code 74, whether or not the room was reserved")
  func fullDisk() throws {
    try model("base", seed: 1, columns: 64)
    try model("left", seed: 2, columns: 64)
    let config = try configuration(["left"])
    try FileSystem.makeFolder(folder + "/out")
    // Blocks of 512 or 1024 bytes, of the shell's choice: far less than the 1.5 MB of the result.
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c", "ulimit -f 600; exec \"$0\" merge \"$1\" \"$2\" --quiet", Tool.path!, config, output,
    ]
    let errors = Pipe()
    process.standardError = errors
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit)
    expect(process.terminationStatus, text, 74, ["merged"], #_sourceLocation)
  }

  @Test("a folder that cannot be written is exit code 73")
  func readOnlyFolder() throws {
    try model("base", seed: 1, columns: 4)
    try model("left", seed: 2, columns: 4)
    var parent = folder + "/locked"
    try FileSystem.makeFolder(parent)
    // Permissions do not stop the superuser; the kernel's own folders do.
    if getuid() == 0 { parent = "/sys" } else { chmod(parent, 0o555) }
    defer { chmod(folder + "/locked", 0o755) }
    let outcome = try Tool.run([
      "merge", try configuration(["left"]), parent + "/merged", "--quiet",
    ])
    expect(outcome.code, outcome.error, 73, [parent], #_sourceLocation)
    #expect(!FileSystem.exists(parent + "/merged"))
  }

  @Test("killed anywhere, the output is absent or whole; the next merge gives the same bits")
  func kills() throws {
    for (name, seed) in [("base", 1), ("left", 2), ("right", 3)] {
      try model(name, seed: UInt64(seed))
    }
    let arguments = [
      "merge", try configuration(["left", "right"]), output, "--quiet", "--threads", "2",
    ]
    let clock = ContinuousClock()
    var undisturbed: RunningTool.Outcome?
    let whole = try clock.measure { undisturbed = try RunningTool.run(arguments) }
    try #require(undisturbed?.status == 0, "\(undisturbed?.errors ?? "")")
    let expected = try FileSystem.read(output + "/model.safetensors")
    let names = try FileSystem.list(output)
    func check() throws {
      #expect(try FileSystem.list(output) == names)
      #expect(try FileSystem.read(output + "/model.safetensors") == expected)
    }

    var moment = KillingTime(within: whole)
    var kills = 0
    for _ in 0..<100 where kills < 12 {
      try? FileSystem.remove(output)
      let process = try RunningTool(arguments)
      moment.wait()
      if process.isRunning { process.kill(SIGKILL) }
      let outcome = process.wait()
      if outcome.signal == SIGKILL { kills += 1 } else { moment.missed() }
      if FileSystem.exists(output) { try check() } else { #expect(outcome.signal == SIGKILL) }
      // What a dead process leaves has a hidden name.
      let others = try FileSystem.list(folder + "/out").filter { $0 != "merged" }
      #expect(others.allSatisfy { $0.hasPrefix(".") })
    }
    #expect(kills == 12)
    try? FileSystem.remove(output)
    let last = try RunningTool.run(arguments)
    #expect(last.status == 0, "\(last.errors)")
    try check()
    #expect(try FileSystem.list(folder + "/out") == ["merged"])
  }
}
