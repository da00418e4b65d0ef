// SPDX-License-Identifier: Apache-2.0

/// Visits 0..<n a vector at a time: `step(at, count, slot)`, where count is `lanes` but for the
/// tail and slot 0..<4 names the accumulator to use, so that four sums hide the latency of an
/// addition.
@_alwaysEmitIntoClient @inline(__always)
package func sweep<I: InstructionSet>(
  _: I.Type, _ n: Int, _ step: (_ at: Int, _ count: Int, _ slot: Int) -> Void
) {
  var i = 0
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 { step(i &+ slot &* I.lanes, I.lanes, slot) }
    i &+= 4 &* I.lanes
  }
  while i &+ I.lanes <= n {
    step(i, I.lanes, 0)
    i &+= I.lanes
  }
  if i < n { step(i, n &- i, 0) }
}

/// y[0..<n] = value(at, count), stored past the caches when `streams`.
///
/// A plain store of a line that is in no cache reads the line first: of three bytes moved one is for
/// nothing. Streaming stores save that (copy 29 -> 44 GB/s on one Zen 4 core, whatever the distance of
/// the buffers) and lose what a next reader would have found in the cache, so the caller asks for
/// them only where `y` is larger than that. They need whole registers at aligned places; what lies
/// before the first and after the last goes the plain way.
@_alwaysEmitIntoClient @inline(__always)
package func fill<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ n: Int, streams: Int,
  _ value: (_ at: Int, _ count: Int) -> I.F
) {
  if streams == 0 {
    sweep(I.self, n) { at, count, _ in I.store(y + at, value(at, count), count) }
    return
  }
  let misplaced = (Int(bitPattern: y) / 4) & (I.lanes &- 1)
  var i = misplaced == 0 ? 0 : min(n, I.lanes &- misplaced)
  if i > 0 { I.storePart(y, value(0, i), i) }
  while i &+ 4 &* I.lanes <= n {
    for slot in 0..<4 {
      let at = i &+ slot &* I.lanes
      I.stream(y + at, value(at, I.lanes))
    }
    i &+= 4 &* I.lanes
  }
  while i < n {
    let count = min(I.lanes, n &- i)
    I.store(y + i, value(i, count), count)
    i &+= count
  }
  I.fence()
}
