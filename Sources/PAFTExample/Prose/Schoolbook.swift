// SPDX-License-Identifier: Apache-2.0

/// Lines as from an old schoolbook: what the questions ask for, stated but never asked.
enum Schoolbook {
  static func page(_ dice: inout Dice) -> String {
    let lesson = dice.pick([sums, ages, opposites, plurals, kinds, letters, lists])
    return (0..<(3 + dice.roll(3))).map { _ in lesson(&dice) }.joined(separator: "\n")
  }

  private static func sums(_ dice: inout Dice) -> String {
    let total = dice.roll(21)
    let part = dice.roll(total + 1)
    return dice.chance(0.5)
      ? "\(part) plus \(total - part) is \(total)." : "\(total) minus \(part) is \(total - part)."
  }

  private static func ages(_ dice: inout Dice) -> String {
    let names = dice.pick(2, from: Lexicon.travellerNames)
    let ages = dice.pick(2, from: Array(2...20))
    let (older, younger) = ages[0] > ages[1] ? (names[0], names[1]) : (names[1], names[0])
    return "\(names[0]) is \(ages[0]) years old. \(names[1]) is \(ages[1]) years old. "
      + (dice.chance(0.5) ? "The older one is \(older)." : "The younger one is \(younger).")
  }

  private static func opposites(_ dice: inout Dice) -> String {
    let (a, b) = dice.pick(Lexicon.opposites)
    return dice.chance(0.5) ? "The opposite of \(a) is \(b)." : "The opposite of \(b) is \(a)."
  }

  private static func plurals(_ dice: inout Dice) -> String {
    let (one, many) = dice.pick(Lexicon.plurals)
    return dice.pick(["The plural of \(one) is \(many).", "One \(one), many \(many)."])
  }

  private static func kinds(_ dice: inout Dice) -> String {
    let (word, kind) = dice.pick(Lexicon.kinds)
    let one = Lexicon.article(kind)
    return dice.pick(["The word \(word) names \(one).", "What we call \(word) is \(one)."])
  }

  private static func letters(_ dice: inout Dice) -> String {
    let word = dice.pick(Lexicon.listWords)
    return dice.chance(0.5)
      ? "The first letter of \(word) is \(word.prefix(1))."
      : "The last letter of \(word) is \(word.suffix(1))."
  }

  private static func lists(_ dice: inout Dice) -> String {
    let words = dice.pick(3 + dice.roll(3), from: Lexicon.listWords)
    return "A list: \(words.joined(separator: ", ")). "
      + dice.pick([
        "Its first word is \(words[0]).", "Its last word is \(words[words.count - 1]).",
        "It has \(words.count) words.",
        "Turned around it is: \(words.reversed().joined(separator: ", ")).",
      ])
  }
}
