// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// One thing to ask, with its one right answer.
struct Question {
  /// The group it is reported under.
  let task: String
  /// What is asked, whatever the wording: two questions with the same key are the same question,
  /// and the key alone decides whether it is held out.
  let key: String
  let text: String
  let answer: String

  /// A fifth of all questions, told by their key, is never trained on as an instruction.
  var isHeldOut: Bool { Self.split.stream(task + "/" + key).bits(0) % 5 == 0 }

  private static let split = CounterRandom(seed: 0).stream("held out")
}

/// A group of questions: a name and a way to make one.
struct QuestionTask: Sendable {
  let name: String
  /// How often it is drawn, against the others.
  let weight: Int
  let make: @Sendable (inout Dice) -> Question

  static let all: [QuestionTask] = [
    .story, .age, .fact, .opposite, .plural, .kind, .letter, .sum, .list,
  ]

  static func draw(_ dice: inout Dice, heldOut: Bool) -> Question {
    let task = all[dice.weighted(all.map(\.weight))]
    while true {
      let question = task.make(&dice)
      if question.isHeldOut == heldOut { return question }
    }
  }
}
