// SPDX-License-Identifier: Apache-2.0

/// AdamW (Loshchilov, Hutter 2019) with decoupled weight decay; see KernelTable for the equations.
func adamW_f32(
  _ p: KernelTable.Out, _ m: KernelTable.Out, _ v: KernelTable.Out, _ g: KernelTable.In, _ n: Int,
  _ scalars: KernelTable.In
) {
  let (rate, beta1, beta2, epsilon) = (scalars[0], scalars[1], scalars[2], scalars[3])
  let (decay, correction1, correction2) = (scalars[4], scalars[5], scalars[6])
  let gradientScale = scalars[7]
  for i in 0..<n {
    let gradient = g[i] * gradientScale
    m[i] = beta1 * m[i] + (1 - beta1) * gradient
    v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient
    let step = (m[i] / correction1) / ((v[i] / correction2).squareRoot() + epsilon)
    p[i] = p[i] * (1 - rate * decay) - rate * step
  }
}

/// p <- base + soft(p - base, threshold); inside the threshold p is exactly base.
func softThreshold_f32(
  _ p: KernelTable.Out, _ base: KernelTable.In, _ threshold: Float, _ n: Int
) {
  for i in 0..<n {
    let delta = p[i] - base[i]
    if delta.magnitude <= threshold {
      p[i] = base[i]
    } else {
      p[i] = base[i] + (delta > 0 ? delta - threshold : delta + threshold)
    }
  }
}
