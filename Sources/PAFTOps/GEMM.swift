// SPDX-License-Identifier: Apache-2.0

import PAFTKernels

/// C[m, n] = alpha * A[m, k] B[k, n] (+ C), blocked for the caches and split over the team.
///
/// Blocking: the reduced dimension goes in slices of `sliceBytes` per row pair so that an A panel
/// slice stays in L1 (6 rows x 512 floats = 12 KiB) and a B panel slice in L2 (64 x 512 x 4 =
/// 128 KiB), beside an A block of `blockBytes`. The tile reads B from L2 at 11 bytes per cycle,
/// a third of what Zen 4 delivers, so nothing smaller is needed. C is read again once per slice.
///
/// Every element of C sums its slices in the same order whatever the split, so the result does not
/// depend on the number of workers, nor on which other rows are in the batch.
package enum GEMM {
  static let sliceBytes = 2048
  static let blockBytes = 512 << 10

  /// `reduced`: where in B's reduced dimension A's begins (even in bf16); A may cover a part of it.
  package static func multiply(
    _ a: PackedRows, _ b: PackedMatrix, reduced: Int = 0, into c: Matrix, alpha: Float = 1,
    accumulate: Bool = false, on executor: Executor
  ) {
    precondition(
      reduced + a.k <= b.k && a.type == b.type && c.rows == a.m && c.columns == b.n,
      "gemm: A \(a.m)x\(a.k), B \(b.k)x\(b.n) from \(reduced), C \(c.rows)x\(c.columns)")
    if a.m == 0 || b.n == 0 { return }
    // Split the side with more panels, so that both operands' slices are reused inside a worker.
    if b.panels >= a.panels || b.panels >= 8 * executor.workers {
      executor.parallel(b.panels) { range in
        block(a, 0..<a.panels, b, range, reduced, c, alpha, accumulate, executor.kernels)
      }
    } else {
      executor.parallel(a.panels) { range in
        block(a, range, b, 0..<b.panels, reduced, c, alpha, accumulate, executor.kernels)
      }
    }
  }

  /// The product as one worker's own work, inside a parallel region.
  static func alone(
    _ a: PackedRows, _ b: PackedMatrix, reduced: Int = 0, into c: Matrix, accumulate: Bool = false,
    _ kernels: KernelTable
  ) {
    block(a, 0..<a.panels, b, 0..<b.panels, reduced, c, 1, accumulate, kernels)
  }

  /// One worker's part: `aPanels` x `bPanels` of C.
  @inline(__always)
  static func block(
    _ a: PackedRows, _ aPanels: Range<Int>, _ b: PackedMatrix, _ bPanels: Range<Int>,
    _ reduced: Int, _ c: Matrix, _ alpha: Float, _ accumulate: Bool, _ kernels: KernelTable
  ) {
    let slice = sliceBytes / a.type.size
    let blockPanels = max(1, blockBytes / (slice * a.type.size * a.tile.rows))
    var k0 = 0
    repeat {
      let depth = min(slice, a.k - k0)
      let adds = accumulate || k0 > 0
      var first = aPanels.lowerBound
      while first < aPanels.upperBound {
        let last = min(first + blockPanels, aPanels.upperBound)
        for panel in bPanels {
          for row in first..<last {
            tile(a, row, b, panel, reduced, c, k0, depth, alpha, adds, kernels)
          }
        }
        first = last
      }
      k0 += depth
    } while k0 < a.k
  }

  @inline(__always)
  static func tile(
    _ a: PackedRows, _ row: Int, _ b: PackedMatrix, _ panel: Int, _ reduced: Int, _ c: Matrix,
    _ k0: Int, _ depth: Int, _ alpha: Float, _ accumulate: Bool, _ kernels: KernelTable
  ) {
    let target = c.row(row * a.tile.rows) + panel * b.tile.columns
    let pa = a.address(panel: row, from: k0)
    let pb = b.address(panel: panel, from: reduced + k0)
    if a.type == .f32 {
      kernels.gemm.multiply_f32(
        pa.assumingMemoryBound(to: Float.self), pb.assumingMemoryBound(to: Float.self), target,
        depth, c.stride, a.rows(of: row), b.columns(of: panel), alpha, accumulate ? 1 : 0)
    } else {
      kernels.gemm.multiply_bf16(
        pa.assumingMemoryBound(to: UInt16.self), pb.assumingMemoryBound(to: UInt16.self), target,
        depth, c.stride, a.rows(of: row), b.columns(of: panel), alpha, accumulate ? 1 : 0)
    }
  }
}
