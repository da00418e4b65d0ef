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
    let bySize = sparsifier == .magnitude || sparsifier == .outliers
    return MergeMethod(
      name: name, paper: paper, operands: .deltas, base: .reference, models: 1...1024,
      parameters: parameters, selectsByMagnitude: bySize
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

  private typealias Lane = SIMD8<Float>

  /// Eight entries at a time, all models before the next eight, so that sums, signs and divisors
  /// stay in registers and no entry branches.
  private static func combineAgreeing(_ task: MergeTask, peft: Bool) {
    let weights = task.weights().map { Float($0) }
    let votes = peft ? weights.map { _ in 1 } : weights
    let normalize = task.parameters.flag("normalize")
    let lambda = Float(task.parameters["lambda"])
    let out = task.out
    task.lanes.overChunks(task.count) { _, range in
      var start = range.lowerBound
      while start < range.upperBound {
        let count = min(Lane.scalarCount, range.upperBound - start)
        var elected = Lane.zero
        for (model, vote) in zip(task.models, votes) {
          elected += vote * load(model + start, count)
        }
        let negative = elected .< 0
        var sum = Lane.zero
        var divisor = Lane.zero
        for (m, model) in task.models.enumerated() {
          let value = load(model + start, count)
          let vote = votes[m] * value
          let agrees = vote.replacing(with: -vote, where: negative) .> 0
          sum += Lane.zero.replacing(with: weights[m] * value, where: agrees)
          divisor += Lane.zero.replacing(with: votes[m], where: agrees)
        }
        if normalize { sum /= divisor.replacing(with: 1, where: divisor .== 0) }
        store(sum * lambda, to: out + start, count)
        start += count
      }
    }
  }

  @inline(__always)
  private static func load(_ source: UnsafePointer<Float>, _ count: Int) -> Lane {
    if count == Lane.scalarCount {
      return UnsafeRawPointer(source).loadUnaligned(as: Lane.self)
    }
    var lane = Lane.zero
    for k in 0..<count { lane[k] = source[k] }
    return lane
  }

  @inline(__always)
  private static func store(_ lane: Lane, to target: UnsafeMutablePointer<Float>, _ count: Int) {
    if count == Lane.scalarCount {
      UnsafeMutableRawPointer(target).storeBytes(of: lane, as: Lane.self)
    } else {
      for k in 0..<count { target[k] = lane[k] }
    }
  }
}
