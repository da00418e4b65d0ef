// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase

/// The built `paft`, which stands beside the test bundle.
enum Tool {
  /// Nil where only libraries were built; tests of the command then skip.
  static let path: String? = {
    guard let exe = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    else { return nil }
    let beside = URL(fileURLWithPath: exe).deletingLastPathComponent().path + "/paft"
    return FileManager.default.isExecutableFile(atPath: beside) ? beside : nil
  }()

  struct Outcome {
    let code: Int32
    let output: String
    let error: String
  }

  /// - Parameter environment: added to that of the tests.
  static func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:]
  ) throws -> Outcome {
    guard let path else { throw Fault(.missingInput, "no paft beside the tests") }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let pipes = [Pipe(), Pipe(), Pipe()]
    process.standardInput = pipes[0]
    process.standardOutput = pipes[1]
    process.standardError = pipes[2]
    try process.run()
    pipes[0].fileHandleForWriting.write(Data(input.utf8))
    try pipes[0].fileHandleForWriting.close()
    // Outputs of these tests are far smaller than a pipe's buffer, except standard output.
    let output = pipes[1].fileHandleForReading.readDataToEndOfFile()
    let error = pipes[2].fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Outcome(
      code: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
      error: String(decoding: error, as: UTF8.self))
  }
}
