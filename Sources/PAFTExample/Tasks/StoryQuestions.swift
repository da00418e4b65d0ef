// SPDX-License-Identifier: Apache-2.0

/// Questions about people: those of a story told just before, and those everybody knows.
extension QuestionTask {
  /// Two strangers, two things said of each, one of them asked for.
  static let story = QuestionTask(name: "story", weight: 30) { dice in
    let people = Person.travellers(2, &dice)
    let told = Attribute.toldTogether(&dice)
    let sentences = people.flatMap { person in
      told.map { $0.statement(person, &dice) }
    }
    let asked = dice.pick(told)
    let person = dice.pick(people)
    let text = sentences.joined(separator: " ")
    return Question(
      task: "story", key: text + person.name + "\(asked)",
      text: text + " " + asked.question(person, &dice), answer: person[asked])
  }

  /// Two ages; who is older or younger.
  static let age = QuestionTask(name: "age", weight: 10) { dice in
    let names = dice.pick(2, from: Lexicon.travellerNames)
    let ages = dice.pick(2, from: Array(2...20))
    let older = dice.chance(0.5)
    let text = "\(names[0]) is \(ages[0]) years old. \(names[1]) is \(ages[1]) years old."
    return Question(
      task: "age", key: "\(text)\(older)", text: text + " Who is \(older ? "older" : "younger")?",
      answer: (ages[0] > ages[1]) == older ? names[0] : names[1])
  }

  /// What the world's residents are, from memory.
  static let fact = QuestionTask(name: "fact", weight: 15) { dice in
    let person = dice.pick(Person.residents)
    let asked = dice.pick(Attribute.allCases)
    return Question(
      task: "fact", key: person.name + "\(asked)", text: asked.question(person, &dice),
      answer: person[asked])
  }
}

extension Attribute {
  /// Two attributes for one story. Pet and colour never meet: a colour is told with its pet.
  static func toldTogether(_ dice: inout Dice) -> [Attribute] {
    let companion: Attribute = dice.chance(0.5) ? .pet : .colour
    return dice.pick(2, from: [.home, .trade, .food, companion])
  }
}
