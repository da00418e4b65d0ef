// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTTestSupport
import Testing

@Suite("Machine code of the kernels")
struct KernelCodeTests {
  /// The build folder these tests were linked in; nil when the objects are elsewhere (an installed
  /// test bundle) or unoptimised, where the rules cannot hold. Then the test is skipped.
  static let buildFolder: String? = {
    #if DEBUG
      return nil
    #else
      let program =
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
      let folder = (program as NSString).deletingLastPathComponent
      let objects = folder + "/PAFTKernelAVX512.build"
      return FileManager.default.fileExists(atPath: objects) ? folder : nil
    #endif
  }()

  @Test(
    "No code is shared between instruction sets, tiles stay in registers",
    .enabled(if: buildFolder != nil))
  func kernels() throws {
    let check = try Script("check-kernels", [Self.buildFolder!])
    #expect(check.status == 0, "\(check.output)")
  }

  /// The rules are read by a copy of the script, beside one rule that no kernel can meet.
  @Test("A kernel that misses what its rule wants is a failure", .enabled(if: buildFolder != nil))
  func rules() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let files = FileManager.default
    try files.createDirectory(atPath: folder + "/tools", withIntermediateDirectories: true)
    try files.createSymbolicLink(
      atPath: folder + "/Sources", withDestinationPath: TestData.root + "/Sources")
    for file in ["check-kernels", "kernel-code.awk"] {
      try files.copyItem(
        atPath: TestData.root + "/tools/" + file, toPath: folder + "/tools/" + file)
    }
    let real = try text(of: "tools/kernel-rules.txt")
    let wrong = "vectors.axpy_f32 AVX2 vfmadd.*ymm >=1000 1\nrows.no_f32 AVX512 v.* >=1 1\n"
    try Data((wrong + real).utf8).write(
      to: URL(fileURLWithPath: folder + "/tools/kernel-rules.txt"))
    let check = try Script(at: folder + "/tools/check-kernels", [Self.buildFolder!])
    #expect(check.status != 0)
    #expect(check.output.contains("AVX2: vectors.axpy_f32: its loop holds"), "\(check.output)")
    #expect(check.output.contains("AVX512: rows.no_f32: found 0 kernels, expected 1"))
  }

  /// Compiles for AArch64 as embedded Swift, which not every toolchain brings along.
  @Test(
    "The bodies compile for NEON and agree with the reference on an emulated CPU",
    .enabled(
      if: (try? Script("check-neon", ["--can-run"]))?.status == 0))
  func neon() throws {
    let check = try Script("check-neon")
    #expect(check.status == 0, "\(check.output)")
    #expect(check.output.contains("comparisons with the reference, 0 off"), "\(check.output)")
  }

  @Test("A folder without kernels is no success")
  func nothing() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try Script("check-kernels", [folder]).status != 0)
  }
}
