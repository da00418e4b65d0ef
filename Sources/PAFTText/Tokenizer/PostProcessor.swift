// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// The special tokens around a text: the `post_processor` of a tokenizer file, reduced to what it
/// adds before and behind a single sequence.
struct PostProcessor: Sendable {
  private(set) var before: [Int32] = []
  private(set) var behind: [Int32] = []

  private static let known = [
    "TemplateProcessing", "ByteLevel", "Sequence", "RobertaProcessing", "BertProcessing",
  ]

  init() {}

  init(_ component: Component, _ vocabulary: Vocabulary) throws(Fault) {
    switch try component.type() {
    case "ByteLevel": break  // moves offsets only
    case "Sequence":
      for step in try component.components("processors") {
        let step = try PostProcessor(step, vocabulary)
        before = step.before + before
        behind += step.behind
      }
    case "TemplateProcessing": try readTemplate(component, vocabulary)
    case "RobertaProcessing", "BertProcessing":
      before = [try Self.named("cls", component, vocabulary)]
      behind = [try Self.named("sep", component, vocabulary)]
    default: try component.unknown("post_processor", known: Self.known)
    }
  }

  private mutating func readTemplate(
    _ component: Component, _ vocabulary: Vocabulary
  ) throws(Fault) {
    let tokens = try component.component("special_tokens")
    var seenText = false
    for piece in try component.components("single") {
      if let special = try piece.component("SpecialToken") {
        let name = try special.string("id")
        guard let token = try tokens?.component(name), let ids = token.member("ids")?.array else {
          throw Fault(
            .data, "\(piece.place): \(quoted(name)) has no ids in \(component.place).special_tokens"
          )
        }
        for id in ids {
          guard let id = id.int.flatMap({ Int32(exactly: $0) }), vocabulary.token(id) != nil else {
            throw Fault(
              .data, "\(component.place).special_tokens: \(quoted(name)) has an id without a token")
          }
          if seenText { behind.append(id) } else { before.append(id) }
        }
      } else if try piece.component("Sequence") != nil {
        guard !seenText else {
          throw Fault(.data, "\(piece.place): the text appears twice in a single template")
        }
        seenText = true
      } else {
        throw Fault(
          .data,
          "\(piece.place): found keys \(list(piece.json.keys)), expected SpecialToken or Sequence")
      }
    }
    guard seenText else {
      throw Fault(.data, "\(component.place).single: a template without the text (Sequence)")
    }
  }

  /// `"cls": ["<s>", 0]`.
  private static func named(
    _ key: String, _ component: Component, _ vocabulary: Vocabulary
  ) throws(Fault) -> Int32 {
    guard let id = component.member(key)?[1]?.int.flatMap({ Int32(exactly: $0) }),
      vocabulary.token(id) != nil
    else { throw component.missing(key, "[token, id] of a known token") }
    return id
  }
}
