// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

extension GEMM {
  /// C[m, n] += alpha * AᵀB of two sources A[k, m] and B[k, n] that are multiplied once: a weight's
  /// gradient, k tokens long.
  ///
  /// A worker packs whatever it multiplies, even what another packs too, and nothing of it leaves its
  /// own caches: lines that another core has just written come at a fraction of the speed of one's
  /// own. Packing B costs as much as eight rows of A, packing A as sixteen columns of B (Zen 4, BF16), so
  /// it does not pay to share. A panel of B is packed into L2 just before it is multiplied and nowhere
  /// else. A is packed `Blocking.transposedBytes` at a time, which lie in L3.
  ///
  /// Two cores, BF16, percent of peak, packed together and then multiplied by rows of A -> this way:
  /// 1024x128x896 74 -> 87, 1024x896x896 84 -> 94, 1024x4864x896 92 -> 94, 512x4096x4096 95 -> 97. What is
  /// left is packing: of 573 us at 128 outputs 18 for A and 32 for B, which runs at the pace of L2 (27
  /// bytes a cycle), so that asking for B's next columns from within the tiles gained nothing.
  static func multiplyTransposed(
    _ a: Matrix, _ b: Matrix, into c: Matrix, alpha: Float, on executor: Executor
  ) {
    precondition(
      a.rows == b.rows && c.rows == a.columns && c.columns == b.columns,
      "gemm: A \(a.rows)x\(a.columns) transposed, B \(b.rows)x\(b.columns), C \(c.rows)x\(c.columns)"
    )
    if c.rows == 0 || c.columns == 0 { return }
    let product = Transposed(
      a: a, b: b, c: c, alpha: alpha, type: executor.compute, tile: executor.tile,
      workers: executor.workers)
    executor.withScratch { scratch in
      let room = scratch.allocate(UInt8.self, count: product.grid.workers * product.room)
      if product.grid.workers == 1 { return product.run(worker: 0, room, executor) }
      executor.run { worker in
        if worker < product.grid.workers { product.run(worker: worker, room, executor) }
      }
    }
  }

  /// What the workers of such a product share.
  private struct Transposed {
    let a: Matrix
    let b: Matrix
    let c: Matrix
    let alpha: Float
    let type: ComputeType
    let tile: Tile
    let grid: Grid
    /// Of k, at a time.
    let depth: Int
    /// Rows of C, at a time.
    let block: Int
    /// Bytes of packed operands, for each worker: of A, and of both.
    let left: Int
    let room: Int

    init(
      a: Matrix, b: Matrix, c: Matrix, alpha: Float, type: ComputeType, tile: Tile, workers: Int
    ) {
      self.a = a
      self.b = b
      self.c = c
      self.alpha = alpha
      self.type = type
      self.tile = tile
      let depth = min(slice(type), a.rows)
      let panel = PackedRows.bytes(m: tile.rows, k: max(1, depth), type: type, tile: tile)
      let most = max(1, Blocking.here.transposedBytes / panel) * tile.rows
      grid = Grid(m: c.rows, n: c.columns, tile, workers: workers) { rows, columns in
        (rows + 8 * ((rows + most - 1) / most)) * columns + 16 * rows
      }
      let rows = Grid.largest(c.rows, grid.rows, panel: tile.rows)
      // Equal blocks: a short last one would pay for B's packing like the others.
      let blocks = (rows + most - 1) / most
      block = ((rows + blocks - 1) / blocks + tile.rows - 1) / tile.rows * tile.rows
      self.depth = depth
      left = rounded(PackedRows.bytes(m: min(rows, block), k: depth, type: type, tile: tile))
      room = left + rounded(PackedMatrix.bytes(k: depth, n: tile.columns, type: type, tile: tile))
    }

    func run(worker: Int, _ room: UnsafeMutablePointer<UInt8>, _ executor: Executor) {
      let kernels = executor.kernels
      let rows = grid.rows(of: c.rows, grain: tile.rows, worker)
      let columns = grid.columns(of: c.columns, grain: tile.columns, worker)
      if rows.isEmpty || columns.isEmpty { return }
      let room = UnsafeMutableRawPointer(room + worker * self.room)
      var k0 = 0
      repeat {
        let tokens = k0..<min(k0 + depth, a.rows)
        var first = rows.lowerBound
        while first < rows.upperBound {
          let last = min(first + block, rows.upperBound)
          let packed = PackedRows(
            at: room, m: last - first, k: tokens.count, type: type, tile: tile)
          executor.packing(worker) {
            packed.pack(
              panels: 0..<packed.panels, from: a.rows(tokens).columns(first..<last),
              transposed: true, kernels)
          }
          for column in stride(from: columns.lowerBound, to: columns.upperBound, by: tile.columns) {
            let wide = column..<min(column + tile.columns, columns.upperBound)
            let panel = PackedMatrix(
              at: room + left, k: tokens.count, n: wide.count, type: type, tile: tile)
            executor.packing(worker) {
              panel.pack(
                panel: 0, from: b.rows(tokens).columns(wide), transposed: false, kernels)
            }
            Product(
              a: packed, b: panel, reduced: 0, c: c.rows(first..<last).columns(wide), alpha: alpha,
              addend: .target
            ).strip(0..<packed.panels, 0, 0, tokens.count, .nextRows, kernels)
          }
          first = last
        }
        k0 += depth
      } while k0 < a.rows
    }
  }

  private static func rounded(_ bytes: Int) -> Int { (bytes + 127) & ~127 }
}
