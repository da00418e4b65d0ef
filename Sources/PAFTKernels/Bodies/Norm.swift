// SPDX-License-Identifier: Apache-2.0

// A norm reads a row twice: for its sum, then to write the result. Done one after the other, memory
// only reads, then only writes; one core reads at 34 GB/s but moves 45 when it does both (Zen 4). So the
// rows are skewed: while one is written, the sum of the next is taken in the same sweep. Asking for
// the next row by prefetch instead cost a third (rows of 2048, Zen 4); pairs of rows that share the
// loads of w reached 71 % of stream (backward, 896 wide) where the skew reaches 105 %, and 61 where it
// reaches 72 (2048 wide).
//
// Forward, beyond the caches, a streaming store needs no line to be read, and what is left of the
// memory's time is the next row: with it asked for 6 KiB ahead, into the first level, Zen 5 moves
// 84...98 % of a copy from 2048 to 4864 wide (68...82 without; 4 KiB ahead 77...100, 8 and 12 KiB up to
// a tenth less in wide rows, into the second level 85 at best). With plain stores it gains nothing.
// Zen 4, 2 KiB ahead in rows of 4096 alone: 896 wide 95 %, 2048 wide 87, 4096 wide 78. With a fence
// after every row it was 68, 73 and 66; a skew of two rows, which hides the root of the sum, gained
// nothing over four vectors of a stream at a time (36 against 39 GB/s, 896 wide).
//
// Backward moves 16 bytes a value, three of four read: dx += dy + x and nothing else reaches 81...84 % of
// a walk that writes what it reads (Zen 5), this 74...78. Prefetching any of its streams, 2...16 KiB ahead,
// took 4...20 % off that; vectors grouped as forward lost 8 % on Zen 4 (896 wide), a skew of two rows
// 14, eight rows summed and then written 30, or 20 with prefetch; at 2048 and 4096 wide all were
// within 7 % of this.

/// y = x * r * w, r = 1/sqrt(mean(x^2) + eps).
@_alwaysEmitIntoClient @inline(__always)
package func rmsNorm_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ inverse: UnsafeMutablePointer<Float>, _ rows: Int, _ dim: Int,
  _ stride: Int, _ eps: Float, _ streams: Int
) {
  if rows == 0 { return }
  // Streaming stores need whole registers at aligned places.
  let aligned = (Int(bitPattern: y) / 4 | stride | dim) & (I.lanes &- 1) == 0
  let past = streams != 0 && aligned
  var squares = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let v = I.load(x + at, count)
    squares[slot] = I.fma(v, v, squares[slot])
  }
  for row in 0..<rows {
    let r = Float(I.inverseRoot(total(I.self, squares) / Double(dim) + Double(eps)))
    inverse[row] = r
    let factor = I.splat(r)
    let (from, to) = (x + row &* stride, y + row &* stride)
    if row &+ 1 == rows {
      sweep(I.self, dim) { at, count, _ in
        let scaled = I.mul(I.load(from + at, count), factor)
        I.store(to + at, I.mul(scaled, I.load(w + at, count)), count)
      }
      break
    }
    squares = .init(repeating: I.splat(0))
    if past {
      normRow(I.self, to, from, w, factor, dim, stride, &squares) {
        // Beyond the caches the next row is asked for 6 KiB ahead.
        I.prefetchNear($2 + 1536)
        I.stream($0, $1)
      }
    } else {
      normRow(I.self, to, from, w, factor, dim, stride, &squares) { to, v, _ in I.store(to, v) }
    }
  }
  if past { I.fence() }
}

/// Writes a row and sums the squares of the next: four vectors of a stream at a time, before the next
/// stream is touched.
///
/// - Parameter put: stores a vector; `next` is where the same place of the next row lies.
@_alwaysEmitIntoClient @inline(__always)
package func normRow<I: InstructionSet>(
  _: I.Type, _ to: UnsafeMutablePointer<Float>, _ from: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ factor: I.F, _ dim: Int, _ stride: Int,
  _ squares: inout InlineArray<4, I.F>,
  _ put: (_ p: UnsafeMutablePointer<Float>, _ v: I.F, _ next: UnsafePointer<Float>) -> Void
) {
  let next = from + stride
  var i = 0
  while i &+ 4 &* I.lanes <= dim {
    var v = InlineArray<4, I.F>(repeating: I.splat(0))
    for k in 0..<4 { v[k] = I.load(next + (i &+ k &* I.lanes)) }
    for k in 0..<4 { squares[k] = I.fma(v[k], v[k], squares[k]) }
    for k in 0..<4 { v[k] = I.mul(I.load(from + (i &+ k &* I.lanes)), factor) }
    for k in 0..<4 {
      let at = i &+ k &* I.lanes
      put(to + at, I.mul(v[k], I.load(w + at)), next + at)
    }
    i &+= 4 &* I.lanes
  }
  while i < dim {
    let count = min(I.lanes, dim &- i)
    let v = I.load(next + i, count)
    squares[0] = I.fma(v, v, squares[0])
    let scaled = I.mul(I.load(from + i, count), factor)
    I.store(to + i, I.mul(scaled, I.load(w + i, count)), count)
    i &+= count
  }
}

/// dx (+)= (dy*w - x * r^2 * mean(dy*w*x)) * r;  dw += dy * x * r.
@_alwaysEmitIntoClient @inline(__always)
package func rmsNormBackward_f32<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>,
  _ inverse: UnsafePointer<Float>, _ rows: Int, _ dim: Int, _ stride: Int, _ assign: Int
) {
  if rows == 0 { return }
  var products = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, dim) { at, count, slot in
    let gradient = I.mul(I.load(dy + at, count), I.load(w + at, count))
    products[slot] = I.fma(gradient, I.load(x + at, count), products[slot])
  }
  for row in 0..<rows {
    let (r, shrink) = normFactors(I.self, products, inverse[row], dim)
    let at = row &* stride
    let (x, dy, dx) = (x + at, dy + at, dx + at)
    if row &+ 1 == rows {
      sweep(I.self, dim) { at, count, _ in
        normGradient(I.self, dx, dw, dy, x, I.load(w + at, count), r, shrink, at, count, assign)
      }
      return
    }
    products = .init(repeating: I.splat(0))
    sweep(I.self, dim) { at, count, slot in
      // The next row first: dx may be dy's memory, but never that of another row.
      let weight = I.load(w + at, count)
      let gradient = I.mul(I.load(dy + (stride &+ at), count), weight)
      products[slot] = I.fma(gradient, I.load(x + (stride &+ at), count), products[slot])
      normGradient(I.self, dx, dw, dy, x, weight, r, shrink, at, count, assign)
    }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func normGradient<I: InstructionSet>(
  _: I.Type, _ dx: UnsafeMutablePointer<Float>, _ dw: UnsafeMutablePointer<Float>?,
  _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ weight: I.F, _ r: I.F, _ shrink: I.F,
  _ at: Int, _ count: Int, _ assign: Int
) {
  let (d, v) = (I.load(dy + at, count), I.load(x + at, count))
  if let dw {
    I.store(dw + at, I.fma(d, I.mul(v, r), I.load(dw + at, count)), count)
  }
  let direct = I.fnma(v, shrink, I.mul(d, weight))
  if assign != 0 {
    I.store(dx + at, I.mul(direct, r), count)
  } else {
    I.store(dx + at, I.fma(direct, r, I.load(dx + at, count)), count)
  }
}

/// r and r^2 * mean(dy*w*x) in every lane.
@_alwaysEmitIntoClient @inline(__always)
package func normFactors<I: InstructionSet>(
  _: I.Type, _ products: InlineArray<4, I.F>, _ inverse: Float, _ dim: Int
) -> (r: I.F, shrink: I.F) {
  let mean = total(I.self, products) / Double(dim)
  return (I.splat(inverse), I.splat(Float(mean * Double(inverse) * Double(inverse))))
}

/// The four accumulators of a sweep as one Double.
@_alwaysEmitIntoClient @inline(__always)
package func total<I: InstructionSet>(_: I.Type, _ sums: InlineArray<4, I.F>) -> Double {
  (I.sum(sums[0]) + I.sum(sums[1])) + (I.sum(sums[2]) + I.sum(sums[3]))
}
