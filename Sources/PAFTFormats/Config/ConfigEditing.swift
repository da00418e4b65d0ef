// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

extension ConfigNode {
  /// Sets one value by its dotted path, as `--set merge.density=0.3` does; the text is YAML, so
  /// lists and mappings in brackets work. Mappings on the way are made when absent.
  package mutating func set(_ keyPath: String, to text: String) throws(ConfigError) {
    let keys = keyPath.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    let label = "--set \(keyPath)"
    guard !keys.contains("") else {
      throw ConfigError(source: label, line: 1, what: "empty name in \(quoted(keyPath))")
    }
    var node = try ConfigNode.parse(text, source: label)
    // An empty text composes to nothing; here it means an empty value.
    if text.allSatisfy(\.isWhitespace) { node.value = .scalar("", plain: true) }
    try set(keys[...], node)
  }

  private mutating func set(_ keys: ArraySlice<String>, _ node: ConfigNode) throws(ConfigError) {
    let key = keys.first!
    let rest = keys.dropFirst()
    let below = path.isEmpty ? key : path + "." + key
    if isNull { value = .mapping([]) }
    guard case .mapping(var entries) = value else {
      throw error("cannot set '\(key)' here, expected a mapping")
    }
    let position = entries.firstIndex { $0.key == key }
    var member =
      position.map { entries[$0].value }
      ?? ConfigNode(value: .mapping([]), line: node.line, source: node.source, path: below)
    if rest.isEmpty { member = node.moved(to: below) } else { try member.set(rest, node) }
    if let position {
      entries[position].value = member
    } else {
      entries.append(Entry(key: key, keyLine: node.line, value: member))
    }
    value = .mapping(entries)
  }

  private func moved(to path: String) -> ConfigNode {
    var copy = self
    copy.path = path
    switch value {
    case .scalar: break
    case .sequence(let nodes):
      copy.value = .sequence(nodes.enumerated().map { $1.moved(to: "\(path)[\($0)]") })
    case .mapping(let entries):
      copy.value = .mapping(
        entries.map {
          Entry(key: $0.key, keyLine: $0.keyLine, value: $0.value.moved(to: "\(path).\($0.key)"))
        })
    }
    return copy
  }

  /// The tree as YAML text, two spaces a level, in the order it has. Strings that could be read as
  /// something else are quoted.
  package func serialized() -> String {
    var out = ""
    write(into: &out, indent: 0, inList: false)
    return out
  }

  private func write(into out: inout String, indent: Int, inList: Bool) {
    let margin = String(repeating: "  ", count: indent)
    switch value {
    case .scalar: out += margin + scalarText + "\n"
    case .sequence(let nodes):
      if nodes.isEmpty { out += margin + "[]\n" }
      for node in nodes {
        if node.isBlock {
          var inner = ""
          node.write(into: &inner, indent: indent + 1, inList: true)
          out += margin + "- " + inner.dropFirst(2 * (indent + 1))
        } else {
          out += margin + "- " + node.inlineText + "\n"
        }
      }
    case .mapping(let entries):
      if entries.isEmpty { out += margin + "{}\n" }
      for entry in entries {
        let key = JSON.string(entry.key).serialized()
        let plainKey = Self.isPlainSafe(entry.key) ? entry.key : key
        if entry.value.isBlock {
          out += margin + plainKey + ":\n"
          entry.value.write(into: &out, indent: indent + 1, inList: false)
        } else {
          out += margin + plainKey + ": " + entry.value.inlineText + "\n"
        }
      }
    }
  }

  /// Needs lines of its own.
  private var isBlock: Bool {
    switch value {
    case .scalar: false
    case .sequence(let nodes): nodes.contains { !$0.isScalar }
    case .mapping(let entries): !entries.isEmpty
    }
  }

  private var inlineText: String {
    switch value {
    case .scalar: scalarText
    case .sequence(let nodes): "[" + nodes.map(\.inlineText).joined(separator: ", ") + "]"
    case .mapping: "{}"
    }
  }

  private var scalarText: String {
    guard case .scalar(let text, let plain) = value else { return "" }
    if plain && isNull { return "null" }
    // A plain scalar without the signs YAML reads as structure stays as it was; all else is quoted
    // as JSON, which YAML includes.
    return plain && Self.isPlainSafe(text) ? text : JSON.string(text).serialized()
  }

  private static func isPlainSafe(_ text: String) -> Bool {
    guard let first = text.utf8.first,
      !"-?:,[]{}#&*!|>'\"%@` ".utf8.contains(first) || isNumber(text)
    else { return false }
    return text.utf8.last != UInt8(ascii: " ") && text.utf8.last != UInt8(ascii: ":")
      && text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F && !",[]{}#:\"".utf8.contains($0) }
  }

  private static func isNumber(_ text: String) -> Bool {
    Double(text) != nil && text.utf8.allSatisfy { "0123456789.+-eE".utf8.contains($0) }
  }
}
