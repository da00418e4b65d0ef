// SPDX-License-Identifier: Apache-2.0

private import CPCRE2
internal import PAFTBase
import PAFTFormats

/// A compiled regular expression over UTF-8 (PCRE2 with its just-in-time compiler).
///
/// Patterns come from tokenizer files, so they are hostile: compilation is bounded, and a match
/// that backtracks without end stops at a limit and is an error, never a hang. Tokenizer patterns
/// are written for Oniguruma; the one difference that touches them is corrected here (see
/// `unicodeWhitespace`).
final class Pattern: @unchecked Sendable {
  // @unchecked: the compiled code is never written after init, and PCRE2 allows concurrent matching.
  private let code: OpaquePointer
  let source: String
  /// Does the same by hand, for patterns that many tokenizers have.
  let scanner: WordScanner?

  /// The text of a literal of one byte, mostly a blank: found without the engine.
  private let byte: UInt8?

  /// A million single characters deep is far beyond any honest tokenizer pattern.
  private static let compiledLimit = 1 << 16

  /// - Parameter literal: the text itself, no operators.
  init(_ source: String, literal: Bool = false, file: String) throws(Fault) {
    self.source = source
    scanner = literal ? nil : WordScanner(source)
    byte = literal && source.utf8.count == 1 ? source.utf8.first : nil
    let text = literal ? source : Self.unicodeWhitespace(source)
    guard text.utf8.count <= Self.compiledLimit else {
      throw Fault(
        .data,
        "\(file): a pattern of \(text.utf8.count) bytes, expected at most "
          + "\(Self.compiledLimit)")
    }
    var options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NEVER_BACKSLASH_C)
    if literal { options = UInt32(PCRE2_UTF) | UInt32(PCRE2_LITERAL) }
    var error: CInt = 0
    var offset = 0
    let bytes = Array(text.utf8)
    guard
      let code = bytes.withUnsafeBufferPointer({
        pcre2_compile_8($0.baseAddress ?? Self.nothing, $0.count, options, &error, &offset, nil)
      })
    else {
      throw Fault(
        .data,
        "\(file): pattern \(quoted(source)) does not compile: \(Self.describe(error)) at byte "
          + "\(offset)")
    }
    // Without the compiler (an unsupported CPU) the interpreter does the same work, slower.
    _ = pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE))
    self.code = code
  }

  deinit { pcre2_code_free_8(code) }

  /// Some valid address for empty buffers; never read.
  private static var nothing: UnsafePointer<UInt8> { UnsafePointer(bitPattern: 16)! }

  /// Calls `found` with each match in order, from left to right without overlap.
  ///
  /// - Parameter bytes: well-formed UTF-8; not checked again.
  func forEachMatch(
    in bytes: UnsafeBufferPointer<UInt8>, _ matcher: Matcher, _ found: (Range<Int>) -> Void
  ) throws(Fault) {
    if let scanner {
      scanner.forEach(bytes, found)
      return
    }
    if let byte {
      for at in bytes.indices where bytes[at] == byte { found(at..<at + 1) }
      return
    }
    var at = 0
    let base = bytes.baseAddress ?? Self.nothing
    matcher.bound(to: bytes.count)
    while at <= bytes.count {
      let status = pcre2_match_8(
        code, base, bytes.count, at, UInt32(PCRE2_NO_UTF_CHECK), matcher.data, matcher.context)
      if status == PCRE2_ERROR_NOMATCH { return }
      if status < 0 { throw failure(status, at) }
      let vector = pcre2_get_ovector_pointer_8(matcher.data)!
      // \K may set the start behind the end.
      let lower = max(at, vector[0])
      let upper = max(lower, vector[1])
      found(lower..<upper)
      at = upper
      if lower == upper {
        at += 1
        while at < bytes.count, bytes[at] & 0xC0 == 0x80 { at += 1 }
      }
    }
  }

  private func failure(_ status: CInt, _ at: Int) -> Fault {
    switch status {
    case PCRE2_ERROR_MATCHLIMIT, PCRE2_ERROR_JIT_STACKLIMIT, PCRE2_ERROR_HEAPLIMIT,
      PCRE2_ERROR_DEPTHLIMIT:
      Fault(
        .data,
        "tokenizer pattern \(quoted(source)) backtracks without end at byte \(at) of the text",
        hint: "the pattern needs exponential time on this text; use the tokenizer it came with")
    default:
      Fault(
        .data,
        "tokenizer pattern \(quoted(source)) failed at byte \(at) of the text: "
          + Self.describe(status))
    }
  }

  private static func describe(_ code: CInt) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = pcre2_get_error_message_8(code, &buffer, buffer.count)
    return length < 0
      ? "error \(code)" : String(decoding: buffer.prefix(Int(length)), as: UTF8.self)
  }

  /// `\s` under PCRE2 also takes U+180E, which left Unicode's White_Space in version 6.3; here `\s`
  /// is spelt out as exactly White_Space. (A `\S` inside a class cannot be spelt out and stays.)
  static func unicodeWhitespace(_ source: String) -> String {
    let members = "\\x09-\\x0D\\x{85}\\p{Z}"
    var result = ""
    var inClass = false
    var characters = source.unicodeScalars.makeIterator()
    while let character = characters.next() {
      switch character {
      case "\\":
        guard let escaped = characters.next() else {
          result += "\\"
          break
        }
        switch escaped {
        case "s": result += inClass ? members : "[" + members + "]"
        case "S" where !inClass: result += "[^" + members + "]"
        default:
          result += "\\"
          result.unicodeScalars.append(escaped)
        }
      case "[":
        result += inClass ? "\\[" : "["
        inClass = true
      case "]":
        result += "]"
        // "[]" and "[^]" open a class whose first member is the bracket.
        if !(result.hasSuffix("[]") || result.hasSuffix("[^]")) || !inClass { inClass = false }
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }
}

/// The writable half of matching: one per thread at a time.
final class Matcher {
  fileprivate let data: OpaquePointer
  fileprivate let context: OpaquePointer
  private let stack: OpaquePointer?

  /// Backtracking steps before a match is given up. Honest patterns need a few per byte they look
  /// at: a run of n blanks costs `\s+(?!\S)` about n.
  fileprivate func bound(to length: Int) {
    let steps = max(100_000, 32 * length)
    pcre2_set_match_limit_8(context, UInt32(clamping: steps))
  }

  init() {
    // One pair: only the whole match is asked for.
    data = pcre2_match_data_create_8(1, nil)
    context = pcre2_match_context_create_8(nil)
    stack = pcre2_jit_stack_create_8(32 << 10, 16 << 20, nil)
    if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
    pcre2_set_heap_limit_8(context, 64 << 10)
  }

  deinit {
    pcre2_match_context_free_8(context)
    pcre2_match_data_free_8(data)
    if let stack { pcre2_jit_stack_free_8(stack) }
  }
}
