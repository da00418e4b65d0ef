// SPDX-License-Identifier: Apache-2.0

/// (a, b) -> (a*cos - sign*b*sin, b*cos + sign*a*sin) on the two halves of each head (Su 2021).
func rope_f32(
  _ x: KernelTable.Out, _ cos: KernelTable.In, _ sin: KernelTable.In, _ heads: Int, _ dim: Int,
  _ sign: Float
) {
  let half = dim / 2
  for head in 0..<heads {
    let x = x + head &* dim
    for i in 0..<half {
      let (a, b, s) = (x[i], x[i &+ half], sign * sin[i])
      x[i] = a * cos[i] - b * s
      x[i &+ half] = b * cos[i] + a * s
    }
  }
}
