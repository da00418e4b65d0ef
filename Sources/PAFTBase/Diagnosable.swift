// SPDX-License-Identifier: Apache-2.0

/// Exit codes of `paft`, as scripts see them. Names follow sysexits.h where it has one.
package enum ExitCode: Int32, Sendable {
  case unexpected = 1
  case usage = 64
  case data = 65
  case missingInput = 66
  case `internal` = 70
  case cannotCreate = 73
  case inputOutput = 74
  case locked = 75
  case configuration = 78
  case notFinite = 80
  case memoryBudget = 81
  case checkpoint = 82
  case interrupted = 130
  case terminated = 143
}

/// An error that a person can act on: one line that says where, what was found and what was
/// expected; an optional hint; the process's exit code. Every error enum of the project conforms.
package protocol Diagnosable: Error {
  /// One line without newline: file and line or byte, found, expected.
  var message: String { get }
  /// What to do about it, one line; nil when the message already says so.
  var hint: String? { get }
  var exitCode: ExitCode { get }
}

/// The plain form, for places with only one or two ways to fail.
package struct Fault: Diagnosable, Equatable {
  package var exitCode: ExitCode
  package var message: String
  package var hint: String?

  package init(_ exitCode: ExitCode, _ message: String, hint: String? = nil) {
    self.exitCode = exitCode
    self.message = message
    self.hint = hint
  }
}

/// The nearest of `candidates` to a misspelt `word`, if one is near enough to be meant.
package func nearest<S: Sequence<String>>(to word: String, in candidates: S) -> String? {
  var best: (distance: Int, candidate: String)?
  for candidate in candidates {
    let d = editDistance(Array(word.utf8), Array(candidate.utf8))
    if best == nil || d < best!.distance { best = (d, candidate) }
  }
  guard let best, best.distance <= max(1, min(word.utf8.count, best.candidate.utf8.count) / 3)
  else { return nil }
  return best.candidate
}

private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var row = Array(0...b.count)
  for i in 0..<a.count {
    var diagonal = row[0]
    row[0] = i + 1
    for j in 0..<b.count {
      let substitution = diagonal + (a[i] == b[j] ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(substitution, row[j] + 1, row[j + 1] + 1)
    }
  }
  return row[b.count]
}
