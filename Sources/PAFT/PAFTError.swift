// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// The one error of this library: a line that says where, what was found and what was expected; a
/// hint; and the exit code of the command in the same situation.
public struct PAFTError: Error, Sendable, Equatable, CustomStringConvertible {
  public let message: String
  public let hint: String?
  /// As scripts see it: 64 usage, 65 data, 66 missing input, 73 output, 78 recipe, …
  public let exitCode: Int32

  package init(_ code: ExitCode, _ message: String, hint: String? = nil) {
    self.message = message
    self.hint = hint
    exitCode = code.rawValue
  }

  package init(_ error: any Error) {
    switch error {
    case let error as PAFTError: self = error
    case let error as any Diagnosable:
      self.init(error.exitCode, error.message, hint: error.hint)
    default: self.init(.unexpected, "\(error)")
    }
  }

  public var description: String { hint.map { "\(message) (\($0))" } ?? message }

  static func wrapping<T>(_ body: () throws -> T) throws(PAFTError) -> T {
    do { return try body() } catch { throw PAFTError(error) }
  }
}
