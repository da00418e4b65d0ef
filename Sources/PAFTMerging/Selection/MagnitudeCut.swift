// SPDX-License-Identifier: Apache-2.0

/// The exact set of the k entries of largest magnitude, among equals those of lower index: found by
/// radix selection on the bits of |v| (which order like the values), three passes of histograms
/// and one of counting, no sorting and no copy.
struct MagnitudeCut {
  /// Bits of the smallest magnitude kept.
  private let threshold: UInt32
  /// For each chunk, how many entries equal to the threshold it keeps, and how many it has.
  private let equals: [(kept: Int, found: Int)]
  private let everything: Bool

  init(_ values: UnsafePointer<Float>, count: Int, keeping k: Int, _ lanes: Lanes) {
    guard k < count else {
      (threshold, equals, everything) = (0, [], true)
      return
    }
    guard k > 0 else {
      (threshold, equals, everything) = (
        .max, Array(repeating: (0, 0), count: Lanes.chunks(count)), false
      )
      return
    }
    // 31 bits in digits of 11, 10 and 10, from the top; `prefix` holds those already settled.
    var prefix: UInt32 = 0
    var wanted = k
    for (shift, width) in [(UInt32(20), UInt32(11)), (10, 10), (0, 10)] {
      let bins = 1 << Int(width)
      let above = shift + width
      // Wide chunks, so that the histograms stay small beside the values.
      let parts = lanes.collect(count, [Int](), of: 16 * Lanes.chunk) { range in
        var histogram = [Int](repeating: 0, count: bins)
        histogram.withUnsafeMutableBufferPointer { histogram in
          for i in range {
            let bits = values[i].bitPattern & 0x7FFF_FFFF
            if above >= 31 || bits >> above == prefix {
              histogram[Int((bits >> shift) & UInt32(bins - 1))] &+= 1
            }
          }
        }
        return histogram
      }
      var bin = bins - 1
      while true {
        let size = parts.reduce(0) { $0 + $1[bin] }
        if size >= wanted || bin == 0 { break }
        wanted -= size
        bin -= 1
      }
      prefix = prefix << width | UInt32(bin)
    }
    let cut = prefix
    let counts = lanes.collect(count, 0) { range in
      var equal = 0
      for i in range where values[i].bitPattern & 0x7FFF_FFFF == cut { equal += 1 }
      return equal
    }
    var left = wanted
    threshold = cut
    everything = false
    equals = counts.map { found in
      let kept = min(found, left)
      left -= kept
      return (kept, found)
    }
  }

  /// The smallest of the k largest magnitudes, k in 1...count.
  static func smallest(
    _ values: UnsafePointer<Float>, count: Int, ofLargest k: Int, _ lanes: Lanes
  ) -> Float {
    if k < count {
      return Float(
        bitPattern: MagnitudeCut(values, count: count, keeping: max(k, 1), lanes).threshold)
    }
    return lanes.collect(count, Float.infinity) { range in
      range.reduce(Float.infinity) { min($0, abs(values[$1])) }
    }.reduce(.infinity, min)
  }

  /// Calls `keep(i, isKept)` for the entries of one chunk, in order.
  func walk(
    _ values: UnsafePointer<Float>, chunk: Int, _ range: Range<Int>, _ keep: (Int, Bool) -> Void
  ) {
    if everything {
      for i in range { keep(i, true) }
      return
    }
    // Only the chunk where the equals run out has to count them; elsewhere one comparison tells.
    let found = equals[chunk].found
    var left = equals[chunk].kept
    if left == found || left == 0 {
      let floor = left == 0 && found > 0 ? threshold &+ 1 : threshold
      for i in range { keep(i, values[i].bitPattern & 0x7FFF_FFFF >= floor) }
      return
    }
    for i in range {
      let bits = values[i].bitPattern & 0x7FFF_FFFF
      if bits == threshold && left > 0 {
        left -= 1
        keep(i, true)
      } else {
        keep(i, bits > threshold)
      }
    }
  }
}
