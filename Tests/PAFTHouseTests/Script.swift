// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTTestSupport

/// A finished run of one of the repository's scripts.
struct Script {
  let status: Int32
  let output: String

  /// Runs `tools/<name>` and waits; both of its streams come together.
  init(_ name: String, _ arguments: [String] = []) throws {
    try self.init(at: TestData.root + "/tools/" + name, arguments)
  }

  init(at path: String, _ arguments: [String] = []) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    // Reading to the end before waiting: a full pipe would stop the script for ever.
    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    status = process.terminationStatus
    output = String(decoding: bytes, as: UTF8.self)
  }
}

/// Paths of the files under `folder` of the repository, relative to its root, hidden ones left out.
func files(under folder: String, where isWanted: (String) -> Bool) throws -> [String] {
  // The walk does not follow a link at its own start.
  let start = URL(fileURLWithPath: TestData.root + "/" + folder).resolvingSymlinksInPath().path
  return try FileManager.default.subpathsOfDirectory(atPath: start)
    .filter { !$0.hasPrefix(".") && !$0.contains("/.") }
    .map { folder + "/" + $0 }
    .filter(isWanted)
    .sorted()
}

/// The text of a file of the repository.
func text(of path: String) throws -> String {
  try String(contentsOfFile: TestData.root + "/" + path, encoding: .utf8)
}
