// SPDX-License-Identifier: Apache-2.0

import PAFTBase

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

/// 2 sqrt(2/pi) (g + 0.044715 g³): gelu(g) = g sigmoid(that), since (1 + tanh x) / 2 = sigmoid(2 x).
private func tanhGate(_ g: Double) -> Double {
  2 * (2 / Double.pi).squareRoot() * (g + 0.044715 * g * g * g)
}

/// y = gelu(gate) * up with GELU's tanh form (Hendrycks and Gimpel 2016).
func geglu_f32(
  _ y: KernelTable.Out, _ gate: KernelTable.In, _ up: KernelTable.In, _ n: Int, _: Int
) {
  for i in 0..<n {
    let g = Double(gate[i])
    y[i] = Float(g * sigmoid(tanhGate(g)) * Double(up[i]))
  }
}

/// dup = dy * gelu(g);  dgate = dy * up * (s + g * s * (1 - s) * a'(g)), s = sigmoid(a(g)).
func gegluBackward_f32(
  _ dgate: KernelTable.Out, _ dup: KernelTable.Out, _ dy: KernelTable.In, _ gate: KernelTable.In,
  _ up: KernelTable.In, _ n: Int
) {
  for i in 0..<n {
    let (g, u, d) = (Double(gate[i]), Double(up[i]), Double(dy[i]))
    let (s, rest) = (sigmoid(tanhGate(g)), sigmoid(-tanhGate(g)))
    let slope = 2 * (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * g * g)
    dgate[i] = Float(d * u * (s + g * s * rest * slope))
    dup[i] = Float(d * g * s)
  }
}

/// One value after another through the kernels of Floats.
func gatedBackward_bf16(
  _ dgate: KernelTable.Out, _ dup: KernelTable.Out, _ roundedGate: KernelTable.Out16?,
  _ roundedUp: KernelTable.Out16?, _ product: KernelTable.Out16?,
  _ dy: KernelTable.In, _ gate: KernelTable.In16, _ up: KernelTable.In16, _ n: Int,
  _ forward: (KernelTable.Out, KernelTable.In, KernelTable.In, Int, Int) -> Void,
  _ backward: (
    KernelTable.Out, KernelTable.Out, KernelTable.In, KernelTable.In, KernelTable.In, Int
  ) -> Void
) {
  for i in 0..<n {
    var (g, u, d) = (BF16(bits: gate[i]).float, BF16(bits: up[i]).float, dy[i])
    var y: Float = 0
    forward(&y, &g, &u, 1, 0)
    backward(dgate + i, dup + i, &d, &g, &u, 1)
    roundedGate?[i] = BF16(dgate[i]).bits
    roundedUp?[i] = BF16(dup[i]).bits
    product?[i] = BF16(y).bits
  }
}

/// x <- outer * tanh(inner * x), -inf stays; slopes <- 1 - tanh².
func softcap_f32(
  _ x: KernelTable.Out, _ slopes: KernelTable.Out?, _ n: Int, _ inner: Float, _ outer: Float
) {
  for i in 0..<n {
    let t = tanh(Double(inner) * Double(x[i]))
    slopes?[i] = Float(1 - t * t)
    if x[i] != -.infinity { x[i] = Float(Double(outer) * t) }
  }
}
