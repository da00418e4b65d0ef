// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// Files of conversations to be rendered or answered.
package enum ConversationFile {
  private static let limits = JSONLimits(depth: 64, values: 1 << 24)

  /// One list of messages; one object with `messages` (or `conversations`, or a `prompt` of messages)
  /// and perhaps `tools` and `system`; an array of such objects, or one on each line.
  ///
  /// - Throws: exit code 65 with file and line, 66 if there is no file.
  package static func read(_ path: String) throws(Fault) -> [Conversation] {
    try parse(try FileSystem.read(path, limit: 1 << 28), path: path)
  }

  /// - Parameter path: the name for messages.
  package static func parse(_ bytes: [UInt8], path: String) throws(Fault) -> [Conversation] {
    if let whole = try? JSON.parse(bytes, source: path, limits: limits) {
      guard let items = whole.array, !isMessage(items.first) else {
        return [try conversation(whole, path)]
      }
      guard !items.isEmpty else { throw empty(path) }
      var result: [Conversation] = []
      for (index, item) in items.enumerated() {
        result.append(try conversation(item, "\(path) row \(index + 1)"))
      }
      return result
    }
    var result: [Conversation] = []
    for (index, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
    where line.contains(where: { $0 > 0x20 }) {
      let place = "\(path):\(index + 1)"
      let json = try JSON.parse(line: Array(line), at: place, limits: limits)
      result.append(try conversation(json, place))
    }
    guard !result.isEmpty else { throw empty(path) }
    return result
  }

  private static func empty(_ path: String) -> Fault {
    Fault(.data, "\(path): no messages, expected a list of {role, content}")
  }

  private static func isMessage(_ json: JSON?) -> Bool {
    json?["role"] != nil || json?["from"] != nil
  }

  private static func conversation(_ json: JSON, _ place: String) throws(Fault) -> Conversation {
    if json.array != nil {
      return Conversation(try MessageReader.messages(json, "messages", place))
    }
    guard let row = json.object else {
      throw Fault(.data, "\(place): found \(json.kind), expected messages")
    }
    let known = ["messages", "conversations", "prompt"]
    guard let key = known.first(where: { row[$0] != nil }) else {
      throw Fault(
        .data, "\(place): found keys \(list(row.keys)), expected 'messages'",
        hint: row.keys.compactMap { nearest(to: $0, in: known) }.first.map {
          "did you mean '\($0)'?"
        })
    }
    return try RecordFormat.turns(key, Component(json, place))
  }
}
