// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// Bytes that operations take of an executor's scratch, for plans of memory: the sums that their
/// allocations make, without lines and counters.
package struct ScratchSizes: Sendable {
  package let type: ComputeType
  package let tile: Tile
  private let integers: Tile
  private let attention: Tile
  private let workers: Int

  package init(_ kernels: KernelTable, _ compute: ComputeType, workers: Int) {
    type = compute
    tile = compute == .f32 ? kernels.gemm.tile_f32 : kernels.gemm.tile_bf16
    integers = kernels.integer.tile
    attention = (compute == .f32 ? kernels.attention.f32 : kernels.attention.bf16).tile
    self.workers = workers
  }

  /// One allocation of rows x columns Floats, with the distance that arenas keep.
  package func floats(_ rows: Int, _ columns: Int) -> Int { Arena.taken(4 * rows * columns) }

  /// A left operand, m x k.
  package func rows(_ m: Int, _ k: Int) -> Int {
    PackedRows.bytes(m: m, k: k, type: type, tile: tile)
  }

  /// A weight in both of its layouts, or in the first.
  package func weight(outputs: Int, inputs: Int, backward: Bool) -> Int {
    PackedWeight.bytes(
      outputs: outputs, inputs: inputs, backward: backward, type: type, tile: tile)
  }

  /// The same of a frozen weight in 8 bits.
  package func integerWeight(outputs: Int, inputs: Int, backward: Bool, turns: Bool) -> Int {
    PackedIntegerWeight.bytes(
      outputs: outputs, inputs: inputs, backward: backward, turns: turns, tile: integers)
  }

  /// What an input gradient's workers turn, each for itself, where a weight is kept in one layout.
  package func turned(outputs: Int, inputs: Int, integers isInteger: Bool) -> Int {
    Arena.taken(
      workers
        * (isInteger
          ? IntegerGEMM.turnedRoom(k: outputs, tile: integers)
          : GEMM.turnedRoom(k: outputs, n: inputs, type: type, tile: tile)))
  }

  /// Rows as they wait for the backward pass in bf16.
  package func rounded(_ rows: Int, _ columns: Int) -> Int { Arena.taken(2 * rows * columns) }

  /// Gate and up as they wait for the backward pass in bf16.
  package func roundedGates(_ rows: Int, _ columns: Int) -> Int {
    Arena.taken(2 * (2 * rows * columns + RoundedGates.distance))
  }

  /// Rows of a gated product on their way into an operand.
  package func gatedRows(_ columns: Int) -> Int {
    Arena.taken(4 * workers * max(tile.rows, integers.rows) * columns)
  }

  /// A left operand in 8 bits, m x k.
  package func integerRows(_ m: Int, _ k: Int) -> Int {
    QuantizedRows.bytes(m: m, k: k, tile: integers)
  }

  /// `Linear.backwardWeight`: both factors packed along the tokens, or a thin one by each worker.
  package func weightGradient(outputs: Int, inputs: Int, tokens: Int) -> Int {
    if Linear.isThin(outputs: outputs, inputs: inputs, type) {
      let rank = min(outputs, inputs)
      return Arena.taken(workers * GEMM.thinRoom(k: tokens, rank: rank, tile: tile))
    }
    return rows(outputs, tokens) + PackedMatrix.bytes(k: tokens, n: inputs, type: type, tile: tile)
  }

  // MARK: - Attention

  package func attentionForward(_ lengths: [Int], _ shape: AttentionShape) -> Int {
    let width = attention.padded(shape.headSize) + panelled(shape.headSize)
    let each = attention.columns * (2 * panelled(shape.headSize) + 2 * Attention.keyBlock + 8) + 16
    return keys(lengths, shape) * width + 4 * workers * each
  }

  package func attentionBackward(_ lengths: [Int], _ shape: AttentionShape) -> Int {
    let size = shape.headSize
    let width = 2 * attention.padded(size) + panelled(size)
    let vectors = attention.columns / attention.lanes
    let groups = lengths.reduce(0) { sum, length in
      let chunks = (length + attention.lanes - 1) / attention.lanes
      return sum + (chunks * shape.group + vectors - 1) / vectors
    }
    let operands = attention.columns * (attention.padded(size) + attention.width(size)) * type.size
    let queries = 2 * operands + 4 * attention.columns * (panelled(size) + 2)
    let block = Attention.backwardBlock(size)
    let worker =
      block * (3 * attention.columns + 2 * attention.width(size))
      + (2 * attention.rows + 3) * attention.columns + 16
    return keys(lengths, shape) * width + groups * shape.keyHeads * queries + 4 * workers * worker
  }

  private func panelled(_ size: Int) -> Int {
    (size + attention.rows - 1) / attention.rows * attention.rows
  }

  /// Bytes of one packed value of all keys and key heads.
  private func keys(_ lengths: [Int], _ shape: AttentionShape) -> Int {
    lengths.reduce(0) { $0 + panelled($1) } * shape.keyHeads * type.size
  }

  // MARK: - The output head

  /// What becomes of the head besides log-probabilities and their slopes.
  package enum HeadGradient: Sendable {
    case none
    /// In the same walk over the vocabulary.
    case withScores
    /// In a walk of its own, after the scores are known.
    case afterScores
  }

  package func head(
    rows count: Int, hidden: Int, vocabulary: Int, slopes: Bool, gradient: HeadGradient,
    capped: Bool = false, turns: Bool = false
  ) -> Int {
    let walk = min(count, HeadSweep.walkRows)
    let scores =
      rows(walk, hidden) + sweep(walk, hidden, vocabulary, slopes: slopes, capped, turns)
    switch gradient {
    case .none: return scores
    case .afterScores:
      let chunk = min(count, HeadLoss.weightRows)
      return max(scores, rows(chunk, hidden) + headGradient(chunk, hidden, capped))
    case .withScores:
      let chunk = min(count, KeptExponentials.rows(vocabulary: vocabulary, type, tile))
      return rows(chunk, hidden) + kept(chunk, vocabulary)
        + max(
          sweep(chunk, hidden, vocabulary, slopes: true, capped, turns),
          headGradient(chunk, hidden, capped))
    }
  }

  private func kept(_ count: Int, _ vocabulary: Int) -> Int {
    let tiles = (vocabulary + HeadSweep.tileColumns - 1) / HeadSweep.tileColumns
    return tiles * count * (HeadSweep.tileColumns * type.size + 4)
  }

  /// Exponentials that a walk keeps for `VocabularyGradient`.
  package func keptExponentials(rows count: Int, vocabulary: Int) -> Int {
    HeadLoss.Rows.keeps(count, vocabulary: vocabulary, type, tile) ? kept(count, vocabulary) : 0
  }

  /// `VocabularyGradient`: operands of all rows, and workers' blocks.
  package func vocabularyGradient(rows count: Int, hidden: Int) -> Int {
    let chunk = min(count, HeadWeightGradient.chunk(tile))
    return rows(count, hidden) + PackedMatrix.bytes(k: count, n: hidden, type: type, tile: tile)
      + headGradient(chunk, hidden, false) + 4 * workers * VocabularyGradient.rows * hidden
  }

  /// `TrainedOperand.Work`.
  package func trainedBlocks(width: Int) -> Int {
    TrainedOperand.Work.bytes(width: width, workers: workers)
  }

  private func sweep(
    _ count: Int, _ hidden: Int, _ vocabulary: Int, slopes: Bool, _ capped: Bool, _ turns: Bool
  ) -> Int {
    let segments = max(1, min(HeadSweep.mostSegments, vocabulary / HeadSweep.segmentColumns))
    let panels = (count + tile.rows - 1) / tile.rows
    let blocks = max(1, (panels * tile.rows + HeadSweep.blockRows - 1) / HeadSweep.blockRows)
    let most = (panels + blocks - 1) / blocks * tile.rows
    let slopeFloats = capped ? HeadSweep.tileColumns + 16 : 0
    let turned = slopes && turns ? HeadSweep.turnedFloats(type, tile, inputs: hidden) : 0
    let worker =
      (most * (2 * HeadSweep.tileColumns + 16 + slopeFloats) + hidden + turned + 2047) & ~1023
    let sums = slopes ? (segments - 1) * count * hidden : 0
    return 4 * ((3 * segments + 1) * count + sums + workers * worker)
  }

  private func headGradient(_ count: Int, _ hidden: Int, _ capped: Bool) -> Int {
    let left = (HeadSweep.tileColumns + tile.rows) * tile.padded(count)
    let slopes = capped ? HeadSweep.tileColumns : 0
    let worker = (count * (HeadSweep.tileColumns + 16) + left + slopes + 2047) & ~1023
    return PackedMatrix.bytes(k: count, n: hidden, type: type, tile: tile) + 4 * workers * worker
  }
}
