// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTKernelInterface
import PAFTMachine
import PAFTModels
import PAFTOps

/// Full fine-tuning without master weights: BF16 panels that products read are the weights, and a
/// layer is updated in the backward pass as soon as its gradient is whole, so that there is one layer's
/// gradient at a time and, of head and embedding, that of some rows of the vocabulary (LOMO, Lv et al.,
/// arXiv 2306.09782, with the moments of the recipe's optimizer).
///
/// What the sum of a step's gradients decides cannot be had this way: accumulation, several passes,
/// clipping by the norm. A gradient that is not finite is met layer by layer: nothing is updated from
/// there on, and the run ends without writing what layers above have become.
package final class LayerwiseTraining: @unchecked Sendable {
  package let store: WeightStore
  package let gradients: Gradients
  package let first: UnsafeMutablePointer<Float>?
  package let second: UnsafeMutablePointer<Float>?
  package let eightBit: EightBitMoments?
  let arena: Arena
  private let optimizer: Optimizer
  private let random: CounterRandom
  /// Of each row, its first block of 8-bit moments.
  private let blocks: [Int]
  /// Rows of each layer, and those of none but the vocabulary's.
  private let layers: [Range<Int>]
  private let others: [Int]
  private let layerGradient: UnsafeMutablePointer<Float>
  private let otherGradient: UnsafeMutablePointer<Float>
  /// Where a row's gradient is made; layers share theirs, the vocabulary's rows have none.
  private let places: [UnsafeMutablePointer<Float>?]
  private let widest: Int
  private let squares: UnsafeMutablePointer<Double>

  // One step.
  private var scalars: (decaying: OptimizerScalars, plain: OptimizerScalars)?
  private var key: UInt64 = 0
  private var passed = false
  /// Of all gradients met in this step.
  package private(set) var sumSquares = 0.0

  private var table: ParameterTable { store.table }

  /// Floats of the largest layer's gradient.
  private static func layerFloats(_ table: ParameterTable) -> Int {
    layerRanges(table).reduce(0) { most, range in
      max(most, end(table, range) - table.rows[range.lowerBound].offset)
    }
  }

  private static func end(_ table: ParameterTable, _ range: Range<Int>) -> Int {
    range.upperBound < table.rows.count ? table.rows[range.upperBound].offset : table.floats
  }

  private static func layerRanges(_ table: ParameterTable) -> [Range<Int>] {
    let layers = (table.rows.compactMap(\.layer).max() ?? -1) + 1
    return (0..<layers).map { layer in
      let first = table.rows.firstIndex { $0.layer == layer }!
      let last = table.rows.lastIndex { $0.layer == layer }!
      return first..<last + 1
    }
  }

  /// Values of the widest row of a matrix.
  package static func widest(_ table: ParameterTable) -> Int {
    table.rows.reduce(1) { $1.isMatrix ? max($0, $1.shape[1]) : $0 }
  }

  /// What it takes beside the weights.
  package static func bytes(_ table: ParameterTable, _ optimizer: Optimizer) -> Int {
    optimizer.momentBytes(table) + Arena.taken(4 * layerFloats(table))
  }

  package init(
    _ store: WeightStore, optimizer: Optimizer, seed: UInt64, on executor: Executor
  ) throws {
    self.store = store
    self.optimizer = optimizer
    random = CounterRandom(seed: seed).stream("rounding")
    let table = store.table
    layers = Self.layerRanges(table)
    others = table.rows.indices.filter {
      table.rows[$0].layer == nil && !table.rows[$0].isMatrix
    }
    var block = 0
    blocks = table.rows.map { row in
      defer { block += (row.count + EightBitMoments.block - 1) / EightBitMoments.block }
      return block
    }
    widest = Self.widest(table)
    let tiles = VocabularyGradient.tiles(store.configuration.vocabulary)
    let otherFloats = others.reduce(16) { $0 + (table.rows[$1].count + 15) & ~15 }
    arena = try Arena(
      capacity: Self.bytes(table, optimizer) + 4 * otherFloats + 8 * tiles
        + (1 << 16), node: executor.team.place.node, name: "gradients and moments")
    layerGradient = arena.allocate(Float.self, count: Self.layerFloats(table))
    otherGradient = arena.allocate(Float.self, count: otherFloats)
    first = optimizer.momentCount > 0 ? arena.allocate(Float.self, count: table.floats) : nil
    second = optimizer.momentCount > 1 ? arena.allocate(Float.self, count: table.floats) : nil
    eightBit =
      optimizer.isEightBit
      ? EightBitMoments(in: arena, count: block * EightBitMoments.block) : nil
    squares = arena.allocate(Double.self, count: max(1, tiles))
    var place = [UnsafeMutablePointer<Float>?](repeating: nil, count: table.rows.count)
    for range in layers {
      let start = table.rows[range.lowerBound].offset
      for index in range { place[index] = layerGradient + (table.rows[index].offset - start) }
    }
    var at = 0
    for index in others {
      place[index] = otherGradient + at
      at += (table.rows[index].count + 15) & ~15
    }
    let names = Dictionary(
      uniqueKeysWithValues: table.rows.indices.map { (table.rows[$0].offset, $0) })
    var gradients = Gradients(table, store.configuration) { place[names[$0.offset]!] }
    gradients.defersVocabulary = true
    self.gradients = gradients
    places = place
  }

  // MARK: - One step

  /// - Parameter step: from 0.
  package func begin(step: Int, learningRate: Double) {
    func scalars(_ decays: Bool) -> OptimizerScalars {
      optimizer.scalars(
        step: step + 1, learningRate: learningRate, decays: decays, gradientScale: 1)
    }
    self.scalars = (scalars(true), scalars(false))
    key = random.stream(step).key
    sumSquares = 0
    passed = false
    for index in others { places[index]!.update(repeating: 0, count: table.rows[index].count) }
  }

  /// The backward pass of the step's only pass, and with it the step.
  func backward(
    _ decoder: Decoder, _ hidden: Matrix, _ batch: Batch, rows: HeadLoss.Rows, scored: Bool,
    coefficients: UnsafePointer<Float>
  ) {
    precondition(!passed, "weights that are updated in the backward pass have one pass a step")
    passed = true
    let executor = decoder.executor
    let c = store.configuration
    if batch.labels == 0 {
      for layer in layers.indices.reversed() { finish(layer, on: executor) }
      vocabulary(nil, nil, on: executor)
    } else {
      executor.withScratch { scratch in
        let rows =
          scored
          ? rows
          : rows.keepingExponentials(
            batch.labels, of: store.weights.head, in: scratch, on: executor)
        decoder.backward(
          hidden, batch, store.weights, rows: rows, scored: scored, coefficients: coefficients,
          into: gradients, finished: { finish($0, on: executor) }
        ) { dx in
          decoder.withHeadInput(hidden, store.weights) { normed in
            vocabulary(
              VocabularyGradient.Head(
                normed: normed, weight: store.weights.head, targets: batch.targets, rows: rows,
                coefficients: coefficients, cap: c.logitCap),
              VocabularyGradient.Tokens(ids: batch.ids, dx: dx), on: executor)
          }
        }
      }
    }
    for index in others {
      sumSquares += Elementwise.sumSquares(
        places[index]!, count: table.rows[index].count, on: executor)
      if sumSquares.isFinite { update(index, on: executor) }
    }
  }

  private func clear(_ range: Range<Int>, on executor: Executor) {
    let start = table.rows[range.lowerBound].offset
    Elementwise.zero(layerGradient, count: Self.end(table, range) - start, on: executor)
  }

  private func finish(_ layer: Int, on executor: Executor) {
    let range = layers[layer]
    let count = Self.end(table, range) - table.rows[range.lowerBound].offset
    sumSquares += Elementwise.sumSquares(layerGradient, count: count, on: executor)
    if sumSquares.isFinite {
      for index in range { update(index, on: executor) }
    }
    clear(range, on: executor)
  }

  /// One row whose gradient is in its place.
  private func update(_ index: Int, on executor: Executor) {
    let row = table.rows[index]
    let gradient = places[index]!
    let span = executor.begin(.flat(.adamw, row.count, bytesEach: Work.Each.adamW8))
    defer { executor.end(span) }
    executor.withScratch { scratch in
      let work = TrainedOperand.Work(in: scratch, width: widest, workers: executor.workers)
      if let vector = store.vectors[index] {
        apply(vector, gradient, index, 0, row.count, work, executor.kernels)
      } else if let operand = store.operands[index] {
        let block = operand.block
        executor.interleaved((operand.count + block - 1) / block) { item, worker in
          let rows = item * block..<min(operand.count, (item + 1) * block)
          update(
            operand, index, rows, gradient + rows.lowerBound * operand.width, work[worker],
            executor.kernels)
        }
      }
    }
    store.refresh(index, on: executor)
  }

  private func update(
    _ operand: TrainedOperand, _ index: Int, _ rows: Range<Int>, _ gradient: UnsafePointer<Float>,
    _ work: TrainedOperand.Work, _ kernels: KernelTable
  ) {
    operand.update(rows, key: key, first: table.rows[index].offset, work: work, kernels) {
      apply(
        $0, gradient, index, rows.lowerBound * operand.width, rows.count * operand.width, work,
        kernels)
    }
  }

  /// The optimizer over values `at` to `at + count` of a row.
  @inline(__always)
  private func apply(
    _ values: UnsafeMutablePointer<Float>, _ gradient: UnsafePointer<Float>, _ index: Int,
    _ at: Int, _ count: Int, _ work: TrainedOperand.Work, _ kernels: KernelTable
  ) {
    guard let scalars else { preconditionFailure("a step was not begun") }
    let row = table.rows[index]
    let offset = row.offset + at
    switch row.isMatrix ? scalars.decaying : scalars.plain {
    case .adamW(let constants):
      if let moments = eightBit {
        let block = blocks[index] + at / EightBitMoments.block
        let from = block * EightBitMoments.block
        constants.withFloats {
          kernels.optimizer.adamW8_f32(
            values, moments.first + from, moments.second + from, moments.firstScales + block,
            moments.secondScales + block, gradient, count, $0, work.moments)
        }
      } else {
        constants.withFloats {
          kernels.optimizer.adamW_f32(
            values, first! + offset, second! + offset, gradient, count, $0)
        }
      }
    case .sgd(let constants):
      SGD.update(values, first.map { $0 + offset }, gradient, count, constants, kernels)
    }
  }

  /// Embedding and head, a block of the vocabulary at a time.
  private func vocabulary(
    _ head: VocabularyGradient.Head?, _ tokens: VocabularyGradient.Tokens?, on executor: Executor
  ) {
    for index in table.rows.indices {
      let row = table.rows[index]
      guard row.layer == nil, row.isMatrix, let operand = store.operands[index] else { continue }
      let isTied = store.configuration.tiedHead
      vocabulary(
        isTied || row.role == .head ? head : nil, isTied || row.role == .embedding ? tokens : nil,
        operand, index, on: executor)
    }
  }

  private func vocabulary(
    _ head: VocabularyGradient.Head?, _ tokens: VocabularyGradient.Tokens?,
    _ operand: TrainedOperand, _ index: Int, on executor: Executor
  ) {
    let before = sumSquares
    let block = operand.block
    executor.withScratch { scratch in
      let work = TrainedOperand.Work(in: scratch, width: widest, workers: executor.workers)
      VocabularyGradient.run(
        head, tokens, vocabulary: operand.count, hidden: operand.width, on: executor
      ) { tile, range, gradient, worker in
        let count = range.count * operand.width
        squares[tile] = executor.kernels.vectors.sumSquares_f32(gradient, count)
        guard before.isFinite, squares[tile].isFinite else { return }
        var row = range.lowerBound
        while row < range.upperBound {
          let rows = row..<min(row + block, range.upperBound)
          update(
            operand, index, rows, gradient + (row - range.lowerBound) * operand.width,
            work[worker], executor.kernels)
          row = rows.upperBound
        }
      }
    }
    for tile in 0..<VocabularyGradient.tiles(operand.count) { sumSquares += squares[tile] }
  }
}

extension LayerwiseTraining {
  /// Makes anew what depends on weights that were read from a checkpoint.
  package func refresh(on executor: Executor) {
    for index in table.rows.indices { store.refresh(index, on: executor) }
  }
}
