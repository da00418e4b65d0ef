// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Stored float formats to Float. Every value of the small formats is exact in Float; f64 rounds to
/// nearest. Sources may stand at any byte, so all loads are unaligned.
enum FloatDecoding {
  /// f16: s | e5 | m10. Normal: rebias the exponent (127-15 = 112). Subnormal: m * 2^-24, computed
  /// from the integer so that flush-to-zero modes cannot eat it. e = 31: infinity or NaN.
  @inline(__always) static func half(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF)
    let normal = magnitude << 13 &+ (112 << 23)
    let special = magnitude << 13 | 0x7F80_0000
    let subnormal = (Float(Int32(magnitude)) * 0x1p-24).bitPattern
    let bits = magnitude >= 0x7C00 ? special : magnitude < 0x0400 ? subnormal : normal
    return Float(bitPattern: sign | bits)
  }

  /// f8 e4m3 ("fn"): s | e4 | m3, bias 7, no infinities, NaN only at 0x7F and 0xFF.
  static let e4m3: [Float] = (0..<256).map { code in
    let exponent = (code >> 3) & 15
    let fraction = code & 7
    let magnitude: Float
    if code & 0x7F == 0x7F {
      magnitude = .nan
    } else if exponent == 0 {
      magnitude = Float(fraction) * 0x1p-9
    } else {
      magnitude = Float(sign: .plus, exponent: exponent - 10, significand: Float(8 + fraction))
    }
    return code & 0x80 == 0 ? magnitude : -magnitude
  }

  /// Elements `range` of `source` as floats. False if `dtype` is not a float type.
  static func decode(
    _ source: UnsafeRawPointer, _ dtype: DType, _ range: Range<Int>,
    into target: UnsafeMutablePointer<Float>
  ) -> Bool {
    let source = source + range.lowerBound * dtype.size
    let count = range.count
    switch dtype {
    case .f32:
      UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count * 4)
    case .bf16:
      for i in 0..<count {
        let bits = source.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self)
        target[i] = Float(bitPattern: UInt32(bits) << 16)
      }
    case .f16:
      for i in 0..<count {
        target[i] = half(source.loadUnaligned(fromByteOffset: 2 &* i, as: UInt16.self))
      }
    case .f64:
      for i in 0..<count {
        target[i] = Float(source.loadUnaligned(fromByteOffset: 8 &* i, as: Double.self))
      }
    case .f8e5m2:
      // e5m2 is the top half of f16.
      for i in 0..<count {
        target[i] = half(UInt16(source.load(fromByteOffset: i, as: UInt8.self)) << 8)
      }
    case .f8e4m3:
      e4m3.withUnsafeBufferPointer { table in
        for i in 0..<count {
          target[i] = table[Int(source.load(fromByteOffset: i, as: UInt8.self))]
        }
      }
    default: return false
    }
    return true
  }
}
