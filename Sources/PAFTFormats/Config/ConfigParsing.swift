// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import Yams

extension ConfigNode {
  /// No configuration of ours comes near these; they bound what a hostile one can cost.
  private static let maximumBytes = 4 << 20
  private static let maximumNodes = 200_000
  private static let maximumDepth = 64

  /// Throws `Fault` for the file, `ConfigError` for its contents.
  package static func read(_ path: String) throws -> ConfigNode {
    try parse(FileSystem.text(path, limit: maximumBytes), source: path)
  }

  /// One YAML document. Refused: duplicate keys, keys that are not text, explicit tags, recursive
  /// or exploding aliases, several documents.
  package static func parse(_ text: String, source: String) throws(ConfigError) -> ConfigNode {
    guard text.utf8.count <= maximumBytes else {
      throw ConfigError(source: source, line: 1, what: "more than \(maximumBytes) bytes")
    }
    let root: Node?
    do { root = try Yams.compose(yaml: text) } catch let error as YamlError {
      throw explained(error, source)
    } catch { throw ConfigError(source: source, line: 1, what: "\(error)") }
    guard let root else {
      return ConfigNode(value: .mapping([]), line: 1, source: source, path: "")
    }
    var budget = maximumNodes
    return try convert(root, source, path: "", depth: 0, &budget)
  }

  private static func convert(
    _ node: Node, _ source: String, path: String, depth: Int, _ budget: inout Int
  ) throws(ConfigError) -> ConfigNode {
    let line = node.mark?.line ?? 1
    budget -= 1
    // Aliases were replaced by what they stand for, so a bomb shows as ever more nodes.
    guard budget >= 0 else {
      throw ConfigError(
        source: source, line: line, path: path, what: "more than \(maximumNodes) values",
        hint: "aliases that multiply are refused")
    }
    guard depth <= maximumDepth else {
      throw ConfigError(
        source: source, line: line, path: path, what: "nested more than \(maximumDepth) levels deep"
      )
    }
    let value: Value
    switch node {
    case .scalar(let scalar):
      value = .scalar(scalar.string, plain: scalar.style == .plain || scalar.style == .any)
    case .sequence(let sequence):
      var nodes: [ConfigNode] = []
      for (i, element) in sequence.enumerated() {
        nodes.append(try convert(element, source, path: "\(path)[\(i)]", depth: depth + 1, &budget))
      }
      value = .sequence(nodes)
    case .mapping(let mapping):
      var entries: [Entry] = []
      var seen: Set<ByteKey> = []
      for (key, element) in mapping {
        guard case .scalar(let scalar) = key else {
          throw ConfigError(
            source: source, line: key.mark?.line ?? line, path: path, what: "a key is not text")
        }
        let name = scalar.string
        guard seen.insert(ByteKey(name)).inserted else {
          throw ConfigError(
            source: source, line: key.mark?.line ?? line, path: path,
            what: "duplicate key \(quoted(name))")
        }
        let member = try convert(
          element, source, path: path.isEmpty ? name : path + "." + name, depth: depth + 1, &budget)
        entries.append(Entry(key: name, keyLine: key.mark?.line ?? line, value: member))
      }
      value = .mapping(entries)
    case .alias(let alias):
      throw ConfigError(
        source: source, line: alias.mark?.line ?? line, path: path, what: "unresolved alias")
    }
    return ConfigNode(value: value, line: line, source: source, path: path)
  }

  private static func explained(_ error: YamlError, _ source: String) -> ConfigError {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      let tab = problem.contains("cannot start any token")
      return ConfigError(
        source: source, line: mark.line, what: "not YAML: \(problem)",
        hint: tab ? "YAML is indented by spaces, never tabs" : nil)
    case .duplicatedKeysInMapping(let keys, let context):
      return ConfigError(
        source: source, line: context.mark.line,
        what: "duplicate key \(keys.map { quoted($0) }.sorted().joined(separator: ", "))")
    case .reader(let problem, let offset, _, let text):
      let before = text.utf8.prefix(max(0, offset ?? 0))
      let line = before.reduce(1) { $1 == 0x0A ? $0 + 1 : $0 }
      return ConfigError(source: source, line: line, what: "not YAML: \(problem)")
    default:
      let text = "\(error)".split(separator: "\n").joined(separator: " ")
      return ConfigError(source: source, line: 1, what: "not YAML: \(text)")
    }
  }
}
