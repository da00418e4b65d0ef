// SPDX-License-Identifier: Apache-2.0

/// Loops that do nothing but multiply: the ceiling that products are judged by. Operands and sums
/// stay in registers, so no load, store or cache has a part in the time. And one that does nothing
/// but load.
package struct ProbeKernels: Sendable {
  package typealias In = KernelTable.In
  package typealias Out = KernelTable.Out
  package typealias In16 = KernelTable.In16

  /// Vectors of sums a probe keeps: more than the 4 to 6 cycles of a multiply-add times the two
  /// that a core may start in one, fewer than the registers less the operands; 2 KiB at most.
  package var sums: Int

  /// sums[s][lane] += x[lane] * y[lane], `rounds` times one after another; s < `sums`, `lanes` of
  /// `gemm.tile_f32`. 2 * sums * lanes operations a round.
  package var peak_f32: @convention(c) (_ sums: Out, _ x: In, _ y: In, _ rounds: Int) -> Void
  /// sums[s][lane] += x[2*lane] * y[2*lane] + x[2*lane + 1] * y[2*lane + 1]; 4 * sums * lanes
  /// operations a round. Rounding inside a pair is the instruction's own.
  package var peak_bf16: @convention(c) (_ sums: Out, _ x: In16, _ y: In16, _ rounds: Int) -> Void
  /// sums[s][lane] += the four products of x[4*lane...] and y[4*lane...]; 8 * sums * lanes operations
  /// a round.
  package var peak_u8s8:
    @convention(c) (
      _ sums: UnsafeMutablePointer<Int32>, _ x: UnsafePointer<UInt8>, _ y: UnsafePointer<Int8>,
      _ rounds: Int
    ) -> Void
  /// Sum of x in Float, in as many chains as it takes to keep up with the loads: how fast memory is
  /// read when nothing else happens.
  package var read_f32: @convention(c) (_ x: In, _ n: Int) -> Float
}
