// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMerging
import Testing

/// Hand-checked vectors, computed in f64 from the formulas.
private let d1: [Float] = [1, -2, 3, 0.1]
private let d2: [Float] = [2, 1, -0.9, 0.2]

@Suite struct GoldenVectorTests {
  @Test func ties() throws {
    expectClose(try merge("ties", [d1, d2], each: weights(1, 1, density: 0.5)), [2, -2, 3, 0])
    // Element 2 sums to zero, which elects plus.
    let half = weights(0.5, 1, density: 0.5)
    expectClose(try merge("ties", [d1, d2], each: half), [2, 1, 3, 0])
    expectClose(try merge("ties", [d1, d2], each: half, ["normalize": 0]), [2, 1, 1.5, 0])
    expectClose(try merge("ties", [d1, d2], each: half, ["ties_variant": 1]), [2, -1, 1.5, 0])
    expectClose(
      try merge("ties", [d1, d2], each: weights(0.5, 0.5, density: 1), ["lambda": 2]),
      [3, -4, 6, 0.3])
  }

  @Test func taskArithmetic() throws {
    let each = weights(0.5, 1)
    expectClose(try merge("task_arithmetic", [d1, d2], each: each), [2.5, 0, 0.6, 0.25])
    expectClose(
      try merge("task_arithmetic", [d1, d2], each: each, ["normalize": 1]),
      [1.6666666667, 0, 0.4, 0.1666666667])
  }

  /// The vectors give the masks, so a seed is looked for whose masks are these.
  @Test func dareWithGivenMasks() throws {
    let masks = [[true, false, true, false], [true, true, false, false]]
    let random = try #require(
      (0..<20_000).map { CounterRandom(seed: $0) }.first { random in
        masks.enumerated().allSatisfy { model, mask in
          mask.enumerated().allSatisfy { i, kept in
            (random.stream(model).word(UInt64(i)) < 1 << 31) == kept
          }
        }
      })
    let alone = { (delta: [Float], model: Int) in
      // The other model has weight 0, so only this one shows.
      try merge(
        "dare_linear", model == 0 ? [delta, delta] : [delta, delta],
        each: weights(model == 0 ? 1 : 0, model == 0 ? 0 : 1, density: 0.5), random: random)
    }
    expectClose(try alone(d1, 0), [1.525, 0, 4.575, 0])
    expectClose(try alone(d2, 1), [2.733333333, 1.366666667, 0, 0])
    for method in ["dare_linear", "dare_ties"] {
      let each = weights(0.5, 1, density: 0.5)
      expectClose(
        try merge(method, [d1, d2], each: each, random: random),
        [3.495833333, 1.366666667, 2.2875, 0])
      expectClose(
        try merge(method, [d1, d2], each: each, ["rescale_mode": 1], random: random), [5, 2, 3, 0])
    }
  }

  @Test func breadcrumbs() throws {
    func kept(_ density: Double, _ gamma: Double) throws -> [Int] {
      let ladder = (1...10).map { Float($0) * ($0 % 2 == 0 ? 1 : -1) }
      let out = try merge(
        "breadcrumbs", [ladder], each: [["weight": 1, "density": density, "gamma": gamma]])
      return out.filter { $0 != 0 }.map { Int(abs($0)) }
    }
    #expect(try kept(0.5, 0.2) == [4, 5, 6, 7, 8])
    #expect(try kept(0.5, 0.01) == [6, 7, 8, 9, 10])
    #expect(try kept(0.9, 0.3) == [1, 2, 3, 4, 5, 6, 7, 8, 9])
  }

  @Test func linear() throws {
    expectClose(
      try merge("linear", [[1, 2], [3, 4], [5, 6]], each: weights(1, 0.3, 0.5)),
      [2.444444444, 3.444444444])
    expectClose(
      try merge("linear", [[1, 2], [3, 4]], each: weights(1, 0.5), ["normalize": 0]), [2.5, 4])
  }

  @Test func slerp() throws {
    expectClose(try merge("slerp", [[1, 0], [0, 2]], ["t": 0.25]), [0.9238795325, 0.7653668647])
    expectClose(
      try merge("slerp", [d1, d2], ["t": 0.25]), [1.976536, -1.592502, 2.672022, 0.197654])
    expectClose(try merge("slerp", [[1, 0], [2, 0.02]], ["t": 0.25]), [1.25, 0.005])
  }

  @Test func nuslerp() throws {
    expectClose(
      try merge("nuslerp", [d1, d2], each: weights(1, 3)), [2.536731, 0.088080, 0.487265, 0.253673])
    let a: [Float] = [1, 0, 0, 2]
    let b: [Float] = [1, 1, 1, 0]
    let each = weights(1, 1)
    expectClose(
      try merge("nuslerp", [a, b], shape: [2, 2], each: each),
      [1.260783, 0.630392, 0.630392, 1.260783])
    expectClose(
      try merge("nuslerp", [a, b], shape: [2, 2], each: each, ["nuslerp_flatten": 0]),
      [1.082392, 0.541196, 0.707107, 1.414214])
    expectClose(
      try merge(
        "nuslerp", [a, b], shape: [2, 2], each: each,
        ["nuslerp_flatten": 0, "nuslerp_row_wise": 1]), [1.082392, 0.707107, 0.541196, 1.414214])
  }

  @Test func multislerp() throws {
    expectClose(
      try merge("multislerp", [[1, 0], [0, 2]], each: weights(1, 1)), [1.060660, 1.060660])
    expectClose(
      try merge("multislerp", [[1, 0], [0, 2]], each: weights(1, 3)), [0.553399, 1.660196])
    expectClose(
      try merge("multislerp", [d1, d2], each: weights(1, 1)),
      [2.840662, -0.313863, 1.114890, 0.284066])
  }

  @Test func karcher() throws {
    expectClose(
      try merge("karcher", [[1, 0, 0], [0, 2, 0], [1, 1, 1]]), [1.083473, 1.083473, 0.374439],
      tolerance: 1e-5)
  }

  @Test func modelStock() throws {
    expectClose(
      try merge("model_stock", [[2, 1], [2, 2]], base: [1, 1]), [1.828427125, 1.414213562])
    expectClose(try merge("model_stock", [[1, 0], [0, 1]]), [0, 0])
    // c = -.296031: nothing with the clamp, t = -.841036 times the mean without.
    expectClose(try merge("model_stock", [d1, d2]), [0, 0, 0, 0])
    let mean = zip(d1, d2).map { Double($0 + $1) / 2 }
    expectClose(
      try merge("model_stock", [d1, d2], ["model_stock_clamp": 0]), mean.map { $0 * -0.841036 },
      tolerance: 2e-6)
  }

  @Test func sce() throws {
    expectClose(try merge("sce", [d1, d2]), [1.294562, -2, 3, 0.129456])
    expectClose(try merge("sce", [d1, d2], ["select_topk": 0.5]), [0, -2, 3, 0])
  }

  @Test func nearswap() throws {
    expectClose(try merge("nearswap", [[0.05, 0.1, 0.4, -1]], ["t": 0.1]), [0.05, 0.1, 0.1, -0.1])
  }

  @Test func arceeFusion() throws {
    expectClose(
      try merge(
        "arcee_fusion", [[0.1, 0, 0, 0.8, 0.2, 0.2, 0, -0.1]], shape: [2, 4],
        base: [Float](repeating: 0, count: 8)), [0.1, 0, 0, 0.8, 0, 0, 0, 0])
  }

  @Test func ram() throws {
    let inputs: [[Float]] = [[1, 0, 3, 0, -1], [2, 1, 0, 0, 1]]
    expectClose(try merge("ram", inputs), [1.5, 1, 3, 0, 0])
    expectClose(try merge("ramplus_tl", inputs), [1.5, 1.02, 3.06, 0, 0])
    expectClose(
      try merge("ties", inputs, each: weights(1, 1, density: 1)), [1.5, 1, 3, 0, 1])
    expectClose(try merge("linear", inputs, each: weights(0.5, 0.5)), [1.5, 0.5, 1.5, 0, 0])
  }

  /// Row [.3, -.1, .2, .4], density .5, epsilon .15: keep probabilities .55 .35 .45 .65. Over many
  /// seeds the shares kept must come to these.
  @Test func dellaKeepsByRank() throws {
    let row: [Float] = [0.3, -0.1, 0.2, 0.4]
    let rounds = 20_000
    var kept = [0.0, 0, 0, 0]
    for seed in 0..<rounds {
      let out = try merge(
        "della_linear", [row], shape: [1, 4],
        each: [["weight": 1, "density": 0.5, "epsilon": 0.15]], ["rescale": 0],
        random: CounterRandom(seed: UInt64(seed)))
      for i in 0..<4 where out[i] != 0 { kept[i] += 1 }
    }
    // Four standard deviations of a share of 20,000 draws are 0.0142.
    for (share, expected) in zip(kept, [0.55, 0.35, 0.45, 0.65]) {
      #expect(abs(share / Double(rounds) - expected) < 0.0142)
    }
  }

  @Test func passthroughScales() throws {
    #expect(try merge("passthrough", [d1]) == d1)
    #expect(try merge("passthrough", [d1], each: [["scale": 2]]) == d1.map { 2 * $0 })
  }
}
