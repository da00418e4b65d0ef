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
    siluProduct(I.self, I.load(gate + at, count), I.load(up + at, count))
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func siluProduct<I: InstructionSet>(_: I.Type, _ gate: I.F, _ up: I.F) -> I.F {
  let g = boundedGate(I.self, gate)
  return I.mul(I.mul(g, up), sigmoid(I.self, g))
}

/// y = a gated product, and gate and up rounded.
@_alwaysEmitIntoClient @inline(__always)
package func gatedKeeping_bf16<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ keptGate: UnsafeMutablePointer<UInt16>,
  _ keptUp: UnsafeMutablePointer<UInt16>, _ gate: UnsafePointer<Float>,
  _ up: UnsafePointer<Float>, _ n: Int, _ product: (_ gate: I.F, _ up: I.F) -> I.F
) {
  sweep(I.self, n) { at, count, _ in
    let (g, u) = (I.load(gate + at, count), I.load(up + at, count))
    I.store(y + at, product(g, u), count)
    keep(I.self, keptGate + at, keptUp + at, g, u, count)
  }
}

@_alwaysEmitIntoClient @inline(__always)
func keep<I: InstructionSet>(
  _: I.Type, _ keptGate: UnsafeMutablePointer<UInt16>, _ keptUp: UnsafeMutablePointer<UInt16>,
  _ gate: I.F, _ up: I.F, _ count: Int
) {
  if count == I.lanes {
    I.storeRowsBF16(keptGate, keptUp, gate, up)
  } else {
    I.storePartBF16(keptGate, gate, count)
    I.storePartBF16(keptUp, up, count)
  }
}

/// dup = dy * silu(g);  dgate = dy * up * s * (1 + g * (1 - s)), s = sigmoid(g).
@_alwaysEmitIntoClient @inline(__always)
package func swigluBackward_f32<I: InstructionSet>(
  _: I.Type, _ dgate: UnsafeMutablePointer<Float>, _ dup: UnsafeMutablePointer<Float>,
  _ dy: UnsafePointer<Float>, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    let silu = silu(I.self, I.load(gate + at, count))
    let (u, d) = (I.load(up + at, count), I.load(dy + at, count))
    I.store(dgate + at, I.mul(I.mul(d, u), silu.slope), count)
    I.store(dup + at, I.mul(d, silu.value), count)
  }
}

/// silu(g) = g s and its derivative, s * (1 + g * (1 - s)) = s + silu * (1 - s), with s = sigmoid(g).
@_alwaysEmitIntoClient @inline(__always)
package func silu<I: InstructionSet>(_: I.Type, _ gate: I.F) -> (value: I.F, slope: I.F) {
  let g = boundedGate(I.self, gate)
  let s = sigmoid(I.self, g)
  let value = I.mul(g, s)
  return (value, I.fma(value, I.sub(I.splat(1), s), s))
}

/// The gradients of a gated product from a rounded gate and up, rounded besides where somebody reads
/// them so, and the product itself: one sigmoid for all.
@_alwaysEmitIntoClient @inline(__always)
package func gatedBackward_bf16<I: InstructionSet>(
  _: I.Type, _ dgate: UnsafeMutablePointer<Float>, _ dup: UnsafeMutablePointer<Float>,
  _ roundedGate: UnsafeMutablePointer<UInt16>?, _ roundedUp: UnsafeMutablePointer<UInt16>?,
  _ product: UnsafeMutablePointer<UInt16>?, _ dy: UnsafePointer<Float>,
  _ gate: UnsafePointer<UInt16>, _ up: UnsafePointer<UInt16>, _ n: Int,
  _ activation: (I.F) -> (value: I.F, slope: I.F)
) {
  sweep(I.self, n) { at, count, _ in
    let isFull = count == I.lanes
    let g = isFull ? I.loadBF16(gate + at) : I.loadPartBF16(gate + at, count)
    let u = isFull ? I.loadBF16(up + at) : I.loadPartBF16(up + at, count)
    let (d, activated) = (I.load(dy + at, count), activation(g))
    let gateSlope = I.mul(I.mul(d, u), activated.slope)
    let upSlope = I.mul(d, activated.value)
    I.store(dgate + at, gateSlope, count)
    I.store(dup + at, upSlope, count)
    if let roundedGate, let roundedUp {
      keep(I.self, roundedGate + at, roundedUp + at, gateSlope, upSlope, count)
    }
    if let product {
      let value = I.mul(activated.value, u)
      if isFull {
        I.storeBF16(product + at, value)
      } else {
        I.storePartBF16(product + at, value, count)
      }
    }
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

/// 2 sqrt(2/pi) (g + 0.044715 g³) for the tanh form of GELU, gelu(g) = g sigmoid(that), and its
/// derivative by g. Beyond ±10 the sigmoid is 0 or 1 to Float's last bit, and stays what it is at 10.
@_alwaysEmitIntoClient @inline(__always)
package func tanhGate<I: InstructionSet>(_: I.Type, _ gate: I.F) -> (argument: I.F, slope: I.F) {
  // The gate goes second: max and min answer their second operand when it is NaN.
  let g = I.min(I.splat(10), I.max(I.splat(-10), gate))
  let square = I.mul(g, g)
  return (
    I.mul(g, I.fma(square, I.splat(0.071354814), I.splat(1.5957691))),
    I.fma(square, I.splat(0.21406444), I.splat(1.5957691))
  )
}

/// y = gelu(gate) * up.
@_alwaysEmitIntoClient @inline(__always)
package func geglu_f32<I: InstructionSet>(
  _: I.Type, _ y: UnsafeMutablePointer<Float>, _ gate: UnsafePointer<Float>,
  _ up: UnsafePointer<Float>, _ n: Int, _ streams: Int
) {
  fill(I.self, y, n, streams: streams) { at, count in
    geluProduct(I.self, I.load(gate + at, count), I.load(up + at, count))
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func geluProduct<I: InstructionSet>(_: I.Type, _ gate: I.F, _ up: I.F) -> I.F {
  let bounded = boundedGate(I.self, tanhGate(I.self, gate).argument)
  return I.mul(I.mul(gate, up), sigmoid(I.self, bounded))
}

/// gelu(g) = g s and its derivative, s + gelu * (1 - s) * a'(g), with s = sigmoid(a(g)).
@_alwaysEmitIntoClient @inline(__always)
package func gelu<I: InstructionSet>(_: I.Type, _ gate: I.F) -> (value: I.F, slope: I.F) {
  let inner = tanhGate(I.self, gate)
  let s = sigmoid(I.self, boundedGate(I.self, inner.argument))
  let value = I.mul(gate, s)
  return (value, I.fma(value, I.mul(I.sub(I.splat(1), s), inner.slope), s))
}

/// dup = dy * gelu(g);  dgate = dy * up * gelu'(g).
@_alwaysEmitIntoClient @inline(__always)
package func gegluBackward_f32<I: InstructionSet>(
  _: I.Type, _ dgate: UnsafeMutablePointer<Float>, _ dup: UnsafeMutablePointer<Float>,
  _ dy: UnsafePointer<Float>, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>, _ n: Int
) {
  sweep(I.self, n) { at, count, _ in
    let gelu = gelu(I.self, I.load(gate + at, count))
    let (u, d) = (I.load(up + at, count), I.load(dy + at, count))
    I.store(dgate + at, I.mul(I.mul(d, u), gelu.slope), count)
    I.store(dup + at, I.mul(d, gelu.value), count)
  }
}
