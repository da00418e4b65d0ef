// SPDX-License-Identifier: Apache-2.0

// Operands of attention in the layouts of `AttentionKernels`. A source whose rows run along the
// reduced dimension is transposed in blocks of 8 rows x 8 steps, and the rest one value at a time.

@_alwaysEmitIntoClient @inline(__always)
package func attentionPackPanels<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ dst: UnsafeMutableRawPointer,
  _ src: UnsafePointer<Float>, _ rows: Int, _ size: Int, _ stride: Int
) {
  let steps = (size &+ P.depth &- 1) / P.depth
  var to = dst.assumingMemoryBound(to: P.Element.self)
  var row = 0
  while row < rows {
    let valid = rows &- row < R ? rows &- row : R
    packLanes(P.self, to, R, src + row &* stride, valid, R, size, stride)
    to += steps &* R &* P.depth
    row &+= R
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func attentionPackTransposed<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ dst: UnsafeMutableRawPointer,
  _ src: UnsafePointer<Float>, _ rows: Int, _ size: Int, _ stride: Int
) {
  let padded = (rows &+ R &- 1) / R &* R
  var to = dst.assumingMemoryBound(to: P.Element.self)
  var column = 0
  while column < size {
    let valid = size &- column < R ? size &- column : R
    var row = 0
    while row < padded {
      let from = src + (row < rows ? row &* stride &+ column : 0)
      if valid == R && row &+ P.depth <= rows {
        P.copySix(to, from, stride)
      } else {
        for r in 0..<R {
          for half in 0..<P.depth {
            let isThere = r < valid && row &+ half < rows
            to[r &* P.depth &+ half] = P.element(isThere ? from[half &* stride &+ r] : 0)
          }
        }
      }
      to += R &* P.depth
      row &+= P.depth
    }
    column &+= R
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func attentionPackQueries<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ dst: UnsafeMutableRawPointer, _ vector: Int,
  _ src: UnsafePointer<Float>, _ count: Int, _ size: Int, _ stride: Int
) {
  let lanes = P.I.lanes
  let to = dst.assumingMemoryBound(to: P.Element.self) + vector &* lanes &* P.depth
  var lane = 0
  while lane < lanes {
    let valid = count &- lane < 0 ? 0 : count &- lane < 8 ? count &- lane : 8
    packLanes(
      P.self, to + lane &* P.depth, C &* lanes, src + (valid > 0 ? lane &* stride : 0), valid, 8,
      size, stride)
    lane &+= 8
  }
}

/// `width` (6 or 8) rows of the source become neighbours in each step of dst; `valid` of them exist.
@_alwaysEmitIntoClient @inline(__always)
package func packLanes<P: AttentionProduct>(
  _: P.Type, _ dst: UnsafeMutablePointer<P.Element>, _ dstStride: Int,
  _ src: UnsafePointer<Float>, _ valid: Int, _ width: Int, _ size: Int, _ stride: Int
) {
  let block = 8 &* P.depth
  var at = 0
  if valid == width {
    while at &+ block <= size {
      P.transpose(dst + at &* dstStride, dstStride, src + at, stride, width, Int32(width))
      at &+= block
    }
  } else {
    while at &+ block <= size {
      P.transpose(dst + at &* dstStride, dstStride, src + at, stride, valid, Int32(width))
      at &+= block
    }
  }
  while at < size {
    for r in 0..<width {
      for half in 0..<P.depth {
        let isThere = r < valid && at &+ half < size
        dst[at &* dstStride &+ r &* P.depth &+ half] = P.element(
          isThere ? src[r &* stride &+ at &+ half] : 0)
      }
    }
    at &+= P.depth
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func attentionPackRows<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ dst: UnsafeMutableRawPointer, _ vector: Int,
  _ src: UnsafePointer<Float>, _ count: Int, _ size: Int, _ stride: Int
) {
  typealias I = P.I
  let columns = C &* I.lanes
  var panel = dst.assumingMemoryBound(to: P.Element.self)
  var column = 0
  while column < size {
    let left = size &- column
    let width = left < columns ? (left &+ I.lanes &- 1) & ~(I.lanes &- 1) : columns
    var to = panel + vector &* I.lanes &* width
    var row = 0
    while row < I.lanes {
      var j = 0
      while j < width {
        let valid = left &- j < I.lanes ? left &- j : I.lanes
        let from = src + (column &+ j)
        let even = row < count ? I.load(from + row &* stride, valid) : I.splat(0)
        let odd = row &+ 1 < count ? I.load(from + (row &+ 1) &* stride, valid) : I.splat(0)
        P.storeRight(to + j &* P.depth, width, even, odd)
        j &+= I.lanes
      }
      to += 2 &* width
      row &+= 2
    }
    panel += columns &* width
    column &+= columns
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func attentionStore<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ dst: UnsafeMutablePointer<Float>, _ stride: Int,
  _ product: UnsafeMutablePointer<Float>, _ vector: Int, _ count: Int, _ size: Int,
  _ factors: UnsafePointer<Float>
) {
  typealias I = P.I
  let width = C &* I.lanes
  let source = product + vector &* I.lanes
  let factor = I.load(factors)
  for d in 0..<size {
    I.store(source + d &* width, I.mul(factor, I.load(source + d &* width)))
  }
  var lane = 0
  while lane < count {
    let to = dst + lane &* stride
    var d = 0
    if lane &+ 8 <= count {
      while d &+ 8 <= size {
        I.transpose_f32(to + d, stride, source + (d &* width &+ lane), width, 8, 8)
        d &+= 8
      }
    }
    let rows = count &- lane < 8 ? count &- lane : 8
    while d < size {
      for r in 0..<rows { to[r &* stride &+ d] = source[d &* width &+ lane &+ r] }
      d &+= 1
    }
    lane &+= 8
  }
}
