// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

extension GEMM {
  /// The most columns of a factor whose gradient is computed without packing the other side.
  static let thin = 64

  /// C[r, n] += alpha LᵀX of two sources L[k, r] and X[k, n], r <= `thin`; `turned`, C[n, r] += alpha
  /// XᵀL. Operands are rounded to BF16.
  ///
  /// X is read once, from where it lies. Workers have ranges of its columns, and each packs all of L for
  /// itself: 16 KiB at rank 16 and 512 tokens, for which nobody waits.
  static func multiplyThin(
    _ low: Matrix, _ x: Rows, into c: Matrix, turned: Bool, alpha: Float,
    on executor: Executor
  ) {
    precondition(
      low.rows == x.rows && low.columns <= thin
        && (turned ? c.columns : c.rows) == low.columns
        && (turned ? c.rows : c.columns) == x.columns,
      "gemm: \(low.rows)x\(low.columns) transposed, \(x.rows)x\(x.columns), C \(c.rows)x\(c.columns)"
    )
    let rank = low.columns
    if rank == 0 || x.columns == 0 { return }
    let tile = executor.kernels.gemm.tile_bf16
    let room = thinRoom(k: low.rows, rank: rank, tile: tile)
    executor.withScratch { scratch in
      let rooms = scratch.allocate(UInt8.self, count: executor.workers * room)
      executor.run { worker in
        let columns = Executor.share(
          of: x.columns, worker: worker, workers: executor.workers, grain: 16)
        if columns.isEmpty { return }
        let own = UnsafeMutableRawPointer(rooms + worker * room)
        let packed = PackedMatrix(
          at: own + 4 * GEMMKernels.thinRoom, k: low.rows, n: rank, type: .bf16, tile: tile)
        executor.packing(worker) {
          for panel in 0..<packed.panels {
            packed.pack(panel: panel, from: low, transposed: false, executor.kernels)
          }
        }
        for panel in 0..<packed.panels {
          let first = panel * tile.columns
          let to = turned ? c.row(columns.lowerBound) + first : c.row(first) + columns.lowerBound
          let left = UnsafePointer(
            packed.address(panel: panel, from: 0).assumingMemoryBound(to: UInt16.self))
          let (ranks, room) = (packed.columns(of: panel), own.assumingMemoryBound(to: Float.self))
          switch x {
          case .floats(let x):
            executor.kernels.gemm.multiplyThin_bf16(
              to, c.stride, turned ? 1 : 0, left, x.base + columns.lowerBound, x.rows,
              columns.count, x.stride, ranks, alpha, room)
          case .rounded(let x):
            executor.kernels.gemm.multiplyThinRounded_bf16(
              to, c.stride, turned ? 1 : 0, left, x.base + columns.lowerBound, x.rows,
              columns.count, x.stride, ranks, alpha, room)
          }
        }
      }
    }
  }

  /// Bytes that a worker takes for it.
  static func thinRoom(k: Int, rank: Int, tile: Tile) -> Int {
    let packed = PackedMatrix.bytes(k: k, n: rank, type: .bf16, tile: tile)
    return (4 * GEMMKernels.thinRoom + packed + 127) & ~127
  }
}
