// SPDX-License-Identifier: Apache-2.0

/// A random stream without state: the value at `counter` depends on the key and the counter alone,
/// so the same draw comes out for any thread count, order or restart. The mixing function is the
/// finaliser of SplitMix64 (Steele, Lea, Flood 2014) applied twice with the key in between.
package struct CounterRandom: Sendable, Equatable {
  package let key: UInt64

  package init(seed: UInt64) { key = Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15) }

  private init(key: UInt64) { self.key = key }

  /// The stream whose `key` was handed on as a number: to kernels, which draw from it themselves.
  package init(rawKey key: UInt64) { self.key = key }

  /// A stream for one purpose ("dropout", a tensor's name), independent of its siblings.
  package func stream(_ name: String) -> CounterRandom {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return CounterRandom(key: Self.mix(key ^ Self.mix(hash)))
  }

  package func stream(_ index: Int) -> CounterRandom {
    CounterRandom(
      key: Self.mix(key ^ Self.mix(UInt64(bitPattern: Int64(index)) &+ 0x632B_E59B_D9B4_E019)))
  }

  @inlinable package static func mix(_ x: UInt64) -> UInt64 {
    var z = x
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// 64 random bits at `counter`.
  @inlinable package func bits(_ counter: UInt64) -> UInt64 {
    Self.mix(Self.mix(counter &* 0x9E37_79B9_7F4A_7C15 &+ key) ^ key)
  }

  /// 32 random bits at `counter`, for vectors of decisions: neighbours 2k and 2k + 1 share the word that
  /// SplitMix64 itself, from a state of `key`, gives at k. A quarter of the work of `bits`.
  @inlinable package func word(_ counter: UInt64) -> UInt32 {
    let both = Self.mix((counter >> 1) &* 0x9E37_79B9_7F4A_7C15 &+ key)
    return UInt32(truncatingIfNeeded: counter & 1 == 0 ? both : both >> 32)
  }

  /// Uniform in [0, 1), 53 bits.
  @inlinable package func uniform(_ counter: UInt64) -> Double {
    Double(bits(counter) >> 11) * 0x1p-53
  }

  /// Uniform integer in 0..<bound; the bias is below bound / 2^64.
  @inlinable package func integer(_ counter: UInt64, below bound: Int) -> Int {
    Int(bits(counter).multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// A permutation of 0..<count (Fisher-Yates).
  package func permutation(_ count: Int) -> [Int] {
    var order = Array(0..<count)
    var i = count - 1
    while i > 0 {
      order.swapAt(i, integer(UInt64(i), below: i + 1))
      i -= 1
    }
    return order
  }
}
