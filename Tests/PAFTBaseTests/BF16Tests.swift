// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import Testing

@Suite("bf16")
struct BF16Tests {
  @Test("Every bit pattern survives the way to Float and back; NaN stays NaN")
  func patterns() {
    for bits in UInt16.min...UInt16.max {
      let value = BF16(bits: bits).float
      let back = BF16(value)
      if value.isNaN {
        #expect(back.float.isNaN, "\(bits)")
      } else {
        #expect(back.bits == bits)
      }
    }
  }

  /// The oracle measures distances in Double, where they are exact, and takes the even neighbour of
  /// a tie; it knows nothing of adding halves to bit patterns.
  @Test("Rounding takes the nearest value, the even one of two equally near")
  func rounding() {
    let random = CounterRandom(seed: 1)
    for counter in 0..<200_000 as Range<UInt64> {
      var pattern = UInt32(truncatingIfNeeded: random.bits(counter))
      // Ties and their neighbours are too rare among random patterns to be met by chance.
      switch counter % 4 {
      case 0: pattern = pattern & 0xFFFF_0000 | 0x8000
      case 1: pattern = pattern & 0xFFFF_0000 | 0x7FFF
      default: break
      }
      let value = Float(bitPattern: pattern)
      let below = BF16(bits: UInt16(truncatingIfNeeded: pattern >> 16))
      // Away from zero; beyond the largest finite value lies 2^128, which the bits of infinity name.
      let above = BF16(bits: below.bits &+ 1)
      guard value.isFinite, !below.float.isNaN else { continue }
      func size(_ x: BF16) -> Double { x.float.isInfinite ? 0x1p128 : Double(x.float.magnitude) }
      let down = Double(value.magnitude) - size(below)
      let up = size(above) - Double(value.magnitude)
      let expected = down < up || (down == up && below.bits & 1 == 0) ? below : above
      #expect(BF16(value) == expected, "\(value)")
    }
  }

  @Test("Infinities, zeros and overflow")
  func edges() {
    #expect(BF16(.infinity).bits == 0x7F80)
    #expect(BF16(-.infinity).bits == 0xFF80)
    #expect(BF16(0).bits == 0)
    #expect(BF16(-0.0).bits == 0x8000)
    #expect(BF16(.greatestFiniteMagnitude).float == .infinity)
    // A NaN whose payload lies in the lower half only must not become an infinity.
    #expect(BF16(Float(bitPattern: 0x7F80_0001)).float.isNaN)
  }
}
