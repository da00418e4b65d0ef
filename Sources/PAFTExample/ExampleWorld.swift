// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// A small made-up world: towns, people, animals, words and sums, with everything needed to
/// pre-train, instruct, align, merge and grade a model of a million parameters on any machine.
///
/// The corpus states every fact and shows every skill, but conversations in it mostly miss the
/// point; instructions have one checkable answer, in any manner; preferences rank a courteous
/// manner above any other with the same content, right or beside the point. So the two branches learn different
/// things, the two graders measure different things, and a merge can be good at both.
package enum ExampleWorld {
  /// Documents for pre-training. Its conversations never ask a held-out question; its tales and
  /// schoolbook do tell what such a question asks for, a resident's facts in the same words even.
  package static func corpus(seed: UInt64, documents: Int) -> [String] {
    let root = CounterRandom(seed: seed).stream("corpus")
    return (0..<documents).map { index in
      var dice = Dice(root.stream(index))
      switch dice.weighted([15, 40, 28, 17]) {
      case 0: return StoryProse.residents(&dice)
      case 1: return StoryProse.travellers(&dice)
      case 2: return Schoolbook.page(&dice)
      default: return Chatter.exchange(&dice)
      }
    }
  }

  /// Questions with their answers, as if written by many hands: most of them plain,
  /// some in another manner. Training and held-out rows never share a question.
  package static func instructions(seed: UInt64, count: Int, heldOut: Bool) -> [InstructionRow] {
    questions(seed: seed, purpose: "instructions", count: count, heldOut: heldOut).map {
      question, dice in
      var dice = dice
      return InstructionRow(
        prompt: Conversation.prompt(question.text),
        completion: Conversation.completion(
          Manner.any(plain: 80, &dice).dress(question.answer + ".", &dice)),
        task: question.task)
    }
  }

  /// Questions with a courteous and a gruff reply of the same content.
  package static func preferences(seed: UInt64, count: Int, heldOut: Bool) -> [PreferenceRow] {
    questions(seed: seed, purpose: "preferences", count: count, heldOut: heldOut).map {
      question, dice in
      var dice = dice
      let sentence = dice.chance(0.5) ? question.answer + "." : Chatter.beside(&dice)
      let worse: Manner = dice.chance(0.5) ? .gruff : .plain
      return PreferenceRow(
        prompt: Conversation.prompt(question.text),
        chosen: Conversation.completion(Manner.courteous.dress(sentence, &dice)),
        rejected: Conversation.completion(worse.dress(sentence, &dice)))
    }
  }

  /// Whether the answer, its manner taken off, is the row's answer: word for word, except that a
  /// final full stop may be missing.
  package static func isCorrect(_ answer: String, row: InstructionRow) -> Bool {
    withoutFullStop(Manner.undress(answer)) == withoutFullStop(Manner.undress(row.completion))
  }

  /// Whether the answer opens and closes courteously, whatever it says in between.
  package static func isPreferredStyle(_ answer: String) -> Bool {
    let line = Manner.firstLine(answer)
    return Manner.courteous.openings.contains { line.hasPrefix($0) }
      && Manner.courteous.closings.contains { line.hasSuffix($0) }
  }

  private static func withoutFullStop(_ text: String) -> Substring {
    text.hasSuffix(".") ? text.dropLast() : text[...]
  }

  /// Different questions as long as there are any, each with dice of its own.
  private static func questions(
    seed: UInt64, purpose: String, count: Int, heldOut: Bool
  ) -> [(Question, Dice)] {
    let root = CounterRandom(seed: seed).stream(purpose).stream(heldOut ? "held out" : "training")
    var seen: Set<String> = []
    var rows: [(Question, Dice)] = []
    var attempt = 0
    while rows.count < count {
      var dice = Dice(root.stream(attempt))
      attempt += 1
      let question = QuestionTask.draw(&dice, heldOut: heldOut)
      // The closed groups run out of new questions; then a repetition is taken.
      if seen.insert(question.text).inserted || attempt > 8 * count {
        rows.append((question, dice))
      }
    }
    return rows
  }
}
