// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTTestSupport
import Testing

@Suite("House rules on imports")
struct ImportTests {
  @Test("Every room keeps to what it may import")
  func sources() throws {
    let check = try Script("check-imports")
    #expect(check.status == 0, "\(check.output)")
  }

  /// The script itself: a tree with one fault must fail, and name file, line and fault.
  @Test(
    "A fault is found and named",
    arguments: [
      ("Sources/PAFTBase/A.swift", "\nimport Foundation\n", "A.swift:2: PAFTBase does without"),
      ("Sources/PAFTOps/A.swift", "import PAFTModels\n", "A.swift:1: PAFTOps may not import"),
      ("Sources/PAFTText/A.swift", "\n\npublic struct A {}\n", "A.swift:3: only the façade"),
      ("Sources/PAFTText/A.swift", "let a = getenv(\"A\")\n", "A.swift:1: the environment"),
      ("Sources/PAFTAttic/A.swift", "\n", "there is no room PAFTAttic"),
    ])
  func faults(path: String, source: String, message: String) throws {
    let root = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: root) }
    for folder in ["Sources", "CSupport", "Tests", (path as NSString).deletingLastPathComponent] {
      try FileManager.default.createDirectory(
        atPath: root + "/" + folder, withIntermediateDirectories: true)
    }
    try source.write(toFile: root + "/" + path, atomically: true, encoding: .utf8)
    let check = try Script("check-imports", [root])
    #expect(check.status == 1)
    #expect(check.output.contains(message), "\(check.output)")
  }
}
