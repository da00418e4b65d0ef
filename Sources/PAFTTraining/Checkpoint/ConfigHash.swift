// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// A short name for a resolved recipe, to notice that a run is resumed with other settings. Not
/// cryptographic.
package enum ConfigHash {
  /// 16 hexadecimal digits: FNV-1a, finished by SplitMix64's mixer.
  package static func of(_ text: String) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    let digits = String(CounterRandom.mix(hash), radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
