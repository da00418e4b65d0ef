// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// Somebody in the world: one value for each attribute.
struct Person {
  let name: String
  private let values: [Attribute: String]

  subscript(attribute: Attribute) -> String { values[attribute] ?? "" }

  init(name: String, dice: inout Dice) {
    self.name = name
    var values: [Attribute: String] = [:]
    for attribute in Attribute.allCases { values[attribute] = dice.pick(attribute.choices) }
    self.values = values
  }

  /// The people whose attributes are facts of the world, the same for every seed.
  static let residents: [Person] = {
    var dice = Dice(CounterRandom(seed: 0).stream("residents"))
    return Lexicon.residentNames.map { Person(name: $0, dice: &dice) }
  }()

  /// `count` people made up for one story. Their homes, trades, pets and colours all differ, so
  /// that a question about one of them has one answer.
  static func travellers(_ count: Int, _ dice: inout Dice) -> [Person] {
    var people: [Person] = []
    for name in dice.pick(count, from: Lexicon.travellerNames) {
      var person = Person(name: name, dice: &dice)
      while people.contains(where: { other in
        Attribute.allCases.contains { other[$0] == person[$0] }
      }) {
        person = Person(name: name, dice: &dice)
      }
      people.append(person)
    }
    return people
  }
}

/// What can be said of a person, asked about them, and answered.
enum Attribute: CaseIterable {
  case home, trade, pet, colour, food

  var choices: [String] {
    switch self {
    case .home: Lexicon.places
    case .trade: Lexicon.trades
    case .pet: Lexicon.animals
    case .colour: Lexicon.colours
    case .food: Lexicon.foods
    }
  }

  /// One of several ways to say it; a colour is told together with the pet that wears it.
  func statement(_ person: Person, _ dice: inout Dice) -> String {
    let name = person.name
    let value = person[self]
    switch self {
    case .home:
      return dice.pick([
        "\(name) lives in \(value).", "The house of \(name) is in \(value).",
        "\(name) has a home in \(value).",
      ])
    case .trade:
      let one = Lexicon.article(value)
      return dice.pick([
        "\(name) is \(one).", "\(name) works as \(one).", "The trade of \(name) is that of \(one).",
      ])
    case .pet:
      let one = Lexicon.article(value)
      return dice.pick([
        "\(name) keeps \(one).", "\(name) has \(one).", "The pet of \(name) is \(one).",
      ])
    case .colour:
      let one = Lexicon.article(value) + " " + person[.pet]
      return dice.pick([
        "\(name) keeps \(one).", "\(name) has \(one).",
        "The \(person[.pet]) of \(name) is \(value).",
      ])
    case .food:
      return dice.pick([
        "\(name) likes \(value).", "\(name) eats \(value) every day.",
        "The best food for \(name) is \(value).",
      ])
    }
  }

  func question(_ person: Person, _ dice: inout Dice) -> String {
    let name = person.name
    switch self {
    case .home:
      return dice.pick(["Where does \(name) live?", "In which town is the house of \(name)?"])
    case .trade: return dice.pick(["What is the trade of \(name)?", "What does \(name) work as?"])
    case .pet: return dice.pick(["Which animal does \(name) keep?", "What pet does \(name) have?"])
    case .colour:
      return dice.pick([
        "What colour is the \(person[.pet]) of \(name)?", "Which colour has the pet of \(name)?",
      ])
    case .food:
      return dice.pick(["What does \(name) like to eat?", "Which food does \(name) like?"])
    }
  }
}
