// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// A sequence of draws from one stateless stream; two dice of the same stream roll the same numbers.
struct Dice {
  private let random: CounterRandom
  private var counter: UInt64 = 0

  init(_ random: CounterRandom) { self.random = random }

  /// Uniform in 0..<sides.
  mutating func roll(_ sides: Int) -> Int {
    defer { counter &+= 1 }
    return random.integer(counter, below: sides)
  }

  mutating func chance(_ probability: Double) -> Bool {
    defer { counter &+= 1 }
    return random.uniform(counter) < probability
  }

  mutating func pick<Element>(_ choices: [Element]) -> Element { choices[roll(choices.count)] }

  mutating func shuffle<Element>(_ elements: [Element]) -> [Element] {
    pick(elements.count, from: elements)
  }

  /// `count` different elements, in random order.
  mutating func pick<Element>(_ count: Int, from choices: [Element]) -> [Element] {
    var rest = choices
    return (0..<min(count, choices.count)).map { _ in rest.remove(at: roll(rest.count)) }
  }

  /// An index drawn with the given integer weights.
  mutating func weighted(_ weights: [Int]) -> Int {
    var left = roll(weights.reduce(0, +))
    for (index, weight) in weights.enumerated() {
      if left < weight { return index }
      left -= weight
    }
    return weights.count - 1
  }
}
