// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTKernelBodies

/// The tile instructions in plain loops, as "Intel 64 and IA-32 Architectures Software Developer's
/// Manual", volume 2, defines them. What the processor answers with an exception traps here: bad
/// shapes, operands that do not fit each other, a register used without a shape.
///
/// The rest of the module is the AMX module's own text (links), so a test of this `KernelTable.amx`
/// is one of its packing, addresses, edges and use of registers.
enum Tiles: TileUnit {
  /// LDTILECFG: checks, then zeros in all registers.
  static func configure(_ shapes: UnsafeRawPointer) {
    let unit = Unit.current
    let bytes = UnsafeRawBufferPointer(start: shapes, count: 64)
    precondition(bytes[0] == 1 && bytes[1] == 0, "palette 1, start row 0")
    precondition((2..<16).allSatisfy { bytes[$0] == 0 }, "reserved")
    precondition((32..<48).allSatisfy { bytes[$0] == 0 }, "palette 1 has eight registers")
    precondition((56..<64).allSatisfy { bytes[$0] == 0 }, "palette 1 has eight registers")
    for tile in 0..<8 {
      let rowBytes = Int(bytes[16 + 2 * tile]) | Int(bytes[17 + 2 * tile]) << 8
      let rows = Int(bytes[48 + tile])
      precondition(rowBytes <= 64 && rows <= 16 && (rowBytes == 0) == (rows == 0), "shape")
      unit.pointee.shapes[tile] = Shape(rows: rows, rowBytes: rowBytes)
      zero(tile)
    }
    unit.pointee.isConfigured = true
  }

  static func release() { Unit.current.pointee.isConfigured = false }

  static func zero(_ tile: Int) {
    (Unit.current.pointee.memory + tile * 1024).initializeMemory(
      as: UInt8.self, repeating: 0, count: 1024)
  }

  /// TILELOADD: rows beyond the shape, and bytes beyond its width, become zero.
  static func load(_ tile: Int, _ from: UnsafeRawPointer, _ stride: Int) {
    let (rows, shape) = register(tile)
    zero(tile)
    for row in 0..<shape.rows {
      (rows + row * 64).copyMemory(from: from + row * stride, byteCount: shape.rowBytes)
    }
  }

  /// TILESTORED.
  static func store(_ tile: Int, _ to: UnsafeMutableRawPointer, _ stride: Int) {
    let (rows, shape) = register(tile)
    for row in 0..<shape.rows {
      (to + row * stride).copyMemory(from: rows + row * 64, byteCount: shape.rowBytes)
    }
  }

  /// TDPBF16PS: even and odd values of k are summed apart, by fused multiply-adds in the order of k;
  /// then their sum is added. Subnormals count as zero everywhere; rounding is to nearest even.
  static func dotPairs(_ sum: Int) {
    let (c, a, b, m, n, k) = operands(sum)
    for row in 0..<m {
      for column in 0..<n {
        var sums: (even: Float, odd: Float) = (0, 0)
        for pair in 0..<k {
          let left = (a + row * 64 + pair * 4).loadUnaligned(as: SIMD2<UInt16>.self)
          let right = (b + pair * 64 + column * 4).loadUnaligned(as: SIMD2<UInt16>.self)
          sums.even = flushed(sums.even.addingProduct(float(left.x), float(right.x)))
          sums.odd = flushed(sums.odd.addingProduct(float(left.y), float(right.y)))
        }
        let at = (c + row * 64 + column * 4).assumingMemoryBound(to: Float.self)
        at.pointee = flushed(flushed(at.pointee) + flushed(sums.even + sums.odd))
      }
    }
  }

  /// TDPBUSD: sums wrap.
  static func dotQuads(_ sum: Int) {
    let (c, a, b, m, n, k) = operands(sum)
    for row in 0..<m {
      for column in 0..<n {
        let at = (c + row * 64 + column * 4).assumingMemoryBound(to: Int32.self)
        for quad in 0..<k {
          let left = (a + row * 64 + quad * 4).loadUnaligned(as: SIMD4<UInt8>.self)
          let right = (b + quad * 64 + column * 4).loadUnaligned(as: SIMD4<Int8>.self)
          for i in 0..<4 { at.pointee &+= Int32(left[i]) * Int32(right[i]) }
        }
      }
    }
  }

  // MARK: inside

  private static func flushed(_ x: Float) -> Float {
    x.isSubnormal ? Float(sign: x.sign, exponent: 0, significand: 0) : x
  }

  private static func float(_ bits: UInt16) -> Float {
    flushed(Float(bitPattern: UInt32(bits) << 16))
  }

  private static func register(_ tile: Int) -> (UnsafeMutableRawPointer, Shape) {
    let unit = Unit.current
    let shape = unit.pointee.shapes[tile]
    precondition(unit.pointee.isConfigured && shape.rows > 0, "register \(tile) has no shape")
    return (unit.pointee.memory + tile * 1024, shape)
  }

  /// The registers that go with a sum, and m, n and the number of pairs or quads of k.
  private static func operands(
    _ sum: Int
  ) -> (
    UnsafeMutableRawPointer, UnsafeMutableRawPointer, UnsafeMutableRawPointer, Int, Int, Int
  ) {
    let (c, ofC) = register(sum)
    let (a, ofA) = register(sum < 2 ? 4 : 5)
    let (b, ofB) = register(sum & 1 == 0 ? 6 : 7)
    precondition(
      ofC.rows == ofA.rows && ofC.rowBytes == ofB.rowBytes && ofA.rowBytes == 4 * ofB.rows
        && ofC.rowBytes % 4 == 0 && ofA.rowBytes % 4 == 0, "operands do not fit")
    return (c, a, b, ofC.rows, ofC.rowBytes / 4, ofB.rows)
  }

  private struct Shape {
    var rows = 0
    var rowBytes = 0
  }

  /// The registers of one thread.
  private struct Unit {
    var isConfigured = false
    var shapes = InlineArray<8, Shape>(repeating: Shape())
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8 * 1024, alignment: 64)

    static let key: pthread_key_t = {
      var key = pthread_key_t()
      precondition(pthread_key_create(&key, { free($0) }) == 0)
      return key
    }()

    static var current: UnsafeMutablePointer<Unit> {
      if let unit = pthread_getspecific(key) { return unit.assumingMemoryBound(to: Unit.self) }
      let unit = UnsafeMutablePointer<Unit>.allocate(capacity: 1)
      unit.initialize(to: Unit())
      pthread_setspecific(key, unit)
      return unit
    }
  }
}
