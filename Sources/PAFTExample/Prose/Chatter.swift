// SPDX-License-Identifier: Apache-2.0

/// Talk at the market: somebody asks, somebody replies, in any manner, and mostly beside the point.
/// It gives a base model the shape of a conversation and every manner of speaking, but not the
/// habit of answering; that is what fine-tuning on instructions teaches.
enum Chatter {
  /// How often a reply happens to be the answer.
  private static let answered = 0.2

  static func exchange(_ dice: inout Dice) -> String {
    let question = QuestionTask.draw(&dice, heldOut: false)
    let sentence = dice.chance(answered) ? question.answer + "." : beside(&dice)
    return Conversation.prompt(question.text)
      + Conversation.completion(Manner.any(plain: 50, &dice).dress(sentence, &dice))
  }

  /// A reply that does not answer.
  static func beside(_ dice: inout Dice) -> String {
    let name = dice.pick(Lexicon.residentNames)
    let thing = dice.pick(Lexicon.things)
    let place = dice.pick(Lexicon.places)
    return dice.pick([
      "I have to go to \(place) now.", "You should ask \(name).", "I lost my \(thing) today.",
      "The road to \(place) is long.", "\(name) wants to buy \(Lexicon.article(thing)).",
      "It may rain in \(place).", "I am looking for \(name).", "Have you seen my \(thing)?",
    ])
  }
}
