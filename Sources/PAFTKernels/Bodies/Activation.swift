// SPDX-License-Identifier: Apache-2.0

/// y = silu(gate) * up.
@_alwaysEmitIntoClient @inline(__always)
package func swiglu_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ gate: UnsafePointer<Float>,
  _ up: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    let g = I.load(gate + at, count)
    let silu = I.mul(g, sigmoid(I.self, g))
    I.store(y + at, I.mul(silu, I.load(up + at, count)), count)
  }
}

/// dup = dy * silu(g);  dgate = dy * up * s * (1 + g * (1 - s)), s = sigmoid(g).
@_alwaysEmitIntoClient @inline(__always)
package func swigluBackward_f32<I: InstructionSet>(
  _: I.Type, _ dgate: UnsafeMutablePointer<Float>, _ dup: UnsafeMutablePointer<Float>,
  _ dy: UnsafePointer<Float>, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>, _ n: Int
) {
  let one = I.splat(1)
  sweep(I.self, n) { at, count, _ in
    let (g, u, d) = (I.load(gate + at, count), I.load(up + at, count), I.load(dy + at, count))
    let s = sigmoid(I.self, g)
    let slope = I.mul(s, I.fma(g, I.sub(one, s), one))
    I.store(dgate + at, I.mul(I.mul(d, u), slope), count)
    I.store(dup + at, I.mul(d, I.mul(g, s)), count)
  }
}
