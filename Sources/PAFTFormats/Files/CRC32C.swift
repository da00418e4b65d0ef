// SPDX-License-Identifier: Apache-2.0

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 B.4 has test values), eight bytes
/// a step by tables, the same on every CPU. Streaming: feed `update`, read `value` at any time.
package struct CRC32C: Sendable {
  private var state: UInt32 = 0xFFFF_FFFF

  package init() {}

  package var value: UInt32 { ~state }

  package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var sum = CRC32C()
    sum.update(bytes)
    return sum.value
  }

  package static func of(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { of($0) } }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    var crc = state
    Self.tables.withUnsafeBufferPointer { table in
      var at = 0
      while at &+ 8 <= bytes.count {
        let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let mixed = word ^ UInt64(crc)
        crc = 0
        for lane in 0..<8 {
          let byte = Int(truncatingIfNeeded: (mixed >> UInt64(8 * lane)) & 0xFF)
          crc ^= table[(7 &- lane) &* 256 &+ byte]
        }
        at &+= 8
      }
      while at < bytes.count {
        crc = (crc >> 8) ^ table[Int((crc ^ UInt32(bytes[at])) & 0xFF)]
        at &+= 1
      }
    }
    state = crc
  }

  /// Row k, entry b: the sum of byte b followed by k zero bytes.
  private static let tables: [UInt32] = {
    var table = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var crc = UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
      table[byte] = crc
    }
    for row in 1..<8 {
      for byte in 0..<256 {
        let before = table[(row - 1) * 256 + byte]
        table[row * 256 + byte] = (before >> 8) ^ table[Int(before & 0xFF)]
      }
    }
    return table
  }()
}
