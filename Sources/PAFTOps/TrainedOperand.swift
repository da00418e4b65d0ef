// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// A trained weight W[rows, columns] whose panels are the only copy there is: no Floats stand beside
/// them. A step takes some rows at a time out of them as Floats, changes those while they lie in a
/// worker's caches, rounds them stochastically and packs them again. A nearest rounding would lose the
/// step, which is far below a BF16's last bit; the expected value of this one is the Float (Zamirai et
/// al., arXiv 2010.06192).
package enum TrainedOperand: @unchecked Sendable {
  /// Rows are the panels' columns: the layout for a forward pass, reduced over `columns`.
  case columns(PackedMatrix)
  /// Rows are the reduced dimension: an embedding that is only gathered from.
  case rows(PackedMatrix)

  package var matrix: PackedMatrix {
    switch self {
    case .columns(let matrix), .rows(let matrix): matrix
    }
  }

  /// Of the weight: rows, and values of a row.
  package var count: Int { if case .columns(let m) = self { m.n } else { matrix.k } }
  package var width: Int { if case .columns(let m) = self { m.k } else { matrix.n } }

  /// Rows that are changed together: whole panels, whole groups of the reduced dimension, and a
  /// multiple of the values that share a draw of random bits or a scale of 8-bit moments.
  package static func block(width: Int) -> Int { width % 4 == 0 ? 64 : 256 }
  package var block: Int { Self.block(width: width) }

  /// Takes whole blocks of rows, or those up to the end, through `change`, which gets them as Floats
  /// without gaps.
  ///
  /// - Parameters:
  ///   - first: the place of W's first value among all that are rounded with `key`, a multiple of 4.
  ///   - work: this worker's.
  @inline(__always)
  package func update(
    _ rows: Range<Int>, key: UInt64, first: Int, work: Work, _ kernels: KernelTable,
    _ change: (UnsafeMutablePointer<Float>) -> Void
  ) {
    let count = rows.count * width
    load(rows, into: work.values, kernels)
    change(work.values)
    kernels.vectors.toBF16Stochastic(
      work.halves, work.values, count, key, first + rows.lowerBound * width)
    kernels.vectors.fromBF16(work.values, work.halves, count, 0)
    store(rows, from: work.values, kernels)
  }

  /// Some rows as Floats, without gaps; they begin at a block.
  package func load(
    _ rows: Range<Int>, into values: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    switch self {
    case .rows(let matrix):
      for row in rows { matrix.row(row, into: values + (row - rows.lowerBound) * matrix.n) }
    case .columns(let matrix):
      for panel in panels(rows) {
        let at = values + (panel * matrix.tile.columns - rows.lowerBound) * matrix.k
        kernels.gemm.unpackBT_bf16(
          at, matrix.address(panel: panel, from: 0).assumingMemoryBound(to: UInt16.self),
          matrix.columns(of: panel), matrix.k, matrix.k)
      }
    }
  }

  private func store(
    _ rows: Range<Int>, from values: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    let source = Matrix(values, rows: rows.count, columns: width)
    switch self {
    case .rows(let matrix):
      for panel in 0..<matrix.panels {
        kernels.gemm.packB_bf16(
          matrix.address(panel: panel, from: rows.lowerBound)
            .assumingMemoryBound(to: UInt16.self),
          source.base + panel * matrix.tile.columns, matrix.columns(of: panel), rows.count,
          source.stride)
      }
    case .columns(let matrix):
      for panel in panels(rows) {
        kernels.gemm.packBT_bf16(
          matrix.address(panel: panel, from: 0).assumingMemoryBound(to: UInt16.self),
          source.row(panel * matrix.tile.columns - rows.lowerBound), matrix.columns(of: panel),
          matrix.k, source.stride)
      }
    }
  }

  private func panels(_ rows: Range<Int>) -> Range<Int> {
    let columns = matrix.tile.columns
    precondition(
      rows.lowerBound % columns == 0
        && (rows.upperBound % columns == 0 || rows.upperBound == count),
      "rows of a trained operand are taken by panels")
    return rows.lowerBound / columns..<(rows.upperBound + columns - 1) / columns
  }

  /// The whole weight as Floats: for what is made of it.
  package func load(into target: Matrix, on executor: Executor) {
    let span = executor.begin(.pack(count, width, .rightTransposed, matrix.type))
    defer { executor.end(span) }
    let block = block
    executor.parallel((count + block - 1) / block) { range in
      let rows = range.lowerBound * block..<min(count, range.upperBound * block)
      load(rows, into: target.row(rows.lowerBound), executor.kernels)
    }
  }

  /// Reads operands after the executor that packed them is gone.
  package struct Reader: Sendable {
    private let kernels: KernelTable

    package init(_ executor: Executor) { kernels = executor.kernels }

    package func load(
      _ operand: TrainedOperand, _ rows: Range<Int>, into values: UnsafeMutablePointer<Float>
    ) {
      operand.load(rows, into: values, kernels)
    }
  }

  /// What workers need for a block of rows each, in scratch.
  package struct Work: @unchecked Sendable {
    fileprivate let values: UnsafeMutablePointer<Float>
    fileprivate let halves: UnsafeMutablePointer<UInt16>
    /// What 8-bit moments are unpacked into.
    package let moments: UnsafeMutablePointer<Float>
    private let stride: Int

    private static let momentFloats = 4 * QuarticCode.block

    /// - Parameter width: of the widest weight.
    package init(in scratch: Arena, width: Int, workers: Int) {
      stride = Self.floats(width)
      values = scratch.allocate(Float.self, count: workers * stride)
      halves = scratch.allocate(UInt16.self, count: workers * stride)
      moments = scratch.allocate(Float.self, count: workers * Self.momentFloats)
    }

    private init(_ all: Work, _ worker: Int) {
      stride = all.stride
      values = all.values + worker * all.stride
      halves = all.halves + worker * all.stride
      moments = all.moments + worker * Self.momentFloats
    }

    package subscript(worker: Int) -> Work { Work(self, worker) }

    private static func floats(_ width: Int) -> Int {
      (TrainedOperand.block(width: width) * width + 15) & ~15
    }

    package static func bytes(width: Int, workers: Int) -> Int {
      Arena.taken(4 * workers * floats(width)) + Arena.taken(2 * workers * floats(width))
        + Arena.taken(4 * workers * momentFloats)
    }
  }
}
