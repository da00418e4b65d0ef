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

  /// Five tables of eight by e, one behind the other, and the largest code's value, signed and
  /// unsigned: slope and start of value(c); the next decade's first value; slope and start of c.
  package static let tables: [Float] = {
    let powers: [Double] = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    let decades = (0..<8).map { powers[$0] }
    let sizes = (0..<8).map { Double(1 << $0) }
    var all = (0..<8).map { $0 == 0 ? 0 : 0.9 * decades[$0] / sizes[$0] }
    all += (0..<8).map { $0 == 0 ? 0 : -0.8 * decades[$0] }
    all += (0..<8).map { $0 == 7 ? .infinity : decades[$0] }
    all += (0..<8).map { $0 == 0 ? 0 : sizes[$0] / (0.9 * decades[$0]) }
    all += (0..<8).map { $0 == 0 ? 1 : 0.8 * sizes[$0] / 0.9 }
    all += [0.9 * 255 / 128 - 0.8, 0.9 * 255.5 / 128 - 0.8]
    return all.map { Float($0) }
  }()

  /// The scale of a block whose largest size is `largest`, and its inverse. A block so small that the
  /// inverse is not finite becomes zeros.
  @_alwaysEmitIntoClient @inline(__always)
  package static func scale(_ largest: Float, top: Float) -> (scale: Float, inverse: Float) {
    let inverse = top / largest
    return inverse < .infinity && inverse > 0 ? (largest / top, inverse) : (0, 0)
  }
}
