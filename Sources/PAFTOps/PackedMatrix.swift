// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// The right operand of a GEMM, k x n, in the column panels that the tile kernel streams
/// (layout: KernelTable). Packed once and multiplied many times: weights, and K and V in attention.
package struct PackedMatrix: @unchecked Sendable, BitwiseCopyable {
  package let base: UnsafeMutableRawPointer
  package let k: Int
  package let n: Int
  package let type: ComputeType
  package let tile: Tile

  package var panels: Int { (n + tile.columns - 1) / tile.columns }

  /// Bytes of a packed k x n operand.
  package static func bytes(k: Int, n: Int, type: ComputeType, tile: Tile) -> Int {
    let full = n / tile.columns * tile.columns
    let width = full + (n > full ? tile.width(n - full) : 0)
    return tile.padded(k) * width * type.size
  }

  package var bytes: Int { Self.bytes(k: k, n: n, type: type, tile: tile) }

  package init(in arena: Arena, k: Int, n: Int, type: ComputeType, tile: Tile) {
    let bytes = Self.bytes(k: k, n: n, type: type, tile: tile)
    self.init(
      at: UnsafeMutableRawPointer(arena.allocate(UInt8.self, count: max(64, bytes))), k: k, n: n,
      type: type, tile: tile)
  }

  init(
    at base: UnsafeMutableRawPointer, k: Int, n: Int, type: ComputeType, tile: Tile
  ) {
    self.base = base
    self.k = k
    self.n = n
    self.type = type
    self.tile = tile
  }

  @inline(__always) func columns(of panel: Int) -> Int {
    min(tile.columns, n - panel * tile.columns)
  }

  /// Address of `panel` at reduced index `from` (even in bf16).
  @inline(__always) func address(panel: Int, from k0: Int) -> UnsafeMutableRawPointer {
    let width = tile.width(columns(of: panel))
    let element = panel * tile.columns * tile.padded(k) + k0 * width
    return base + element * type.size
  }

  /// The operand's columns in `range`, which starts at a panel boundary and ends at one or at n.
  package func panels(_ range: Range<Int>) -> PackedMatrix {
    precondition(
      range.lowerBound % tile.columns == 0
        && (range.upperBound % tile.columns == 0 || range.upperBound == n))
    return PackedMatrix(
      at: base + range.lowerBound * tile.padded(k) * type.size, k: k, n: range.count, type: type,
      tile: tile)
  }

  /// One column of the operand, as it is multiplied: k values.
  func column(_ index: Int, into y: UnsafeMutablePointer<Float>) {
    let panel = index / tile.columns
    let width = tile.width(columns(of: panel))
    let j = index % tile.columns
    if type == .f32 {
      let from = address(panel: panel, from: 0).assumingMemoryBound(to: Float.self)
      for p in 0..<k { y[p] = from[p * width + j] }
    } else {
      let from = address(panel: panel, from: 0).assumingMemoryBound(to: UInt16.self)
      for p in 0..<k {
        y[p] = Float(bitPattern: UInt32(from[(p & ~1) * width + 2 * j + p & 1]) << 16)
      }
    }
  }

  /// One row of the operand, as it is multiplied: n values.
  func row(_ index: Int, into y: UnsafeMutablePointer<Float>) {
    for panel in 0..<panels {
      let to = y + panel * tile.columns
      if type == .f32 {
        let from = address(panel: panel, from: index).assumingMemoryBound(to: Float.self)
        to.update(from: from, count: columns(of: panel))
      } else {
        let from = address(panel: panel, from: index & ~1).assumingMemoryBound(to: UInt16.self)
        for j in 0..<columns(of: panel) {
          to[j] = Float(bitPattern: UInt32(from[2 * j + (index & 1)]) << 16)
        }
      }
    }
  }

  /// Fills one panel. `transposed`: the source is stored [n, k] (a weight [out, in]).
  @inline(__always)
  func pack(panel: Int, from source: Matrix, transposed: Bool, _ kernels: KernelTable) {
    let columns = columns(of: panel)
    let target = address(panel: panel, from: 0)
    let first = panel * tile.columns
    let start = transposed ? source.row(first) : source.base + first
    switch (type, transposed) {
    case (.f32, false):
      kernels.gemm.packB_f32(
        target.assumingMemoryBound(to: Float.self), start, columns, k, source.stride)
    case (.f32, true):
      kernels.gemm.packBT_f32(
        target.assumingMemoryBound(to: Float.self), start, columns, k, source.stride)
    case (.bf16, false):
      kernels.gemm.packB_bf16(
        target.assumingMemoryBound(to: UInt16.self), start, columns, k, source.stride)
    case (.bf16, true):
      kernels.gemm.packBT_bf16(
        target.assumingMemoryBound(to: UInt16.self), start, columns, k, source.stride)
    }
  }

  /// Fills this operand of one panel: `source` holds the same matrix reduced over n, its columns are
  /// this one's k, and `first` is where in its reduced dimension this panel's columns begin.
  func turn(from source: PackedMatrix, at first: Int, _ kernels: KernelTable) {
    for index in 0..<source.panels {
      let target = address(panel: 0, from: index * tile.columns)
      let from = source.address(panel: index, from: first)
      let next = UnsafeRawPointer(
        source.address(panel: min(index + 1, source.panels - 1), from: first))
      if type == .f32 {
        kernels.gemm.turnB_f32(
          target.assumingMemoryBound(to: Float.self), from.assumingMemoryBound(to: Float.self),
          n, source.columns(of: index), next)
      } else {
        kernels.gemm.turnB_bf16(
          target.assumingMemoryBound(to: UInt16.self), from.assumingMemoryBound(to: UInt16.self),
          n, source.columns(of: index), next)
      }
    }
  }

  /// Packs the rows [k, n] of the source from `first` on, a multiple of the tile's depth, as many as that
  /// or the last ones.
  package func packRows(from rows: Matrix, at first: Int, on executor: Executor) {
    let span = executor.begin(.pack(rows.rows, n, .right, type))
    defer { executor.end(span) }
    precondition(
      rows.columns == n && first % tile.depth == 0 && first + rows.rows <= k
        && (rows.rows % tile.depth == 0 || first + rows.rows == k),
      "pack: rows \(first) to \(first + rows.rows) of \(k), \(rows.columns) of \(n)")
    executor.parallel(panels) { range in
      for panel in range {
        let (target, start) = (address(panel: panel, from: first), rows.base + panel * tile.columns)
        if type == .f32 {
          executor.kernels.gemm.packB_f32(
            target.assumingMemoryBound(to: Float.self), start, columns(of: panel), rows.rows,
            rows.stride)
        } else {
          executor.kernels.gemm.packB_bf16(
            target.assumingMemoryBound(to: UInt16.self), start, columns(of: panel), rows.rows,
            rows.stride)
        }
      }
    }
  }

  /// Packs the whole operand: source [k, n], or [n, k] when `transposed`.
  package func pack(from source: Matrix, transposed: Bool, on executor: Executor) {
    let span = executor.begin(.pack(k, n, transposed ? .rightTransposed : .right, type))
    defer { executor.end(span) }
    precondition(
      transposed
        ? source.rows == n && source.columns == k : source.rows == k && source.columns == n,
      "pack: source \(source.rows)x\(source.columns), operand k \(k) n \(n)")
    executor.parallel(panels) { range in
      for panel in range {
        pack(panel: panel, from: source, transposed: transposed, executor.kernels)
      }
    }
  }
}

/// The left operand of a GEMM, m x k, in row panels. Activations are packed once and shared by
/// every weight they meet (q, k and v; gate and up).
package struct PackedRows: @unchecked Sendable, BitwiseCopyable {
  package let base: UnsafeMutableRawPointer
  package let m: Int
  package let k: Int
  package let type: ComputeType
  package let tile: Tile

  package var panels: Int { (m + tile.rows - 1) / tile.rows }

  package static func bytes(m: Int, k: Int, type: ComputeType, tile: Tile) -> Int {
    (m + tile.rows - 1) / tile.rows * tile.rows * tile.padded(k) * type.size
  }

  package init(in arena: Arena, m: Int, k: Int, type: ComputeType, tile: Tile) {
    let bytes = Self.bytes(m: m, k: k, type: type, tile: tile)
    self.init(
      at: UnsafeMutableRawPointer(arena.allocate(UInt8.self, count: max(64, bytes))), m: m, k: k,
      type: type, tile: tile)
  }

  init(
    at base: UnsafeMutableRawPointer, m: Int, k: Int, type: ComputeType, tile: Tile
  ) {
    self.base = base
    self.m = m
    self.k = k
    self.type = type
    self.tile = tile
  }

  @inline(__always) func rows(of panel: Int) -> Int { min(tile.rows, m - panel * tile.rows) }

  /// The source's rows of one panel.
  @inline(__always) func rows(in panel: Int) -> Range<Int> {
    panel * tile.rows..<min((panel + 1) * tile.rows, m)
  }

  @inline(__always) func address(panel: Int, from k0: Int) -> UnsafeMutableRawPointer {
    base + (panel * tile.padded(k) + k0) * tile.rows * type.size
  }

  /// The operand's rows of some panels.
  func panels(_ range: Range<Int>) -> PackedRows {
    let first = range.lowerBound * tile.rows
    return PackedRows(
      at: address(panel: range.lowerBound, from: 0),
      m: min(m, range.upperBound * tile.rows) - first,
      k: k, type: type, tile: tile)
  }

  /// Fills some panels. `transposed`: the source is stored [k, m].
  @inline(__always)
  func pack(
    panels: Range<Int>, from source: Matrix, transposed: Bool, _ kernels: KernelTable
  ) {
    guard transposed else {
      for panel in panels {
        pack(panel: panel, from: source, columns: 0..<k, kernels)
      }
      return
    }
    let first = panels.lowerBound * tile.rows
    let rows = min(m, panels.upperBound * tile.rows) - first
    let target = address(panel: panels.lowerBound, from: 0)
    if type == .f32 {
      kernels.gemm.packAT_f32(
        target.assumingMemoryBound(to: Float.self), source.base + first, rows, k, source.stride)
    } else {
      kernels.gemm.packAT_bf16(
        target.assumingMemoryBound(to: UInt16.self), source.base + first, rows, k, source.stride)
    }
  }

  /// Fills a part of one panel, from the tile's depth on or a multiple of it: what is ready of a
  /// source [m, k].
  @inline(__always)
  func pack(
    panel: Int, from source: Matrix, columns: Range<Int>, _ kernels: KernelTable
  ) {
    let target = address(panel: panel, from: columns.lowerBound)
    let start = source.row(panel * tile.rows) + columns.lowerBound
    if type == .f32 {
      kernels.gemm.packA_f32(
        target.assumingMemoryBound(to: Float.self), start, rows(of: panel), columns.count,
        source.stride)
    } else {
      kernels.gemm.packA_bf16(
        target.assumingMemoryBound(to: UInt16.self), start, rows(of: panel), columns.count,
        source.stride)
    }
  }

  package func pack(from source: Matrix, transposed: Bool = false, on executor: Executor) {
    let span = executor.begin(.pack(m, k, transposed ? .leftTransposed : .left, type))
    defer { executor.end(span) }
    precondition(
      transposed
        ? source.rows == k && source.columns == m : source.rows == m && source.columns == k,
      "pack: source \(source.rows)x\(source.columns), operand m \(m) k \(k)")
    executor.parallel(panels) { range in
      pack(panels: range, from: source, transposed: transposed, executor.kernels)
    }
  }
}
