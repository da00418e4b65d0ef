// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension HeadLoss {
  /// dweight[V, D] += dzᵀ hidden with dz = coefficients (onehot - softmax), for a head that is
  /// trained, from rows that `forward` has filled. The logits are computed again, a tile at a time.
  package static func backwardWeight(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    coefficients: UnsafePointer<Float>, into dweight: Matrix, on executor: Executor
  ) {
    var first = 0
    while first < hidden.rows {
      let range = first..<min(hidden.rows, first + weightRows)
      executor.withScratch { scratch in
        let gradient = HeadWeightGradient(
          hidden.rows(range), head, targets + first, rows.lse + first, rows.logp + first,
          coefficients + first, dweight, in: scratch, on: executor)
        gradient.run(on: executor)
      }
      first = range.upperBound
    }
  }

  /// Rows whose part of dweight is added at once, the reduced dimension of that product: dweight is
  /// read and written once for each.
  static let weightRows = 512
}

/// Each worker owns a range of the vocabulary and adds the rows of a chunk to its part of dweight.
private struct HeadWeightGradient: @unchecked Sendable {
  let x: PackedRows
  let right: PackedMatrix
  let head: PackedWeight
  let targets: UnsafePointer<Int32>
  let lse: UnsafePointer<Float>
  let logp: UnsafePointer<Float>
  let coefficients: UnsafePointer<Float>
  let dweight: Matrix
  private let buffers: UnsafeMutablePointer<Float>
  private let bufferStride: Int
  private static var lineStride: Int { HeadSweep.tileColumns + 16 }

  init(
    _ hidden: Matrix, _ head: PackedWeight, _ targets: UnsafePointer<Int32>,
    _ lse: UnsafePointer<Float>, _ logp: UnsafePointer<Float>,
    _ coefficients: UnsafePointer<Float>, _ dweight: Matrix, in scratch: Arena,
    on executor: Executor
  ) {
    x = Linear.pack(hidden, in: scratch, on: executor)
    right = PackedMatrix(
      in: scratch, k: hidden.rows, n: hidden.columns, type: executor.compute, tile: executor.tile)
    right.pack(from: hidden, transposed: false, on: executor)
    self.head = head
    self.targets = targets
    self.lse = lse
    self.logp = logp
    self.coefficients = coefficients
    self.dweight = dweight
    let left = (HeadSweep.tileColumns + x.tile.rows) * x.tile.padded(x.m)
    bufferStride = (x.m * Self.lineStride + left + 2047) & ~1023
    buffers = scratch.allocate(Float.self, count: executor.workers * bufferStride)
  }

  func run(on executor: Executor) {
    let tiles = (head.outputs + HeadSweep.tileColumns - 1) / HeadSweep.tileColumns
    executor.team.run { worker in
      for tile in Executor.share(of: tiles, worker: worker, workers: executor.workers, grain: 1) {
        let from = tile * HeadSweep.tileColumns
        add(
          from..<min(head.outputs, from + HeadSweep.tileColumns), buffers + worker * bufferStride,
          executor.kernels)
      }
    }
  }

  private func add(
    _ columns: Range<Int>, _ buffer: UnsafeMutablePointer<Float>, _ kernels: KernelTable
  ) {
    let z = Matrix(buffer, rows: x.m, columns: columns.count, stride: Self.lineStride)
    GEMM.alone(x, head.forward.panels(columns), into: z, kernels)
    for row in 0..<x.m {
      let line = z.row(row)
      kernels.rows.softmaxGradient_f32(line, columns.count, lse[row], -coefficients[row])
      let target = Int(targets[row])
      if columns.contains(target) {
        line[target - columns.lowerBound] = -coefficients[row] * expm1f(logp[row])
      }
    }
    let dz = PackedRows(
      at: UnsafeMutableRawPointer(buffer + x.m * Self.lineStride), m: columns.count, k: x.m,
      type: x.type, tile: x.tile)
    for panel in 0..<dz.panels { dz.pack(panel: panel, from: z, transposed: true, kernels) }
    GEMM.alone(dz, right, into: dweight.rows(columns), accumulate: true, kernels)
  }
}
