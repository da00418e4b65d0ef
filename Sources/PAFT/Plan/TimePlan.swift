// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTraining

/// How long training will take: the arithmetic that the rows make, at the rate at which this machine
/// multiplies matrices of the model's shape, measured on the spot.
struct TimePlan: Sendable {
  /// Operations of a branch's training, its reference included.
  let operations: [Double]
  /// Seconds of each branch on its place.
  let seconds: [Double]
  let isSequential: Bool
  /// Of each branch's place.
  private let cores: [Int]

  /// Two branches at once: the cores of the first to end join the other.
  var training: Double {
    guard !isSequential, seconds.count == 2 else { return seconds.reduce(0, +) }
    let last = seconds[0] > seconds[1] ? 0 : 1
    let rest = seconds[last] - seconds[1 - last]
    return seconds[1 - last] + rest * Double(cores[last]) / Double(max(1, cores.reduce(0, +)))
  }

  /// Share of the rate of plain products that a whole step reaches: 0.78 of the peak in `paft
  /// profile` of llama-40m and 0.79 of qwen2.5-0.5b (512 tokens, two Zen 4 cores), products alone 0.97.
  private static let share = 0.8

  init(_ preparation: Preparation) throws {
    let c = preparation.model.configuration
    operations = try preparation.jobs.map {
      Self.operations(
        c, $0.configuration, try TrainingShape($0.configuration, $0.data.training),
        preparation.recipe.dtype.compute)
    }
    isSequential = preparation.isSequential
    cores = preparation.places.map { $0.isShared ? 0 : $0.count }
    var rates: [Double] = []
    for place in preparation.places {
      if let known = zip(preparation.places, rates).first(where: { $0.0.count == place.count }) {
        rates.append(known.1)
      } else {
        rates.append(try Self.rate(c, on: place, preparation))
      }
    }
    seconds = zip(operations, rates).map { $0 / ($1 * Self.share) }
  }

  /// Forward, backward, what checkpointing computes again, and the walk over the rows for a
  /// reference. Products, attention, the head and a penalty on adapters' products; the
  /// rest is lost in the share.
  ///
  /// - Parameter compute: what the products of most operations are made in.
  static func operations(
    _ c: ModelConfiguration, _ configuration: BranchConfiguration, _ shape: TrainingShape,
    _ compute: ComputeType
  ) -> Double {
    let (tokens, labels) = (Double(shape.computed), Double(shape.labels))
    // For scores and for the sum, two operations each.
    let attention = 4 * Double(c.layers * c.queryWidth) * shape.scores
    var total = 3.5 * attention
    let adapter: LoRAConfiguration? =
      if case .lora(let lora) = configuration.adaptation { lora } else { nil }
    total +=
      c.productOperations(adapter, tokens: tokens, labels: labels)
      + c.headOperations(isTrained: adapter == nil) * labels
    // The head's logits once more, for a gradient that is not kept.
    if !configuration.masterWeights { total += 2 * Double(c.hidden * c.vocabulary) * labels }
    if configuration.activationCheckpointing {
      total += 2 * c.linearProducts(tokens, labels: labels) + attention
    }
    if let adapter, let penalty = configuration.l1, penalty.form == .product {
      let period = SparsityController(penalty, totalSteps: shape.steps).period
      // Of Floats, which take twice the time of BF16.
      total +=
        (compute == .f32 ? 1 : 2)
        * c.penaltyOperations(
          adapter, gradients: Double(shape.steps), measurements: Double(shape.steps / period))
    }
    if case .preference(let objective) = configuration.objective, objective.needsReference {
      total +=
        2
        * (c.linearProducts(Double(shape.walkTokens), labels: Double(shape.walkLabels))
          + Double(c.hidden * c.vocabulary) * Double(shape.walkLabels)
          + 2 * Double(c.layers * c.queryWidth) * shape.walkScores)
    }
    return total
  }

  /// Operations a second of the MLP's products on `place`.
  private static func rate(
    _ c: ModelConfiguration, on place: Place, _ preparation: Preparation
  ) throws -> Double {
    let (tokens, inputs, outputs) = (512, c.hidden, min(c.intermediate, 8192))
    let sizes = ScratchSizes(
      preparation.kernels, preparation.recipe.dtype.compute, workers: place.count)
    let scratch =
      sizes.floats(tokens, inputs + outputs) + sizes.floats(outputs, inputs)
      + sizes.rows(tokens, inputs)
      + sizes.weight(outputs: outputs, inputs: inputs, backward: false) + (1 << 20)
    return try Workbench.run(
      on: place, preparation.kernels, preparation.recipe.dtype, named: "plan", scratch: scratch
    ) { executor in
      let arena = executor.scratch
      let x = Matrix(in: arena, rows: tokens, columns: inputs)
      let y = Matrix(in: arena, rows: tokens, columns: outputs)
      let plain = Matrix(in: arena, rows: outputs, columns: inputs)
      for (matrix, count) in [(x, tokens * inputs), (plain, outputs * inputs)] {
        Elementwise.zero(matrix.base, count: count, on: executor)
      }
      let weight = executor.packedWeight(
        in: arena, outputs: outputs, inputs: inputs, backward: false)
      weight.pack(from: plain, on: executor)
      let mark = arena.mark
      func product() {
        let packed = Linear.pack(x, in: arena, on: executor)
        Linear.forward(packed, weight, into: y, on: executor)
        arena.release(to: mark)
      }
      product()
      let watch = Stopwatch()
      var count = 0
      repeat {
        product()
        count += 1
      } while watch.seconds < 0.1
      return 2 * Double(count) * Double(tokens) * Double(inputs) * Double(outputs) / watch.seconds
    }
  }
}
