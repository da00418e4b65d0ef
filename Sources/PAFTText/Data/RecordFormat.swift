// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// The shapes a row may have, told by its keys; the first that fits is taken, so the more specific
/// ones stand first. Keys beyond those are left alone.
enum RecordFormat: CaseIterable {
  case preferenceTokens
  case tokens
  case preference
  case instructionPreference
  case implicitPreference
  case instruction
  case completion
  case text

  var keys: [String] {
    switch self {
    case .preferenceTokens: ["prompt_input_ids", "chosen_input_ids", "rejected_input_ids"]
    case .tokens: ["input_ids"]
    case .preference: ["prompt", "chosen", "rejected"]
    case .instructionPreference: ["instruction", "chosen", "rejected"]
    case .implicitPreference: ["chosen", "rejected"]
    case .instruction: ["instruction", "output"]
    case .completion: ["prompt", "completion"]
    case .text: ["text"]
    }
  }

  /// Keys that may stand beside the others and mean something.
  private var optionalKeys: [String] {
    switch self {
    case .tokens: ["labels"]
    case .instruction, .instructionPreference: ["input"]
    default: []
    }
  }

  var words: String {
    let optional = optionalKeys.map { "[" + $0 + "]" }
    return "{" + (keys + optional).joined(separator: ", ") + "}"
  }

  /// - Parameter place: "file:line" for messages.
  static func read(_ json: JSON, place: String) throws(Fault) -> Record {
    let row = try Component(json, place)
    try refuseConversations(row)
    guard let format = allCases.first(where: { $0.keys.allSatisfy { row.json[$0] != nil } }) else {
      throw unknown(row)
    }
    return try format.record(row)
  }

  private func record(_ row: Component) throws(Fault) -> Record {
    switch self {
    case .text:
      let text = try row.text("text")
      guard !text.isEmpty else { throw row.empty("text") }
      return .text(text)
    case .completion:
      if row.member("label") != nil {
        throw Fault(
          .data,
          "\(row.place): a completion with a 'label' (unpaired preference), which no "
            + "objective here takes", hint: "pair the rows as {prompt, chosen, rejected}")
      }
      return try completion(try row.text("prompt"), try row.text("completion"), "completion", row)
    case .instruction:
      return try completion(try instructionPrompt(row), try row.text("output"), "output", row)
    case .preference: return try pair(try row.text("prompt"), row)
    case .instructionPreference: return try pair(try instructionPrompt(row), row)
    case .implicitPreference:
      let (prompt, chosen, rejected) = Self.commonPrompt(
        try row.text("chosen"), try row.text("rejected"))
      return try Self.checked(prompt, chosen, rejected, row)
    case .tokens:
      let ids = try row.ids("input_ids")
      guard !ids.isEmpty else { throw row.empty("input_ids") }
      if let mask = row.member("attention_mask") {
        guard let values = mask.array, values.count == ids.count, values.allSatisfy({ $0.int == 1 })
        else {
          throw Fault(
            .data,
            "\(row.place): an attention_mask that is not all 1, expected rows without padding")
        }
      }
      guard row.member("labels") != nil else { return .tokens(ids: ids, labels: ids) }
      let labels = try row.ids("labels", allowIgnored: true)
      guard labels.count == ids.count else {
        throw Fault(
          .data, "\(row.place): \(labels.count) labels for \(ids.count) input_ids, expected as many"
        )
      }
      if let at = labels.indices.first(where: {
        labels[$0] != Record.ignored && labels[$0] != ids[$0]
      }) {
        throw Fault(
          .data,
          "\(row.place): labels[\(at)] is \(labels[at]), expected \(Record.ignored) or the id \(ids[at]) beside it",
          hint: "labels are not shifted: the trainer predicts each from the tokens before it")
      }
      return .tokens(ids: ids, labels: labels)
    case .preferenceTokens:
      let chosen = try row.ids("chosen_input_ids")
      let rejected = try row.ids("rejected_input_ids")
      if chosen.isEmpty { throw row.empty("chosen_input_ids") }
      if rejected.isEmpty { throw row.empty("rejected_input_ids") }
      return .preferenceTokens(
        prompt: try row.ids("prompt_input_ids"), chosen: chosen, rejected: rejected)
    }
  }

  // MARK: - Parts

  private func completion(
    _ prompt: String, _ completion: String, _ key: String, _ row: Component
  ) throws(Fault) -> Record {
    guard !completion.isEmpty else { throw row.empty(key) }
    return .completion(prompt: prompt, completion: completion)
  }

  private func pair(_ prompt: String, _ row: Component) throws(Fault) -> Record {
    try Self.checked(prompt, try row.text("chosen"), try row.text("rejected"), row)
  }

  private static func checked(
    _ prompt: String, _ chosen: String, _ rejected: String, _ row: Component
  ) throws(Fault) -> Record {
    if chosen.isEmpty { throw row.empty("chosen") }
    if rejected.isEmpty { throw row.empty("rejected") }
    return .preference(prompt: prompt, chosen: chosen, rejected: rejected)
  }

  private func instructionPrompt(_ row: Component) throws(Fault) -> String {
    for key in ["system", "history"] {
      guard let value = row.member(key) else { continue }
      if value.string?.isEmpty == true || value.array?.isEmpty == true { continue }
      throw Fault(
        .data,
        "\(row.place): an instruction with a \(quoted(key)): conversations need a chat "
          + "template, not supported yet")
    }
    let input = row.member("input") == nil ? "" : try row.text("input")
    return Alpaca.prompt(instruction: try row.text("instruction"), input: input)
  }

  /// A pair without prompt: the prompt is the longest common beginning, and a blank at its end
  /// belongs to the completions (TRL's `extract_prompt`).
  static func commonPrompt(
    _ chosen: String, _ rejected: String
  ) -> (prompt: String, chosen: String, rejected: String) {
    let a = chosen.unicodeScalars
    let b = rejected.unicodeScalars
    var length = zip(a, b).prefix { $0 == $1 }.count
    if length > 0, a[a.index(a.startIndex, offsetBy: length - 1)] == " " { length -= 1 }
    return (String(a.prefix(length)), String(a.dropFirst(length)), String(b.dropFirst(length)))
  }

  // MARK: - Refusals

  private static func refuseConversations(_ row: Component) throws(Fault) {
    let turns = ["messages", "conversations"].first { row.member($0) != nil }
    let list = ["prompt", "completion", "chosen", "rejected"].first { row.member($0)?.array != nil }
    guard let key = turns ?? list else { return }
    throw Fault(
      .data,
      "\(row.place): \(quoted(key)) holds a conversation: conversations need a chat template, not "
        + "supported yet",
      hint: "render the rows to {prompt, completion} or {prompt, chosen, rejected} first")
  }

  private static func unknown(_ row: Component) -> Fault {
    let found = row.json.keys
    let expected = allCases.map(\.words).joined(separator: ", ")
    return Fault(
      .data, "\(row.place): found keys \(list(found)); expected one of \(expected)",
      hint: hint(found))
  }

  /// The format that misses the fewest keys, and what to rename for it.
  private static func hint(_ found: [String]) -> String? {
    let common = [
      "question": "prompt", "query": "prompt", "answer": "completion", "response": "completion",
      "story": "text", "content": "text", "accepted": "chosen", "document": "text",
    ]
    var best: (score: Int, words: String)?
    for format in allCases {
      let present = format.keys.filter { found.contains($0) }
      var renames: [String] = []
      for key in format.keys where !present.contains(key) {
        let free = found.filter { !format.keys.contains($0) }
        if let near = free.first(where: { common[$0.lowercased()] == key })
          ?? nearest(to: key, in: free)
        {
          renames.append("\(quoted(near)) to '\(key)'")
        }
      }
      let missing = format.keys.count - present.count - renames.count
      let score = 3 * present.count + 2 * renames.count - 4 * missing
      guard present.count + renames.count > 0, score > best?.score ?? Int.min else { continue }
      let lacking = format.keys.filter { !present.contains($0) }.joined(separator: ", ")
      best = (
        score,
        missing > 0
          ? "nearest format \(format.words): \(lacking) missing"
          : "nearest format \(format.words): rename " + renames.joined(separator: " and ")
      )
    }
    return best?.words
  }
}

extension Component {
  /// A string member whose absence was ruled out by the caller; null is an error here.
  fileprivate func text(_ key: String) throws(Fault) -> String {
    guard let value = json[key], let text = value.string else {
      throw Fault(
        .data, "\(place): \(quoted(key)) is \(json[key]?.kind ?? "absent"), expected a string")
    }
    return text
  }

  fileprivate func ids(_ key: String, allowIgnored: Bool = false) throws(Fault) -> [Int32] {
    guard let values = json[key]?.array else {
      throw Fault(
        .data,
        "\(place): \(quoted(key)) is \(json[key]?.kind ?? "absent"), expected an array of integers")
    }
    var ids: [Int32] = []
    ids.reserveCapacity(values.count)
    for (i, value) in values.enumerated() {
      guard let id = value.int.flatMap({ Int32(exactly: $0) }),
        id >= 0 || (allowIgnored && id == Record.ignored)
      else {
        let found = value.int.map(String.init) ?? value.kind
        throw Fault(
          .data,
          "\(place): \(key)[\(i)] is \(found), expected a token id"
            + (allowIgnored ? " or -100" : ""))
      }
      ids.append(id)
    }
    return ids
  }

  fileprivate func empty(_ key: String) -> Fault {
    Fault(.data, "\(place): \(quoted(key)) is empty, there is nothing to train")
  }
}
