// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// C[m, n] = scale[m] * columnScale[n] * A[m, k] B[k, n] + bias[n] (+ C) of 8-bit operands.
///
/// Blocking: a panel of B goes through k in slices of at most `sliceDepth`, 64 bytes of it to each k,
/// so that a slice lies in L2 while the A panels of a block of rows pass by; they may come from L3,
/// at one byte a cycle. Between the slices of one panel the block's Int32 sums wait in scratch
/// (`blockRows` x 64 x 4 = 64 KiB), so C is written once and k is summed exactly whatever the slices.
///
/// A weight that does not fit L3 would arrive at the pace of memory during the first tile of a block,
/// so tiles prefetch the slice that comes next: each the part that its rows are of the first
/// `aheadRows` of the block, at most 256 bytes for every 24 products. With one tile of few rows
/// there is no time for that, memory is the limit, and the best is to ask for what the loop itself
/// needs `aheadTurns` later. Zen 4, one core, 4096 x 4096 from memory, GB/s of weights with m = 1, 4,
/// 6, 8: no prefetch but a quarter of the next slice 29, 24, 23, 17; the next slice always 28, 24,
/// 33, 22; this way 29...33, 30, 28...30, 25 (reading alone: 33).
///
/// Integers add up in any order, and every element of C is scaled by one worker in one way: the
/// result depends on no split, no block and no other row.
package enum IntegerGEMM {
  static let sliceDepth = 4096
  static let blockRows = 258
  /// 24 and 96 were not told apart.
  static let aheadRows = 96
  static let aheadTurns = 4

  /// - Parameter tail: an adapter's product, added to each part of C while it lies in the caches,
  ///   where its panels are as tall and as wide as these; afterwards otherwise.
  package static func multiply(
    _ a: QuantizedRows, _ b: PackedIntegerMatrix, columnScale: UnsafePointer<Float>?,
    bias: UnsafePointer<Float>?, into c: Matrix, accumulate: Bool, tail: GEMM.Tail? = nil,
    on executor: Executor
  ) {
    precondition(
      a.k == b.k && a.tile == b.tile && c.rows == a.m && c.columns == b.n,
      "integer gemm: A \(a.m)x\(a.k), B \(b.k)x\(b.n), C \(c.rows)x\(c.columns)")
    if a.m == 0 || b.n == 0 { return }
    let (depth, block, room) = blocking(a)
    let rides = tail.map { Self.fits($0, a.tile) }
    executor.withScratch { scratch in
      let sums = scratch.allocate(Int32.self, count: max(1, executor.workers * room))
      let call = Call(
        a: a, b: b, c: c, columnScale: columnScale, bias: bias, accumulate: accumulate ? 1 : 0,
        depth: depth, block: block, ending: rides == true ? tail?.product(into: c) : nil,
        table: executor.kernels)
      // A wide B by columns, so that each worker reads its part of it alone (two cores, 512x4864x896:
      // 91 % of peak, 87 by rows); of others what is more even, rows first: a worker has just quantised
      // these (128x896x896: 22 x 14 panels are 77 % by rows, 88 by columns).
      let isWide = b.panels >= a.panels || b.panels >= 8 * executor.workers
      let grid = GEMM.Grid(
        m: isWide ? a.tile.rows : a.m, n: b.n, a.tile, workers: executor.workers, margin: 64
      ) { $0 * $1 }
      func part(_ worker: Int) {
        guard worker < grid.workers else { return }
        call.run(
          grid.rows(of: a.panels, worker), grid.columns(of: b.panels, worker),
          sums + worker * room)
      }
      if grid.workers == 1 { part(0) } else { executor.run(part) }
    }
    if let tail, rides == false {
      GEMM.multiply(
        tail.a, tail.b, into: c, alpha: tail.alpha, accumulate: true, on: executor)
    }
  }

  /// Depth of a slice, panels of a block, and sums that a worker keeps between slices.
  static func blocking(_ a: QuantizedRows) -> (depth: Int, block: Int, room: Int) {
    let slices = max(1, (a.k + sliceDepth - 1) / sliceDepth)
    // Equal slices: a short last one would pay for its tiles' beginnings and ends like the others.
    let depth = max(4, a.tile.padded((a.k + slices - 1) / slices))
    let block = min(a.panels, max(1, blockRows / a.tile.rows))
    return (depth, block, slices > 1 ? block * a.tile.rows * a.tile.columns : 0)
  }

  /// Whether an adapter's product can be added panel by panel.
  static func fits(_ tail: GEMM.Tail, _ tile: Tile) -> Bool {
    tail.a.tile.rows == tile.rows && tail.b.tile.columns == tile.columns
  }

  /// What all workers share.
  struct Call {
    let a: QuantizedRows
    let b: PackedIntegerMatrix
    let c: Matrix
    let columnScale: UnsafePointer<Float>?
    let bias: UnsafePointer<Float>?
    let accumulate: Int
    let depth: Int
    let block: Int
    let ending: GEMM.Product?
    let table: KernelTable

    /// One worker's part: `aPanels` x `bPanels` of C, with its own `sums`.
    @inline(__always)
    func run(
      _ aPanels: Range<Int>, _ bPanels: Range<Int>, _ sums: UnsafeMutablePointer<Int32>
    ) {
      var first = aPanels.lowerBound
      while first < aPanels.upperBound {
        let last = min(first + block, aPanels.upperBound)
        for panel in bPanels { self.panel(first..<last, panel, sums, nil) }
        first = last
      }
    }

    /// One panel of B with a block of A, whose panels ask for `parts`, if there are some, from the first
    /// slice on.
    @inline(__always)
    func panel(
      _ panels: Range<Int>, _ panel: Int, _ sums: UnsafeMutablePointer<Int32>, _ parts: Parts?
    ) {
      var k0 = 0
      repeat {
        slice(panels, panel, k0, sums, parts)
        k0 += depth
      } while k0 < a.k
      if let ending { ending.strip(panels, panel, 0, ending.a.k, .nothing, table) }
    }

    /// One slice of it.
    @inline(__always)
    private func slice(
      _ panels: Range<Int>, _ panel: Int, _ k0: Int, _ sums: UnsafeMutablePointer<Int32>,
      _ parts: Parts?
    ) {
      let count = min(depth, a.k - k0)
      let bytes = count * b.tile.width(b.columns(of: panel))
      // Slices, and panels, follow each other in memory.
      var wanted = Wanted(
        first: UnsafeRawPointer(b.address(panel: panel, from: k0)) + bytes, step: 0, lines: 0,
        panels: 0)
      if let parts {
        if k0 == 0 {
          let asked = parts.range.clamped(to: panels)
          wanted = Wanted(
            first: parts.first + (asked.lowerBound - parts.range.lowerBound) * parts.stride,
            step: parts.stride, lines: parts.bytes / GEMM.lineBytes, panels: asked.count)
        }
      } else if panels.count == 1 && a.rows(of: panels.lowerBound) <= 4 {
        wanted.first += 4 * IntegerGEMM.aheadTurns * b.tile.width(b.columns(of: panel)) - bytes
        // As many as the loop takes: there are few rows.
        wanted.lines = bytes / GEMM.lineBytes * a.tile.rows
        wanted.panels = 1
      } else {
        wanted.panels = min(panels.count, IntegerGEMM.aheadRows / a.tile.rows)
        wanted.step = bytes / wanted.panels
        wanted.lines = (wanted.step + GEMM.lineBytes - 1) / GEMM.lineBytes
      }
      let middle = panels.lowerBound + wanted.panels
      if wanted.panels > 0 {
        strip(panels.lowerBound..<middle, of: panels, panel, k0, count, sums, wanted)
      }
      if middle < panels.upperBound {
        wanted.lines = 0
        strip(middle..<panels.upperBound, of: panels, panel, k0, count, sums, wanted)
      }
    }

    /// What the first `panels` tiles of a strip ask for: `lines` lines from `first` on, `step` bytes
    /// further on beside each panel of A.
    private struct Wanted {
      var first: UnsafeRawPointer
      var step: Int
      var lines: Int
      var panels: Int
    }

    /// A slice of some panels of a block.
    @inline(__always)
    private func strip(
      _ panels: Range<Int>, of block: Range<Int>, _ panel: Int, _ k0: Int, _ count: Int,
      _ sums: UnsafeMutablePointer<Int32>, _ wanted: Wanted
    ) {
      let isLast = k0 + count == a.k
      let columns = b.columns(of: panel)
      let width = b.tile.width(columns)
      let origin = panel * b.tile.columns
      let row = panels.lowerBound * a.tile.rows
      let rows = min(panels.upperBound * a.tile.rows, a.m) - row
      let kept = sums + (panels.lowerBound - block.lowerBound) * a.tile.rows * width
      table.integer.strip_u8s8(
        a.address(panel: panels.lowerBound, from: k0), a.tile.padded(a.k) * a.tile.rows,
        b.address(panel: panel, from: k0), count, k0 == 0 ? b.compensation + origin : kept,
        k0 == 0 ? 0 : width, isLast ? nil : kept, c.row(row) + origin, c.stride, rows, columns,
        a.scales + row, columnScale.map { $0 + origin }, bias.map { $0 + origin }, accumulate,
        wanted.first, wanted.step, wanted.lines)
    }
  }

  /// Memory in parts of `bytes` bytes, `stride` apart, one for each of a range of A panels.
  struct Parts {
    let first: UnsafeRawPointer
    let stride: Int
    let bytes: Int
    let range: Range<Int>
  }
}
