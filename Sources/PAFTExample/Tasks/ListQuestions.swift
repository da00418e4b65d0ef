// SPDX-License-Identifier: Apache-2.0

/// Questions about a short list of words that stands in the question itself.
extension QuestionTask {
  static let list = QuestionTask(name: "list", weight: 10) { dice in
    let words = dice.pick(3 + dice.roll(3), from: Lexicon.listWords)
    let list = words.joined(separator: ", ")
    let (ask, answer) = dice.pick([
      ("What is the first word of", words[0]),
      ("What is the last word of", words[words.count - 1]),
      ("How many words are in", "\(words.count)"),
      ("Turn around", words.reversed().joined(separator: ", ")),
    ])
    return Question(
      task: "list", key: ask + list, text: "\(ask) this list: \(list).", answer: answer)
  }
}
