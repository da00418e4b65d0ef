// SPDX-License-Identifier: Apache-2.0

/// The one written form of question and reply. The completion starts with the space, so that a
/// byte-level tokenizer cuts the prompt the same way with and without it.
enum Conversation {
  static func prompt(_ text: String) -> String { "User: \(text)\nHelper:" }
  static func completion(_ text: String) -> String { " " + text }
}
