// SPDX-License-Identifier: Apache-2.0

// Panels for the micro-tile (layouts: KernelTable). A source whose rows run along k is transposed
// in blocks of 8 x 8 (Float) or 8 x 16 (BF16, whose pairs are neighbours along k already); the
// others are copied row by row. What is left of k after the blocks goes one value at a time.

/// Round to nearest even; NaN stays NaN (quiet).
@_alwaysEmitIntoClient @inline(__always)
package func roundedBF16(_ value: Float) -> UInt16 {
  let raw = value.bitPattern
  if value != value { return UInt16(truncatingIfNeeded: raw >> 16) | 0x40 }
  return UInt16(truncatingIfNeeded: (raw &+ 0x7FFF &+ ((raw >> 16) & 1)) >> 16)
}

// MARK: A

@_alwaysEmitIntoClient @inline(__always)
package func packA_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  var p = 0
  if rows == panelRows {
    while p &+ 8 <= k {
      I.transpose_f32(dst + p &* panelRows, panelRows, src + p, stride, 6, 6)
      p &+= 8
    }
  } else {
    while p &+ 8 <= k {
      I.transpose_f32(dst + p &* panelRows, panelRows, src + p, stride, rows, 6)
      p &+= 8
    }
  }
  while p < k {
    for r in 0..<panelRows {
      dst[p &* panelRows &+ r] = r < rows ? src[r &* stride &+ p] : 0
    }
    p &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packA_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  var p = 0
  if rows == panelRows {
    while p &+ 16 <= k {
      I.transpose_bf16(dst + p &* panelRows, panelRows, src + p, stride, 6, 6)
      p &+= 16
    }
  } else {
    while p &+ 16 <= k {
      I.transpose_bf16(dst + p &* panelRows, panelRows, src + p, stride, rows, 6)
      p &+= 16
    }
  }
  while p < k {
    for r in 0..<panelRows {
      let at = p &* panelRows &+ 2 &* r
      dst[at] = r < rows ? roundedBF16(src[r &* stride &+ p]) : 0
      dst[at &+ 1] = r < rows && p &+ 1 < k ? roundedBF16(src[r &* stride &+ p &+ 1]) : 0
    }
    p &+= 2
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packAT_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  for p in 0..<k {
    let (to, from) = (dst + p &* panelRows, src + p &* stride)
    if rows == panelRows {
      I.copySix(to, from)
    } else {
      for r in 0..<panelRows { to[r] = r < rows ? from[r] : 0 }
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packAT_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  var p = 0
  while p < k {
    let (to, from) = (dst + p &* panelRows, src + p &* stride)
    let hasOdd = p &+ 1 < k
    if rows == panelRows && hasOdd {
      I.copySixPairs(to, from, from + stride)
    } else {
      for r in 0..<panelRows {
        to[2 &* r] = r < rows ? roundedBF16(from[r]) : 0
        to[2 &* r &+ 1] = r < rows && hasOdd ? roundedBF16(from[stride &+ r]) : 0
      }
    }
    p &+= 2
  }
}

// MARK: B

/// Stored width of a B panel.
@_alwaysEmitIntoClient @inline(__always)
package func panelWidth<I: InstructionSet>(_: I.Type, _ columns: Int) -> Int {
  (columns &+ I.lanes &- 1) & ~(I.lanes &- 1)
}

@_alwaysEmitIntoClient @inline(__always)
package func packB_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ columns: Int,
  _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  let whole = columns & ~(I.lanes &- 1)
  for p in 0..<k {
    let (to, from) = (dst + p &* width, src + p &* stride)
    var j = 0
    while j < whole {
      I.store(to + j, I.load(from + j))
      j &+= I.lanes
    }
    if j < columns { I.store(to + j, I.loadPart(from + j, columns &- j, I.splat(0))) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packB_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ columns: Int,
  _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  var p = 0
  while p < k {
    let (to, from) = (dst + p &* width, src + p &* stride)
    let hasOdd = p &+ 1 < k
    var j = 0
    while j < columns {
      let count = columns &- j < I.lanes ? columns &- j : I.lanes
      let even = I.load(from + j, count)
      let odd = hasOdd ? I.load(from + (stride &+ j), count) : I.splat(0)
      I.storePairs(to + 2 &* j, I.pair(even: even, odd: odd))
      j &+= I.lanes
    }
    p &+= 2
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packBT_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ columns: Int,
  _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  var p = 0
  // 16 of k at a time: a cache line of each source row is used up while it is near.
  while p &+ 16 <= k {
    var j = 0
    while j < width {
      let valid = clampedToEight(columns &- j)
      let (to, from) = (dst + (p &* width &+ j), src + (valid > 0 ? j &* stride &+ p : 0))
      if valid == 8 {
        I.transpose_f32(to, width, from, stride, 8, 8)
        I.transpose_f32(to + 8 &* width, width, from + 8, stride, 8, 8)
      } else {
        let across = blockWidth(I.self, width &- j)
        I.transpose_f32(to, width, from, stride, valid, across)
        I.transpose_f32(to + 8 &* width, width, from + 8, stride, valid, across)
      }
      j &+= 8
    }
    p &+= 16
  }
  while p < k {
    for j in 0..<width { dst[p &* width &+ j] = j < columns ? src[j &* stride &+ p] : 0 }
    p &+= 1
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packBT_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ columns: Int,
  _ k: Int, _ stride: Int
) {
  let width = panelWidth(I.self, columns)
  var p = 0
  while p &+ 16 <= k {
    var j = 0
    while j < width {
      let valid = clampedToEight(columns &- j)
      let (to, from) = (dst + (p &* width &+ 2 &* j), src + (valid > 0 ? j &* stride &+ p : 0))
      if valid == 8 {
        I.transpose_bf16(to, width, from, stride, 8, 8)
      } else {
        I.transpose_bf16(to, width, from, stride, valid, blockWidth(I.self, width &- j))
      }
      j &+= 8
    }
    p &+= 16
  }
  while p < k {
    for j in 0..<width {
      let at = p &* width &+ 2 &* j
      dst[at] = j < columns ? roundedBF16(src[j &* stride &+ p]) : 0
      dst[at &+ 1] = j < columns && p &+ 1 < k ? roundedBF16(src[j &* stride &+ p &+ 1]) : 0
    }
    p &+= 2
  }
}

/// Columns of a block of a B panel: 8, or 4 at the end of one of vectors of 4.
@_alwaysEmitIntoClient @inline(__always)
package func blockWidth<I: InstructionSet>(_: I.Type, _ left: Int) -> Int32 {
  I.lanes < 8 && left < 8 ? 4 : 8
}

@_alwaysEmitIntoClient @inline(__always)
package func clampedToEight(_ x: Int) -> Int { x < 0 ? 0 : x > 8 ? 8 : x }
