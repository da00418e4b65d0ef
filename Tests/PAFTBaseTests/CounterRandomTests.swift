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

  /// Words are SplitMix64's own sequence, two of them to a number.
  @Test("Words are the halves of SplitMix64's numbers")
  func words() {
    let random = CounterRandom(seed: 3).stream("w")
    for n in 0..<UInt64(100) {
      let both = CounterRandom.mix(random.key &+ n &* 0x9E37_79B9_7F4A_7C15)
      #expect(UInt64(random.word(2 * n)) == both & 0xFFFF_FFFF)
      #expect(UInt64(random.word(2 * n + 1)) == both >> 32)
    }
  }

  /// How many of n entries keep both of two decisions that are independent is n p^2, give or take the
  /// square root of n p^2 (1 - p^2) + overlaps, 2 n p^3 (1 - p) where pairs share an entry: five of it, so
  /// that a test of 60 in a million seeds would fail. The other half of a number, neighbours in a vector,
  /// a row, a block and a strip, other models and other tensors.
  @Test(
    "Decisions by words are as likely as asked and independent", arguments: [0, 42, UInt64.max])
  func decisions(seed: UInt64) {
    let n = 1 << 19
    let tensor = CounterRandom(seed: seed).stream("layer.0")
    let others = [
      tensor.stream(1), CounterRandom(seed: seed).stream("layer.1").stream(0),
      CounterRandom(seed: seed &+ 1).stream("layer.0").stream(0),
    ]
    let random = tensor.stream(0)
    for p in [0.1, 0.5, 0.9] {
      let limit = UInt64((p * 0x1p32).rounded(.up))
      func kept(_ random: CounterRandom, _ count: Int) -> [Bool] {
        (0..<count).map { UInt64(random.word(UInt64($0))) < limit }
      }
      let own = kept(random, n + (1 << 18))
      let deviation = (Double(n) * p * (1 - p)).squareRoot()
      #expect(abs(Double(own.prefix(n).count { $0 }) - Double(n) * p) < 5 * deviation)
      let (square, cube) = (p * p, p * p * p)
      let spread = (Double(n) * (square * (1 - square) + 2 * cube * (1 - p))).squareRoot()
      func expectIndependent(_ other: ArraySlice<Bool>, _ what: String) {
        let both = zip(own.prefix(n), other).count { $0 && $1 }
        #expect(abs(Double(both) - Double(n) * square) < 5 * spread, "\(what), \(p)")
      }
      for lag in [1, 2, 3, 4, 7, 8, 15, 16, 17, 32, 64, 128, 896, 4864, 1 << 14, 1 << 18] {
        expectIndependent(own[lag..<(lag + n)], "\(lag) apart")
      }
      for (i, other) in others.enumerated() {
        let there = kept(other, n + 1)
        expectIndependent(there[0..<n], "stream \(i)")
        expectIndependent(there[1...n], "stream \(i), one on")
      }
    }
  }

  /// The upper and the lower half of a number, in 64 cells each: chi-square of 4095 degrees of freedom is
  /// beyond 4095 + 5 * sqrt(2 * 4095) = 4547 for less than one seed in 100,000. So for neighbours in a
  /// vector, whose cells come from different numbers.
  @Test("Pairs of words fill their square evenly", arguments: [0, 42, UInt64.max])
  func wordPairs(seed: UInt64) {
    let random = CounterRandom(seed: seed).stream("pairs")
    for start in [UInt64(0), 1] {
      let pairs = 1 << 18
      var cells = [Int](repeating: 0, count: 4096)
      for n in 0..<UInt64(pairs) {
        let (a, b) = (random.word(2 * n + start), random.word(2 * n + start + 1))
        cells[Int(a >> 26) << 6 | Int(b >> 26)] += 1
      }
      let expected = Double(pairs) / 4096
      let square = cells.reduce(0.0) {
        $0 + (Double($1) - expected) * (Double($1) - expected) / expected
      }
      #expect(square < 4547)
    }
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
