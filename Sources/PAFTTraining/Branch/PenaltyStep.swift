// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTKernelInterface
import PAFTMachine
import PAFTModels
import PAFTOps

/// The L1 penalty on a branch's delta, once per optimizer step and outside of clipping:
/// its gradient before the update (product form), its proximal step after it (full delta, factors).
struct PenaltyStep {
  /// Floats of a flat buffer per work unit: fixed, so sums have one order.
  private static let floatBlock = 1 << 12

  private let penalty: L1Penalty
  private let trainable: Trainable
  private let products: [(a: Parameter, b: Parameter)]
  /// Penalised tensors of a full delta: those with at least two dimensions.
  private let penalised: [Parameter]
  /// 1e-3 * rms(W) per product: below it a product's entry counts as zero.
  private let thresholds: [Float]

  var count: Int {
    penalty.form == .product
      ? products.reduce(0) { $0 + $1.a.shape[1] * $1.b.shape[0] }
      : penalised.reduce(0) { $0 + $1.count }
  }

  init(_ penalty: L1Penalty, _ trainable: Trainable, base: BaseModel?, on executor: Executor) throws
  {
    self.penalty = penalty
    self.trainable = trainable
    penalised = trainable.table.rows.filter(\.isMatrix)
    var products: [(a: Parameter, b: Parameter)] = []
    for (index, row) in trainable.table.rows.enumerated() {
      if case .adapterA = row.role { products.append((row, trainable.table.rows[index + 1])) }
    }
    self.products = products
    thresholds = try products.map { pair in
      guard let base, case .adapterA(let module) = pair.a.role else { return 0 }
      let row = base.folder.table.rows.first {
        $0.layer == pair.a.layer && $0.role == .weight(module)
      }!
      return try executor.withScratch { scratch in
        let weight = scratch.allocate(Float.self, count: row.count)
        try base.folder.read(row, into: weight)
        let squares = Elementwise.sumSquares(weight, count: row.count, on: executor)
        return Float(1e-3 * (squares / Double(row.count)).squareRoot())
      }
    }
  }

  /// Product form: adds lambda * gradient; `inverseScale` undoes the factor that the optimizer will
  /// put on the gradient, so that clipping and averaging do not touch the penalty.
  func addGradient(lambda: Double, inverseScale: Double, on executor: Executor) {
    guard penalty.form == .product, lambda != 0 else { return }
    let strength = Float(lambda * inverseScale)
    for pair in products {
      let product = view(pair)
      executor.withScratch { scratch in
        let rooms = scratch.allocate(Float.self, count: executor.workers * product.scratch)
        executor.interleaved(product.columnTiles + product.rowTiles) { unit, worker in
          let room = rooms + worker * product.scratch
          if unit < product.columnTiles {
            product.addColumns(
              tile: unit, lambda: strength, dA: trainable.gradient + pair.a.offset, scratch: room,
              executor.kernels)
          } else {
            product.addRows(
              tile: unit - product.columnTiles, lambda: strength,
              dB: trainable.gradient + pair.b.offset, scratch: room, executor.kernels)
          }
        }
      }
    }
  }

  /// Proximal forms: shrinks the delta (or the factors) by lr * lambda.
  func shrink(lambda: Double, learningRate: Double, on executor: Executor) {
    let threshold = Float(lambda * learningRate)
    guard penalty.form != .product, threshold > 0 else { return }
    for row in penalised {
      let values = trainable.values + row.offset
      executor.parallel(row.count, grain: 1 << 12) { range in
        let at = values + range.lowerBound
        if let initial = trainable.initial, penalty.form == .prox {
          executor.kernels.optimizer.softThreshold_f32(
            at, initial + row.offset + range.lowerBound, threshold, range.count)
        } else {
          SoftThreshold.factor(at, threshold: threshold, count: range.count)
        }
      }
    }
  }

  /// The end of a run with a target: sets the smallest entries of a full delta to zero until `share`
  /// of them are. A schedule that falls to zero takes the proximal step's strength with it, so the
  /// last small moves would stay behind; what is cut here is smaller than a step at the peak rate.
  /// Ties at the threshold are all cut. Once per run, so it counts by bisection over the bit
  /// patterns of |d| (31 passes) instead of sorting.
  func settle(share: Double, on executor: Executor) {
    guard penalty.form == .prox, let initial = trainable.initial else { return }
    let wanted = Int((share * Double(count)).rounded())
    var low: UInt32 = 0
    var high: UInt32 = 0x7F80_0000
    while low < high {
      let middle = low + (high - low) / 2
      if within(middle, initial, on: executor) >= wanted { high = middle } else { low = middle + 1 }
    }
    for row in penalised {
      let values = trainable.values + row.offset
      executor.parallel(row.count, grain: Self.floatBlock) { range in
        for i in range where abs(values[i] - initial[row.offset + i]).bitPattern <= low {
          values[i] = initial[row.offset + i]
        }
      }
    }
  }

  /// Penalised entries with |d| at most the Float of these bits.
  private func within(
    _ bits: UInt32, _ initial: UnsafePointer<Float>, on executor: Executor
  ) -> Int {
    penalised.reduce(0) { sum, row in
      sum
        + measureFlat(row, from: initial, threshold: Float(bitPattern: bits), on: executor).within
    }
  }

  /// Sum of the absolute delta and its share of zeros (exact ones; for products, entries below
  /// 1e-3 of the weight's rms).
  func measure(on executor: Executor) -> (norm: Double, sparsity: Double) {
    var norm = 0.0
    var zeros = 0
    if penalty.form == .product {
      for (index, pair) in products.enumerated() {
        let (n, z) = measureProduct(view(pair), threshold: thresholds[index], on: executor)
        norm += n
        zeros += z
      }
    } else {
      for row in penalised {
        let (n, z) = measureFlat(
          row, from: penalty.form == .prox ? trainable.initial : nil, threshold: 0, on: executor)
        norm += n
        zeros += z
      }
    }
    return (norm, count == 0 ? 0 : Double(zeros) / Double(count))
  }

  private func view(_ pair: (a: Parameter, b: Parameter)) -> ProductL1 {
    ProductL1(
      a: trainable.values + pair.a.offset, b: trainable.values + pair.b.offset,
      out: pair.b.shape[0], in: pair.a.shape[1], rank: pair.a.shape[0],
      scale: trainable.adapterScale)
  }

  private func measureProduct(_ product: ProductL1, threshold: Float, on executor: Executor) -> (
    Double, Int
  ) {
    executor.withScratch { scratch in
      let tiles = product.columnTiles
      let rooms = scratch.allocate(Float.self, count: executor.workers * product.scratch)
      let norms = scratch.allocate(Double.self, count: max(1, tiles))
      let zeros = scratch.allocate(Int.self, count: max(1, tiles))
      executor.interleaved(tiles) { tile, worker in
        (norms[tile], zeros[tile]) = product.measure(
          tile: tile, threshold: threshold, scratch: rooms + worker * product.scratch,
          executor.kernels)
      }
      var norm = 0.0
      var count = 0
      for tile in 0..<tiles {
        norm += norms[tile]
        count += zeros[tile]
      }
      return (norm, count)
    }
  }

  /// Of the values of a tensor, or of their delta where `initial` is given: sum|d|, and how many have
  /// |d| <= threshold.
  private func measureFlat(
    _ row: Parameter, from initial: UnsafePointer<Float>?, threshold: Float, on executor: Executor
  ) -> (norm: Double, within: Int) {
    executor.withScratch { scratch in
      let blocks = (row.count + Self.floatBlock - 1) / Self.floatBlock
      let norms = scratch.allocate(Double.self, count: max(1, blocks))
      let counts = scratch.allocate(Int.self, count: max(1, blocks))
      let rooms = scratch.allocate(Float.self, count: executor.workers * Self.floatBlock)
      let limit = scratch.allocate(Float.self, count: 1)
      limit.pointee = threshold
      let kernels = executor.kernels
      executor.interleaved(blocks) { block, worker in
        let first = block * Self.floatBlock
        let count = min(Self.floatBlock, row.count - first)
        var delta = UnsafePointer(trainable.values + row.offset + first)
        if let initial {
          let room = rooms + worker * Self.floatBlock
          kernels.merging.difference_f32(room, delta, initial + row.offset + first, count)
          delta = UnsafePointer(room)
        }
        norms[block] = kernels.vectors.sumAbsolute_f32(delta, count)
        counts[block] = 0
        kernels.merging.countWithin_f32(counts + block, delta, count, limit, 1)
      }
      return (0..<blocks).reduce(into: (0.0, 0)) { sum, block in
        sum.0 += norms[block]
        sum.1 += counts[block]
      }
    }
  }
}
