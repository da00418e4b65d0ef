// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import Testing

@Suite("Counter-based random numbers")
struct CounterRandomTests {
  /// The published first outputs of SplitMix64 with seed 1234567: its n-th output mixes
  /// seed + n * gamma.
  @Test("The mixing function is SplitMix64's")
  func splitMix() {
    let expected: [UInt64] = [
      6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
      4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
    ]
    for (index, value) in expected.enumerated() {
      let state = 1_234_567 &+ UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15
      #expect(CounterRandom.mix(state) == value)
    }
  }

  @Test("A stream is its seed and its names: equal for equal ones, different for others")
  func streams() {
    let root = CounterRandom(seed: 42)
    #expect(root.stream("sft").bits(7) == CounterRandom(seed: 42).stream("sft").bits(7))
    let streams = [
      root, CounterRandom(seed: 43), root.stream("sft"), root.stream("align"), root.stream(""),
      root.stream(0), root.stream(1), root.stream(-1), root.stream("sft").stream("align"),
      root.stream("align").stream("sft"),
    ]
    #expect(Set(streams.map(\.key)).count == streams.count)
    #expect(Set(streams.map { $0.bits(0) }).count == streams.count)
  }

  /// Chi-square of 100 cells over 100,000 draws: 99 degrees of freedom, so beyond 170 only once in
  /// a hundred thousand seeds; and neighbouring counters must be as uncorrelated as distant ones.
  @Test("Draws are even and neighbours independent", arguments: [0, 1, 42, UInt64.max])
  func evenness(seed: UInt64) {
    let random = CounterRandom(seed: seed)
    let draws = 100_000
    var cells = [Int](repeating: 0, count: 100)
    var correlation = 0.0
    for counter in 0..<UInt64(draws) {
      let x = random.uniform(counter)
      #expect(x >= 0 && x < 1)
      cells[Int(x * 100)] += 1
      correlation += (x - 0.5) * (random.uniform(counter + 1) - 0.5)
    }
    let expected = Double(draws) / 100
    let square = cells.reduce(0.0) {
      $0 + (Double($1) - expected) * (Double($1) - expected) / expected
    }
    #expect(square < 170)
    // Standard deviation of the mean product of two independent uniforms: 1/12 / sqrt(draws).
    #expect(abs(correlation / Double(draws)) < 5.0 / 12 / Double(draws).squareRoot())
  }

  @Test("Integers stay below their bound and reach every value", arguments: [1, 2, 3, 10, 257])
  func integers(bound: Int) {
    let random = CounterRandom(seed: 5)
    let seen = Set((0..<20_000 as Range<UInt64>).map { random.integer($0, below: bound) })
    #expect(seen == Set(0..<bound))
  }

  /// All six orders of three in equal shares: a shuffle that swaps with the wrong bound is biased.
  @Test("A permutation holds every index once, and all orders are as likely")
  func permutations() {
    let random = CounterRandom(seed: 9)
    for count in [0, 1, 2, 100] {
      #expect(random.permutation(count).sorted() == Array(0..<count))
    }
    var orders: [[Int]: Int] = [:]
    for index in 0..<6000 { orders[random.stream(index).permutation(3), default: 0] += 1 }
    #expect(orders.count == 6)
    // 1000 each; the standard deviation is 29.
    for (order, count) in orders { #expect(abs(count - 1000) < 150, "\(order): \(count)") }
  }
}
