// SPDX-License-Identifier: Apache-2.0

/// The merges of a BPE model: which pair of token ids may be joined, how early, and into what.
/// Rank 0 is merged first. Open addressing over packed id pairs; one probe is one cache line.
struct MergeTable: Sendable {
  struct Merge: Sendable, Equatable {
    var rank: UInt32
    var result: Int32
  }

  private struct Slot {
    var pair: UInt64
    var merge: Merge
  }

  private var slots: [Slot]
  private let shift: UInt64
  private let multiplier: UInt64
  private(set) var count = 0

  /// No token id is negative, so this pair never occurs.
  private static let free = UInt64.max

  /// Room for `count` merges at a load of at most one half.
  init(expecting count: Int) {
    var bits: UInt64 = 4
    while 1 << bits < 2 * count { bits += 1 }
    shift = 64 - bits
    // Odd and random per process: a crafted file cannot aim for collisions.
    multiplier = UInt64.random(in: .min ... .max) | 1
    slots = Array(
      repeating: Slot(pair: Self.free, merge: Merge(rank: 0, result: 0)), count: 1 << Int(bits))
  }

  @inline(__always)
  static func pack(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// A pair named twice keeps its last rank, as in Hugging Face's tokenizers.
  mutating func insert(_ left: Int32, _ right: Int32, _ merge: Merge) {
    precondition(2 * count < slots.count, "more merges than announced")
    let pair = Self.pack(left, right)
    var at = start(of: pair)
    while slots[at].pair != Self.free, slots[at].pair != pair { at = (at + 1) & (slots.count - 1) }
    if slots[at].pair == Self.free { count += 1 }
    slots[at] = Slot(pair: pair, merge: merge)
  }

  @inline(__always)
  func find(_ left: Int32, _ right: Int32) -> Merge? {
    let pair = Self.pack(left, right)
    return slots.withUnsafeBufferPointer { slots in
      var at = start(of: pair)
      while true {
        if slots[at].pair == pair { return slots[at].merge }
        if slots[at].pair == Self.free { return nil }
        at = (at + 1) & (slots.count - 1)
      }
    }
  }

  @inline(__always)
  private func start(of pair: UInt64) -> Int {
    Int(truncatingIfNeeded: ((pair ^ (pair >> 29)) &* multiplier) >> shift)
  }
}
