// SPDX-License-Identifier: Apache-2.0

/// Tales: residents as they always are, and travellers who are someone else every time.
enum StoryProse {
  /// A page about one or two residents; over many pages every fact is told in every wording.
  static func residents(_ dice: inout Dice) -> String {
    let people = dice.pick(1 + dice.roll(2), from: Person.residents)
    var sentences: [String] = []
    for person in people {
      let told = dice.pick(3 + dice.roll(3), from: Attribute.allCases)
      sentences += told.map { $0.statement(person, &dice) }
      if dice.chance(0.4) { sentences.append(asides(person.name, &dice)) }
      if dice.chance(0.7) { sentences.append(askedAndTold(person, dice.pick(told), &dice)) }
    }
    return sentences.joined(separator: " ")
  }

  /// A tale of strangers that says everything twice, the second time in other words and another
  /// order: whoever wants to predict the second half must look it up in the first.
  static func travellers(_ dice: inout Dice) -> String {
    let people = Person.travellers(dice.chance(0.7) ? 2 : 3, &dice)
    let told = Attribute.toldTogether(&dice)
    let told1 = people.flatMap { person in told.map { $0.statement(person, &dice) } }
    var sentences = dice.chance(0.5) ? told1 : dice.shuffle(told1)
    if dice.chance(0.3) {
      sentences.insert(asides(people[0].name, &dice), at: dice.roll(sentences.count))
    }
    let recalled = dice.shuffle(people.flatMap { person in told.map { (person, $0) } })
    for (person, attribute) in recalled {
      sentences.append(
        dice.chance(0.5)
          ? askedAndTold(person, attribute, &dice) : "Yes. " + attribute.statement(person, &dice))
    }
    return sentences.joined(separator: " ")
  }

  private static func askedAndTold(_ person: Person, _ attribute: Attribute, _ dice: inout Dice)
    -> String
  {
    attribute.question(person, &dice) + " " + attribute.statement(person, &dice)
  }

  private static func asides(_ name: String, _ dice: inout Dice) -> String {
    dice.pick([
      "The rain fell all day.", "It was market day.", "\(name) walked down to the river.",
      "A cold wind came from the hills.", "\(name) sang a song on the road.",
      "The bell rang at noon.",
    ])
  }
}
