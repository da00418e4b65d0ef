// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

@Suite final class FilesTests {
  let folder = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(folder) }

  @Test func bytesComeBackAsWritten() throws {
    for count in [0, 1, 4095, 4096, 4097, 1 << 20] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      try FileSystem.write(bytes, to: folder + "/f")
      #expect(try FileSystem.read(folder + "/f") == bytes)
      #expect(try MappedFile(folder + "/f").withBytes { $0.elementsEqual(bytes) })
      #expect(try FileSystem.size(folder + "/f") == count)
      try FileSystem.copy(folder + "/f", to: folder + "/g")
      #expect(try FileSystem.read(folder + "/g") == bytes)
    }
  }

  @Test func filesThatSayTheyAreEmptyAreReadToTheirEnd() throws {
    #expect(try FileSystem.read("/proc/self/status").count > 100)
  }

  @Test func exitCodesTellInputFromOutput() throws {
    func code(_ body: () throws -> Void) throws -> ExitCode {
      try #require(throws: Fault.self) { try body() }.exitCode
    }
    #expect(try code { _ = try FileSystem.read(folder + "/none") } == .missingInput)
    #expect(try code { _ = try FileSystem.read(folder) } == .data)
    #expect(try code { _ = try FileSystem.read("/dev/zero") } == .data)
    #expect(try code { _ = try FileSystem.read("a\u{0}b") } == .missingInput)
    #expect(try code { try FileSystem.write("x", to: folder + "/no/such") } == .cannotCreate)
    #expect(try code { try FileSystem.write("x", to: "/proc/x") } == .cannotCreate)
    #expect(try code { try FileSystem.write("x", to: "/dev/full") } == .inputOutput)
    try FileSystem.write("x", to: folder + "/file")
    #expect(try code { try FileSystem.makeFolder(folder + "/file/sub") } == .cannotCreate)
    try FileSystem.write([0x61, 0x0A, 0xFF], to: folder + "/latin")
    let text = try #require(throws: Fault.self) { try FileSystem.text(folder + "/latin") }
    #expect(text.exitCode == .data && text.message.contains("line 2, byte 2"))
    #expect(try code { _ = try FileSystem.read(folder + "/latin", limit: 2) } == .data)
  }

  @Test func treesAreMadeListedAndRemoved() throws {
    try FileSystem.makeFolder(folder + "/a/b/c")
    try FileSystem.makeFolder(folder + "/a/b/c")
    try FileSystem.write("1", to: folder + "/a/b/two")
    try FileSystem.write("1", to: folder + "/a/b/One")
    #expect(try FileSystem.list(folder + "/a/b") == ["One", "c", "two"])
    try FileSystem.remove(folder + "/a")
    try FileSystem.remove(folder + "/a")
    #expect(!FileSystem.exists(folder + "/a"))
  }

  @Test func replacingLeavesNoTemporaryFile() throws {
    try FileSystem.replace(folder + "/f", with: "old".utf8)
    try FileSystem.replace(folder + "/f", with: "new".utf8)
    #expect(try FileSystem.text(folder + "/f") == "new")
    #expect(try FileSystem.list(folder) == ["f"])
  }

  @Test func pathsSplitAtTheirLastPart() {
    for (path, parent, last) in [
      ("a/b/c", "a/b", "c"), ("c", ".", "c"), ("/c", "/", "c"), ("a/b/", "a", "b"),
      ("./x", ".", "x"),
    ] {
      #expect(FileSystem.parent(of: path) == parent && FileSystem.lastComponent(path) == last)
    }
  }

  @Test func logsGrowAtTheirEnd() throws {
    for line in ["a\n", "b\n"] { try OutputFile(appendingTo: folder + "/log").write(line) }
    #expect(try FileSystem.text(folder + "/log") == "a\nb\n")
  }

  @Test func aLockIsHeldOnceAndFreedWithItsObject() throws {
    var lock: FileLock? = try FileLock(folder + "/run.lock")
    let error = try #require(throws: Fault.self) { try FileLock(folder + "/run.lock") }
    #expect(error.exitCode == .locked && error.message.contains("pid"))
    withExtendedLifetime(lock) {}
    lock = nil
    _ = try FileLock(folder + "/run.lock")
  }

  @Test func hostileTextIsHarmlessInMessages() {
    #expect(quoted("a\u{1B}[2Jb\n") == "'a\\u{1b}[2Jb\\u{a}'")
    #expect(quoted(String(repeating: "x", count: 1000)).count == 163)
  }

  /// Values of RFC 3720, B.4, and the check value of the CRC catalogue.
  @Test func checksumsMatchThePublishedOnes() {
    #expect(CRC32C.of(Array("123456789".utf8)) == 0xE306_9283)
    #expect(CRC32C.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(CRC32C.of((0..<32).map { UInt8($0) }) == 0x46DD_794E)
    #expect(CRC32C.of((0..<32).reversed().map { UInt8($0) }) == 0x113F_DB5C)
    #expect(CRC32C.of([]) == 0)
  }

  @Test func aChecksumInPiecesEqualsTheWhole() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 131 &+ 7) }
    for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
      var sum = CRC32C()
      bytes[..<cut].withUnsafeBytes { sum.update($0) }
      bytes[cut...].withUnsafeBytes { sum.update($0) }
      #expect(sum.value == CRC32C.of(bytes))
    }
  }
}

@Suite final class OutputFolderTests {
  let root = TestData.temporaryFolder()
  deinit { try? FileSystem.remove(root) }

  @Test func nothingIsSeenBeforeTheCommitAndAllAfterIt() throws {
    let output = try OutputFolder(root + "/deep/out")
    try output.write("a.txt", "hello")
    try FileSystem.makeFolder(output.path + "/sub")
    try output.write("sub/b.json", ["x": 1] as JSON)
    #expect(!FileSystem.exists(root + "/deep/out"))
    try output.commit(manifest: ["step": 3])
    #expect(try FileSystem.list(root + "/deep") == ["out"])
    #expect(try FileSystem.list(root + "/deep/out") == ["a.txt", "manifest.json", "sub"])
    #expect(try Manifest.verify(root + "/deep/out")["step"] == 3)
  }

  @Test func anAbandonedFolderLeavesNothing() throws {
    do {
      let output = try OutputFolder(root + "/out")
      try output.write("a", "x")
    }
    #expect(try FileSystem.list(root).isEmpty)
  }

  @Test func whatADeadProcessLeftIsSweptAndTheLivingAreNot() throws {
    try FileSystem.makeFolder(root + "/.out.tmp-1-0/sub")
    let living = try OutputFolder(root + "/out")
    let other = try OutputFolder(root + "/out")
    #expect(FileSystem.exists(living.path) && living.path != other.path)
    #expect(!FileSystem.exists(root + "/.out.tmp-1-0"))
    try living.write("a", "1")
    try living.commit()
    let late = try #require(throws: Fault.self) { try other.commit() }
    #expect(late.exitCode == .cannotCreate)
  }

  @Test func anOccupiedTargetIsRefusedUnlessItIsReplaced() throws {
    try FileSystem.makeFolder(root + "/out")
    try OutputFolder(root + "/out").commit()
    try FileSystem.write("old", to: root + "/out/a")
    let error = try #require(throws: Fault.self) { try OutputFolder(root + "/out") }
    #expect(error.exitCode == .cannotCreate && error.hint != nil)
    let output = try OutputFolder(root + "/out", replacing: true)
    try output.write("b", "new")
    try output.commit()
    #expect(try FileSystem.list(root) == ["out"])
    #expect(try FileSystem.list(root + "/out") == ["b"])
    try FileSystem.write("f", to: root + "/file")
    #expect(throws: Fault.self) { try OutputFolder(root + "/file", replacing: true) }
  }

  @Test func aManifestNoticesEveryKindOfDamage() throws {
    func damaged(_ damage: (String) throws -> Void) throws -> Fault {
      let path = root + "/m"
      try FileSystem.remove(path)
      let output = try OutputFolder(path)
      try output.write("a", "hello world")
      try output.commit(manifest: [:])
      _ = try Manifest.verify(path)
      try damage(path)
      return try #require(throws: Fault.self) { try Manifest.verify(path) }
    }
    let flipped = try damaged { try FileSystem.write("hello worle", to: $0 + "/a") }
    #expect(flipped.exitCode == .checkpoint && flipped.message.contains("checksum"))
    #expect(try damaged { try FileSystem.write("short", to: $0 + "/a") }.exitCode == .checkpoint)
    #expect(try damaged { try FileSystem.remove($0 + "/a") }.exitCode == .checkpoint)
    #expect(try damaged { try FileSystem.remove($0 + "/manifest.json") }.exitCode == .checkpoint)
    #expect(
      try damaged { try FileSystem.write("{\"fil", to: $0 + "/manifest.json") }.exitCode
        == .checkpoint)
  }
}
