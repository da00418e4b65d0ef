// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTTraining
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Stable scalar functions")
struct StableMathTests {
  @Test("softplus keeps its small side exact and its large side finite")
  func softplus() {
    for (x, value) in [
      (50, 1.92874985e-22), (-50, 50), (1000, 0), (-1000, 1000), (0, 0.693147181),
    ] as [(Double, Double)] {
      #expect(abs(StableMath.softplus(-x) - value) <= 1e-8 * value)
    }
  }

  @Test("log1mexp has the published values")
  func log1mexp() {
    for (p, value) in [
      (-1e-8, -18.4206807), (-1e-3, -6.90825524), (-0.5, -0.93275213),
      (-0.693147180559945, -0.693147181), (-1, -0.458675145), (-20, -2.06115362e-9),
      (-50, -1.92874985e-22),
    ] {
      #expect(abs(StableMath.log1mexp(p) - value) <= 5e-9 * abs(value), "\(p)")
    }
  }

  /// In long double (64 bits of mantissa) the textbook form log(1 - e^p) is good enough to judge.
  @Test("log1mexp agrees with extended precision, and is finite and falling over [-100, -1e-30]")
  func log1mexpProperty() {
    var last = -Double.infinity
    var count = 0
    var p = -1e-30
    while p > -100 {
      let value = StableMath.log1mexp(p)
      let slope = StableMath.log1mexpSlope(p)
      #expect(value.isFinite && value < 0 && slope.isFinite && slope < 0, "\(p)")
      #expect(value > last, "rises as p falls: \(p)")
      if p < -1e-3, p > -30 {
        let wide = Double(logl(1 - expl(Float80(p))))
        #expect(abs(value - wide) <= 1e-6 * abs(wide), "\(p)")
        let h = abs(p) * 1e-6
        let difference = (StableMath.log1mexp(p + h) - StableMath.log1mexp(p - h)) / (2 * h)
        #expect(abs(slope - difference) <= 1e-5 * abs(slope), "\(p)")
      }
      last = value
      count += 1
      p *= 1.013
    }
    #expect(count > 5000)
  }

  @Test("sigmoid and its mirror sum to one without losing the small side")
  func sigmoid() {
    for x in stride(from: -40.0, through: 40, by: 0.37) {
      #expect(abs(StableMath.sigmoid(x) + StableMath.sigmoid(-x) - 1) < 1e-15)
      let product = StableMath.sigmoid(x) * StableMath.sigmoid(-x)
      #expect(abs(StableMath.sigmoidSlope(x) - product) <= 1e-15 * product)
    }
    #expect(abs(StableMath.sigmoid(-700) / exp(-700) - 1) < 1e-12)
    #expect(StableMath.sigmoid(-1e4) == 0 && StableMath.sigmoid(1e4) == 1)
  }
}
