// SPDX-License-Identifier: Apache-2.0

import PAFTModels
import PAFTOps
import PAFTTraining

/// Operations of a branch's training, by what they are computed in.
struct BranchWork: Sendable {
  /// In the type that the recipe computes in.
  private(set) var plain = 0.0
  /// In 8 bits: products with the weights of layers that are held so.
  private(set) var integer = 0.0

  var operations: Double { plain + integer }

  /// What a whole step takes beside its products, as a part of what all of them would take in the
  /// plain type: products alone reach 0.97 of the peak in `paft profile`, a step 0.78 (llama-40m) and
  /// 0.79 (qwen2.5-0.5b; 512 tokens, Zen 4 and Zen 5). Norms, gates and adapters pass as many
  /// values where the layers multiply in 8 bits, so there it is a larger part of less.
  private static let besides = 0.25

  func seconds(at rates: ProductRates) -> Double {
    plain / rates.plain + integer / rates.integer + Self.besides * operations / rates.plain
  }

  /// Cores are shared by it, before any rate is known: 8 bits are multiplied twice as fast as 16.
  var weight: Double { seconds(at: ProductRates(plain: 1, integer: 2)) }

  init(_ job: BranchJob, _ c: ModelConfiguration, _ recipe: Recipe) throws {
    self.init(
      c, job.configuration, try TrainingShape(job.configuration, job.data.training),
      recipe.dtype.compute, quantizes: recipe.baseDtype == .int8)
  }

  /// Forward, backward, what checkpointing computes again, and the walk over the rows for a
  /// reference. Products, attention, the head and a penalty on adapters' products.
  ///
  /// - Parameters:
  ///   - compute: what the products of most operations are made in.
  ///   - quantizes: whether the layers of the blocks are multiplied in 8 bits.
  init(
    _ c: ModelConfiguration, _ configuration: BranchConfiguration, _ shape: TrainingShape,
    _ compute: ComputeType, quantizes: Bool
  ) {
    let (tokens, labels) = (Double(shape.computed), Double(shape.labels))
    // For scores and for the sum, two operations each.
    let attention = 4 * Double(c.layers * c.queryWidth) * shape.scores
    plain += 3.5 * attention
    let adapter: LoRAConfiguration? =
      if case .lora(let lora) = configuration.adaptation { lora } else { nil }
    let all = c.productOperations(adapter, tokens: tokens, labels: labels)
    var layers = c.layerOperations(adapter, tokens: tokens, labels: labels)
    plain += all - layers + c.headOperations(isTrained: adapter == nil) * labels
    // The head's logits once more, for a gradient that is not kept.
    if !configuration.masterWeights { plain += 2 * Double(c.hidden * c.vocabulary) * labels }
    if configuration.activationCheckpointing {
      layers += 2 * c.linearProducts(tokens, labels: labels)
      plain += attention
    }
    if let adapter, let penalty = configuration.l1, penalty.form == .product {
      let period = SparsityController(penalty, totalSteps: shape.steps).period
      // Of Floats, which take twice the time of BF16.
      plain +=
        (compute == .f32 ? 1 : 2)
        * c.penaltyOperations(
          adapter, gradients: Double(shape.steps), measurements: Double(shape.steps / period))
    }
    if case .preference(let objective) = configuration.objective, objective.needsReference {
      let (tokens, labels) = (Double(shape.walkTokens), Double(shape.walkLabels))
      layers += 2 * c.linearProducts(tokens, labels: labels)
      plain += 2 * Double(c.hidden * c.vocabulary) * labels
      plain += 4 * Double(c.layers * c.queryWidth) * shape.walkScores
    }
    if quantizes { integer = layers } else { plain += layers }
  }
}
