// SPDX-License-Identifier: Apache-2.0

// Rows of scores and logits. Long rows (a vocabulary) go in blocks that stay in L1, so memory is
// read once although a block is swept twice: for its maximum, then for its exponentials.

/// Values per block: 8 KiB of Float, a quarter of L1.
@_alwaysEmitIntoClient package var softmaxBlock: Int { @inline(__always) get { 2048 } }

/// Largest scale * x[i]; -inf for an empty row; NaN is ignored.
@_alwaysEmitIntoClient @inline(__always)
package func largest<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<Float>, _ n: Int, scale: Float
) -> Float {
  var best = InlineArray<4, I.F>(repeating: I.splat(-.infinity))
  let scales = I.splat(scale)
  sweep(I.self, n) { at, count, slot in
    let v = I.mul(I.load(x + at, count, fill: -.infinity), scales)
    best[slot] = I.max(v, best[slot])
  }
  return I.maximum(I.max(I.max(best[0], best[1]), I.max(best[2], best[3])))
}

@_alwaysEmitIntoClient @inline(__always)
package func softmaxOnline_f32<I: InstructionSet>(
  _: I.Type, _ s: UnsafeMutablePointer<Float>, _ n: Int, _ scale: Float,
  _ state: UnsafeMutablePointer<Float>
) -> Float {
  let before = state[0]
  let found = largest(I.self, s, n, scale: scale)
  let maximum = found > before ? found : before
  // A row that is all -inf so far must give zeros and not NaN.
  let shift = I.splat(maximum == -.infinity ? 0 : -maximum)
  let scales = I.splat(scale)
  var sums = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, n) { at, count, slot in
    let v = I.load(s + at, count, fill: -.infinity)
    let p = exponential(I.self, I.fma(v, scales, shift))
    sums[slot] = I.add(sums[slot], p)
    I.store(s + at, p, count)
  }
  let shrink: Float =
    before == -.infinity ? 0 : before == maximum ? 1 : exponential(I.self, before - maximum)
  state[1] = Float(Double(state[1]) * Double(shrink) + total(I.self, sums))
  state[0] = maximum
  return shrink
}

/// p = exp(scale*s - lse); s <- p; dp <- p * (dp - delta) * scale.
@_alwaysEmitIntoClient @inline(__always)
package func softmaxBackward_f32<I: InstructionSet>(
  _: I.Type, _ s: UnsafeMutablePointer<Float>, _ dp: UnsafeMutablePointer<Float>, _ n: Int,
  _ scale: Float, _ lse: Float, _ delta: Float
) {
  let (scales, shift, deltas) = (I.splat(scale), I.splat(-lse), I.splat(delta))
  sweep(I.self, n) { at, count, _ in
    let p = exponential(I.self, I.fma(I.load(s + at, count), scales, shift))
    I.store(s + at, p, count)
    let gradient = I.mul(p, I.sub(I.load(dp + at, count), deltas))
    I.store(dp + at, I.mul(gradient, scales), count)
  }
}

/// Folds a row into (max, sum of exp(x - max)).
@_alwaysEmitIntoClient @inline(__always)
package func logSumExp_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<Float>, _ n: Int, _ state: UnsafeMutablePointer<Float>
) {
  var maximum = state[0]
  var sum = Double(state[1])
  var start = 0
  while start < n {
    let (block, count) = (x + start, n &- start < softmaxBlock ? n &- start : softmaxBlock)
    let found = largest(I.self, block, count, scale: 1)
    if found > maximum {
      sum *= maximum == -.infinity ? 0 : Double(exponential(I.self, maximum - found))
      maximum = found
    }
    let shift = I.splat(maximum == -.infinity ? 0 : maximum)
    var sums = InlineArray<4, I.F>(repeating: I.splat(0))
    sweep(I.self, count) { at, count, slot in
      let v = I.load(block + at, count, fill: -.infinity)
      sums[slot] = I.add(sums[slot], exponential(I.self, I.sub(v, shift)))
    }
    sum += total(I.self, sums)
    start &+= count
  }
  state[0] = maximum
  state[1] = Float(sum)
}

/// x <- scale * exp(x - lse).
@_alwaysEmitIntoClient @inline(__always)
package func softmaxGradient_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ lse: Float, _ scale: Float
) {
  let (scales, shift) = (I.splat(scale), I.splat(lse))
  sweep(I.self, n) { at, count, _ in
    let p = exponential(I.self, I.sub(I.load(x + at, count), shift))
    I.store(x + at, I.mul(scales, p), count)
  }
}

/// Index of the first largest value; NaN never wins, a row of NaN answers 0.
@_alwaysEmitIntoClient @inline(__always)
package func argmax_f32<I: InstructionSet>(
  _: I.Type, _ x: UnsafePointer<Float>, _ n: Int
) -> Int {
  var best = -Float.infinity
  var home = 0
  var start = 0
  while start < n {
    let count = n &- start < softmaxBlock ? n &- start : softmaxBlock
    let found = largest(I.self, x + start, count, scale: 1)
    if found > best { (best, home) = (found, start) }
    start &+= count
  }
  // Only the block that held the maximum is searched for its place.
  while home < n {
    if x[home] == best { return home }
    home &+= 1
  }
  return 0
}
