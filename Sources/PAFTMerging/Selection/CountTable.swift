// SPDX-License-Identifier: Apache-2.0

/// Counts by 16 bits of a magnitude, all zero when nobody uses them: a new one for every tensor would cost
/// more in pages than what is done with it.
final class CountTable: @unchecked Sendable {
  // Sendable: of one worker at a time.
  private static let bins = 1 << 16
  private let counts = UnsafeMutablePointer<Int>.allocate(capacity: bins)

  init() { clear() }
  deinit { counts.deallocate() }

  subscript(bin: Int) -> Int { counts[bin] }

  func add(_ count: Int, to bin: UInt16) { counts[Int(bin)] += count }

  func clear() { counts.update(repeating: 0, count: Self.bins) }

  func descend(_ wanted: Int) -> (bin: Int, left: Int) {
    MagnitudeCut.descend(counts, Self.bins, wanted)
  }
}
