// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Shape of an attention layer and which keys a query sees.
package struct AttentionShape: Sendable, Equatable {
  package var heads: Int
  package var keyHeads: Int
  package var headSize: Int
  /// Keys a query sees, itself included; nil for all earlier ones.
  package var window: Int?

  package init(heads: Int, keyHeads: Int, headSize: Int, window: Int?) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.window = window
  }

  package var group: Int { heads / keyHeads }
  package var scale: Float { 1 / Float(headSize).squareRoot() }

  /// First key that query `position` (counted inside its sequence) sees.
  @inline(__always) func firstKey(_ position: Int) -> Int {
    guard let window else { return 0 }
    return max(0, position - window + 1)
  }
}

/// Causal flash attention over packed sequences: softmax(scale Q Kᵀ) V without the score matrix.
///
/// Both products run on the GEMM tiles. K and V are packed once per (sequence, key head) and used
/// by every query head of the group and every query block. A block of `queryRows` queries walks its
/// keys in blocks of `keyBlock`, trimmed at the diagonal, with the online softmax of Milakov and
/// Gimelshein (2018): per row a running maximum and sum, the output shrunk when the maximum grows.
/// Work items are (sequence, head, query block); each is computed by one worker alone.
package enum Attention {
  /// Multiple of every tile height in use (4 and 6).
  static let queryRows = 48
  /// Multiple of every tile width, even (bf16 pairs); 48 x 256 scores are 48 KiB, in L2 with K.
  static let keyBlock = 256

  /// q [T, heads*D], k and v [T, keyHeads*D], output like q; lse [T, heads]: log of the row sums.
  package static func forward(
    q: Matrix, k: Matrix, v: Matrix, sequences: Sequences, shape: AttentionShape,
    into output: Matrix, lse: UnsafeMutablePointer<Float>, on executor: Executor
  ) {
    executor.withScratch { scratch in
      let operands = PackedKeyValues(
        k: k, v: v, sequences: sequences, shape: shape, in: scratch, on: executor)
      let work = ForwardScratch(in: scratch, shape: shape, on: executor)
      let blocks = QueryBlocks(sequences, queryRows, in: scratch)
      executor.interleaved(blocks.count * shape.heads) { item, worker in
        let block = blocks[item / shape.heads]
        forwardBlock(
          block, head: item % shape.heads, q: q, output: output, lse: lse, operands: operands,
          work: work, worker: worker, sequences: sequences, shape: shape,
          kernels: executor.kernels)
      }
    }
  }

  private static func forwardBlock(
    _ block: QueryBlock, head: Int, q: Matrix, output: Matrix, lse: UnsafeMutablePointer<Float>,
    operands: PackedKeyValues, work: ForwardScratch, worker: Int, sequences: Sequences,
    shape: AttentionShape, kernels: KernelTable
  ) {
    let size = shape.headSize
    let keyHead = head / shape.group
    let base = sequences[block.sequence].lowerBound
    let rows = block.positions.count
    let first = base + block.positions.lowerBound
    let heads = head * size..<head * size + size
    let keys = operands.keys(sequence: block.sequence, head: keyHead)
    let values = operands.values(sequence: block.sequence, head: keyHead)

    let queries = work.queries(worker, rows: rows)
    let source = q.rows(first..<first + rows).columns(heads)
    for panel in 0..<queries.panels {
      queries.pack(panel: panel, from: source, transposed: false, kernels)
    }
    let target = output.rows(first..<first + rows).columns(heads)
    for row in 0..<rows { target.row(row).update(repeating: 0, count: size) }
    let state = work.state(worker)
    for row in 0..<rows {
      state[2 * row] = -.infinity
      state[2 * row + 1] = 0
    }

    let end = block.positions.upperBound
    var from = shape.firstKey(block.positions.lowerBound) / keyBlock * keyBlock
    while from < end {
      let count = min(end - from, keyBlock)
      let scores = work.scores(worker, rows: rows, columns: count)
      multiplyPanels(queries, keys, columns: from..<from + count, into: scores, kernels)
      for row in 0..<rows {
        let position = block.positions.lowerBound + row
        let low = max(0, shape.firstKey(position) - from)
        let high = min(count, position + 1 - from)
        let line = scores.row(row)
        if high <= low {
          line.update(repeating: 0, count: count)
          continue
        }
        let shrink = kernels.rows.softmaxOnline_f32(
          line + low, high - low, shape.scale, state + 2 * row)
        if low > 0 { line.update(repeating: 0, count: low) }
        if high < count { (line + high).update(repeating: 0, count: count - high) }
        if shrink != 1 { kernels.vectors.scale_f32(target.row(row), shrink, size) }
      }
      let weights = work.weights(worker, rows: rows, columns: count)
      for panel in 0..<weights.panels {
        weights.pack(panel: panel, from: scores, transposed: false, kernels)
      }
      multiplyAdd(weights, values, from: from, into: target, kernels)
      from += count
    }
    for row in 0..<rows {
      let sum = state[2 * row + 1]
      kernels.vectors.scale_f32(target.row(row), 1 / sum, size)
      lse[(first + row) * shape.heads + head] = state[2 * row] + logf(sum)
    }
  }

  /// scores = A B[:, columns], where the column range starts at a panel. Whole panels are
  /// multiplied, so a block that ends inside one (at the diagonal) leaves a few scores of later
  /// keys behind its end; `keyBlock` is a multiple of the panel, so they stay inside the row.
  @inline(__always)
  static func multiplyPanels(
    _ a: PackedRows, _ b: PackedMatrix, columns: Range<Int>, into scores: Matrix,
    _ kernels: KernelTable
  ) {
    let width = b.tile.columns
    var panel = columns.lowerBound / width
    var done = 0
    while done < columns.count {
      for row in 0..<a.panels {
        tile(
          a, row, b, panel, from: 0, scores.row(row * a.tile.rows) + done, scores.stride,
          accumulate: 0, kernels)
      }
      panel += 1
      done += width
    }
  }

  /// C += A B[from..., :], reduced over A's k.
  @inline(__always)
  static func multiplyAdd(
    _ a: PackedRows, _ b: PackedMatrix, from: Int, into c: Matrix, _ kernels: KernelTable
  ) {
    for panel in 0..<b.panels {
      for row in 0..<a.panels {
        tile(
          a, row, b, panel, from: from, c.row(row * a.tile.rows) + panel * b.tile.columns,
          c.stride, accumulate: 1, kernels)
      }
    }
  }

  @inline(__always)
  private static func tile(
    _ a: PackedRows, _ row: Int, _ b: PackedMatrix, _ panel: Int, from k0: Int,
    _ target: UnsafeMutablePointer<Float>, _ stride: Int, accumulate: Int, _ kernels: KernelTable
  ) {
    let pa = a.address(panel: row, from: 0)
    let pb = b.address(panel: panel, from: k0)
    if a.type == .f32 {
      kernels.gemm.multiply_f32(
        pa.assumingMemoryBound(to: Float.self), pb.assumingMemoryBound(to: Float.self), target,
        a.k, stride, a.rows(of: row), b.columns(of: panel), 1, accumulate)
    } else {
      kernels.gemm.multiply_bf16(
        pa.assumingMemoryBound(to: UInt16.self), pb.assumingMemoryBound(to: UInt16.self), target,
        a.k, stride, a.rows(of: row), b.columns(of: panel), 1, accumulate)
    }
  }
}
