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

  @Test("A folder without kernels is no success")
  func nothing() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try Script("check-kernels", [folder]).status != 0)
  }
}
