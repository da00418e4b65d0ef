// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMerging
import Testing

/// The k largest magnitudes, found by way of a sample, against sorting everything.
@Suite struct SelectionTests {
  private static let count = 200_003

  /// Equals by index.
  private func trimmed(_ delta: [Float], _ density: Double) -> [Float] {
    let order = delta.indices.sorted {
      abs(delta[$0]) != abs(delta[$1]) ? abs(delta[$0]) > abs(delta[$1]) : $0 < $1
    }
    var out = [Float](repeating: 0, count: delta.count)
    for i in order.prefix(Int(density * Double(delta.count))) { out[i] = delta[i] }
    return out
  }

  private func expectTrimmed(_ delta: [Float], _ density: Double) throws {
    let expected = trimmed(delta, density)
    for lanes in [Lanes(), Lanes(threaded, block: 1 << 10, strip: 1 << 13)] {
      let found = try merge("ties", [delta], each: weights(1, density: density), lanes: lanes)
      #expect(found == expected, "density \(density)")
    }
  }

  @Test(arguments: [0.003, 0.2, 0.5, 0.997]) func ofDraws(density: Double) throws {
    try expectTrimmed(values(Self.count, seed: 3), density)
  }

  /// Sizes that grow along the tensor, a few different values, many zeros: rows are not alike, and
  /// thresholds are shared by thousands.
  @Test(arguments: [0.1, 0.5, 0.55, 0.9]) func ofEquals(density: Double) throws {
    let draws = values(Self.count, seed: 4)
    try expectTrimmed(draws.indices.map { draws[$0] * Float($0) * 1e-6 }, density)
    try expectTrimmed(draws.map { BF16($0 * 0.01).float }, density)
    try expectTrimmed(draws.map { ($0 * 8).rounded() / 8 }, density)
    try expectTrimmed(draws.map { abs($0) < 0.6 ? 0 : $0 }, density)
  }

  /// Everything that the sample sees is small, or large: its threshold is none of the tensor's.
  @Test(arguments: [Float(1e-3), 1e3]) func whereTheSampleIsWrong(factor: Float) throws {
    var delta = values(Self.count, seed: 5)
    let (random, stride) = (CounterRandom(seed: 1), Self.count / 512)
    for part in 0..<512 {
      let start = part * stride + random.integer(UInt64(part), below: stride - 31)
      for i in start..<start + 32 { delta[i] *= factor }
    }
    try expectTrimmed(delta, 0.5)
    try expectTrimmed(delta, 0.05)
  }

  /// The draws that are remembered between two passes are those of a stream without memory.
  @Test func drawsAreRemembered() throws {
    let delta = values(40_009, seed: 6)
    let random = CounterRandom(seed: 11)
    // A block that is no multiple of 8 draws again.
    let found = try [64, 63].map { block in
      try merge(
        "dare_linear", [delta], each: weights(1, density: 0.4), random: random,
        lanes: Lanes(threaded, block: block, strip: block * 8))
    }
    #expect(found[0].indices.allSatisfy { (found[0][$0] == 0) == (found[1][$0] == 0) })
    let kept = delta.indices.map { Double(random.stream(0).word(UInt64($0))) < 0.4 * 0x1p32 }
    #expect(found[0].indices.allSatisfy { (found[0][$0] != 0) == kept[$0] })
    let factor =
      delta.reduce(0) { $0 + Double(abs($1)) }
      / zip(delta, kept).reduce(0) { $0 + ($1.1 ? Double(abs($1.0)) : 0) }
    expectClose(found[0], zip(delta, kept).map { $1 ? Double($0) * factor : 0 })
  }
}
