// SPDX-License-Identifier: Apache-2.0

/// What optimizers and merging need beyond floats: random bits, halves of 16 bits, moments in 8 bits.
/// Kept apart from the verbs that every kernel uses.
@usableFromInline package protocol OptimizerVerbs: InstructionSet {
  /// `lanes` 16-bit numbers; 16 random bits for each of 2 * lanes values; integers beside them.
  associatedtype Halves
  associatedtype Random
  associatedtype Noise

  /// `CounterRandom.bits` at counter, counter + 1, …, value i of them in bits 16 * (i % 4) of i / 4.
  static func draw(_ counter: UInt64, _ key: UInt64) -> Random
  /// `CounterRandom.word` at counter, counter + 1, …, one for each lane, from an even counter on.
  static func drawWords(_ counter: UInt64, _ key: UInt64) -> Random
  /// The lower halves of the lanes whose magnitude has the upper half `prefix`, in order; returns how
  /// many. All `lanes` places may be written.
  static func storeMatches(_ p: UnsafeMutablePointer<UInt16>, _ v: F, _ prefix: UInt32) -> Int
  /// The magnitudes whose upper half is within first...last, in order; returns how many. All `lanes`
  /// places may be written.
  static func storeBetween(
    _ p: UnsafeMutablePointer<UInt32>, _ v: F, _ first: UInt32, _ last: UInt32
  ) -> Int
  /// Bit i: whether word i is below `limit`, which is at most 2^32.
  static func maskBelow(_ words: Random, _ limit: UInt64) -> UInt32
  /// sum + 1 in the lanes where v <= bound.
  static func addWhereAtMost(_ sum: F, _ v: F, _ bound: F) -> F
  /// How many lanes neither has at zero, and from bit 16 on how many of these differ in sign.
  static func signs(_ a: F, _ b: F) -> UInt32
  /// The lanes whose bits are set, the others 0.
  static func keepLanes(_ v: F, _ bits: UInt32) -> F
  /// sum + `widenLow` or `widenHigh` of these lanes.
  static func addKeptLow(_ sum: Wide, _ v: F, _ bits: UInt32) -> Wide
  static func addKeptHigh(_ sum: Wide, _ v: F, _ bits: UInt32) -> Wide
  static func noiseLow(_ bits: Random) -> Noise
  static func noiseHigh(_ bits: Random) -> Noise
  /// To BF16, up with the probability of the bits that are lost.
  static func noisyBF16(_ v: F, _ noise: Noise) -> Halves

  /// 0 < count <= lanes values; the others are zero, their memory is not touched.
  static func loadHalves(_ p: UnsafePointer<UInt16>, _ count: Int) -> Halves
  static func storeHalves(_ p: UnsafeMutablePointer<UInt16>, _ v: Halves, _ count: Int)
  /// BF16 to Float.
  static func widen(_ v: Halves) -> F
  /// A Float as a BF16 (nearest, ties away from zero) and a signed remainder, and back, bit for bit.
  static func upperHalf(_ v: F) -> Halves
  static func lowerHalf(_ v: F) -> Halves
  static func join(_ upper: Halves, _ lower: Halves) -> F

  /// Fourth root of v >= 0 within 2^-10 of itself; zero of zero, and perhaps of what is subnormal.
  static func fourthRoot(_ v: F) -> F
  /// `lanes` codes of `QuarticCode` as whole numbers.
  static func signedCodes(_ p: UnsafePointer<Int8>) -> F
  static func unsignedCodes(_ p: UnsafePointer<UInt8>) -> F
  /// 4 * lanes values times `scale`, rounded to codes; unsigned 0 is only for 0.
  static func storeSignedCodes(
    _ p: UnsafeMutablePointer<Int8>, _ values: UnsafePointer<Float>, _ scale: F)
  static func storeUnsignedCodes(
    _ p: UnsafeMutablePointer<UInt8>, _ values: UnsafePointer<Float>, _ scale: F)
}
