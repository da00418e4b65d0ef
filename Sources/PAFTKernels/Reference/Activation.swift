// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

/// y = silu(gate) * up with silu(g) = g * sigmoid(g) (Shazeer 2020).
func swiglu_f32(
  _ y: KernelTable.Out, _ gate: KernelTable.In, _ up: KernelTable.In, _ n: Int, _: Int
) {
  for i in 0..<n {
    let g = Double(gate[i])
    y[i] = Float(g * sigmoid(g) * Double(up[i]))
  }
}

/// dup = dy * silu(g);  dgate = dy * up * s * (1 + g * (1 - s)), s = sigmoid(g).
func swigluBackward_f32(
  _ dgate: KernelTable.Out, _ dup: KernelTable.Out, _ dy: KernelTable.In, _ gate: KernelTable.In,
  _ up: KernelTable.In, _ n: Int
) {
  for i in 0..<n {
    let (g, u, d) = (Double(gate[i]), Double(up[i]), Double(dy[i]))
    let s = sigmoid(g)
    dgate[i] = Float(d * u * s * (1 + g * (1 - s)))
    dup[i] = Float(d * g * s)
  }
}
