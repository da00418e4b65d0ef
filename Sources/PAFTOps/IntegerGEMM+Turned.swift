// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// `GEMM.multiplyTurned` in 8 bits: a worker turns whole panels.
extension IntegerGEMM {
  /// C[m, n] = scale[m] * A[m, k] B[k, n] (+ C) where `source` holds B reduced over n, its columns being
  /// k, and `compensation` what the sums of B's columns start from.
  static func multiplyTurned(
    _ a: QuantizedRows, _ source: PackedIntegerMatrix,
    _ compensation: UnsafeMutablePointer<Int32>, into c: Matrix, accumulate: Bool,
    tail: GEMM.Tail? = nil, on executor: Executor
  ) {
    precondition(
      a.k == source.n && a.tile == source.tile && c.rows == a.m && c.columns == source.k,
      "integer gemm: A \(a.m)x\(a.k), B \(source.n)x\(source.k) to be turned, C \(c.rows)x\(c.columns)"
    )
    if a.m == 0 || c.columns == 0 { return }
    let rides = tail.map { Self.fits($0, a.tile) }
    let turned = Turned(
      a: a, source: source, compensation: compensation, c: c, accumulate: accumulate,
      tail: rides == true ? tail : nil)
    let grid = GEMM.turnedGrid(a.m, c.columns, a.tile, executor)
    let (sums, bytes) = (blocking(a).room, turnedRoom(k: a.k, tile: a.tile))
    executor.withScratch { scratch in
      let kept = scratch.allocate(Int32.self, count: max(1, grid.workers * sums))
      let rooms = scratch.allocate(Int8.self, count: grid.workers * bytes)
      executor.run { worker in
        guard worker < grid.workers else { return }
        turned.run(
          grid.rows(of: a.panels, worker),
          grid.columns(of: c.columns, grain: a.tile.columns, worker),
          kept + worker * sums, rooms + worker * bytes, worker, executor)
      }
    }
    if let tail, rides == false {
      GEMM.multiply(tail.a, tail.b, into: c, alpha: tail.alpha, accumulate: true, on: executor)
    }
  }

  /// Bytes of a turned panel.
  static func turnedRoom(k: Int, tile: Tile) -> Int {
    (tile.padded(max(1, k)) * tile.columns + 127) & ~127
  }

  /// What all workers share.
  private struct Turned {
    let a: QuantizedRows
    let source: PackedIntegerMatrix
    let compensation: UnsafeMutablePointer<Int32>
    let c: Matrix
    let accumulate: Bool
    let tail: GEMM.Tail?

    /// One worker's part: some A panels, and for each turned panel of C's `columns` their blocks.
    func run(
      _ aPanels: Range<Int>, _ columns: Range<Int>, _ sums: UnsafeMutablePointer<Int32>,
      _ room: UnsafeMutablePointer<Int8>, _ worker: Int, _ executor: Executor
    ) {
      let (tile, kernels) = (a.tile, executor.kernels)
      let (depth, block, _) = blocking(a)
      let most = max(1, GEMM.turnedRows / tile.rows)
      let parts = (aPanels.count + most - 1) / most
      for part in 0..<parts {
        let share = Executor.share(of: aPanels.count, worker: part, workers: parts, grain: 1)
        let rows = aPanels.lowerBound + share.lowerBound..<aPanels.lowerBound + share.upperBound
        for first in stride(from: columns.lowerBound, to: columns.upperBound, by: tile.columns) {
          let wide = first..<min(first + tile.columns, columns.upperBound)
          let panel = PackedIntegerMatrix(
            at: room, k: a.k, n: wide.count, tile: tile, compensation: compensation + first)
          executor.packing(worker) { panel.turn(from: source, at: first, kernels) }
          let target = c.columns(wide)
          let call = Call(
            a: a, b: panel, c: target, columnScale: nil, bias: nil,
            accumulate: accumulate ? 1 : 0, depth: depth, block: block,
            ending: tail?.columns(wide).product(into: target), table: kernels)
          let next = next(wide.upperBound, until: columns.upperBound, rows)
          for from in stride(from: rows.lowerBound, to: rows.upperBound, by: block) {
            call.panel(from..<min(from + block, rows.upperBound), 0, sums, next)
          }
        }
      }
    }

    /// What is turned next, from column `first` on: a part of each of the source's panels.
    private func next(_ first: Int, until end: Int, _ rows: Range<Int>) -> Parts {
      let count = first < end ? min(source.panels, rows.count) : 0
      return Parts(
        first: UnsafeRawPointer(source.address(panel: 0, from: first < end ? first : 0)),
        stride: a.tile.padded(source.k) * a.tile.columns,
        bytes: min(a.tile.columns, end - first) * a.tile.columns,
        range: rows.lowerBound..<rows.lowerBound + count)
    }
  }
}
