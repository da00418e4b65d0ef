// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Ways to thin a delta out before it is merged. All work in place; density >= 1 changes nothing.
enum Sparsifier: Sendable {
  case none
  /// Keep the int(density * n) largest magnitudes (TIES).
  case magnitude
  /// Keep each entry with probability density (DARE).
  case random
  /// Drop the int(gamma * n) largest and as many of the smallest as density asks (breadcrumbs).
  case outliers
  /// Keep with a probability that grows with the rank of the magnitude in its row (DELLA).
  case ranked
}

/// What makes up for the dropped entries.
enum Rescale: Int, Sendable {
  static let words = ["l1_match", "inverse_density", "inverse_prob"]

  /// Keeps the sum of magnitudes.
  case l1Match
  /// 1 / density, so that the expectation is kept (the DARE paper).
  case inverseDensity
  /// 1 / p of each kept entry (the DELLA paper).
  case inverseProbability
}

extension Sparsifier {
  /// How many entries `density` keeps of `count`: the double product, truncated.
  static func kept(_ density: Double, of count: Int) -> Int {
    guard density > 0 else { return 0 }
    return density >= 1 ? count : Int(density * Double(count))
  }

  /// `rescale` nil leaves the survivors as they are.
  func apply(
    _ delta: UnsafeMutablePointer<Float>, _ task: MergeTask, _ parameters: ParameterValues,
    random: CounterRandom, rescale: Rescale?
  ) throws(Fault) {
    let density = parameters["density"]
    if case .none = self { return }
    guard density < 1 else { return }
    let (count, lanes) = (task.count, task.lanes)
    let before = rescale == .l1Match ? l1(delta, count, lanes) : 0
    switch self {
    case .none: return
    case .magnitude:
      let cut = MagnitudeCut(delta, count: count, keeping: Self.kept(density, of: count), lanes)
      lanes.overChunks(count) { chunk, range in
        cut.walk(delta, chunk: chunk, range) { i, kept in delta[i] = kept ? delta[i] : 0 }
      }
    case .outliers:
      dropOutliers(delta, count, density, parameters["gamma"], lanes)
    case .random:
      // uniform < density, asked of the 53 bits themselves; the product is exact.
      let limit = UInt64((max(0, density) * 0x1p53).rounded(.up))
      lanes.overChunks(count) { _, range in
        for i in range {
          let kept = random.bits(UInt64(truncatingIfNeeded: i)) >> 11 < limit
          delta[i] = kept ? delta[i] : 0
        }
      }
    case .ranked:
      try thinByRank(
        delta, task, density, parameters["epsilon"], random,
        divide: rescale == .inverseProbability)
    }
    switch rescale {
    case .l1Match:
      let after = l1(delta, count, lanes)
      if before >= 1e-7, after >= 1e-7 { scale(delta, count, before / after, lanes) }
    case .inverseDensity where density > 0: scale(delta, count, 1 / density, lanes)
    case .inverseProbability where density > 0:
      if case .ranked = self { return }
      scale(delta, count, 1 / density, lanes)
    default: return
    }
  }

  /// Descending, positions n_top ..< n - n_bot stay: the top n - n_bot without the top n_top.
  private func dropOutliers(
    _ delta: UnsafeMutablePointer<Float>, _ count: Int, _ density: Double, _ gamma: Double,
    _ lanes: Lanes
  ) {
    var top = Self.kept(gamma, of: count)
    var bottom = count - Self.kept(density, of: count) - top
    if bottom < 0 {
      top += bottom
      bottom = 0
    }
    let inner = MagnitudeCut(delta, count: count, keeping: count - bottom, lanes)
    let outer = MagnitudeCut(delta, count: count, keeping: top, lanes)
    lanes.overChunks(count) { chunk, range in
      // The first walk reads what the second would have erased, so its answers are kept aside.
      var drop = [Bool](repeating: false, count: range.count)
      outer.walk(delta, chunk: chunk, range) { i, isOutlier in
        drop[i - range.lowerBound] = isOutlier
      }
      inner.walk(delta, chunk: chunk, range) { i, kept in
        if !kept || drop[i - range.lowerBound] { delta[i] = 0 }
      }
    }
  }

  /// p = density - epsilon + 2 * epsilon * rank / (R - 1) inside each row of R entries, ranks by
  /// ascending magnitude, equals by index; a row of one entry has p = density.
  static func keepProbability(rank: Int, of length: Int, _ density: Double, _ epsilon: Double)
    -> Double
  {
    length < 2 ? density : density - epsilon + 2 * epsilon * Double(rank) / Double(length - 1)
  }

  private func thinByRank(
    _ delta: UnsafeMutablePointer<Float>, _ task: MergeTask, _ density: Double, _ epsilon: Double,
    _ random: CounterRandom, divide: Bool
  ) throws(Fault) {
    guard density > 0 else {
      task.lanes.overChunks(task.count) { _, range in for i in range { delta[i] = 0 } }
      return
    }
    guard density - epsilon > 0, density + epsilon < 1 else {
      throw Fault(
        .configuration,
        "della: density \(density) with epsilon \(epsilon) leaves the range 0 to 1 for \(task.name)",
        hint: "epsilon must be smaller than density and than 1 - density")
    }
    let length = task.rowLength
    guard length > 0 else { return }
    task.lanes.forEach(task.count / length) { row in
      let start = row * length
      var order = Array(start..<(start + length))
      order.sort { a, b in
        let (x, y) = (abs(delta[a]), abs(delta[b]))
        return x != y ? x < y : a < b
      }
      for (rank, i) in order.enumerated() {
        let probability = Self.keepProbability(rank: rank, of: length, density, epsilon)
        if random.uniform(UInt64(i)) >= probability {
          delta[i] = 0
        } else if divide {
          delta[i] /= Float(probability)
        }
      }
    }
  }
}

private func l1(_ values: UnsafePointer<Float>, _ count: Int, _ lanes: Lanes) -> Double {
  lanes.sum(count) { range in
    var total = 0.0
    for i in range { total += Double(abs(values[i])) }
    return total
  }
}

private func scale(
  _ values: UnsafeMutablePointer<Float>, _ count: Int, _ factor: Double, _ lanes: Lanes
) {
  let factor = Float(factor)
  lanes.overChunks(count) { _, range in for i in range { values[i] *= factor } }
}
