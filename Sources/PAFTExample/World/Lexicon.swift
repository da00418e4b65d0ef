// SPDX-License-Identifier: Apache-2.0

/// Every content word of the example world. The lists are short on purpose: a vocabulary of a few
/// hundred tokens then holds most of them whole, and a model of a million parameters can know them.
enum Lexicon {
  static let places = words(
    "Solen Varda Brim Eldon Harrow Kestel Lund Marrow Norwick Orla Pell Tarn")
  static let trades = words(
    "baker miller smith tailor fisher potter weaver painter carpenter farmer singer gardener")
  static let animals = words("owl cat dog fox hen goat duck frog crow pony")
  static let colours = words("red blue green white black brown grey yellow")
  static let foods = words("bread soup cheese honey cake rice plums pears nuts beans")
  static let things = words(
    "rope lamp cup hat book drum knife basket coat bell key spoon box chair")

  /// People whose home, trade, pet and food never change.
  static let residentNames = words(
    """
    Mira Tobin Ana Leo Nora Ivo Selma Otto Greta Hugo Lina Emil Vera Oskar Ida Felix \
    Clara Anton Rosa Jonas Elsa Bruno Marta Karl
    """)

  /// People who are someone else in every story.
  static let travellerNames = words(
    """
    Kai Dina Milo Yara Rolf Zita Theo Luna Omar Petra Finn Sara Ravi Noor Juno Axel \
    Lea Marco Tess Nina Boris Cleo Dario Eva
    """)

  static let opposites: [(String, String)] = [
    ("hot", "cold"), ("big", "small"), ("old", "young"), ("wet", "dry"), ("fast", "slow"),
    ("high", "low"), ("dark", "light"), ("hard", "soft"), ("full", "empty"), ("open", "closed"),
    ("early", "late"), ("long", "short"), ("happy", "sad"), ("rich", "poor"), ("strong", "weak"),
    ("near", "far"), ("loud", "quiet"), ("clean", "dirty"), ("thick", "thin"), ("sweet", "sour"),
  ]

  /// Singular and plural.
  static let plurals: [(String, String)] =
    (animals.filter { $0 != "fox" && $0 != "pony" } + things.filter { $0 != "knife" && $0 != "box" })
    .map { ($0, $0 + "s") } + [
      ("fox", "foxes"), ("box", "boxes"), ("pony", "ponies"), ("knife", "knives"),
      ("mouse", "mice"), ("goose", "geese"), ("child", "children"), ("foot", "feet"),
    ]

  /// What a word names.
  static let kinds: [(word: String, kind: String)] =
    animals.map { ($0, "animal") } + colours.map { ($0, "colour") } + places.map { ($0, "town") }
    + trades.map { ($0, "trade") } + things.map { ($0, "thing") } + foods.map { ($0, "food") }

  /// Words for lists and spelling: short, and each one a noun or a colour.
  static let listWords = animals + things + colours

  static func article(_ word: String) -> String {
    guard let first = word.first else { return word }
    return ("aeiou".contains(first) ? "an " : "a ") + word
  }

  private static func words(_ text: String) -> [String] {
    text.split(separator: " ").map(String.init)
  }
}
