// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase

/// Where tests find files: fixtures are committed beside the tests; the big real files live in a
/// folder outside the repository and tests that need it skip, saying so, where it is absent.
package enum TestData {
  /// `Tests/Fixtures/<path>`.
  package static func fixture(_ path: String) -> String { root + "/Tests/Fixtures/" + path }

  /// A real file in the shared data folder, or nil when there is none on this machine.
  package static func shared(_ path: String) -> String? {
    let folder = Knobs.testData ?? root + "/../shared/data"
    let full = folder + "/" + path
    return FileManager.default.fileExists(atPath: full) ? full : nil
  }

  package static let root: String = {
    var url = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { url.deleteLastPathComponent() }
    return url.path
  }()

  /// A fresh empty folder, removed by the caller.
  package static func temporaryFolder() -> String {
    let path = NSTemporaryDirectory() + "paft-test-" + UUID().uuidString
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }
}
