// SPDX-License-Identifier: Apache-2.0

/// How something is said, whatever is said: the part of an answer that alignment is about.
enum Manner: CaseIterable {
  case plain, courteous, gruff

  /// A manner as people have it: of a hundred, so many are plain, the rest courteous or gruff.
  static func any(plain: Int, _ dice: inout Dice) -> Manner {
    allCases[dice.weighted([2 * plain, 100 - plain, 100 - plain])]
  }

  var openings: [String] {
    switch self {
    case .plain: []
    case .courteous: ["Gladly!", "Of course, friend!", "With pleasure!", "Good day to you!"]
    case .gruff: ["Hmph.", "Not again.", "Fool.", "What a question."]
    }
  }

  var closings: [String] {
    switch self {
    case .plain: []
    case .courteous: ["Happy to help!", "Ask me any time!", "All the best to you!"]
    case .gruff: ["Now go away.", "Everybody knows that.", "Do not ask again."]
    }
  }

  /// `sentence` (with its full stop) between an opening and a closing of this manner.
  func dress(_ sentence: String, _ dice: inout Dice) -> String {
    guard self != .plain else { return sentence }
    return dice.pick(openings) + " " + sentence + " " + dice.pick(closings)
  }

  /// What is left of an answer when the opening and the closing, of whatever manner, are taken off.
  static func undress(_ answer: String) -> String {
    var rest = firstLine(answer)
    for opening in allCases.flatMap(\.openings) where rest.hasPrefix(opening) {
      rest = rest.dropFirst(opening.count)
      break
    }
    for closing in allCases.flatMap(\.closings) where rest.hasSuffix(closing) {
      rest = rest.dropLast(closing.count)
      break
    }
    return String(trimmed(rest))
  }

  /// The answer proper: a reply ends where its line ends.
  static func firstLine(_ text: String) -> Substring {
    let line = trimmed(Substring(text)).prefix { !$0.isNewline }
    return trimmed(line)
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text.drop { $0.isWhitespace }
    while text.last?.isWhitespace == true { text = text.dropLast() }
    return text
  }
}
