// SPDX-License-Identifier: Apache-2.0

/// y = silu(gate) * up.
///
/// Beyond the caches three streams bind (12 bytes a value with `streams`, 16 without); inside, the
/// multiply-adds do: 6 in the exponential, 2 for the reciprocal, 2 products, 10 cycles a vector on
/// Zen 4.
@_alwaysEmitIntoClient @inline(__always)
package func swiglu_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ gate: UnsafePointer<Float>,
  _ up: UnsafePointer<Float>, _ n: Int, _ streams: Int
) {
  fill(I.self, y, n, streams: streams) { at, count in
    let g = boundedGate(I.self, I.load(gate + at, count))
    let product = I.mul(g, I.load(up + at, count))
    return I.mul(product, sigmoid(I.self, g))
  }
}

/// dup = dy * silu(g);  dgate = dy * up * s * (1 + g * (1 - s)), s = sigmoid(g).
@_alwaysEmitIntoClient @inline(__always)
package func swigluBackward_f32<I: InstructionSet>(
  _: I.Type, _ dgate: UnsafeMutablePointer<Float>, _ dup: UnsafeMutablePointer<Float>,
  _ dy: UnsafePointer<Float>, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    let g = boundedGate(I.self, I.load(gate + at, count))
    let (u, d) = (I.load(up + at, count), I.load(dy + at, count))
    let s = sigmoid(I.self, g)
    let silu = I.mul(g, s)
    // s * (1 + g * (1 - s)) = s + silu * (1 - s)
    let slope = I.fma(silu, I.sub(I.splat(1), s), s)
    I.store(dgate + at, I.mul(I.mul(d, u), slope), count)
    I.store(dup + at, I.mul(d, silu), count)
  }
}

/// Below -86 silu and its slope are under 2^-117 and taken as that: e^86 is still far from overflow,
/// and so is the reciprocal from the subnormals. NaN stays.
@_alwaysEmitIntoClient @inline(__always)
package func boundedGate<I: InstructionSet>(_: I.Type, _ gate: I.F) -> I.F {
  I.max(I.splat(-86), gate)
}

/// 1 / (1 + e^-x) for x >= -86, e^-x = 2^(-x * log2 e): the product's rounding costs 1.5 |x| units of
/// 2^-24 where e^-x outweighs 1, which is where the result is small.
@_alwaysEmitIntoClient @inline(__always)
package func sigmoid<I: InstructionSet>(_: I.Type, _ x: I.F) -> I.F {
  I.inverse(
    I.add(I.splat(1), exponential2(I.self, I.mul(x, I.splat(-0x1.715476p+0)))))
}
