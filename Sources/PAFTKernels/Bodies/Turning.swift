// SPDX-License-Identifier: Apache-2.0

// A frozen weight's panels for the forward pass, turned into those for the input gradient (contracts
// with the other packers): in both of them neighbours along the reduced dimension lie together, and
// the one's reduced dimension is the other's columns. Eight columns of the source become rows by the
// 8 x 8 transpose of 32-bit values that all packing uses, which carries a pair or a quad as one; then
// neighbouring rows are joined to pairs or quads of the other direction. No value is rounded.
//
// A part asks for the next one, which the caller knows: the eight columns of a turn are half a line of
// each row, and what fetches lines by itself does not see a sequence in that. Without it half of the
// time went by waiting.

/// A share of the `bytes` bytes from `ahead` on, on the way from `at` to `at + 8` of `k`.
@_alwaysEmitIntoClient @inline(__always)
package func prefetchPart<I: InstructionSet>(
  _: I.Type, _ ahead: UnsafeRawPointer, _ bytes: Int, _ at: Int, _ k: Int
) {
  var line = (bytes &* at / k) & ~63
  let end = bytes &* (at &+ 8) / k
  while line < end {
    I.prefetchFar(ahead + line)
    line &+= 64
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func turnB_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ columns: Int,
  _ k: Int, _ ahead: UnsafeRawPointer
) {
  let (to, from) = (panelWidth(I.self, columns), panelWidth(I.self, k))
  var row = 0
  while row &+ 8 <= k {
    prefetchPart(I.self, ahead, 4 &* columns &* from, row, k)
    var i = 0
    while i < to {
      let valid = clampedToEight(columns &- i)
      I.transpose_f32(
        dst + (row &* to &+ i), to, src + (valid > 0 ? i &* from &+ row : 0), from, valid,
        blockWidth(I.self, to &- i))
      i &+= 8
    }
    row &+= 8
  }
  while row < k {
    for i in 0..<to { dst[row &* to &+ i] = i < columns ? src[i &* from &+ row] : 0 }
    row &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func turnB_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<UInt16>, _ columns: Int,
  _ k: Int, _ ahead: UnsafeRawPointer
) {
  let (to, from) = (panelWidth(I.self, columns), panelWidth(I.self, k))
  let pairs = (columns &+ 1) / 2
  let source = UnsafeRawPointer(src).assumingMemoryBound(to: Float.self)
  // Eight rows of a panel's width, at most 64 values.
  var block = InlineArray<256, Float>(repeating: 0)
  withUnsafeMutablePointer(to: &block) {
    let words = UnsafeMutableRawPointer($0).assumingMemoryBound(to: Float.self)
    let values = UnsafeMutableRawPointer($0).assumingMemoryBound(to: UInt16.self)
    var row = 0
    while row &+ 8 <= from && row < k {
      prefetchPart(I.self, ahead, 4 &* pairs &* from, row, k)
      var p = 0
      while 2 &* p < to {
        let valid = clampedToEight(pairs &- p)
        I.transpose_f32(
          words + p, 32, source + (valid > 0 ? p &* from &+ row : 0), from, valid, 8)
        p &+= 8
      }
      var n = 0
      while n < 8 && row &+ n < k {
        var j = 0
        while j < to {
          let even = I.loadBF16(values + (n &* 64 &+ j))
          let odd = I.loadBF16(values + ((n &+ 1) &* 64 &+ j))
          I.storePairs(dst + ((row &+ n) &* to &+ 2 &* j), I.pair(even: even, odd: odd))
          j &+= I.lanes
        }
        n &+= 2
      }
      row &+= 8
    }
    // Fewer than eight columns are left of a panel of four lanes.
    while row < k {
      for i in 0..<to {
        for half in 0..<2 {
          dst[row &* to &+ 2 &* i &+ half] =
            i < columns ? src[(i & ~1) &* from &+ 2 &* (row &+ half) &+ i & 1] : 0
        }
      }
      row &+= 2
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func turnB_s8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<Int8>, _ src: UnsafePointer<Int8>, _ columns: Int,
  _ k: Int, _ ahead: UnsafeRawPointer
) {
  let (to, from) = (panelWidth(I.self, columns), panelWidth(I.self, k))
  let quads = (columns &+ 3) / 4
  let source = UnsafeRawPointer(src).assumingMemoryBound(to: Float.self)
  var block = InlineArray<128, Float>(repeating: 0)
  withUnsafeMutablePointer(to: &block) {
    let words = UnsafeMutableRawPointer($0).assumingMemoryBound(to: Float.self)
    let values = UnsafeMutableRawPointer($0).assumingMemoryBound(to: Int8.self)
    var row = 0
    while row < k {
      prefetchPart(I.self, ahead, 4 &* quads &* from, row, k)
      var p = 0
      while 4 &* p < to {
        let valid = clampedToEight(quads &- p)
        I.transpose_f32(
          words + p, 16, source + (valid > 0 ? p &* from &+ row : 0), from, valid, 8)
        p &+= 8
      }
      var n = 0
      while n < 8 && row &+ n < k {
        var j = 0
        while j < to {
          let at = values + (n &* 64 &+ j)
          I.storeQuads(
            dst + ((row &+ n) &* to &+ 4 &* j),
            I.packQuads(
              I.loadBytes(at), I.loadBytes(at + 64), I.loadBytes(at + 128), I.loadBytes(at + 192)))
          j &+= I.lanes
        }
        n &+= 4
      }
      row &+= 8
    }
  }
}
