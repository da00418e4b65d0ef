// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Streaming statistics of a delta: how many of its values count as zero for each threshold, its
/// norms and the quantiles of |d|. Values arrive in pieces of any size; accumulators add up, and
/// counts do not depend on the order. NaN counts as no zero and shows in the norms.
package struct SparsityStatistics: Sendable {
  /// 1e-5 is mergekit's "modified" threshold; 0 is exact sparsity.
  package static let thresholds: [Double] = [0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4]

  /// Five bits of fraction: a quantile is right to 3%.
  private static let binShift: UInt32 = 18
  private static let bins = 1 << (31 - 18)

  package private(set) var count = 0
  package private(set) var sumAbsolute = 0.0
  package private(set) var sumSquares = 0.0
  package private(set) var largest: Float = 0
  /// The seventh threshold: 1e-3 * rms(W) of the tensor the delta belongs to.
  package var relativeThreshold: Float
  private var zeros = InlineArray<7, Int>(repeating: 0)
  private var histogram: [Int]

  package init(weightRMS: Double = 0) {
    relativeThreshold = Float(1e-3 * weightRMS)
    histogram = Array(repeating: 0, count: Self.bins)
  }

  package mutating func reset(weightRMS: Double = 0) {
    count = 0
    sumAbsolute = 0
    sumSquares = 0
    largest = 0
    relativeThreshold = Float(1e-3 * weightRMS)
    zeros = InlineArray(repeating: 0)
    for i in histogram.indices { histogram[i] = 0 }
  }

  package mutating func add(_ values: UnsafePointer<Float>, count n: Int) {
    for t in 0..<6 {
      let tau = Float(Self.thresholds[t])
      zeros[t] += Self.countWithin(values, n, tau)
    }
    zeros[6] += Self.countWithin(values, n, relativeThreshold)
    var absolute = 0.0
    var squares = 0.0
    histogram.withUnsafeMutableBufferPointer { bins in
      for i in 0..<n {
        let x = abs(values[i])
        absolute += Double(x)
        squares += Double(x) * Double(x)
        if x > largest { largest = x }
        bins[Int(x.bitPattern >> Self.binShift)] += 1
      }
    }
    sumAbsolute += absolute
    sumSquares += squares
    count += n
  }

  package mutating func merge(_ other: SparsityStatistics) {
    count += other.count
    sumAbsolute += other.sumAbsolute
    sumSquares += other.sumSquares
    largest = max(largest, other.largest)
    for t in 0..<7 { zeros[t] += other.zeros[t] }
    for i in histogram.indices { histogram[i] += other.histogram[i] }
  }

  private static func countWithin(_ x: UnsafePointer<Float>, _ n: Int, _ tau: Float) -> Int {
    var found = 0
    for i in 0..<n where abs(x[i]) <= tau { found &+= 1 }
    return found
  }

  // MARK: - Answers

  /// Share of values with |d| <= `thresholds[index]`; 0 of an empty delta.
  package func sparsity(_ index: Int) -> Double { share(zeros[index]) }
  /// Share of values with |d| <= 1e-3 * rms(W).
  package var relativeSparsity: Double { share(zeros[6]) }
  package var rms: Double { count == 0 ? 0 : (sumSquares / Double(count)).squareRoot() }
  package var norm: Double { sumSquares.squareRoot() }

  /// Smallest value with at least `share` of |d| at or below it, to 3% (exactly 0 where it is 0).
  package func quantile(_ share: Double) -> Double {
    guard count > 0 else { return 0 }
    let wanted = max(1, Int((min(1, max(0, share)) * Double(count)).rounded(.up)))
    if zeros[0] >= wanted { return 0 }
    var seen = 0
    for bin in histogram.indices {
      seen += histogram[bin]
      if seen >= wanted {
        let middle = UInt32(bin) << Self.binShift | 1 << (Self.binShift - 1)
        return Double(min(largest, Float(bitPattern: middle)))
      }
    }
    return Double(largest)
  }

  private func share(_ n: Int) -> Double { count == 0 ? 0 : Double(n) / Double(count) }
}

/// What a BF16 model sees of a delta: bf16(W + d) - W, W being BF16 already.
package enum DeployedDelta {
  package static func compute(
    weights: UnsafePointer<UInt16>, delta: UnsafePointer<Float>,
    into values: UnsafeMutablePointer<Float>, count: Int
  ) {
    for i in 0..<count {
      let w = BF16(bits: weights[i]).float
      values[i] = BF16(w + delta[i]).float - w
    }
  }
}
