// SPDX-License-Identifier: Apache-2.0

/// Bounds on what a text may make the parser build.
package struct JSONLimits: Sendable {
  package var depth = 256
  /// Values in all; each costs about 32 bytes, so this bounds the memory of a hostile file.
  package var values = 1 << 26

  package init() {}
  package init(depth: Int = 256, values: Int = 1 << 26) {
    self.depth = depth
    self.values = values
  }
}

extension JSON {
  /// One strict reader for every JSON text (RFC 8259): UTF-8 checked, duplicate keys refused (also
  /// when spelt with escapes), depth bounded, no NaN, no comments, nothing after the value.
  package static func parse(
    _ bytes: UnsafeRawBufferPointer, source: String, limits: JSONLimits = JSONLimits()
  ) throws(JSONError) -> JSON {
    var parser = JSONParser(bytes, source: source, limits: limits)
    return try parser.document()
  }

  package static func parse(
    _ bytes: [UInt8], source: String, limits: JSONLimits = JSONLimits()
  ) throws(JSONError) -> JSON {
    try bytes.withRawBytes { (buffer) throws(JSONError) in
      try parse(buffer, source: source, limits: limits)
    }
  }

  package static func parse(
    _ text: String, source: String = "JSON text", limits: JSONLimits = JSONLimits()
  ) throws(JSONError) -> JSON {
    try text.withRawBytes { (buffer) throws(JSONError) in
      try parse(buffer, source: source, limits: limits)
    }
  }

  /// Reads and parses a file. Throws `Fault` for the file, `JSONError` for its contents.
  package static func read(path: String, limits: JSONLimits = JSONLimits()) throws -> JSON {
    try parse(FileSystem.read(path), source: path, limits: limits)
  }
}

/// Recursive descent over raw bytes; `at` never passes `count`.
private struct JSONParser {
  private let bytes: UnsafeRawBufferPointer
  private let source: String
  private let limits: JSONLimits
  private var at = 0
  private var values = 0
  private var unescaped: [UInt8] = []

  init(_ bytes: UnsafeRawBufferPointer, source: String, limits: JSONLimits) {
    self.bytes = bytes
    self.source = source
    self.limits = limits
  }

  mutating func document() throws(JSONError) -> JSON {
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF {
      throw error(.byteOrderMark)
    }
    skipSpace()
    guard at < bytes.count else { throw error(.empty) }
    let value = try value(depth: 0)
    skipSpace()
    guard at == bytes.count else { throw error(.trailing(found: found())) }
    return value
  }

  // MARK: - Values

  private mutating func value(depth: Int) throws(JSONError) -> JSON {
    values += 1
    guard values <= limits.values else { throw error(.tooManyValues(limit: limits.values)) }
    guard let first = peek() else { throw error(.endOfInput(expected: "a value")) }
    switch first {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
    case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    case UInt8(ascii: "t") where consume("true"): return .bool(true)
    case UInt8(ascii: "f") where consume("false"): return .bool(false)
    case UInt8(ascii: "n") where consume("null"): return .null
    default: throw unexpected("a value")
    }
  }

  private mutating func array(depth: Int) throws(JSONError) -> [JSON] {
    guard depth <= limits.depth else { throw error(.tooDeep(limit: limits.depth)) }
    at += 1
    var elements: [JSON] = []
    skipSpace()
    if peek() == UInt8(ascii: "]") {
      at += 1
      return elements
    }
    while true {
      elements.append(try value(depth: depth))
      skipSpace()
      switch peek() {
      case UInt8(ascii: ","):
        at += 1
        skipSpace()
      case UInt8(ascii: "]"):
        at += 1
        return elements
      default: throw unexpected("',' or ']'")
      }
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
    guard depth <= limits.depth else { throw error(.tooDeep(limit: limits.depth)) }
    at += 1
    var members = JSONObject()
    skipSpace()
    if peek() == UInt8(ascii: "}") {
      at += 1
      return members
    }
    while true {
      let keyAt = at
      guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotes") }
      let key = try string()
      skipSpace()
      guard peek() == UInt8(ascii: ":") else { throw unexpected("':'") }
      at += 1
      skipSpace()
      guard members.insertNew(key, try value(depth: depth)) else {
        throw error(.duplicateKey(key), at: keyAt)
      }
      skipSpace()
      switch peek() {
      case UInt8(ascii: ","):
        at += 1
        skipSpace()
      case UInt8(ascii: "}"):
        at += 1
        return members
      default: throw unexpected("',' or '}'")
      }
    }
  }

  /// integer = -? (0 | [1-9][0-9]*); then optionally a fraction and an exponent.
  private mutating func number() throws(JSONError) -> JSON {
    let start = at
    let negative = peek() == UInt8(ascii: "-")
    if negative { at += 1 }
    let digitsAt = at
    var magnitude: UInt64 = 0
    var fits = true
    while let digit = digit() {
      let (times, over1) = magnitude.multipliedReportingOverflow(by: 10)
      let (sum, over2) = times.addingReportingOverflow(UInt64(digit))
      fits = fits && !over1 && !over2
      magnitude = sum
      at += 1
    }
    let digits = at - digitsAt
    guard digits > 0, digits == 1 || bytes[digitsAt] != UInt8(ascii: "0") else {
      throw error(.badNumber, at: start)
    }
    var isInteger = true
    if peek() == UInt8(ascii: ".") {
      isInteger = false
      at += 1
      try digitRun(start)
    }
    if let mark = peek(), mark | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      at += 1
      if let sign = peek(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { at += 1 }
      try digitRun(start)
    }
    if isInteger && fits {
      if negative {
        if magnitude <= UInt64(Int64.max) + 1 {
          return .integer(Int64(truncatingIfNeeded: 0 &- magnitude))
        }
      } else if let value = Int64(exactly: magnitude) {
        return .integer(value)
      }
    }
    // The standard library's reader: exact, and blind to the process's locale.
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    guard let value = Double(text), value.isFinite else { throw error(.numberTooLarge, at: start) }
    return .number(value)
  }

  private mutating func digitRun(_ start: Int) throws(JSONError) {
    guard digit() != nil else { throw error(.badNumber, at: start) }
    while digit() != nil { at += 1 }
  }

  // MARK: - Strings

  private mutating func string() throws(JSONError) -> String {
    let start = at + 1
    at = plainEnd(start)
    guard at < bytes.count else { throw error(.endOfInput(expected: "'\"'")) }
    switch bytes[at] {
    case UInt8(ascii: "\""):
      let text = try validated(bytes[start..<at], at: start)
      at += 1
      return text
    case UInt8(ascii: "\\"): return try escapedString(from: start)
    case let byte: throw error(.controlCharacter(byte))
    }
  }

  /// The next quote, backslash or control character from `start` on, or the end: eight bytes at a
  /// time, for most of a text is none of them.
  @inline(__always) private func plainEnd(_ start: Int) -> Int {
    let (ones, tops): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
    var at = start
    while at + 8 <= bytes.count {
      let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
      let quotes = word ^ (ones &* 0x22)
      let slashes = word ^ (ones &* 0x5C)
      // A byte's top bit is set where the subtraction borrowed; borrowing from the next byte can set
      // only bits above the first true one.
      let found =
        ((word &- ones &* 0x20) & ~word | (quotes &- ones) & ~quotes | (slashes &- ones) & ~slashes)
        & tops
      if found != 0 { return at + found.trailingZeroBitCount >> 3 }
      at += 8
    }
    while at < bytes.count {
      let byte = bytes[at]
      if byte == 0x22 || byte == 0x5C || byte < 0x20 { break }
      at += 1
    }
    return at
  }

  /// The rest of a string that has an escape at `at`; its beginning is at `start`.
  private mutating func escapedString(from start: Int) throws(JSONError) -> String {
    unescaped.removeAll(keepingCapacity: true)
    unescaped.append(contentsOf: bytes[start..<at])
    while at < bytes.count {
      let byte = bytes[at]
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: unescaped, as: UTF8.self) else {
          let bad = firstInvalidUTF8(bytes[start..<at]) ?? 0
          throw error(.notUTF8, at: start + bad)
        }
        at += 1
        return text
      case UInt8(ascii: "\\"): try escape()
      case 0..<0x20: throw error(.controlCharacter(byte))
      default:
        let end = plainEnd(at)
        unescaped.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[at..<end]))
        at = end
      }
    }
    throw error(.endOfInput(expected: "'\"'"))
  }

  private mutating func escape() throws(JSONError) {
    let start = at
    guard at + 1 < bytes.count else {
      at = bytes.count
      throw error(.endOfInput(expected: "an escape"))
    }
    let letter = bytes[at + 1]
    at += 2
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): unescaped.append(letter)
    case UInt8(ascii: "b"): unescaped.append(0x08)
    case UInt8(ascii: "f"): unescaped.append(0x0C)
    case UInt8(ascii: "n"): unescaped.append(0x0A)
    case UInt8(ascii: "r"): unescaped.append(0x0D)
    case UInt8(ascii: "t"): unescaped.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexQuad(start)
      if (0xD800..<0xE000).contains(code) {
        guard code < 0xDC00, at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"),
          bytes[at + 1] == UInt8(ascii: "u")
        else { throw error(.loneSurrogate, at: start) }
        at += 2
        let low = try hexQuad(start)
        guard (0xDC00..<0xE000).contains(low) else { throw error(.loneSurrogate, at: start) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error(.loneSurrogate, at: start) }
      unescaped.append(contentsOf: UTF8.encode(scalar)!)
    default: throw error(.badEscape, at: start)
    }
  }

  private mutating func hexQuad(_ start: Int) throws(JSONError) -> UInt32 {
    guard bytes.count - at >= 4 else { throw error(.badEscape, at: start) }
    var code: UInt32 = 0
    for _ in 0..<4 {
      let byte = bytes[at]
      let nibble: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): nibble = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): nibble = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): nibble = byte - UInt8(ascii: "A") + 10
      default: throw error(.badEscape, at: start)
      }
      code = code << 4 | UInt32(nibble)
      at += 1
    }
    return code
  }

  private func validated(_ slice: Slice<UnsafeRawBufferPointer>, at start: Int) throws(JSONError)
    -> String
  {
    if let text = String(validating: UnsafeRawBufferPointer(rebasing: slice), as: UTF8.self) {
      return text
    }
    throw error(.notUTF8, at: start + (firstInvalidUTF8(slice) ?? 0))
  }

  // MARK: - Bytes

  @inline(__always) private func peek() -> UInt8? { at < bytes.count ? bytes[at] : nil }

  @inline(__always) private func digit() -> UInt8? {
    guard at < bytes.count else { return nil }
    let value = bytes[at] &- UInt8(ascii: "0")
    return value < 10 ? value : nil
  }

  @inline(__always) private mutating func skipSpace() {
    while at < bytes.count {
      let byte = bytes[at]
      guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
      at += 1
    }
  }

  private mutating func consume(_ word: StaticString) -> Bool {
    guard bytes.count - at >= word.utf8CodeUnitCount else { return false }
    for i in 0..<word.utf8CodeUnitCount where bytes[at + i] != word.utf8Start[i] { return false }
    at += word.utf8CodeUnitCount
    return true
  }

  // MARK: - Errors

  private func error(_ reason: JSONError.Reason, at offset: Int? = nil) -> JSONError {
    let offset = offset ?? at
    var line = 1
    for byte in bytes[..<min(offset, bytes.count)] where byte == 0x0A { line += 1 }
    return JSONError(reason: reason, source: source, offset: offset, line: line)
  }

  private func unexpected(_ expected: String) -> JSONError {
    at < bytes.count
      ? error(.unexpected(found: found(), expected: expected))
      : error(.endOfInput(expected: expected))
  }

  /// What stands at `at`, for a message.
  private func found() -> String {
    let end = min(at + 12, bytes.count)
    var word: [UInt8] = []
    for byte in bytes[at..<end] {
      guard byte > 0x20, byte < 0x7F else { break }
      word.append(byte)
      if word.count == 1 && !isLetter(byte) { break }
      if word.count > 1 && !isLetter(byte) {
        word.removeLast()
        break
      }
    }
    if word.isEmpty { return "byte 0x" + String(bytes[at], radix: 16) }
    return "'" + String(decoding: word, as: UTF8.self) + "'"
  }

  private func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }
}
