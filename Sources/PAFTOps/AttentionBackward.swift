// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

extension Attention {
  /// Queries per block of the backward pass: the reduction of dK and dV runs along them.
  static let backwardRows = 96

  /// Gradients of `forward`. dq, dk and dv are overwritten.
  ///
  /// P is rebuilt from the saved log-sums: P = exp(scale S - lse), delta = rowsum(dO * O),
  /// dS = P (dO Vᵀ - delta) scale, dQ = dS K, dK = dSᵀ Q, dV = Pᵀ dO. A work item is one
  /// (sequence, key head): dK and dV of a key head are summed by one worker over its query heads
  /// and query blocks in order, so the bits do not depend on the team.
  package static func backward(
    dOutput: Matrix, output: Matrix, q: Matrix, k: Matrix, v: Matrix,
    lse: UnsafePointer<Float>, sequences: Sequences, shape: AttentionShape, dq: Matrix, dk: Matrix,
    dv: Matrix, on executor: Executor
  ) {
    executor.withScratch { scratch in
      let operands = PackedKeyValues(
        k: k, v: v, sequences: sequences, shape: shape, backward: true, in: scratch, on: executor)
      let work = BackwardScratch(in: scratch, shape: shape, on: executor)
      executor.interleaved(sequences.count * shape.keyHeads) { item, worker in
        let sequence = item / shape.keyHeads
        let keyHead = item % shape.keyHeads
        let rows = sequences[sequence]
        let size = shape.headSize
        let keyColumns = keyHead * size..<keyHead * size + size
        let dkHead = dk.rows(rows).columns(keyColumns)
        let dvHead = dv.rows(rows).columns(keyColumns)
        for row in 0..<rows.count {
          dkHead.row(row).update(repeating: 0, count: size)
          dvHead.row(row).update(repeating: 0, count: size)
        }
        for head in keyHead * shape.group..<(keyHead + 1) * shape.group {
          let columns = head * size..<head * size + size
          var position = 0
          while position < rows.count {
            let end = min(position + backwardRows, rows.count)
            let span = rows.lowerBound + position..<rows.lowerBound + end
            backwardBlock(
              positions: position..<end, dOutput: dOutput.rows(span).columns(columns),
              output: output.rows(span).columns(columns), q: q.rows(span).columns(columns),
              dq: dq.rows(span).columns(columns), dk: dkHead, dv: dvHead,
              lse: lse + span.lowerBound * shape.heads + head,
              keys: operands.keys(sequence: sequence, head: keyHead),
              valuesTransposed: operands.valuesTransposed(sequence: sequence, head: keyHead),
              keysPlain: operands.keysPlain(sequence: sequence, head: keyHead),
              work: work, worker: worker, shape: shape, kernels: executor.kernels)
            position = end
          }
        }
      }
    }
  }

  private static func backwardBlock(
    positions: Range<Int>, dOutput: Matrix, output: Matrix, q: Matrix, dq: Matrix, dk: Matrix,
    dv: Matrix, lse: UnsafePointer<Float>, keys: PackedMatrix, valuesTransposed: PackedMatrix,
    keysPlain: PackedMatrix, work: BackwardScratch, worker: Int, shape: AttentionShape,
    kernels: KernelTable
  ) {
    let size = shape.headSize
    let rows = positions.count
    let queries = work.rows(worker, .queries, m: rows, k: size)
    let gradients = work.rows(worker, .outputGradients, m: rows, k: size)
    pack(queries, from: q, kernels)
    pack(gradients, from: dOutput, kernels)
    let queriesRight = work.right(worker, .queries, k: rows)
    let gradientsRight = work.right(worker, .outputGradients, k: rows)
    pack(queriesRight, from: q, kernels)
    pack(gradientsRight, from: dOutput, kernels)
    let delta = work.delta(worker)
    for row in 0..<rows {
      delta[row] = Float(kernels.vectors.dot_f32(dOutput.row(row), output.row(row), size))
      dq.row(row).update(repeating: 0, count: size)
    }

    let end = positions.upperBound
    var from = shape.firstKey(positions.lowerBound) / keyBlock * keyBlock
    while from < end {
      let count = min(end - from, keyBlock)
      let scores = work.scores(worker, rows: rows, columns: count)
      let dScores = work.dScores(worker, rows: rows, columns: count)
      multiplyPanels(queries, keys, columns: from..<from + count, into: scores, kernels)
      multiplyPanels(
        gradients, valuesTransposed, columns: from..<from + count, into: dScores, kernels)
      for row in 0..<rows {
        let position = positions.lowerBound + row
        let low = min(count, max(0, shape.firstKey(position) - from))
        let high = max(low, min(count, position + 1 - from))
        clear(scores.row(row), outside: low..<high, count)
        clear(dScores.row(row), outside: low..<high, count)
        if high > low {
          kernels.rows.softmaxBackward_f32(
            scores.row(row) + low, dScores.row(row) + low, high - low, shape.scale,
            lse[row * shape.heads], delta[row])
        }
      }
      let left = work.rows(worker, .scores, m: rows, k: count)
      pack(left, from: dScores, kernels)
      multiplyAdd(left, keysPlain, from: from, into: dq, kernels)

      let transposed = work.transposed(worker, m: count, k: rows)
      packTransposed(transposed, from: dScores, kernels)
      multiplyAdd(transposed, queriesRight, from: 0, into: dk.rows(from..<from + count), kernels)
      packTransposed(transposed, from: scores, kernels)
      multiplyAdd(transposed, gradientsRight, from: 0, into: dv.rows(from..<from + count), kernels)
      from += count
    }
  }

  @inline(__always)
  private static func clear(_ row: UnsafeMutablePointer<Float>, outside live: Range<Int>, _ n: Int)
  {
    if live.lowerBound > 0 { row.update(repeating: 0, count: live.lowerBound) }
    if live.upperBound < n {
      (row + live.upperBound).update(repeating: 0, count: n - live.upperBound)
    }
  }

  @inline(__always)
  private static func pack(_ a: PackedRows, from source: Matrix, _ kernels: KernelTable) {
    for panel in 0..<a.panels { a.pack(panel: panel, from: source, transposed: false, kernels) }
  }
  @inline(__always)
  private static func packTransposed(_ a: PackedRows, from source: Matrix, _ kernels: KernelTable) {
    for panel in 0..<a.panels { a.pack(panel: panel, from: source, transposed: true, kernels) }
  }
  @inline(__always)
  private static func pack(_ b: PackedMatrix, from source: Matrix, _ kernels: KernelTable) {
    for panel in 0..<b.panels { b.pack(panel: panel, from: source, transposed: false, kernels) }
  }
}

/// Private buffers of each worker in the backward pass.
struct BackwardScratch {
  enum Left: Int { case queries, outputGradients, scores }
  enum Right: Int { case queries, outputGradients }

  private let floats: UnsafeMutablePointer<Float>
  private let packed: UnsafeMutableRawPointer
  private let floatsEach: Int
  private let leftBytes: Int
  private let rightBytes: Int
  private let packedEach: Int
  private let shape: AttentionShape
  private let type: ComputeType
  private let tile: Tile

  init(in arena: Arena, shape: AttentionShape, on executor: Executor) {
    self.shape = shape
    type = executor.compute
    tile = executor.tile
    let rows = Attention.backwardRows
    let keys = Attention.keyBlock
    floatsEach = 2 * rows * keys + rows + 32
    // The widest left operand: queries [rows, D], scores [rows, keys] or scores transposed.
    leftBytes = Self.align(
      max(
        PackedRows.bytes(m: rows, k: max(keys, shape.headSize), type: type, tile: tile),
        PackedRows.bytes(m: keys, k: rows, type: type, tile: tile)))
    rightBytes = Self.align(
      PackedMatrix.bytes(k: rows, n: shape.headSize, type: type, tile: tile))
    packedEach = 4 * leftBytes + 2 * rightBytes
    floats = arena.allocate(Float.self, count: floatsEach * executor.workers)
    packed = UnsafeMutableRawPointer(
      arena.allocate(UInt8.self, count: packedEach * executor.workers))
  }

  private static func align(_ bytes: Int) -> Int { (bytes + 127) & ~127 }

  func rows(_ worker: Int, _ which: Left, m: Int, k: Int) -> PackedRows {
    PackedRows(
      at: packed + worker * packedEach + which.rawValue * leftBytes, m: m, k: k, type: type,
      tile: tile)
  }
  func transposed(_ worker: Int, m: Int, k: Int) -> PackedRows {
    PackedRows(
      at: packed + worker * packedEach + 3 * leftBytes, m: m, k: k, type: type, tile: tile)
  }
  func right(_ worker: Int, _ which: Right, k: Int) -> PackedMatrix {
    PackedMatrix(
      at: packed + worker * packedEach + 4 * leftBytes + which.rawValue * rightBytes, k: k,
      n: shape.headSize, type: type, tile: tile)
  }
  func scores(_ worker: Int, rows: Int, columns: Int) -> Matrix {
    Matrix(
      floats + worker * floatsEach, rows: rows, columns: columns, stride: Attention.keyBlock)
  }
  func dScores(_ worker: Int, rows: Int, columns: Int) -> Matrix {
    Matrix(
      floats + worker * floatsEach + Attention.backwardRows * Attention.keyBlock, rows: rows,
      columns: columns, stride: Attention.keyBlock)
  }
  func delta(_ worker: Int) -> UnsafeMutablePointer<Float> {
    floats + worker * floatsEach + 2 * Attention.backwardRows * Attention.keyBlock
  }
}
