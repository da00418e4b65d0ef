// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

private func values(_ count: Int, _ seed: UInt64) -> [Float] {
  let random = CounterRandom(seed: seed)
  return (0..<count).map { Float(random.uniform(UInt64($0)) * 4 - 2) }
}

@Suite final class WriterTests {
  let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  @Test func whatIsWrittenReadsBackRoundedOnce() throws {
    let a = values(300_000, 1)
    let writer = try SafetensorsWriter(
      folder: folder,
      tensors: [
        TensorDeclaration("half", .f16, [3]), TensorDeclaration("brain", .bf16, [300, 1000]),
        TensorDeclaration("odd", .bf16, [7]), TensorDeclaration("single", .f32, [5]),
        TensorDeclaration("ids", .i64, [2]), TensorDeclaration("empty", .f32, [0, 2]),
        TensorDeclaration("scalar", .f32, []),
      ])
    try writer.append("single", [1, 2])
    for row in 0..<300 { try writer.append("brain", Array(a[row * 1000..<(row + 1) * 1000])) }
    try writer.append("odd", [0, 1, 2, 3, 4, 5, 6])
    try writer.append("half", [65504, 0x1p-24, -1.0 / 3])
    try [Int64(1), -2].withUnsafeBytes { try writer.append("ids", raw: $0) }
    try writer.append("scalar", [0.5])
    try writer.append("single", [3, 4, 5])
    try writer.finish()

    #expect(try FileSystem.list(folder) == ["model.safetensors"])
    let tensors = try TensorArchive(path: folder)
    #expect(try tensors["brain"]?.floats() == a.map { BF16($0).float })
    #expect(try tensors["single"]?.floats() == [1, 2, 3, 4, 5])
    #expect(try tensors["half"]?.floats() == [65504, 0x1p-24, -0x1.554p-2])
    #expect(try tensors["scalar"]?.floats() == [0.5])
    #expect(tensors["empty"]?.shape == [0, 2])
    #expect(tensors["ids"]?.bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self) == -2)
    #expect(tensors.files[0].metadata.map(\.key) == ["format"])
    for entry in tensors.entries where entry.count > 0 {
      #expect(UInt(bitPattern: entry.bytes.baseAddress!) % UInt(entry.dtype.size) == 0)
    }
  }

  /// Where data is large, tensors of whole pages start on one: they are written past the page cache.
  @Test func wholePagesStandOnPages() throws {
    let shapes = [("a", [7]), ("b", [512, 1024]), ("c", [3, 5]), ("d", [2048]), ("e", [4096])]
    let writer = try SafetensorsWriter(
      folder: folder, tensors: shapes.map { TensorDeclaration($0.0, .bf16, $0.1) })
    for (seed, (name, shape)) in shapes.enumerated() {
      try writer.append(name, values(shape.reduce(1, *), UInt64(seed)))
    }
    try writer.finish()
    let tensors = try TensorArchive(path: folder)
    #expect(tensors.names == ["b", "d", "e", "a", "c"])
    for (seed, (name, shape)) in shapes.enumerated() {
      let entry = try #require(tensors[name])
      #expect(
        try entry.floats()
          == values(shape.reduce(1, *), UInt64(seed)).map { BF16($0).float })
      if entry.bytes.count % 4096 == 0 {
        #expect(UInt(bitPattern: entry.bytes.baseAddress!) % 4096 == 0)
      }
    }
  }

  @Test func roundingToHalfAgreesWithTheHardwareType() throws {
    #if !(os(macOS) && arch(x86_64))
      var inputs: [Float] = [
        0, -0.0, .infinity, -.infinity, 65519, 65520, 65504, 0x1p-25, 0x1.8p-25,
      ]
      inputs += [
        0x1p-14, 0x1.FFCp-15, 0x1.FFEp-15, 1 + 0x1p-11, 1 + 0x1.8p-10, .greatestFiniteMagnitude,
      ]
      let random = CounterRandom(seed: 9)
      for i in 0..<20_000 {
        let scale = Float(
          sign: .plus, exponent: Int(random.bits(UInt64(i)) % 44) - 27, significand: 1)
        inputs.append(Float(random.uniform(UInt64(i) + 1_000_000) * 2 - 1) * scale)
      }
      let writer = try SafetensorsWriter(
        folder: folder, tensors: [TensorDeclaration("t", .f16, [inputs.count])])
      try writer.append("t", inputs)
      try writer.finish()
      let read = try #require(try TensorArchive(path: folder)["t"])
      let bits = (0..<inputs.count).map {
        read.bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)
      }
      #expect(bits == inputs.map { Float16($0).bitPattern })
    #endif
  }

  @Test func largeModelsAreCutIntoShardsWithAnIndex() throws {
    let declarations = (0..<7).map { TensorDeclaration("layer.\($0)", .f32, [10, 10]) }
    let writer = try SafetensorsWriter(
      folder: folder, tensors: declarations, maximumShardBytes: 1000)
    for (i, declaration) in declarations.enumerated().reversed() {
      try writer.append(declaration.name, values(100, UInt64(i)))
    }
    try writer.finish()
    #expect(
      try FileSystem.list(folder) == [
        "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
        "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
        "model.safetensors.index.json",
      ])
    let index = try JSON.read(path: folder + "/model.safetensors.index.json")
    #expect(index["metadata"]?["total_size"] == 2800)
    #expect(index["weight_map"]?["layer.6"] == "model-00004-of-00004.safetensors")
    let archive = try TensorArchive(path: folder)
    #expect(archive.totalBytes == 2800 && archive.names.count == 7)
    for i in 0..<7 { #expect(try archive["layer.\(i)"]?.floats() == values(100, UInt64(i))) }
  }

  @Test func aTensorLargerThanAShardGetsItsOwn() throws {
    let writer = try SafetensorsWriter(
      folder: folder,
      tensors: [TensorDeclaration("big", .f32, [100]), TensorDeclaration("s", .f32, [1])],
      maximumShardBytes: 100)
    try writer.append("big", values(100, 1))
    try writer.append("s", [1])
    try writer.finish()
    #expect(try TensorArchive(path: folder).files.count == 2)
  }

  @Test func noTensorsAtAllIsAValidFile() throws {
    try SafetensorsWriter(folder: folder, name: "adapter_model", tensors: []).finish()
    #expect(try TensorArchive(path: folder).names.isEmpty)
  }

  @Test func doubledNamesAndOverflowingShapesAreRefused() {
    #expect(throws: Fault.self) {
      try SafetensorsWriter(
        folder: folder,
        tensors: [TensorDeclaration("a", .f32, []), TensorDeclaration("a", .f32, [])])
    }
    #expect(throws: Fault.self) {
      try SafetensorsWriter(
        folder: folder, tensors: [TensorDeclaration("a", .f32, [Int.max, 2])])
    }
  }
}

@Suite final class TensorArchiveTests {
  let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  private func shard(_ name: String, _ tensors: [String]) throws {
    let sub = TestData.temporaryFolder()
    defer { try? FileSystem.remove(sub) }
    let writer = try SafetensorsWriter(
      folder: sub, tensors: tensors.map { TensorDeclaration($0, .f32, [1]) })
    for tensor in tensors { try writer.append(tensor, [1]) }
    try writer.finish()
    try FileSystem.copy(sub + "/model.safetensors", to: folder + "/" + name)
  }

  private func index(_ text: String) throws -> Fault {
    try FileSystem.write(text, to: folder + "/model.safetensors.index.json")
    return try #require(throws: Fault.self) { try TensorArchive(path: folder) }
  }

  @Test func anIndexCannotLeadOutOfItsFolder() throws {
    for name in ["../x.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\u0000b"] {
      let error = try index(#"{"weight_map":{"t":"\#(name)"}}"#)
      #expect(error.exitCode == .data && error.message.contains("'t'"))
    }
    #expect(try index(#"{"weight_map":{"t":1}}"#).exitCode == .data)
    #expect(try index(#"{"weight_map":{}}"#).exitCode == .data)
    #expect(try index(#"{}"#).exitCode == .data)
  }

  @Test func missingShardsAndMisplacedTensorsAreNamed() throws {
    try shard("a.safetensors", ["x", "y"])
    try shard("b.safetensors", ["z", "x"])
    let missing = try index(#"{"weight_map":{"x":"a.safetensors","q":"gone.safetensors"}}"#)
    #expect(missing.message.contains("'y'") || missing.message.contains("gone"))
    let gone = try index(#"{"weight_map":{"q":"gone.safetensors"}}"#)
    #expect(gone.exitCode == .missingInput && gone.message.contains("gone.safetensors"))
    let absent = try index(
      #"{"weight_map":{"x":"a.safetensors","y":"a.safetensors","w":"a.safetensors"}}"#)
    #expect(absent.message.contains("'w'"))
    let extra = try index(#"{"weight_map":{"x":"a.safetensors"}}"#)
    #expect(extra.message.contains("'y'"))
    let double = try index(
      #"{"weight_map":{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"}}"#)
    #expect(double.message.contains("b.safetensors") && double.message.contains("'x'"))
  }

  @Test func anEmptyFolderSaysWhatWasLookedFor() throws {
    try FileSystem.write("x", to: folder + "/pytorch_model.bin")
    let error = try #require(throws: Fault.self) { try TensorArchive(path: folder) }
    #expect(error.exitCode == .missingInput && error.hint?.contains("pickle") == true)
    #expect(throws: Fault.self) { try TensorArchive(path: folder + "/none") }
  }

  @Test func aSingleFileAndAnAdapterFolderOpenToo() throws {
    try shard("adapter_model.safetensors", ["x"])
    #expect(try TensorArchive(path: folder).names == ["x"])
    #expect(try TensorArchive(path: folder + "/adapter_model.safetensors").names == ["x"])
  }

  // Skips where the shared data folder is absent.
  @Test(.enabled(if: TestData.shared("models/story-llama-0.66M") != nil))
  func aRealModelOpens() throws {
    let archive = try TensorArchive(path: #require(TestData.shared("models/story-llama-0.66M")))
    #expect(archive["model.norm.weight"] != nil)
    for entry in archive.entries { #expect(try entry.floats().allSatisfy(\.isFinite)) }
  }
}
