// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTTestSupport
import Testing

@Suite("Documents and headers")
struct DocumentTests {
  static let documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
  static let places = ["Sources", "Tests", "CSupport", "Benchmarks", "tools", "docs", ".ci"]

  /// What stands between backticks and starts with one of the repository's folders.
  static func paths(in document: String) throws -> [String] {
    try text(of: document).split(separator: "`", omittingEmptySubsequences: false).enumerated()
      .filter { !$0.offset.isMultiple(of: 2) }
      .map { String($0.element.prefix { !$0.isWhitespace }) }
      .filter { word in places.contains { word.hasPrefix($0 + "/") } }
      .filter { !$0.contains("<") && !$0.contains("*") && !$0.contains("{") }
  }

  @Test("Every path a document names is there", arguments: documents)
  func namedPaths(document: String) throws {
    let paths = try Self.paths(in: document)
    #expect(paths.count > 3, "\(document) names hardly a file; is it still read rightly?")
    for path in paths {
      #expect(
        FileManager.default.fileExists(atPath: TestData.root + "/" + path),
        "\(document) names \(path)")
    }
  }

  @Test("Every target of a link in a document is there", arguments: documents)
  func links(document: String) throws {
    for part in try text(of: document).components(separatedBy: "](").dropFirst() {
      let target = part.prefix { $0 != ")" && $0 != "#" }
      if target.isEmpty || target.hasPrefix("http") { continue }
      #expect(
        FileManager.default.fileExists(atPath: TestData.root + "/" + target),
        "\(document) links to \(target)")
    }
  }

  @Test("Every source file says its licence first")
  func licences() throws {
    let sources = try ["Sources", "Tests", "CSupport", "tools", "Benchmarks"].flatMap { folder in
      try files(under: folder) { path in
        ["swift", "c", "h", "inc", "py", "sh"].contains((path as NSString).pathExtension)
      }
    }
    #expect(sources.count > 100)
    for path in sources {
      let head = try text(of: path).prefix(200).split(separator: "\n").prefix(2)
      #expect(
        head.contains { $0.hasSuffix("SPDX-License-Identifier: Apache-2.0") },
        "\(path) does not start with its licence")
    }
  }
}
