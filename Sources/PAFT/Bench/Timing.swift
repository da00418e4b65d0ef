// SPDX-License-Identifier: Apache-2.0

/// Seconds of some runs, sorted.
struct Samples: Sendable {
  private let sorted: [Double]

  init(_ seconds: [Double]) {
    precondition(!seconds.isEmpty, "no samples")
    sorted = seconds.sorted()
  }

  var count: Int { sorted.count }
  var min: Double { sorted[0] }
  var median: Double {
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
  /// The sample that nineteen of twenty do not exceed; with fewer than twenty, the longest.
  var p95: Double { sorted[Swift.min(sorted.count - 1, sorted.count * 19 / 20)] }
}

enum Timing {
  /// How often to run `body` so that a sample takes 20 ms and the clock does not show. Runs it
  /// three times, which touches its pages and wakes the team: none of them is counted.
  static func loops(_ body: () -> Void) -> Int {
    body()
    let first = Stopwatch()
    body()
    let once = first.seconds
    if once > 0.02 { return 1 }
    let second = Stopwatch()
    body()
    return max(1, Int(0.02 / max(min(once, second.seconds), 20e-9)))
  }
}
