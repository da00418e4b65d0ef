// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// A conversation as a model reads it.
package struct EncodedChat: Sendable {
  let bytes: [UInt8]
  package var text: String { String(decoding: bytes, as: UTF8.self) }
  package let ids: [Int32]
  /// Which tokens the template marks as the assistant's; nil where it marks none.
  package let generated: [Bool]?
}

/// Conversation → text → token ids, with one model's templates and tokenizer.
package struct ChatEncoder: Sendable {
  package let templates: ChatTemplates
  package let tokenizer: Tokenizer

  package init(_ templates: ChatTemplates, _ tokenizer: Tokenizer) {
    self.templates = templates
    self.tokenizer = tokenizer
  }

  /// With the templates of the folder that the tokenizer came from.
  ///
  /// - Throws: exit code 78 where the folder has no template; 65 for a damaged one.
  package init(_ tokenizer: Tokenizer) throws(Fault) {
    let folder = tokenizer.folder ?? "the model folder"
    let templates = try ChatTemplates(folder: folder)
    _ = try templates.template()
    self.init(templates, tokenizer)
  }

  package static func render(
    _ conversation: Conversation, _ templates: ChatTemplates, addGenerationPrompt: Bool = false
  ) throws(Fault) -> RenderedChat {
    let tools = conversation.tools.flatMap { $0.isEmpty ? nil : $0 }
    var template = try templates.template(tools: tools != nil)
    for (key, value) in conversation.arguments { template.variables[key] = value }
    return try template.render(
      conversation.messages, tools: tools, addGenerationPrompt: addGenerationPrompt)
  }

  /// - Parameter marking: also say which tokens are the assistant's: an error where the template
  ///   does not.
  package func encode(
    _ conversation: Conversation, addGenerationPrompt: Bool = false, marking: Bool = false
  ) throws(Fault) -> EncodedChat {
    if marking { try requireMarks(conversation) }
    let chat = try Self.render(
      conversation, templates, addGenerationPrompt: addGenerationPrompt)
    let (ids, parts) = try tokenizer.encode(chat: chat.bytes, data: chat.dataRanges)
    guard marking else { return EncodedChat(bytes: chat.bytes, ids: ids, generated: nil) }
    let ranges = conversation.hasWeights ? Self.weighed(chat, conversation) : chat.generationRanges
    return EncodedChat(
      bytes: chat.bytes, ids: ids, generated: mark(ranges, chat.bytes, ids, parts))
  }

  private func requireMarks(_ conversation: Conversation) throws(Fault) {
    let template = try templates.template(tools: conversation.tools?.isEmpty == false)
    guard template.marksGeneration else {
      throw Fault(
        .configuration,
        "\(template.file): the chat template does not mark what the assistant writes "
          + "({% generation %}), which training on its turns alone needs",
        hint: "use the model's *_training template of TRL as chat_template.jinja, or rows of "
          + "{prompt, completion} messages")
    }
  }

  /// The marked ranges without those of messages of weight 0. A range belongs to the message that
  /// the first text in it came from.
  private static func weighed(_ chat: RenderedChat, _ conversation: Conversation) -> [Range<Int>] {
    chat.generationRanges.filter { range in
      guard let origin = chat.origins.first(where: { $0.range.overlaps(range) }),
        origin.message < conversation.messages.count
      else { return true }
      return conversation.messages[origin.message]["weight"]?.double != 0
    }
  }

  /// Tokens that hold a byte of one of `ranges`, as transformers marks them: a token across the
  /// border belongs to the assistant.
  private func mark(
    _ ranges: [Range<Int>], _ text: [UInt8], _ ids: [Int32], _ parts: [TokenizedPart]
  ) -> [Bool] {
    var marks = Array(repeating: false, count: ids.count)
    for part in parts {
      let touching = ranges.filter { $0.overlaps(part.bytes) }
      if touching.isEmpty { continue }
      if touching.contains(where: {
        $0.lowerBound <= part.bytes.lowerBound && $0.upperBound >= part.bytes.upperBound
      }) {
        for at in part.ids { marks[at] = true }
        continue
      }
      let own = Array(ids[part.ids])
      let bytes = Array(text[part.bytes])
      if let spans = spans(of: own, bytes) {
        for (at, span) in zip(part.ids, spans)
        where touching.contains(where: { $0.overlaps(span.shifted(by: part.bytes.lowerBound)) }) {
          marks[at] = true
        }
      } else {
        for range in touching {
          let inner = range.clamped(to: part.bytes).shifted(by: -part.bytes.lowerBound)
          let first = border(own, bytes[..<inner.lowerBound]).whole
          let last = border(own, bytes[..<inner.upperBound]).touched
          for at in first..<max(first, last) { marks[part.ids.lowerBound + at] = true }
        }
      }
    }
    return marks
  }

  /// The bytes that each token of a stretch of text covers, where the tokens spell it out, perhaps
  /// with a blank in front.
  private func spans(of ids: [Int32], _ text: [UInt8]) -> [Range<Int>]? {
    var spelt: [UInt8] = []
    var ends: [Int] = []
    for id in ids {
      spelt += tokenizer.surface(id) ?? []
      ends.append(spelt.count)
    }
    let lead = spelt.count - text.count
    guard lead == 0 || (lead == 1 && spelt[0] == 0x20), spelt[lead...] == text[...] else {
      return nil
    }
    var start = 0
    return ends.map { end in
      defer { start = max(start, end - lead) }
      return start..<max(start, end - lead)
    }
  }

  /// Where tokens do not spell the text (normalization, unknown characters): how many of `ids` the
  /// beginning alone has too, and how many it reaches into.
  private func border(
    _ ids: [Int32], _ beginning: ArraySlice<UInt8>
  ) -> (whole: Int, touched: Int) {
    let text = String(decoding: beginning, as: UTF8.self)
    let own = (try? tokenizer.encode(text, addSpecialTokens: false, allowSpecial: false)) ?? []
    let shared = zip(ids, own).prefix { $0 == $1 }.count
    return (shared, min(ids.count, own.count > shared ? shared + 1 : shared))
  }
}

extension Range<Int> {
  fileprivate func shifted(by offset: Int) -> Range<Int> {
    lowerBound + offset..<upperBound + offset
  }
}
