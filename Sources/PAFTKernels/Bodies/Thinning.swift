// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// Which entries of a delta stay: those of a magnitude, or those drawn. Draws are words of
// `CounterRandom` by an entry's place, so that any block of any tensor can be thinned alone.

@_alwaysEmitIntoClient @inline(__always)
package func cut_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafeMutablePointer<Float>, _ floor: Float, _ n: Int
) {
  let (bound, zero) = (I.splat(floor), I.splat(0))
  sweep(I.self, n) { at, count, _ in
    let v = I.load(x + at, count)
    I.store(x + at, I.whereGreater(bound, I.abs(v), zero, v), count)
  }
}

/// Which of a vector's words, the first of them of the even `counter`, are below the limit.
@_alwaysEmitIntoClient @inline(__always)
func drawnMask<I: OptimizerVerbs>(_: I.Type, _ counter: Int, _ key: UInt64, _ limit: UInt64)
  -> UInt32
{
  I.maskBelow(I.drawWords(UInt64(truncatingIfNeeded: counter), key), limit)
}

/// From an odd entry on, the first vector is one short: words come in pairs.
@_alwaysEmitIntoClient @inline(__always)
package func thin_f32<I: OptimizerVerbs>(
  _: I.Type, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ key: UInt64, _ first: Int,
  _ limit: UInt64
) {
  var start = 0
  if first & 1 == 1, n > 0 {
    start = min(I.lanes &- 1, n)
    let mask = drawnMask(I.self, first &- 1, key, limit) &>> 1
    I.store(x, I.keepLanes(I.load(x, start), mask), start)
  }
  let (rest, next) = (x + start, first &+ start)
  sweep(I.self, n &- start) { at, count, _ in
    let mask = drawnMask(I.self, next &+ at, key, limit)
    I.store(rest + at, I.keepLanes(I.load(rest + at, count), mask), count)
  }
}

/// Sixteen entries a turn, which are whole bytes for every width.
@_alwaysEmitIntoClient @inline(__always)
package func draw_bits<I: OptimizerVerbs>(
  _: I.Type, _ bits: UnsafeMutablePointer<UInt8>, _ n: Int, _ key: UInt64, _ first: Int,
  _ limit: UInt64
) {
  var i = 0
  while i < n {
    var word: UInt32 = 0
    for part in 0..<(16 / I.lanes) {
      let at = part &* I.lanes
      word |=
        drawnMask(I.self, first &+ i &+ at, key, limit) &<< UInt32(truncatingIfNeeded: at)
    }
    let left = n &- i
    if left < 16 { word &= (1 &<< UInt32(truncatingIfNeeded: left)) &- 1 }
    bits[i / 8] = UInt8(truncatingIfNeeded: word)
    if left > 8 { bits[i / 8 &+ 1] = UInt8(truncatingIfNeeded: word >> 8) }
    i &+= 16
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func keep_f32<I: OptimizerVerbs>(
  _: I.Type, _ x: UnsafeMutablePointer<Float>, _ bits: UnsafePointer<UInt8>, _ n: Int
) {
  var i = 0
  while i &+ 16 <= n {
    let word = UInt32(bits[i / 8]) | UInt32(bits[i / 8 &+ 1]) << 8
    for part in 0..<(16 / I.lanes) {
      let at = x + (i &+ part &* I.lanes)
      I.store(
        at, I.keepLanes(I.load(at), word &>> UInt32(truncatingIfNeeded: part &* I.lanes)))
    }
    i &+= 16
  }
  while i < n {
    if bits[i / 8] >> UInt8(truncatingIfNeeded: i % 8) & 1 == 0 { x[i] = 0 }
    i &+= 1
  }
}
