// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// Why a text is not the JSON we accept, and where.
package struct JSONError: Diagnosable, Equatable {
  package enum Reason: Sendable, Equatable {
    case empty
    case byteOrderMark
    case unexpected(found: String, expected: String)
    case endOfInput(expected: String)
    case trailing(found: String)
    case notUTF8
    case controlCharacter(UInt8)
    case badEscape
    case loneSurrogate
    case badNumber
    case numberTooLarge
    case duplicateKey(String)
    case tooDeep(limit: Int)
    case tooManyValues(limit: Int)
  }

  package let reason: Reason
  /// File name, or what stands for it.
  package let source: String
  /// Byte offset of the offence, and its line counted from 1.
  package let offset: Int
  package let line: Int

  package var message: String { "\(source) line \(line), byte \(offset): \(reason.words)" }

  package var hint: String? {
    switch reason {
    case .byteOrderMark: "save the file as UTF-8 without byte order mark"
    case .unexpected(let found, _) where found.hasPrefix("'N") || found.hasPrefix("'I"):
      "NaN and Infinity are not JSON"
    default: nil
    }
  }

  package var exitCode: ExitCode { .data }

  /// The same of a text that is a `unit` (line, row) of something larger, whose place says where it
  /// is: lines within the text are not counted.
  package func fault(at place: String, of unit: String, hint: String? = nil) -> Fault {
    Fault(
      .data, "\(place): byte \(offset) of the \(unit): \(reason.words)", hint: hint ?? self.hint)
  }
}

extension JSON {
  /// One line of a file of lines, at a place such as "rows.jsonl:7". Throws `Fault(.data)`.
  package static func parse(
    line: [UInt8], at place: String, limits: JSONLimits = JSONLimits()
  ) throws(Fault) -> JSON {
    do { return try parse(line, source: place, limits: limits) } catch {
      throw error.fault(at: place, of: "line")
    }
  }
}

extension JSONError.Reason {
  var words: String {
    switch self {
    case .empty: "no JSON value, the text is empty"
    case .byteOrderMark: "byte order mark before the JSON text"
    case .unexpected(let found, let expected): "found \(found), expected \(expected)"
    case .endOfInput(let expected): "the text ends early, expected \(expected)"
    case .trailing(let found): "found \(found) after the JSON value, expected the end"
    case .notUTF8: "bytes that are not UTF-8"
    case .controlCharacter(let byte):
      "control character 0x\(String(byte, radix: 16)) in a string, expected it escaped"
    case .badEscape: "unknown escape in a string"
    case .loneSurrogate: "half of a surrogate pair in a string"
    case .badNumber: "malformed number"
    case .numberTooLarge: "number outside the range of a double"
    case .duplicateKey(let key): "duplicate key \(quoted(key))"
    case .tooDeep(let limit): "nested more than \(limit) levels deep"
    case .tooManyValues(let limit): "more than \(limit) values"
    }
  }
}
