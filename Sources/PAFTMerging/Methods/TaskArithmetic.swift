// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Task arithmetic and its descendants, which differ only in how each delta is thinned out and
/// whether signs must agree:
///
///     d_i <- sparsify(d_i),  D_i = w_i d_i
///     consensus: S = sign(SUM D_j), zero counts as +;  delta = SUM of the D_i that have sign S,
///                divisor = SUM of their w_i
///     none:      delta = SUM D_i, divisor = SUM w_i
///     normalize: delta /= divisor;   delta *= lambda
///
/// Costs nothing beside the deltas, which are thinned in place.
enum TaskArithmetic {
  static let methods: [MergeMethod] = [
    method("task_arithmetic", "2212.04089", .none, false, normalize: false, rescale: false),
    method("ties", "2306.01708", .magnitude, true, normalize: true, rescale: false),
    method("dare_linear", "2311.03099", .random, false, normalize: false, rescale: true),
    method("dare_ties", "2311.03099", .random, true, normalize: false, rescale: true),
    method("breadcrumbs", "2312.06795", .outliers, false, normalize: false, rescale: false),
    method("breadcrumbs_ties", "2312.06795", .outliers, true, normalize: false, rescale: false),
    method("della", "2406.11617", .ranked, true, normalize: true, rescale: true),
    method("della_linear", "2406.11617", .ranked, false, normalize: false, rescale: true),
  ]

  private static func method(
    _ name: String, _ paper: String, _ sparsifier: Sparsifier, _ consensus: Bool, normalize: Bool,
    rescale: Bool
  ) -> MergeMethod {
    var parameters: [MergeParameter] = [
      .model("weight"), .flag("normalize", normalize), .flag("rescale", rescale),
      .global("lambda", 1), .word("rescale_mode", Rescale.words),
    ]
    if case .none = sparsifier {} else { parameters.append(.model("density", 1)) }
    if case .outliers = sparsifier { parameters.append(.model("gamma", 0.01)) }
    if case .ranked = sparsifier { parameters.append(.model("epsilon", 0.15)) }
    if consensus { parameters.append(.word("ties_variant", Variant.words)) }
    return MergeMethod(
      name: name, paper: paper, operands: .deltas, base: .reference, models: 1...1024,
      parameters: parameters
    ) { (task) throws(Fault) in
      let rescale =
        task.parameters.flag("rescale")
        ? Rescale(rawValue: Int(task.parameters["rescale_mode"])) : nil
      if case .none = sparsifier {
      } else {
        for (i, delta) in task.models.enumerated() {
          try sparsifier.apply(
            delta, task, task.modelParameters[i], random: task.random.stream(i), rescale: rescale)
        }
      }
      if consensus {
        combineAgreeing(task, peft: task.parameters["ties_variant"] == 1)
      } else {
        combineAll(task)
      }
    }
  }

  private enum Variant {
    /// `weighted` elects and divides by weights (mergekit); `peft` elects on unweighted deltas and
    /// divides by the number that agree.
    static let words = ["weighted", "peft"]
  }

  private static func combineAll(_ task: MergeTask) {
    let weights = task.weights()
    var divisor = 1.0
    if task.parameters.flag("normalize") {
      divisor = weights.reduce(0, +)
      if abs(divisor) < 1e-8 { divisor = 1 }
    }
    let factor = task.parameters["lambda"] / divisor
    task.combine(weights.map { $0 * factor })
  }

  /// Deltas are walked in short blocks so that the sign sums stay in the first-level cache.
  private static func combineAgreeing(_ task: MergeTask, peft: Bool) {
    let weights = task.weights().map { Float($0) }
    let normalize = task.parameters.flag("normalize")
    let lambda = Float(task.parameters["lambda"])
    let (models, out) = (task.models, task.out)
    let block = 1024
    task.lanes.overChunks(task.count) { _, range in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * block) { scratch in
        let elected = scratch.baseAddress!
        let divisor = elected + block
        for start in stride(from: range.lowerBound, to: range.upperBound, by: block) {
          let count = min(block, range.upperBound - start)
          for k in 0..<count {
            elected[k] = 0
            divisor[k] = 0
            out[start + k] = 0
          }
          for (model, weight) in zip(models, weights) {
            let vote = peft ? 1 : weight
            for k in 0..<count { elected[k] += vote * model[start + k] }
          }
          for (model, weight) in zip(models, weights) {
            let share = peft ? 1 : weight
            let vote = peft ? 1 : weight
            for k in 0..<count {
              let value = model[start + k]
              let agrees = elected[k] >= 0 ? vote * value > 0 : vote * value < 0
              out[start + k] += agrees ? weight * value : 0
              divisor[k] += agrees ? share : 0
            }
          }
          for k in 0..<count {
            let by = normalize && divisor[k] != 0 ? divisor[k] : 1
            out[start + k] = out[start + k] / by * lambda
          }
        }
      }
    }
  }
}
