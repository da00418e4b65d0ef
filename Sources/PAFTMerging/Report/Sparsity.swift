// SPDX-License-Identifier: Apache-2.0

package import PAFTFormats
internal import PAFTKernels

/// sparsity_tau(d) = share of entries with |d| <= tau, for a ladder of thresholds, since "sparse"
/// means exact zeros for some deltas and small values for others.
package struct SparsityCounts: Sendable, Equatable {
  package static let thresholds = [0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4]

  package private(set) var elements = 0
  package private(set) var counts = [Int](repeating: 0, count: thresholds.count)

  package init() {}

  static let limits = thresholds.map { floor($0) }

  package var shares: [Double] {
    counts.map { elements == 0 ? 0 : Double($0) / Double(elements) }
  }

  /// Counts a block in the cache; returns the sum of its squares.
  mutating func measure(
    _ values: UnsafePointer<Float>, _ count: Int, _ kernels: MergingKernels
  ) -> Double {
    var squares = 0.0
    kernels.measure_f32(&squares, &counts, values, count, Self.limits, Self.limits.count)
    elements += count
    return squares
  }

  /// What was counted elsewhere, by the same limits.
  mutating func add(_ found: ArraySlice<Int>, of elements: Int) {
    self.elements += elements
    for (i, count) in found.enumerated() { counts[i] += count }
  }

  mutating func add(_ other: SparsityCounts) {
    elements += other.elements
    for i in counts.indices { counts[i] += other.counts[i] }
  }

  /// The largest Float not above the threshold, so that comparing in Float is exact.
  private static func floor(_ threshold: Double) -> Float {
    let nearest = Float(threshold)
    return Double(nearest) > threshold ? nearest.nextDown : nearest
  }

  package var json: JSON {
    var object = JSONObject()
    for (threshold, share) in zip(Self.thresholds, shares) {
      object[threshold == 0 ? "0" : threshold.description] = .number(share)
    }
    return .object(object)
  }
}
