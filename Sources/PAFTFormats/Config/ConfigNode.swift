// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// A node of a configuration file: the tree of a YAML text with the line of every node, so that an
/// error about a value can say where it stands. Scalars stay text until someone asks for a type,
/// which is why `1e-5`, `.5`, `no` and `off` mean what the asker expects and nothing is guessed.
package struct ConfigNode: Sendable {
  package enum Value: Sendable {
    /// `plain` is false for quoted and block scalars: those are never null.
    case scalar(String, plain: Bool)
    case sequence([ConfigNode])
    case mapping([Entry])
  }

  package struct Entry: Sendable {
    package var key: String
    package var keyLine: Int
    package var value: ConfigNode
  }

  package var value: Value
  /// Counted from 1.
  package var line: Int
  /// File name, or what stands for it.
  package var source: String
  /// Where in the tree: `merge.weights.sft`, `models[1].parameters`; empty at the root.
  package var path: String

  package init(value: Value, line: Int, source: String, path: String) {
    self.value = value
    self.line = line
    self.source = source
    self.path = path
  }
}

// MARK: - Structure

extension ConfigNode {
  /// The member of a mapping; nil for absent keys and other kinds.
  package subscript(key: String) -> ConfigNode? {
    guard case .mapping(let entries) = value else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// Keys in file order; empty for other kinds.
  package var keys: [String] {
    guard case .mapping(let entries) = value else { return [] }
    return entries.map(\.key)
  }

  package var isMapping: Bool { if case .mapping = value { true } else { false } }
  package var isSequence: Bool { if case .sequence = value { true } else { false } }
  package var isScalar: Bool { if case .scalar = value { true } else { false } }

  /// Nothing, `~` or `null`, not in quotes.
  package var isNull: Bool {
    guard case .scalar(let text, plain: true) = value else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  package func entries() throws(ConfigError) -> [Entry] {
    guard case .mapping(let entries) = value else { throw error("expected a mapping") }
    return entries
  }

  package func elements() throws(ConfigError) -> [ConfigNode] {
    guard case .sequence(let nodes) = value else { throw error("expected a list") }
    return nodes
  }

  /// The member, or an error that names what is missing.
  package func required(_ key: String) throws(ConfigError) -> ConfigNode {
    if let node = self[key], !node.isNull { return node }
    _ = try entries()
    throw error("no key '\(key)', which is required")
  }

  /// Refuses keys that are not among `known`, naming the nearest.
  package func check(known: [String]) throws(ConfigError) {
    for entry in try entries() where !known.contains(entry.key) {
      throw ConfigError(
        source: source, line: entry.keyLine, path: path, what: "unknown key \(quoted(entry.key))",
        hint: nearest(to: entry.key, in: known).map { "did you mean '\($0)'?" }
          ?? "known keys: \(known.joined(separator: ", "))")
    }
  }
}

// MARK: - Scalars as types

extension ConfigNode {
  package func string() throws(ConfigError) -> String {
    guard case .scalar(let text, _) = value, !isNull else { throw error("expected text") }
    return text
  }

  package func bool() throws(ConfigError) -> Bool {
    switch try string() {
    case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return true
    case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return false
    default: throw error("expected true or false")
    }
  }

  package func int(in range: ClosedRange<Int> = Int.min...Int.max) throws(ConfigError) -> Int {
    let text = try string()
    // 1e3 is a whole number to the person who wrote it.
    guard let number = Int(text) ?? Self.number(text).flatMap({ Int(exactly: $0) }) else {
      throw error("expected a whole number")
    }
    guard range.contains(number) else {
      if range.upperBound == .max { throw error("expected at least \(range.lowerBound)") }
      throw error("expected \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A finite number; `1e-5`, `1E-5`, `.5`, `5.`, `+3` are numbers, `.nan` and `.inf` are not.
  package func double() throws(ConfigError) -> Double {
    guard let number = Self.number(try string()) else { throw error("expected a number") }
    return number
  }

  package func double(in range: ClosedRange<Double>) throws(ConfigError) -> Double {
    let number = try double()
    guard range.contains(number) else {
      throw error("expected \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// One of the given words, case-sensitive.
  package func choice(_ words: [String]) throws(ConfigError) -> String {
    let text = try string()
    guard words.contains(text) else {
      throw error(
        "expected one of \(words.joined(separator: ", "))",
        hint: nearest(to: text, in: words).map { "did you mean '\($0)'?" })
    }
    return text
  }

  package func choice<T: RawRepresentable & CaseIterable>(_: T.Type) throws(ConfigError) -> T
  where T.RawValue == String {
    T(rawValue: try choice(T.allCases.map(\.rawValue)))!
  }

  private static func number(_ text: String) -> Double? {
    let digits = text.utf8.contains { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    // Only decimal spelling: Swift's reader alone would take "0x10", "inf" and "nan" too.
    let plain = text.utf8.allSatisfy {
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "+-.eE".utf8.contains($0)
    }
    guard digits, plain, let number = Double(text.hasPrefix("+") ? String(text.dropFirst()) : text),
      number.isFinite
    else { return nil }
    return number
  }
}

// MARK: - Errors

/// What is wrong with a configuration, and where. Exit code 78.
package struct ConfigError: Diagnosable, Equatable {
  package let source: String
  package let line: Int
  package let path: String
  package let what: String
  package let hint: String?

  package init(source: String, line: Int, path: String = "", what: String, hint: String? = nil) {
    self.source = source
    self.line = line
    self.path = path
    self.what = what
    self.hint = hint
  }

  package var message: String {
    // An option has only one line, and mostly names the path itself.
    let isOption = source.hasPrefix("--")
    let names = path.isEmpty || isOption && source.hasSuffix(" " + path)
    return source + (isOption ? ": " : " line \(line): ") + (names ? "" : path + ": ") + what
  }
  package var exitCode: ExitCode { .configuration }
}

extension ConfigNode {
  /// An error about this node: found what stands here, expected what `problem` says.
  package func error(_ problem: String, hint: String? = nil) -> ConfigError {
    let found: String
    switch value {
    case .scalar where isNull: found = "nothing"
    case .scalar(let text, _): found = quoted(text, limit: 60)
    case .sequence: found = "a list"
    case .mapping: found = "a mapping"
    }
    let what = problem.hasPrefix("expected") ? "found \(found), \(problem)" : problem
    return ConfigError(source: source, line: line, path: path, what: what, hint: hint)
  }
}
