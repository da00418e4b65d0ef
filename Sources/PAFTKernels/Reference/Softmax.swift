// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Online softmax of one row (Milakov, Gimelshein 2018); a row that is all -inf becomes zeros.
func softmaxOnline_f32(
  _ s: KernelTable.Out, _ n: Int, _ scale: Float, _ state: KernelTable.Out
) -> Float {
  var maximum = state[0]
  for i in 0..<n where s[i] * scale > maximum { maximum = s[i] * scale }
  let shift = maximum == -.infinity ? 0 : Double(maximum)
  var sum = 0.0
  for i in 0..<n {
    let p = exp(Double(s[i]) * Double(scale) - shift)
    s[i] = Float(p)
    sum += p
  }
  let shrink = state[0] == -.infinity ? 0 : Float(exp(Double(state[0]) - shift))
  state[1] = Float(Double(state[1]) * Double(shrink) + sum)
  state[0] = maximum
  return shrink
}

/// p = exp(scale*s - lse); s <- p; dp <- p * (dp - delta) * scale.
func softmaxBackward_f32(
  _ s: KernelTable.Out, _ dp: KernelTable.Out, _ n: Int, _ scale: Float, _ lse: Float,
  _ delta: Float
) {
  for i in 0..<n {
    let p = Float(exp(Double(s[i]) * Double(scale) - Double(lse)))
    s[i] = p
    dp[i] = p * (dp[i] - delta) * scale
  }
}

/// Folds a row into (max, sum of exp(x - max)).
func logSumExp_f32(_ x: KernelTable.In, _ n: Int, _ state: KernelTable.Out) {
  var maximum = state[0]
  for i in 0..<n where x[i] > maximum { maximum = x[i] }
  let shift = maximum == -.infinity ? 0 : Double(maximum)
  var sum = state[0] == -.infinity ? 0 : Double(state[1]) * exp(Double(state[0]) - shift)
  for i in 0..<n { sum += exp(Double(x[i]) - shift) }
  state[0] = maximum
  state[1] = Float(sum)
}

/// x <- scale * exp(x - lse).
func softmaxGradient_f32(_ x: KernelTable.Out, _ n: Int, _ lse: Float, _ scale: Float) {
  for i in 0..<n { x[i] = scale * Float(exp(Double(x[i]) - Double(lse))) }
}

/// Index of the first largest value; NaN never wins, a row of NaN answers 0.
func argmax_f32(_ x: KernelTable.In, _ n: Int) -> Int {
  var best = 0
  for i in 0..<n where x[i] > x[best] || (x[best].isNaN && !x[i].isNaN) { best = i }
  return best
}
