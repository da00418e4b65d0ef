// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

// The gradient of a head that is trained: dW += dzᵀ h with dz = c (onehot - softmax). Each worker owns
// a range of the vocabulary and adds the rows of a chunk to its part of dW.
//
// Where c is known before the walk (cross-entropy), the walk keeps its e = exp(z - m) and dz is
// -c e exp(m - lse): three products for the three that a trained head must have, for rows x V values
// of memory in each chunk. Where c comes from the log-probabilities themselves (preferences), z is
// computed again: four products, and a tile of memory.

extension HeadLoss {
  /// Fills `rows` and adds to dweight[V, D], for coefficients = dL/dlogp that are known beforehand.
  package static func forward(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    coefficients: UnsafePointer<Float>, addingTo dweight: Matrix, cap: Softcap? = nil,
    on executor: Executor
  ) {
    let span = executor.begin(
      .loss(hidden, head, .trained, products: 3, trained: true, executor.compute))
    defer { executor.end(span) }
    chunks(
      hidden.rows, of: KeptExponentials.rows(head, executor.compute, executor.tile), on: executor
    ) { range, scratch in
      let part = hidden.rows(range)
      let x = Linear.pack(part, in: scratch, on: executor)
      let kept = KeptExponentials(
        rows: range.count, vocabulary: head.outputs, type: executor.compute, in: scratch)
      let rows = rows.rows(range)
      executor.withScratch { scratch in
        let sweep = HeadSweep(
          x, head, targets + range.lowerBound, slopes: rows.slopes, kept: kept, cap: cap,
          in: scratch, workers: executor.workers)
        sweep.run(on: executor)
        sweep.finish(rows, on: executor)
      }
      let gradient = HeadWeightGradient(
        x: x, hidden: part, head: head, targets: targets + range.lowerBound, rows: rows,
        coefficients: coefficients + range.lowerBound, kept: kept, cap: cap, in: scratch,
        on: executor)
      gradient.run(into: dweight, on: executor)
    }
  }

  /// dweight[V, D] += from rows that `forward` has filled: the logits are computed again.
  package static func backwardWeight(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    coefficients: UnsafePointer<Float>, into dweight: Matrix, cap: Softcap? = nil,
    on executor: Executor
  ) {
    let span = executor.begin(
      .loss(hidden, head, .wgrad, products: 1, trained: true, executor.compute))
    defer { executor.end(span) }
    chunks(hidden.rows, of: weightRows, on: executor) { range, scratch in
      let part = hidden.rows(range)
      let gradient = HeadWeightGradient(
        x: Linear.pack(part, in: scratch, on: executor), hidden: part, head: head,
        targets: targets + range.lowerBound, rows: rows.rows(range),
        coefficients: coefficients + range.lowerBound, kept: nil, cap: cap, in: scratch,
        on: executor)
      gradient.run(into: dweight, on: executor)
    }
  }

  /// Rows whose part of dweight is added at once, the reduced dimension of that product: dweight is
  /// read and written once for each. 192 rows reach 88 % of the tile's peak, 256 91, 384 92, 512 90
  /// (896 x 151936, bf16, one thread). 336, between two that were measured, is the most that keeps the
  /// memory under a twentieth of the logits and their gradient.
  static let weightRows = 336
  /// Memory for the exponentials of a chunk: as many rows of 151936 BF16.
  static let keptBytes = weightRows * 2 * 151936
}

/// e = exp(z - m) of a chunk of rows over the whole vocabulary, as the walk left it: in the type of
/// an operand, with the maximum m that a row had at each tile.
struct KeptExponentials: @unchecked Sendable {
  private let rows: Int
  private let type: ComputeType
  /// [tiles][rows][tileColumns].
  private let values: UnsafeMutableRawPointer
  /// [tiles][rows]: m.
  private let shifts: UnsafeMutablePointer<Float>

  init(rows: Int, vocabulary: Int, type: ComputeType, in scratch: Arena) {
    self.rows = rows
    self.type = type
    let tiles = (vocabulary + HeadSweep.tileColumns - 1) / HeadSweep.tileColumns
    values = UnsafeMutableRawPointer(
      scratch.allocate(UInt8.self, count: tiles * rows * HeadSweep.tileColumns * type.size))
    shifts = scratch.allocate(Float.self, count: tiles * rows)
  }

  /// Rows of a chunk: by the vocabulary alone, so that no result depends on the machine.
  static func rows(_ head: PackedWeight, _ type: ComputeType, _ tile: Tile) -> Int {
    rows(vocabulary: head.outputs, type, tile)
  }

  static func rows(vocabulary: Int, _ type: ComputeType, _ tile: Tile) -> Int {
    let fit = min(HeadLoss.weightRows, HeadLoss.keptBytes / (vocabulary * type.size))
    return max(1, fit / (2 * tile.rows)) * 2 * tile.rows
  }

  @inline(__always) private func line(_ tile: Int, _ row: Int) -> UnsafeMutableRawPointer {
    values + (tile * rows + row) * HeadSweep.tileColumns * type.size
  }

  @inline(__always)
  func store(
    _ e: UnsafePointer<Float>, _ count: Int, shift: Float, tile: Int, row: Int,
    _ kernels: KernelTable
  ) {
    shifts[tile * rows + row] = shift
    let to = line(tile, row)
    if type == .f32 {
      to.assumingMemoryBound(to: Float.self).update(from: e, count: count)
    } else {
      kernels.vectors.toBF16(to.assumingMemoryBound(to: UInt16.self), e, count, 0)
    }
  }

  /// z's softmax: e exp(m - lse) times `scale`.
  @inline(__always)
  func load(
    _ z: UnsafeMutablePointer<Float>, _ count: Int, lse: Float, scale: Float, tile: Int, row: Int,
    _ kernels: KernelTable
  ) {
    let from = line(tile, row)
    if type == .f32 {
      z.update(from: from.assumingMemoryBound(to: Float.self), count: count)
    } else {
      kernels.vectors.fromBF16(z, from.assumingMemoryBound(to: UInt16.self), count, 0)
    }
    let shift = shifts[tile * rows + row]
    let factor = shift == -.infinity ? 0 : scale * Float(exp(Double(shift) - Double(lse)))
    kernels.vectors.scale_f32(z, factor, count)
  }
}

/// dW of some rows, a tile of the vocabulary at a time.
struct HeadWeightGradient: @unchecked Sendable {
  let x: PackedRows
  let head: PackedWeight
  let targets: UnsafePointer<Int32>
  let rows: HeadLoss.Rows
  let coefficients: UnsafePointer<Float>
  let kept: KeptExponentials?
  let cap: Softcap?
  /// hidden as the right operand.
  private let right: PackedMatrix
  private let buffers: UnsafeMutablePointer<Float>
  private let bufferStride: Int
  /// A row of slopes lies behind the rest of a worker's buffer.
  private let slopeOffset: Int
  private static var lineStride: Int { HeadSweep.tileColumns + 16 }

  init(
    x: PackedRows, hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>,
    rows: HeadLoss.Rows, coefficients: UnsafePointer<Float>, kept: KeptExponentials?,
    cap: Softcap?, in scratch: Arena, on executor: Executor
  ) {
    self.x = x
    self.head = head
    self.targets = targets
    self.rows = rows
    self.coefficients = coefficients
    self.kept = kept
    self.cap = cap
    right = PackedMatrix(
      in: scratch, k: hidden.rows, n: hidden.columns, type: executor.compute, tile: executor.tile)
    right.pack(from: hidden, transposed: false, on: executor)
    let rows = min(x.m, Self.chunk(x.tile))
    let left = (HeadSweep.tileColumns + x.tile.rows) * x.tile.padded(rows)
    let slopes = cap == nil ? 0 : HeadSweep.tileColumns
    bufferStride = (rows * Self.lineStride + left + slopes + 2047) & ~1023
    slopeOffset = rows * Self.lineStride + left
    buffers = scratch.allocate(Float.self, count: executor.workers * bufferStride)
  }

  func run(into dweight: Matrix, on executor: Executor) {
    let tiles = (head.outputs + HeadSweep.tileColumns - 1) / HeadSweep.tileColumns
    executor.run { worker in
      for tile in Executor.share(of: tiles, worker: worker, workers: executor.workers, grain: 1) {
        let from = tile * HeadSweep.tileColumns
        let columns = from..<min(head.outputs, from + HeadSweep.tileColumns)
        add(tile, worker: worker, into: dweight.rows(columns), executor.kernels)
      }
    }
  }

  /// Rows whose logits a worker holds at a time: whole panels and groups of the reduced dimension.
  static func chunk(_ tile: Tile) -> Int {
    HeadLoss.weightRows / (2 * tile.rows) * 2 * tile.rows
  }

  /// Adds what a tile's rows of dW get.
  func add(_ tile: Int, worker: Int, into dweight: Matrix, _ kernels: KernelTable) {
    var first = 0
    while first < x.m {
      let count = min(x.m - first, Self.chunk(x.tile))
      add(tile, first..<first + count, buffers + worker * bufferStride, dweight, kernels)
      first += count
    }
  }

  private func add(
    _ tile: Int, _ range: Range<Int>, _ buffer: UnsafeMutablePointer<Float>, _ dweight: Matrix,
    _ kernels: KernelTable
  ) {
    let from = tile * HeadSweep.tileColumns
    let columns = from..<min(head.outputs, from + HeadSweep.tileColumns)
    let z = Matrix(buffer, rows: range.count, columns: columns.count, stride: Self.lineStride)
    let panels = range.lowerBound / x.tile.rows..<(range.upperBound - 1) / x.tile.rows + 1
    if kept == nil {
      GEMM.alone(x.panels(panels), head.forward.panels(columns), into: z, kernels)
    }
    for row in range {
      let line = z.row(row - range.lowerBound)
      if let kept {
        kept.load(
          line, columns.count, lse: rows.lse[row], scale: -coefficients[row], tile: tile, row: row,
          kernels)
      } else {
        let slopes = buffer + slopeOffset
        cap?.apply(line, slopes, columns.count, kernels)
        kernels.rows.softmaxGradient_f32(line, columns.count, rows.lse[row], -coefficients[row])
        if cap != nil { kernels.vectors.product_f32(line, slopes, columns.count) }
      }
      let target = Int(targets[row])
      if columns.contains(target) {
        let slope = cap.map { $0.slope(at: rows.logp[row] + rows.lse[row]) } ?? 1
        line[target - from] = -coefficients[row] * expm1f(rows.logp[row]) * slope
      }
    }
    let dz = PackedRows(
      at: UnsafeMutableRawPointer(buffer + range.count * Self.lineStride), m: columns.count,
      k: range.count, type: x.type, tile: x.tile)
    dz.pack(panels: 0..<dz.panels, from: z, transposed: true, kernels)
    GEMM.alone(
      dz, right, reduced: range.lowerBound, into: dweight, accumulate: true, kernels)
  }
}
