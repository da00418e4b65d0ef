// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

/// The verbs a kernel body is written in. A body is generic over an instruction set; each ISA
/// module conforms one empty enum with the C verbs of its width and so compiles its own copy of
/// every body. Nothing here is an existential or a stdlib SIMD generic: such code can stay behind
/// as a weak symbol that the linker shares between modules, and then an old CPU meets a new
/// instruction.
@usableFromInline package protocol InstructionSet {
  /// `lanes` floats, as many BF16 pairs, half as many doubles: one register each.
  associatedtype F
  associatedtype Pairs
  associatedtype Wide
  static var lanes: Int { get }

  // MARK: memory, any alignment

  static func splat(_ x: Float) -> F
  static func load(_ p: UnsafePointer<Float>) -> F
  static func store(_ p: UnsafeMutablePointer<Float>, _ v: F)
  /// 0 < count <= lanes values; the other lanes are `fill`, their memory is not touched.
  static func loadPart(_ p: UnsafePointer<Float>, _ count: Int, _ fill: F) -> F
  static func storePart(_ p: UnsafeMutablePointer<Float>, _ v: F, _ count: Int)
  static func prefetch(_ p: UnsafePointer<Float>)
  /// A store past the caches, for results that do not stay there anyway: the line is not read first.
  /// `p` is a multiple of a register; `fence()` ends a row of them.
  static func stream(_ p: UnsafeMutablePointer<Float>, _ v: F)
  static func fence()
  /// Into the first-level cache, to be read.
  static func prefetchNear(_ p: UnsafeRawPointer)
  /// Into the second-level cache, to be read.
  static func prefetchFar(_ p: UnsafeRawPointer)

  // MARK: arithmetic

  static func add(_ a: F, _ b: F) -> F
  static func sub(_ a: F, _ b: F) -> F
  static func mul(_ a: F, _ b: F) -> F
  static func div(_ a: F, _ b: F) -> F
  /// a*b + c, rounded once.
  static func fma(_ a: F, _ b: F, _ c: F) -> F
  /// c - a*b, rounded once.
  static func fnma(_ a: F, _ b: F, _ c: F) -> F
  /// a*b - c, rounded once.
  static func fms(_ a: F, _ b: F, _ c: F) -> F
  /// 1/a within 1.5 ulp for |a| in 2^-125...2^125.
  static func inverse(_ a: F) -> F
  static func sqrt(_ a: F) -> F
  static func abs(_ a: F) -> F
  static func round(_ a: F) -> F
  static func copysign(_ size: F, _ sign: F) -> F
  /// The x86 rule: b when either is NaN. `max(x, best)` therefore ignores a NaN in x.
  static func max(_ a: F, _ b: F) -> F
  static func min(_ a: F, _ b: F) -> F
  static func whereGreater(_ a: F, _ b: F, _ yes: F, _ no: F) -> F
  static func whereAtMost(_ a: F, _ b: F, _ yes: F, _ no: F) -> F
  /// a * 2^n for whole n, rounded once; results may be subnormal or infinite.
  static func scale2(_ a: F, _ n: F) -> F
  /// x - floor(x); NaN stays.
  static func fraction(_ x: F) -> F
  /// a * 2^floor(x), rounded at most twice, for x <= 127; -inf gives 0.
  static func scaleFloor2(_ a: F, _ x: F) -> F

  // MARK: across lanes, fixed order

  static func sum(_ v: F) -> Double
  static func maximum(_ v: F) -> Float
  /// p[0...3] = the sums of four vectors, in Float.
  static func storeTotals(_ p: UnsafeMutablePointer<Float>, _ a: F, _ b: F, _ c: F, _ d: F)
  /// 1/sqrt(x).
  static func inverseRoot(_ x: Double) -> Double
  static func zeroWide() -> Wide
  static func widenLow(_ v: F) -> Wide
  static func widenHigh(_ v: F) -> Wide
  static func addWide(_ a: Wide, _ b: Wide) -> Wide
  static func fmaWide(_ a: Wide, _ b: Wide, _ c: Wide) -> Wide
  static func sumWide(_ v: Wide) -> Double

  // MARK: BF16

  /// `lanes` values, rounded to nearest even.
  static func storeBF16(_ p: UnsafeMutablePointer<UInt16>, _ v: F)
  /// Twice as many, past the caches (see `stream`).
  static func streamBF16(_ p: UnsafeMutablePointer<UInt16>, _ low: F, _ high: F)
  static func loadBF16(_ p: UnsafePointer<UInt16>) -> F
  /// 0 < count <= lanes values; the other lanes are 0, their memory is not touched.
  static func loadPartBF16(_ p: UnsafePointer<UInt16>, _ count: Int) -> F
  static func storePartBF16(_ p: UnsafeMutablePointer<UInt16>, _ v: F, _ count: Int)
  static func loadPairs(_ p: UnsafePointer<UInt16>) -> Pairs
  static func storePairs(_ p: UnsafeMutablePointer<UInt16>, _ v: Pairs)
  /// Two rows of `lanes` values, rounded to nearest even.
  static func storeRowsBF16(
    _ even: UnsafeMutablePointer<UInt16>, _ odd: UnsafeMutablePointer<UInt16>, _ a: F, _ b: F)
  static func splatPair(_ p: UnsafePointer<UInt16>) -> Pairs
  static func pair(even: F, odd: F) -> Pairs
  static func even(_ v: Pairs) -> F
  static func odd(_ v: Pairs) -> F
  /// Forgets loaded operands, so that they are loaded again instead of being kept and spilled.
  static func reload()

  // MARK: F16

  static func loadF16(_ p: UnsafePointer<UInt16>) -> F
  /// Rounded to nearest even.
  static func storeF16(_ p: UnsafeMutablePointer<UInt16>, _ v: F)

  // MARK: transposes for packing (CVectorTranspose.inc says how they may overlap)

  static func transpose_f32(
    _ dst: UnsafeMutablePointer<Float>, _ dstStride: Int, _ src: UnsafePointer<Float>,
    _ srcStride: Int, _ rows: Int, _ width: Int32)
  static func transpose_bf16(
    _ dst: UnsafeMutablePointer<UInt16>, _ dstStride: Int, _ src: UnsafePointer<Float>,
    _ srcStride: Int, _ rows: Int, _ width: Int32)
  /// Six values of a row, and two more that may be read and written or not.
  static func copyEight(_ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>)
  static func copyEightPairs(
    _ dst: UnsafeMutablePointer<UInt16>, _ even: UnsafePointer<Float>, _ odd: UnsafePointer<Float>)
  static func copySix(_ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>)
  static func copySixPairs(
    _ dst: UnsafeMutablePointer<UInt16>, _ even: UnsafePointer<Float>, _ odd: UnsafePointer<Float>)
}

/// An instruction set that multiplies BF16 pairs itself.
@usableFromInline package protocol PairDot: InstructionSet {
  /// sum + a.even*b.even + a.odd*b.odd.
  static func dot(_ sum: F, _ a: Pairs, _ b: Pairs) -> F
}

extension InstructionSet {
  @_alwaysEmitIntoClient @inline(__always)
  package static func load(
    _ p: UnsafePointer<Float>, _ count: Int, fill: Float = 0
  ) -> F {
    count == lanes ? load(p) : loadPart(p, count, splat(fill))
  }

  @_alwaysEmitIntoClient @inline(__always)
  package static func store(_ p: UnsafeMutablePointer<Float>, _ v: F, _ count: Int) {
    if count == lanes { store(p, v) } else { storePart(p, v, count) }
  }
}
