// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies

// Pairs of BF16 in tiles: widened to Floats where no instruction multiplies them.

enum PairStep: TileStep {
  typealias Verbs = Lanes
  typealias Element = UInt16
  @inline(__always) static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, Lanes.F>>, _ a: inout UnsafePointer<UInt16>,
    _ b: inout UnsafePointer<UInt16>
  ) {
    step_bf16(widening: Lanes.self, &sums, &a, &b)
  }
}

extension Pairs {
  @inline(__always) static var isUnrolled: Bool { false }

  @inline(__always) static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, Lanes.F>>, _ a: UnsafePointer<UInt16>,
    _ rowStride: Int, _ b: UnsafePointer<UInt16>
  ) { stepPairs(widening: Lanes.self, &sums, a, rowStride, b) }
}
