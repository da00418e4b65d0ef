// SPDX-License-Identifier: Apache-2.0

/// A weight's panel back to rows (contract: GEMMKernels). A pair of BF16 is one word: blocks of 8
/// columns by 8 pairs are transposed as packing does it, after which a column's pairs lie together and
/// are widened. The panel is read from front to back.
@_alwaysEmitIntoClient @inline(__always)
package func unpackBT_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<UInt16>, _ columns: Int,
  _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  let source = UnsafeRawPointer(src).assumingMemoryBound(to: Float.self)
  // Eight columns of 32 values.
  var block = InlineArray<128, Float>(repeating: 0)
  withUnsafeMutablePointer(to: &block) {
    let words = UnsafeMutableRawPointer($0).assumingMemoryBound(to: Float.self)
    let values = UnsafeMutableRawPointer($0).assumingMemoryBound(to: UInt16.self)
    var p = 0
    while 2 &* p &+ 32 <= k {
      var j = 0
      while j &+ 8 <= width && j < columns {
        I.transpose_f32(words, 16, source + (p &* width &+ j), width, 8, 8)
        I.transpose_f32(words + 8, 16, source + ((p &+ 8) &* width &+ j), width, 8, 8)
        let count = clampedToEight(columns &- j)
        var n = 0
        while n < count {
          let to = dst + ((j &+ n) &* stride &+ 2 &* p)
          var i = 0
          while i < 32 {
            I.store(to + i, I.loadBF16(values + (n &* 32 &+ i)))
            i &+= I.lanes
          }
          n &+= 1
        }
        j &+= 8
      }
      // Four columns are left of a panel of four lanes.
      while j < columns {
        for i in 0..<32 { dst[j &* stride &+ 2 &* p &+ i] = unpacked(src, width, j, 2 &* p &+ i) }
        j &+= 1
      }
      p &+= 16
    }
    for j in 0..<columns {
      var i = 2 &* p
      while i < k {
        dst[j &* stride &+ i] = unpacked(src, width, j, i)
        i &+= 1
      }
    }
  }
}

/// Value `i` of the reduced dimension in column `j`.
@_alwaysEmitIntoClient @inline(__always)
package func unpacked(_ src: UnsafePointer<UInt16>, _ width: Int, _ j: Int, _ i: Int) -> Float {
  Float(bitPattern: UInt32(src[(i & ~1) &* width &+ 2 &* j &+ i & 1]) << 16)
}
