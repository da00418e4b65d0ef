// SPDX-License-Identifier: Apache-2.0

/// Questions about single words, answered from memory.
extension QuestionTask {
  static let opposite = QuestionTask(name: "opposite", weight: 6) { dice in
    let pair = dice.pick(Lexicon.opposites)
    let (word, answer) = dice.chance(0.5) ? pair : (pair.1, pair.0)
    return Question(
      task: "opposite", key: word,
      text: dice.pick(["What is the opposite of \(word)?", "Tell me the opposite of \(word)."]),
      answer: answer)
  }

  static let plural = QuestionTask(name: "plural", weight: 6) { dice in
    let (one, many) = dice.pick(Lexicon.plurals)
    return Question(
      task: "plural", key: one,
      text: dice.pick(["What is the plural of \(one)?", "Tell me the plural of \(one)."]),
      answer: many)
  }

  static let kind = QuestionTask(name: "kind", weight: 6) { dice in
    let (word, kind) = dice.pick(Lexicon.kinds)
    return Question(
      task: "kind", key: word,
      text: dice.pick(["What is \(word)?", "What does the word \(word) name?"]),
      answer: Lexicon.article(kind))
  }

  static let letter = QuestionTask(name: "letter", weight: 6) { dice in
    let word = dice.pick(Lexicon.listWords)
    let first = dice.chance(0.5)
    return Question(
      task: "letter", key: "\(word)\(first)",
      text: "What is the \(first ? "first" : "last") letter of \(word)?",
      answer: String(first ? word.prefix(1) : word.suffix(1)))
  }
}
