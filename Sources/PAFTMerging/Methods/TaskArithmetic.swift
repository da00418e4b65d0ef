// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTKernels

/// Task arithmetic and its descendants, which differ only in how each delta is thinned out and
/// whether signs must agree:
///
///     d_i <- sparsify(d_i),  D_i = w_i d_i
///     consensus: S = sign(SUM D_j), zero counts as +;  delta = SUM of the D_i that have sign S,
///                divisor = SUM of their w_i
///     none:      delta = SUM D_i, divisor = SUM w_i
///     normalize: delta /= divisor;   delta *= lambda
///
/// Streamed: what thins a delta is settled by a pass or two over it, then every block is thinned and
/// combined while it is in the cache.
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
    let rescaleMode: @Sendable (MergeTask) -> Rescale? = { task in
      task.parameters.flag("rescale")
        ? Rescale(rawValue: Int(task.parameters["rescale_mode"])) : nil
    }
    let combine: @Sendable (MergeTask) -> Combine = { task in
      consensus ? agreeing(task) : everything(task)
    }
    if sparsifier == .ranked {
      // Ranks go by rows, which may be longer than any block.
      return MergeMethod(
        name: name, paper: paper, operands: .deltas, base: .reference, models: 1...1024,
        parameters: parameters
      ) { (task) throws(Fault) in
        for (i, delta) in task.models.enumerated() {
          try Sparsifier.thinByRank(
            delta, task, task.modelParameters[i], random: task.random.stream(i),
            rescale: rescaleMode(task))
        }
        let sum = combine(task)
        let floors = [Float](repeating: 0, count: task.models.count)
        try task.fill(task.blocks()) { sum($0, floors) }
      }
    }
    return MergeMethod(
      name: name, paper: paper, operands: .deltas, base: .reference, models: 1...1024,
      parameters: parameters, selectsByMagnitude: sparsifier == .outliers
    ) { (task, blocks) throws(Fault) in
      let thinnings = try sparsifier.settle(task, blocks, rescale: rescaleMode(task))
      let sum = combine(task)
      return MergeMethod.Combination(
        fill: { block in
          sum(block, zip(thinnings, block.models).map { $0.floor(of: $1, block, task.lanes) })
        }, agreement: consensus ? agreement(task, thinnings) : nil)
    }
  }

  private enum Variant {
    /// `weighted` elects and divides by weights (mergekit); `peft` elects on unweighted deltas and
    /// divides by the number that agree.
    static let words = ["weighted", "peft"]
  }

  /// Writes `out` of a block from its models, whose entries below their floors count as zeros.
  private typealias Combine = (_ block: TensorBlock, _ floors: [Float]) -> Void

  private static func everything(_ task: MergeTask) -> Combine {
    let weights = task.weights()
    var divisor = 1.0
    if task.parameters.flag("normalize") {
      divisor = weights.reduce(0, +)
      if abs(divisor) < 1e-8 { divisor = 1 }
    }
    let factor = task.parameters["lambda"] / divisor
    let lanes = task.lanes
    let sum = MergeMethod.weightedSum(weights.map { $0 * factor }, lanes)
    return { block, floors in
      for (model, floor) in zip(block.models, floors) where floor > 0 {
        lanes.merging.cut_f32(model, floor, block.count)
      }
      sum.fill(block)
    }
  }

  private static func agreeing(_ task: MergeTask) -> Combine {
    let election = Election(task)
    let lanes = task.lanes
    let cuts = task.showsThinned
    return { block, floors in
      if cuts {
        for (model, floor) in zip(block.models, floors) where floor > 0 {
          lanes.merging.cut_f32(model, floor, block.count)
        }
      }
      lanes.merging.agree_f32(
        block.out, block.operands, election.weights, election.votes, floors,
        election.weights.count, election.normalize, election.lambda, block.count)
    }
  }

  /// How signs are settled, as kernels take it.
  private struct Election {
    let weights: [Float]
    let votes: [Float]
    let normalize: Int
    let lambda: Float

    init(_ task: MergeTask) {
      weights = task.weights().map { Float($0) }
      votes = task.parameters["ties_variant"] == 1 ? weights.map { _ in 1 } : weights
      normalize = task.parameters.flag("normalize") ? 1 : 0
      lambda = Float(task.parameters["lambda"])
    }
  }

  /// The same of two branches in numbers, unless what thinning left is to be seen.
  private static func agreement(_ task: MergeTask, _ thinnings: [Thinning]) -> SignAgreement? {
    let floors = thinnings.compactMap(\.floorInBlock)
    guard thinnings.count == 2, floors.count == 2, !task.showsThinned else { return nil }
    var drawn: (x: DrawnBits, y: DrawnBits)?
    switch (thinnings[0].drawn, thinnings[1].drawn) {
    case (let x?, let y?): drawn = (x, y)
    case (nil, nil): break
    default: return nil
    }
    let election = Election(task)
    return SignAgreement(
      weights: election.weights, votes: election.votes, factors: thinnings.map(\.factor),
      drawn: drawn, normalize: election.normalize, lambda: election.lambda
    ) { block in
      guard let x = floors[0](block), let y = floors[1](block) else { return nil }
      return [x, y]
    }
  }
}
