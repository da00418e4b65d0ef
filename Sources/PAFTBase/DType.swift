// SPDX-License-Identifier: Apache-2.0

/// Element types a tensor file may carry. Raw values are the names safetensors uses.
package enum DType: String, Sendable, CaseIterable, Hashable {
  case f64 = "F64"
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"
  case f8e4m3 = "F8_E4M3"
  case f8e5m2 = "F8_E5M2"
  case i64 = "I64"
  case i32 = "I32"
  case i16 = "I16"
  case i8 = "I8"
  case u64 = "U64"
  case u32 = "U32"
  case u16 = "U16"
  case u8 = "U8"
  case bool = "BOOL"

  /// Bytes per element.
  package var size: Int {
    switch self {
    case .f64, .i64, .u64: 8
    case .f32, .i32, .u32: 4
    case .f16, .bf16, .i16, .u16: 2
    case .f8e4m3, .f8e5m2, .i8, .u8, .bool: 1
    }
  }

  package var isFloat: Bool {
    switch self {
    case .f64, .f32, .f16, .bf16, .f8e4m3, .f8e5m2: true
    default: false
    }
  }
}

/// The top half of a Float: 8 bits of exponent, 7 of fraction.
package struct BF16: Sendable, Equatable {
  package var bits: UInt16

  @inlinable package init(bits: UInt16) { self.bits = bits }

  /// Rounds to nearest, ties to even; NaN stays NaN (quiet).
  @inlinable package init(_ value: Float) {
    let raw = value.bitPattern
    if value.isNaN {
      bits = UInt16(truncatingIfNeeded: raw >> 16) | 0x40
    } else {
      bits = UInt16(truncatingIfNeeded: (raw &+ 0x7FFF &+ ((raw >> 16) & 1)) >> 16)
    }
  }

  @inlinable package var float: Float { Float(bitPattern: UInt32(bits) << 16) }
}
