// SPDX-License-Identifier: Apache-2.0

/// Numbers in 8 bits for the moments of 8-bit AdamW: the dynamic code of Dettmers et al. 2022
/// (arXiv 2110.02861), in blocks of 256 with one scale.
///
/// Dynamic and not linear, because a block's moments span decades: a linear code of 8 bits turns what
/// is 500 times smaller than the largest into zero, and a second moment of zero into a step without
/// bound. Seven decades are cut into 2, 4, ... 128 equal bins (unsigned; half as many and a sign for
/// signed), a code means the middle of its bin. With c = code + 1.5 (unsigned), c = 2 |code| + 1
/// (signed) and e = floor(log2 c),
///   value(c) = 10^(e-7) * (0.9 c / 2^e - 0.8),  0 for e = 0,
/// which is continuous, so that c is found from a value in the same way.
///
/// Three things differ from the paper. The scale is the largest value over the largest code's, so both
/// ends of a block are exact, and no code is spent on 1. A value takes the code of its bin, which at a
/// decade's end need not be the nearest. A second moment above zero never becomes zero: rounded up it
/// makes a step smaller, rounded down it makes one of m / epsilon.
@usableFromInline package enum DynamicCode {
  /// Values that share a scale.
  @_alwaysEmitIntoClient @inline(__always)
  package static var block: Int { 256 }

  /// Floats in the tables.
  package static let tableSize = 42

  /// Five tables of eight by e, one behind the other, and the largest code's value, signed and
  /// unsigned: slope and start of value(c); the next decade's first value; slope and start of c.
  package static func fillTables(_ t: UnsafeMutablePointer<Float>) {
    var (decade, size) = (1e-7, 1.0)
    for e in 0..<8 {
      t[e] = e == 0 ? 0 : Float(0.9 * decade / size)
      t[8 + e] = e == 0 ? 0 : Float(-0.8 * decade)
      t[16 + e] = e == 7 ? .infinity : Float(decade)
      t[24 + e] = e == 0 ? 0 : Float(size / (0.9 * decade))
      t[32 + e] = e == 0 ? 1 : Float(0.8 * size / 0.9)
      decade *= 10
      size *= 2
    }
    t[40] = Float(0.9 * 255 / 128 - 0.8)
    t[41] = Float(0.9 * 255.5 / 128 - 0.8)
  }

  /// The scale of a block whose largest size is `largest`, and its inverse. A block so small that the
  /// inverse is not finite becomes zeros.
  @_alwaysEmitIntoClient @inline(__always)
  package static func scale(_ largest: Float, top: Float) -> (scale: Float, inverse: Float) {
    let inverse = top / largest
    return inverse < .infinity && inverse > 0 ? (largest / top, inverse) : (0, 0)
  }
}
