// SPDX-License-Identifier: Apache-2.0

/// A unit that multiplies whole tiles: eight registers of up to 16 rows of up to 64 bytes, as Intel's
/// AMX has them. The number of a register is part of the instruction, so it must be a constant where
/// a body uses it. One enum conforms with the instructions, another, in the tests, with an emulation
/// of them.
@usableFromInline package protocol TileUnit {
  /// Gives the registers the shapes of `TileShapes` and makes them zero.
  static func configure(_ shapes: UnsafeRawPointer)
  /// Back to the initial state, which costs nothing to save when the thread is switched.
  static func release()
  static func zero(_ tile: Int)
  /// The register's rows from memory, `stride` bytes apart, at any alignment.
  static func load(_ tile: Int, _ from: UnsafeRawPointer, _ stride: Int)
  static func store(_ tile: Int, _ to: UnsafeMutableRawPointer, _ stride: Int)
  /// sum[m][n] += the products of left[m] and right[..][n], for BF16 pairs in Float: 0 takes 4 and 6,
  /// 1 takes 4 and 7, 2 takes 5 and 6, 3 takes 5 and 7.
  static func dotPairs(_ sum: Int)
  /// The same for quads of unsigned (left) and signed (right) bytes in Int32.
  static func dotQuads(_ sum: Int)
}

/// The 64 bytes that shape the registers (palette 1): byte 0 the palette, from byte 16 on the bytes
/// of a row and from byte 48 on the number of rows of each register.
@usableFromInline package struct TileShapes: BitwiseCopyable {
  @usableFromInline var palette: UInt64 = 1
  @usableFromInline var reserved: UInt64 = 0
  @usableFromInline var rowBytes: SIMD8<UInt16> = SIMD8(repeating: 64)
  @usableFromInline var unused: SIMD2<UInt64> = .zero
  @usableFromInline var rows: SIMD8<UInt8>
  @usableFromInline var end: UInt64 = 0

  /// For `rows` rows of C (1...32) and of A: those of the upper registers, then of the lower ones.
  @_alwaysEmitIntoClient @inline(__always)
  package init(rows: Int) {
    let upper = UInt8(truncatingIfNeeded: rows < 16 ? rows : 16)
    let lower = UInt8(truncatingIfNeeded: rows > 16 ? rows &- 16 : 1)
    self.rows = SIMD8(upper, upper, lower, lower, upper, lower, 16, 16)
  }
}
