// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A run of consecutive queries of one sequence; positions count from the sequence's start.
struct QueryBlock: BitwiseCopyable {
  let sequence: Int
  let first: Int
  let end: Int

  var positions: Range<Int> { first..<end }
}

/// All query blocks of a batch, in order.
struct QueryBlocks {
  private let blocks: UnsafeMutablePointer<QueryBlock>
  let count: Int

  init(_ sequences: Sequences, _ rows: Int, in arena: Arena) {
    var count = 0
    for s in 0..<sequences.count { count += (sequences[s].count + rows - 1) / rows }
    blocks = arena.allocate(QueryBlock.self, count: max(1, count))
    self.count = count
    var next = 0
    for s in 0..<sequences.count {
      let length = sequences[s].count
      var position = 0
      while position < length {
        let end = min(position + rows, length)
        blocks[next] = QueryBlock(sequence: s, first: position, end: end)
        next += 1
        position = end
      }
    }
  }

  @inline(__always) subscript(_ index: Int) -> QueryBlock { blocks[index] }
}

/// K and V of every (sequence, key head) as right operands: scores need Kᵀ [D, keys], the output
/// needs V [keys, D]; the backward pass also needs Vᵀ [D, keys] and K [keys, D].
struct PackedKeyValues {
  private let operands: UnsafeMutablePointer<PackedMatrix>
  private let keyHeads: Int
  private let kinds: Int

  init(
    k: Matrix, v: Matrix, sequences: Sequences, shape: AttentionShape, backward: Bool = false,
    in arena: Arena, on executor: Executor
  ) {
    let kinds = backward ? 4 : 2
    let size = shape.headSize
    let count = sequences.count * shape.keyHeads
    let operands = arena.allocate(PackedMatrix.self, count: max(1, count * kinds))
    let tile = executor.tile
    let type = executor.compute
    for s in 0..<sequences.count {
      let length = sequences[s].count
      for head in 0..<shape.keyHeads {
        let at = (s * shape.keyHeads + head) * kinds
        operands[at] = PackedMatrix(in: arena, k: size, n: length, type: type, tile: tile)
        operands[at + 1] = PackedMatrix(in: arena, k: length, n: size, type: type, tile: tile)
        if backward {
          operands[at + 2] = PackedMatrix(in: arena, k: size, n: length, type: type, tile: tile)
          operands[at + 3] = PackedMatrix(in: arena, k: length, n: size, type: type, tile: tile)
        }
      }
    }
    executor.interleaved(count * kinds) { item, _ in
      let kind = item % kinds
      let head = item / kinds % shape.keyHeads
      let rows = sequences[item / kinds / shape.keyHeads]
      // Kinds: 0 Kᵀ, 1 V, 2 Vᵀ, 3 K.
      let source = (kind == 0 || kind == 3 ? k : v).rows(rows)
        .columns(head * size..<head * size + size)
      let operand = operands[item]
      for panel in 0..<operand.panels {
        operand.pack(
          panel: panel, from: source, transposed: kind == 0 || kind == 2, executor.kernels)
      }
    }
    self.operands = operands
    self.keyHeads = shape.keyHeads
    self.kinds = kinds
  }

  private func at(_ sequence: Int, _ head: Int, _ kind: Int) -> PackedMatrix {
    operands[(sequence * keyHeads + head) * kinds + kind]
  }
  func keys(sequence: Int, head: Int) -> PackedMatrix { at(sequence, head, 0) }
  func values(sequence: Int, head: Int) -> PackedMatrix { at(sequence, head, 1) }
  func valuesTransposed(sequence: Int, head: Int) -> PackedMatrix { at(sequence, head, 2) }
  func keysPlain(sequence: Int, head: Int) -> PackedMatrix { at(sequence, head, 3) }
}

/// Private buffers of each worker in the forward pass.
struct ForwardScratch {
  private let floats: UnsafeMutablePointer<Float>
  private let packed: UnsafeMutableRawPointer
  private let floatsEach: Int
  private let packedEach: Int
  private let queryBytes: Int
  private let shape: AttentionShape
  private let type: ComputeType
  private let tile: Tile
  private let scoreStride: Int

  init(in arena: Arena, shape: AttentionShape, on executor: Executor) {
    self.shape = shape
    type = executor.compute
    tile = executor.tile
    scoreStride = Attention.keyBlock
    let rows = Attention.queryRows
    floatsEach = rows * scoreStride + 2 * rows + 32
    queryBytes = Self.align(
      PackedRows.bytes(m: rows, k: shape.headSize, type: type, tile: tile))
    packedEach =
      queryBytes + Self.align(PackedRows.bytes(m: rows, k: scoreStride, type: type, tile: tile))
    floats = arena.allocate(Float.self, count: floatsEach * executor.workers)
    packed = UnsafeMutableRawPointer(
      arena.allocate(UInt8.self, count: packedEach * executor.workers))
  }

  private static func align(_ bytes: Int) -> Int { (bytes + 127) & ~127 }

  func queries(_ worker: Int, rows: Int) -> PackedRows {
    PackedRows(
      at: packed + worker * packedEach, m: rows, k: shape.headSize, type: type, tile: tile)
  }
  func weights(_ worker: Int, rows: Int, columns: Int) -> PackedRows {
    PackedRows(
      at: packed + worker * packedEach + queryBytes, m: rows, k: columns, type: type, tile: tile)
  }
  func scores(_ worker: Int, rows: Int, columns: Int) -> Matrix {
    Matrix(floats + worker * floatsEach, rows: rows, columns: columns, stride: scoreStride)
  }
  /// Running (maximum, sum) of each row.
  func state(_ worker: Int) -> UnsafeMutablePointer<Float> {
    floats + worker * floatsEach + Attention.queryRows * scoreStride
  }
}
