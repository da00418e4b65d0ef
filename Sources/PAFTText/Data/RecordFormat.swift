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
  case shareGPTPreference
  case implicitPreference
  case messages
  case shareGPT
  case instruction
  case completion
  case text

  var keys: [String] {
    switch self {
    case .preferenceTokens: ["prompt_input_ids", "chosen_input_ids", "rejected_input_ids"]
    case .tokens: ["input_ids"]
    case .preference: ["prompt", "chosen", "rejected"]
    case .instructionPreference: ["instruction", "chosen", "rejected"]
    case .shareGPTPreference: ["conversations", "chosen", "rejected"]
    case .implicitPreference: ["chosen", "rejected"]
    case .messages: ["messages"]
    case .shareGPT: ["conversations"]
    case .instruction: ["instruction", "output"]
    case .completion: ["prompt", "completion"]
    case .text: ["text"]
    }
  }

  /// Keys that may stand beside the others and mean something.
  private var optionalKeys: [String] {
    switch self {
    case .tokens: ["labels"]
    case .instruction, .instructionPreference: ["input", "system", "history"]
    case .messages: ["tools"]
    case .shareGPT: ["system", "tools"]
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
    for (format, keys) in table where keys.allSatisfy({ row.json.position(of: $0) != nil }) {
      return try format.record(row)
    }
    throw unknown(row)
  }

  /// Every row is held against it.
  private static let table = allCases.map { (format: $0, keys: $0.keys) }

  private func record(_ row: Component) throws(Fault) -> Record {
    switch self {
    case .text:
      let text = try row.text("text")
      guard !text.isEmpty else { throw row.empty("text") }
      return .text(text)
    case .completion:
      if row.member("prompt")?.array != nil || row.member("completion")?.array != nil {
        return try conversation("completion", row)
      }
      let prompt = try row.text("prompt")
      let text = try row.text("completion")
      guard let label = row.member("label") else {
        return try completion(prompt, text, "completion", row)
      }
      guard !text.isEmpty else { throw row.empty("completion") }
      return .unpaired(prompt: prompt, completion: text, label: try Self.verdict(label, row))
    case .instruction:
      if let before = try earlierTurns(row) {
        let answer = try row.text("output")
        guard !answer.isEmpty else { throw row.empty("output") }
        return .chatCompletion(
          prompt: before, completion: [["role": "assistant", "content": .string(answer)]])
      }
      return try completion(try instructionPrompt(row), try row.text("output"), "output", row)
    case .preference:
      if ["prompt", "chosen", "rejected"].contains(where: { row.member($0)?.array != nil }) {
        return try chatPreference(row)
      }
      return try pair(try row.text("prompt"), row)
    case .instructionPreference:
      if let before = try earlierTurns(row) {
        let (chosen, rejected) = (try row.text("chosen"), try row.text("rejected"))
        if chosen.isEmpty { throw row.empty("chosen") }
        if rejected.isEmpty { throw row.empty("rejected") }
        return .chatPreference(
          prompt: before, chosen: [["role": "assistant", "content": .string(chosen)]],
          rejected: [["role": "assistant", "content": .string(rejected)]])
      }
      return try pair(try instructionPrompt(row), row)
    case .shareGPTPreference: return try chatPreference(row, prompt: "conversations")
    case .implicitPreference:
      if row.member("chosen")?.array != nil || row.member("rejected")?.array != nil {
        return try implicitChat(row, asked: nil)
      }
      let (prompt, chosen, rejected) = Self.commonPrompt(
        try row.text("chosen"), try row.text("rejected"))
      return try Self.checked(prompt, chosen, rejected, row)
    case .messages, .shareGPT:
      let key = keys[0]
      let whole = try Self.turns(key, row)
      try MessageReader.requireAnswers(whole.messages, key, row.place)
      return .conversation(whole)
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

  private static func unknown(_ row: Component) -> Fault {
    let found = row.json.keys
    let expected = allCases.map { "{" + $0.keys.joined(separator: ", ") + "}" }
      .joined(separator: ", ")
    return Fault(
      .data, "\(row.place): found keys \(list(found)); expected one of \(expected)",
      hint: hint(found))
  }

  /// The format that misses the fewest keys, and what to rename for it.
  private static func hint(_ found: [String]) -> String? {
    let common = [
      "question": "prompt", "query": "prompt", "answer": "completion", "response": "completion",
      "story": "text", "content": "text", "accepted": "chosen", "document": "text",
      "conversation": "conversations", "dialog": "messages", "dialogue": "messages",
      "turns": "messages", "chat": "messages",
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

// MARK: - Conversations

extension RecordFormat {
  /// A list of messages with what stands beside it: a system prompt, tools, arguments.
  static func turns(_ key: String, _ row: Component) throws(Fault) -> Conversation {
    var messages = try MessageReader.messages(row.json[key] ?? .null, key, row.place)
    if let system = try row.optionalString("system"), !system.isEmpty,
      messages.first?["role"]?.string != "system"
    {
      messages.insert(["role": "system", "content": .string(system)], at: 0)
    }
    return try dressed(messages, row)
  }

  private static func dressed(_ messages: [JSON], _ row: Component) throws(Fault) -> Conversation {
    var arguments = JSONObject()
    if let given = row.member("chat_template_kwargs") {
      guard let object = given.object else {
        throw Fault(
          .data, "\(row.place): 'chat_template_kwargs' is \(given.kind), expected an object")
      }
      arguments = object
    }
    return Conversation(
      messages, tools: try MessageReader.tools(row.json, row.place), arguments: arguments)
  }

  private func conversation(_ key: String, _ row: Component) throws(Fault) -> Record {
    let prompt = try Self.turns("prompt", row)
    let answer = try MessageReader.messages(row.json[key] ?? .null, key, row.place)
    try MessageReader.requireAnswers(answer, key, row.place)
    guard let label = row.member("label") else {
      return .chatCompletion(prompt: prompt, completion: answer)
    }
    return .chatUnpaired(
      prompt: prompt, completion: answer, label: try Self.verdict(label, row))
  }

  private static func verdict(_ label: JSON, _ row: Component) throws(Fault) -> Bool {
    if let value = label.bool { return value }
    if let value = label.int, value == 0 || value == 1 { return value == 1 }
    throw Fault(.data, "\(row.place): 'label' is \(label.kind), expected true or false")
  }

  private func chatPreference(
    _ row: Component, prompt key: String = "prompt"
  ) throws(Fault) -> Record {
    // Some sets repeat the whole conversation in both answers beside the text of the question.
    if let question = row.json[key]?.string { return try implicitChat(row, asked: question) }
    let prompt = try Self.turns(key, row)
    let chosen = try MessageReader.messages(row.json["chosen"] ?? .null, "chosen", row.place)
    let rejected = try MessageReader.messages(row.json["rejected"] ?? .null, "rejected", row.place)
    try MessageReader.requireAnswers(chosen, "chosen", row.place)
    try MessageReader.requireAnswers(rejected, "rejected", row.place)
    return .chatPreference(prompt: prompt, chosen: chosen, rejected: rejected)
  }

  /// A pair whose prompt is the longest common beginning of its messages (TRL's `extract_prompt`);
  /// of two equal conversations all but the last message.
  private func implicitChat(_ row: Component, asked: String?) throws(Fault) -> Record {
    let chosen = try MessageReader.messages(row.json["chosen"] ?? .null, "chosen", row.place)
    let rejected = try MessageReader.messages(row.json["rejected"] ?? .null, "rejected", row.place)
    try MessageReader.requireAnswers(chosen, "chosen", row.place)
    try MessageReader.requireAnswers(rejected, "rejected", row.place)
    let most = min(chosen.count, rejected.count) - 1
    let shared = min(most, zip(chosen, rejected).prefix { $0 == $1 }.count)
    var prompt = Array(chosen[..<shared])
    if prompt.isEmpty, let asked { prompt = [["role": "user", "content": .string(asked)]] }
    guard !prompt.isEmpty else {
      throw Fault(
        .data,
        "\(row.place): 'chosen' and 'rejected' begin with different messages, expected a prompt "
          + "that they share", hint: "give the messages before the answers under 'prompt'")
    }
    return .chatPreference(
      prompt: try Self.dressed(prompt, row), chosen: Array(chosen[shared...]),
      rejected: Array(rejected[shared...]))
  }

  /// The conversation that an instruction with `system` or `history` continues: nil where there is
  /// neither, and the row is an instruction of the Alpaca kind.
  private func earlierTurns(_ row: Component) throws(Fault) -> Conversation? {
    let system = try row.optionalString("system") ?? ""
    let history = row.member("history")?.array ?? []
    if system.isEmpty && history.isEmpty { return nil }
    var messages: [JSON] = []
    if !system.isEmpty { messages.append(["role": "system", "content": .string(system)]) }
    for (index, turn) in history.enumerated() {
      guard let pair = turn.array, pair.count == 2, let asked = pair[0].string,
        let answered = pair[1].string
      else {
        throw Fault(
          .data, "\(row.place): history[\(index)] is \(turn.kind), expected [question, answer]")
      }
      messages.append(["role": "user", "content": .string(asked)])
      messages.append(["role": "assistant", "content": .string(answered)])
    }
    let input = try row.optionalString("input") ?? ""
    let asked = try row.text("instruction") + (input.isEmpty ? "" : "\n" + input)
    messages.append(["role": "user", "content": .string(asked)])
    return try Self.dressed(messages, row)
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
