// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

/// The peak of an instruction set, measured: independent chains of multiply-adds on registers, as many
/// as the registers hold. On Zen 4 this reaches 64 (bf16) and 32 (f32) operations a cycle, on Zen 5
/// twice as many; there twelve chains of VDPBF16PS, just enough by its latency, stop at 92 %. A GEMM
/// tile on operands in the caches, the obvious probe, reaches 98.5 %: its store of C and its first
/// loads show.

@_alwaysEmitIntoClient @inline(__always)
package func peak_f32<I: InstructionSet, let S: Int>(
  _: I.Type, _ shape: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Float>,
  _ x: UnsafePointer<Float>,
  _ y: UnsafePointer<Float>, _ rounds: Int
) {
  let (a, b) = (I.load(x), I.load(y))
  chains(I.self, shape, sums, rounds) { I.fma(a, b, $0) }
}

/// Without the pair instruction: two multiply-adds on the widened halves, as the tile does.
@_alwaysEmitIntoClient @inline(__always)
package func peak_bf16<I: InstructionSet, let S: Int>(
  _: I.Type, _ shape: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Float>,
  _ x: UnsafePointer<UInt16>,
  _ y: UnsafePointer<UInt16>, _ rounds: Int
) {
  let (a, b) = (I.loadPairs(x), I.loadPairs(y))
  let (a0, a1, b0, b1) = (I.even(a), I.odd(a), I.even(b), I.odd(b))
  chains(I.self, shape, sums, rounds) { I.fma(a1, b1, I.fma(a0, b0, $0)) }
}

@_alwaysEmitIntoClient @inline(__always)
package func peak_bf16<I: PairDot, let S: Int>(
  dot _: I.Type, _ shape: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Float>,
  _ x: UnsafePointer<UInt16>,
  _ y: UnsafePointer<UInt16>, _ rounds: Int
) {
  let (a, b) = (I.loadPairs(x), I.loadPairs(y))
  chains(I.self, shape, sums, rounds) { I.dot($0, a, b) }
}

/// By the quad instruction.
@_alwaysEmitIntoClient @inline(__always)
package func peak_u8s8<I: QuadDot, let S: Int>(
  dot _: I.Type, _ shape: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Int32>,
  _ x: UnsafePointer<UInt8>,
  _ y: UnsafePointer<Int8>, _ rounds: Int
) {
  let (a, b) = (quads(I.self, x), I.loadQuads(y))
  chains(I.self, shape, sums, rounds) { I.dotQuads($0, a, b) }
}

/// Without it: two products of 16-bit numbers, as the tile does. An operand is made unknown for each,
/// or the compiler would find that the products are always the same and only add.
@_alwaysEmitIntoClient @inline(__always)
package func peak_u8s8<I: ByteVectors, let S: Int>(
  _: I.Type, _ shape: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Int32>,
  _ x: UnsafePointer<UInt8>,
  _ y: UnsafePointer<Int8>, _ rounds: Int
) {
  let (a, b) = (quads(I.self, x), I.loadQuads(y))
  var (a0, a1) = (I.evenUnsigned(a), I.oddUnsigned(a))
  let (b0, b1) = (I.evenSigned(b), I.oddSigned(b))
  chains(I.self, shape, sums, rounds) {
    a0 = I.unknown(a0)
    a1 = I.unknown(a1)
    return I.dotWords(I.dotWords($0, a0, b0), a1, b1)
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func quads<I: ByteVectors>(_: I.Type, _ x: UnsafePointer<UInt8>) -> I.Quads {
  I.loadQuads(UnsafeRawPointer(x).assumingMemoryBound(to: Int8.self))
}

@_alwaysEmitIntoClient @inline(__always)
package func chains<I: ByteVectors, let S: Int>(
  _: I.Type, _: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Int32>, _ rounds: Int,
  _ step: (I.Integers) -> I.Integers
) {
  var sum = InlineArray<S, InlineArray<4, I.Integers>>(
    repeating: InlineArray<4, I.Integers>(repeating: I.splatInteger(0)))
  for s in 0..<S {
    for t in 0..<4 { sum[s][t] = I.loadIntegers(sums + (4 &* s &+ t) &* I.lanes) }
  }
  var round = 0
  while round < rounds {
    for s in 0..<S {
      for t in 0..<4 { sum[s][t] = step(sum[s][t]) }
    }
    round &+= 1
  }
  for s in 0..<S {
    for t in 0..<4 { I.storeIntegers(sums + (4 &* s &+ t) &* I.lanes, sum[s][t]) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func chains<I: InstructionSet, let S: Int>(
  _: I.Type, _: TileShape<S, 4>.Type, _ sums: UnsafeMutablePointer<Float>, _ rounds: Int,
  _ step: (I.F) -> I.F
) {
  var sum = InlineArray<S, InlineArray<4, I.F>>(
    repeating: InlineArray<4, I.F>(repeating: I.splat(0)))
  for s in 0..<S {
    for t in 0..<4 { sum[s][t] = I.load(sums + (4 &* s &+ t) &* I.lanes) }
  }
  var round = 0
  while round < rounds {
    for s in 0..<S {
      for t in 0..<4 { sum[s][t] = step(sum[s][t]) }
    }
    round &+= 1
  }
  for s in 0..<S {
    for t in 0..<4 { I.store(sums + (4 &* s &+ t) &* I.lanes, sum[s][t]) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func read_f32<I: InstructionSet>(_: I.Type, _ x: UnsafePointer<Float>, _ n: Int) -> Float {
  var sum = InlineArray<4, I.F>(repeating: I.splat(0))
  sweep(I.self, n) { at, count, slot in sum[slot] = I.add(I.load(x + at, count), sum[slot]) }
  return Float(I.sum(I.add(I.add(sum[0], sum[1]), I.add(sum[2], sum[3]))))
}
