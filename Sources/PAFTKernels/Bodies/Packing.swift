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

/// Panels side by side that a transposed source fills together: 48 columns, whole cache lines of
/// every source row, each read once and in order. Panel by panel a line is fetched three times, and
/// rows a power of two apart share so few sets of the caches that it is gone in between. Zen 4, one
/// core, 10^9 values a second in BF16, 1024 x 896, 1024 x 4864 and 512 x 2048: panel by panel 4.9, 3.9
/// and 1.8; the same in bands of 64 rows 5.1, 3.2 and 1.9; this way 7.2, 3.7 and 8.1.
@_alwaysEmitIntoClient package var panelsTogether: Int { @inline(__always) get { 8 } }

/// Source rows ahead that are prefetched: their distance is beyond what the hardware follows. Into the
/// first level 16 ahead, a weight's gradient reaches 91 to 94 % of the peak (BF16, one Zen 5 core, 512x4864x896,
/// 512x2048x2048, 2048x896x896) where 8 ahead into the second gave 88 to 90; 32 ahead as much.
@_alwaysEmitIntoClient package var rowsAhead: Int { @inline(__always) get { 16 } }

@_alwaysEmitIntoClient @inline(__always)
package func packAT_f32<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  let panel = k &* panelRows
  var first = 0
  while rows &- first >= panelsTogether &* panelRows {
    let start = dst + first &* k
    for p in 0..<k {
      let (to, from) = (start + p &* panelRows, src + (p &* stride &+ first))
      for i in 0..<3 { I.prefetchNear(from + (rowsAhead &* stride &+ 16 &* i)) }
      // Two values too many, which the panel's next row overwrites: not so in its last.
      let last = p == k &- 1 ? 0 : panelsTogether &- 1
      for i in 0..<last { I.copyEight(to + i &* panel, from + i &* panelRows) }
      for i in last..<panelsTogether { I.copySix(to + i &* panel, from + i &* panelRows) }
    }
    first &+= panelsTogether &* panelRows
  }
  while first < rows {
    let valid = rows &- first
    for p in 0..<k {
      let (to, from) = (dst + (first &* k &+ p &* panelRows), src + (p &* stride &+ first))
      if valid >= panelRows {
        I.copySix(to, from)
      } else {
        for r in 0..<panelRows { to[r] = r < valid ? from[r] : 0 }
      }
    }
    first &+= panelRows
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func packAT_bf16<I: InstructionSet>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt16>, _ src: UnsafePointer<Float>, _ rows: Int,
  _ k: Int, _ stride: Int
) {
  let padded = (k &+ 1) & ~1
  let panel = padded &* panelRows
  var first = 0
  while rows &- first >= panelsTogether &* panelRows {
    let start = dst + first &* padded
    var p = 0
    while p &+ 1 < k {
      let (to, from) = (start + p &* panelRows, src + (p &* stride &+ first))
      for i in 0..<3 {
        I.prefetchNear(from + (rowsAhead &* stride &+ 16 &* i))
        I.prefetchNear(from + ((rowsAhead &+ 1) &* stride &+ 16 &* i))
      }
      let last = p &+ 2 >= k ? 0 : panelsTogether &- 1
      for i in 0..<last {
        I.copyEightPairs(to + i &* panel, from + i &* panelRows, from + (stride &+ i &* panelRows))
      }
      for i in last..<panelsTogether {
        I.copySixPairs(to + i &* panel, from + i &* panelRows, from + (stride &+ i &* panelRows))
      }
      p &+= 2
    }
    if p < k {
      for i in 0..<panelsTogether {
        let (to, from) = (start + (i &* panel &+ p &* panelRows), src + (p &* stride &+ first))
        for r in 0..<panelRows {
          to[2 &* r] = roundedBF16(from[i &* panelRows &+ r])
          to[2 &* r &+ 1] = 0
        }
      }
    }
    first &+= panelsTogether &* panelRows
  }
  while first < rows {
    let valid = rows &- first
    var p = 0
    while p < k {
      let (to, from) = (dst + (first &* padded &+ p &* panelRows), src + (p &* stride &+ first))
      let hasOdd = p &+ 1 < k
      if valid >= panelRows && hasOdd {
        I.copySixPairs(to, from, from + stride)
      } else {
        for r in 0..<panelRows {
          to[2 &* r] = r < valid ? roundedBF16(from[r]) : 0
          to[2 &* r &+ 1] = r < valid && hasOdd ? roundedBF16(from[stride &+ r]) : 0
        }
      }
      p &+= 2
    }
    first &+= panelRows
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
      I.prefetchNear(from + (rowsAhead &* stride &+ j))
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
    while j &+ I.lanes <= columns && hasOdd {
      I.prefetchNear(from + (rowsAhead &* stride &+ j))
      I.prefetchNear(from + ((rowsAhead &+ 1) &* stride &+ j))
      let pairs = I.pair(even: I.load(from + j), odd: I.load(from + (stride &+ j)))
      I.storePairs(to + 2 &* j, pairs)
      j &+= I.lanes
    }
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
