// SPDX-License-Identifier: Apache-2.0

import CVector
import PAFTKernelBodies

// Pairs of BF16 go through VDPBF16PS, quads of bytes through VPDPBUSD.

enum PairStep: TileStep {
  typealias Verbs = Lanes
  typealias Element = UInt16
  @inline(__always) static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, Lanes.F>>, _ a: inout UnsafePointer<UInt16>,
    _ b: inout UnsafePointer<UInt16>
  ) {
    step_bf16(dot: Lanes.self, &sums, &a, &b)
  }
}

extension Pairs {
  @inline(__always) static var isUnrolled: Bool { true }

  @inline(__always) static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, Lanes.F>>, _ a: UnsafePointer<UInt16>,
    _ rowStride: Int, _ b: UnsafePointer<UInt16>
  ) { stepPairs(dot: Lanes.self, &sums, a, rowStride, b) }
}

@inline(__always)
func multiplyTile_u8s8<let R: Int, let C: Int>(
  _ shape: TileShape<R, C>.Type, _ call: IntegerTileCall
) {
  multiplyTile_u8s8(dot: Lanes.self, shape, call)
}

extension Lanes: PairDot {
  @inline(__always) static func dot(_ sum: F, _ a: Pairs, _ b: Pairs) -> F {
    paft_dot_bf16_16(sum, a, b)
  }
}

extension Lanes: QuadDot {
  @inline(__always) static func dotQuads(_ sum: Integers, _ a: Quads, _ b: Quads) -> Integers {
    paft_dot_quads_16(sum, a, b)
  }
}
