// SPDX-License-Identifier: Apache-2.0

import CVector
import PAFTKernelBodies

/// The optimizers' verbs of 8 lanes.
extension Lanes: OptimizerVerbs {
  typealias Halves = SIMD8<UInt16>
  typealias Random = SIMD4<UInt64>
  typealias Noise = SIMD8<UInt32>

  @inline(__always) static func draw(_ counter: UInt64, _ key: UInt64) -> Random {
    paft_draw_8(counter, key)
  }
  @inline(__always) static func drawWords(_ counter: UInt64, _ key: UInt64) -> Random {
    paft_draw_words_8(counter, key)
  }
  @inline(__always) static func storeMatches(
    _ p: UnsafeMutablePointer<UInt16>, _ v: F, _ prefix: UInt32
  ) -> Int {
    paft_store_matches_8(p, v, prefix)
  }
  @inline(__always) static func storeBetween(
    _ p: UnsafeMutablePointer<UInt32>, _ v: F, _ first: UInt32, _ last: UInt32
  ) -> Int {
    paft_store_between_8(p, v, first, last)
  }
  @inline(__always) static func maskBelow(_ words: Random, _ limit: UInt64) -> UInt32 {
    paft_mask_below_8(words, limit)
  }
  @inline(__always) static func addWhereAtMost(_ sum: F, _ v: F, _ bound: F) -> F {
    paft_add_where_at_most_8(sum, v, bound)
  }
  @inline(__always) static func signs(_ a: F, _ b: F) -> UInt32 { paft_signs_8(a, b) }
  @inline(__always) static func keepLanes(_ v: F, _ bits: UInt32) -> F {
    paft_keep_lanes_8(v, bits)
  }
  @inline(__always) static func addKeptLow(_ sum: Wide, _ v: F, _ bits: UInt32) -> Wide {
    paft_add_kept_low_8(sum, v, bits)
  }
  @inline(__always) static func addKeptHigh(_ sum: Wide, _ v: F, _ bits: UInt32) -> Wide {
    paft_add_kept_high_8(sum, v, bits)
  }
  @inline(__always) static func noiseLow(_ bits: Random) -> Noise {
    paft_noise_low_8(bits)
  }
  @inline(__always) static func noiseHigh(_ bits: Random) -> Noise {
    paft_noise_high_8(bits)
  }
  @inline(__always) static func noisyBF16(_ v: F, _ noise: Noise) -> Halves {
    paft_noisy_bf16_8(v, noise)
  }

  @inline(__always) static func loadHalves(_ p: UnsafePointer<UInt16>, _ count: Int) -> Halves {
    paft_load_halves_8(p, count)
  }
  @inline(__always) static func storeHalves(
    _ p: UnsafeMutablePointer<UInt16>, _ v: Halves, _ count: Int
  ) {
    paft_store_halves_8(p, v, count)
  }
  @inline(__always) static func widen(_ v: Halves) -> F {
    paft_widen_halves_8(v)
  }
  @inline(__always) static func upperHalf(_ v: F) -> Halves {
    paft_upper_half_8(v)
  }
  @inline(__always) static func lowerHalf(_ v: F) -> Halves {
    paft_lower_half_8(v)
  }
  @inline(__always) static func join(_ upper: Halves, _ lower: Halves) -> F {
    paft_join_halves_8(upper, lower)
  }

  @inline(__always) static func fourthRoot(_ v: F) -> F { paft_fourth_root_8(v) }
  @inline(__always) static func signedCodes(_ p: UnsafePointer<Int8>) -> F {
    paft_signed_codes_8(p)
  }
  @inline(__always) static func unsignedCodes(_ p: UnsafePointer<UInt8>) -> F {
    paft_unsigned_codes_8(p)
  }
  @inline(__always) static func storeSignedCodes(
    _ p: UnsafeMutablePointer<Int8>, _ values: UnsafePointer<Float>, _ scale: F
  ) {
    paft_store_signed_codes_8(p, values, scale)
  }
  @inline(__always) static func storeUnsignedCodes(
    _ p: UnsafeMutablePointer<UInt8>, _ values: UnsafePointer<Float>, _ scale: F
  ) {
    paft_store_unsigned_codes_8(p, values, scale)
  }
}
