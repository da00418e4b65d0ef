// SPDX-License-Identifier: Apache-2.0

import CVector
import PAFTKernelBodies

/// Sums of the probes: as many as the reference's, which probes bytes.
typealias Chains = TileShape<3, 4>

/// The verbs of 4 lanes. Each is one C function of CVector and, once inlined, about one
/// instruction.
enum Lanes: InstructionSet {
  typealias F = SIMD4<Float>
  typealias Pairs = SIMD4<UInt32>
  typealias Wide = SIMD2<Double>
  @inline(__always) static var lanes: Int { 4 }
  @inline(__always) static func splat(_ x: Float) -> F {
    paft_splat_4(x)
  }
  @inline(__always) static func load(_ p: UnsafePointer<Float>) -> F {
    paft_load_4(p)
  }
  @inline(__always) static func store(_ p: UnsafeMutablePointer<Float>, _ v: F) {
    paft_store_4(p, v)
  }
  @inline(__always) static func loadPart(_ p: UnsafePointer<Float>, _ count: Int, _ fill: F) -> F {
    paft_load_part_4(p, count, fill)
  }
  @inline(__always) static func storePart(_ p: UnsafeMutablePointer<Float>, _ v: F, _ count: Int) {
    paft_store_part_4(p, v, count)
  }
  @inline(__always) static func prefetch(_ p: UnsafePointer<Float>) {
    paft_prefetch(p)
  }
  @inline(__always) static func stream(_ p: UnsafeMutablePointer<Float>, _ v: F) {
    paft_stream_4(p, v)
  }
  @inline(__always) static func fence() {
    paft_fence()
  }
  @inline(__always) static func prefetchNear(_ p: UnsafeRawPointer) {
    paft_prefetch_near(p)
  }
  @inline(__always) static func prefetchFar(_ p: UnsafeRawPointer) {
    paft_prefetch_far(p)
  }

  @inline(__always) static func add(_ a: F, _ b: F) -> F {
    paft_add_4(a, b)
  }
  @inline(__always) static func sub(_ a: F, _ b: F) -> F {
    paft_sub_4(a, b)
  }
  @inline(__always) static func mul(_ a: F, _ b: F) -> F {
    paft_mul_4(a, b)
  }
  @inline(__always) static func div(_ a: F, _ b: F) -> F {
    paft_div_4(a, b)
  }
  @inline(__always) static func fma(_ a: F, _ b: F, _ c: F) -> F {
    paft_fma_4(a, b, c)
  }
  @inline(__always) static func fnma(_ a: F, _ b: F, _ c: F) -> F {
    paft_fnma_4(a, b, c)
  }
  @inline(__always) static func fms(_ a: F, _ b: F, _ c: F) -> F {
    paft_fms_4(a, b, c)
  }
  @inline(__always) static func inverse(_ a: F) -> F {
    paft_inverse_4(a)
  }
  @inline(__always) static func sqrt(_ a: F) -> F {
    paft_sqrt_4(a)
  }
  @inline(__always) static func abs(_ a: F) -> F {
    paft_abs_4(a)
  }
  @inline(__always) static func round(_ a: F) -> F {
    paft_round_4(a)
  }
  @inline(__always) static func copysign(_ size: F, _ sign: F) -> F {
    paft_copysign_4(size, sign)
  }
  @inline(__always) static func max(_ a: F, _ b: F) -> F {
    paft_max_4(a, b)
  }
  @inline(__always) static func min(_ a: F, _ b: F) -> F {
    paft_min_4(a, b)
  }
  @inline(__always) static func whereGreater(_ a: F, _ b: F, _ yes: F, _ no: F) -> F {
    paft_where_greater_4(a, b, yes, no)
  }
  @inline(__always) static func whereAtMost(_ a: F, _ b: F, _ yes: F, _ no: F) -> F {
    paft_where_at_most_4(a, b, yes, no)
  }
  @inline(__always) static func scale2(_ a: F, _ n: F) -> F {
    paft_scale2_4(a, n)
  }
  @inline(__always) static func fraction(_ x: F) -> F {
    paft_fraction_4(x)
  }
  @inline(__always) static func scaleFloor2(_ a: F, _ x: F) -> F {
    paft_scale_floor2_4(a, x)
  }

  @inline(__always) static func sum(_ v: F) -> Double {
    paft_sum_4(v)
  }
  @inline(__always) static func storeTotals(
    _ p: UnsafeMutablePointer<Float>, _ a: F, _ b: F, _ c: F, _ d: F
  ) {
    paft_store_totals_4(p, a, b, c, d)
  }
  @inline(__always) static func maximum(_ v: F) -> Float {
    paft_maximum_4(v)
  }
  @inline(__always) static func inverseRoot(_ x: Double) -> Double {
    paft_inverse_root(x)
  }
  @inline(__always) static func zeroWide() -> Wide {
    paft_zero_wide_4()
  }
  @inline(__always) static func widenLow(_ v: F) -> Wide {
    paft_widen_low_4(v)
  }
  @inline(__always) static func widenHigh(_ v: F) -> Wide {
    paft_widen_high_4(v)
  }
  @inline(__always) static func addWide(_ a: Wide, _ b: Wide) -> Wide {
    paft_add_wide_4(a, b)
  }
  @inline(__always) static func fmaWide(_ a: Wide, _ b: Wide, _ c: Wide) -> Wide {
    paft_fma_wide_4(a, b, c)
  }
  @inline(__always) static func sumWide(_ v: Wide) -> Double {
    paft_sum_wide_4(v)
  }

  @inline(__always) static func storeBF16(_ p: UnsafeMutablePointer<UInt16>, _ v: F) {
    paft_store_bf16_4(p, v)
  }
  @inline(__always) static func streamBF16(
    _ p: UnsafeMutablePointer<UInt16>, _ low: F, _ high: F
  ) {
    paft_stream_bf16_4(p, low, high)
  }
  @inline(__always) static func loadBF16(_ p: UnsafePointer<UInt16>) -> F {
    paft_load_bf16_4(p)
  }
  @inline(__always) static func loadPartBF16(_ p: UnsafePointer<UInt16>, _ count: Int) -> F {
    paft_load_part_bf16_4(p, count)
  }
  @inline(__always) static func storePartBF16(
    _ p: UnsafeMutablePointer<UInt16>, _ v: F, _ count: Int
  ) {
    paft_store_part_bf16_4(p, v, count)
  }
  @inline(__always) static func loadF16(_ p: UnsafePointer<UInt16>) -> F {
    paft_load_f16_4(p)
  }
  @inline(__always) static func storeF16(_ p: UnsafeMutablePointer<UInt16>, _ v: F) {
    paft_store_f16_4(p, v)
  }
  @inline(__always) static func loadPairs(_ p: UnsafePointer<UInt16>) -> Pairs {
    paft_load_pairs_4(p)
  }
  @inline(__always) static func storePairs(_ p: UnsafeMutablePointer<UInt16>, _ v: Pairs) {
    paft_store_pairs_4(p, v)
  }
  @inline(__always) static func storeRowsBF16(
    _ even: UnsafeMutablePointer<UInt16>, _ odd: UnsafeMutablePointer<UInt16>, _ a: F, _ b: F
  ) {
    paft_store_rows_bf16_4(even, odd, a, b)
  }
  @inline(__always) static func splatPair(_ p: UnsafePointer<UInt16>) -> Pairs {
    paft_splat_pair_4(p)
  }
  @inline(__always) static func pair(even: F, odd: F) -> Pairs {
    paft_pair_bf16_4(even, odd)
  }
  @inline(__always) static func even(_ v: Pairs) -> F {
    paft_even_bf16_4(v)
  }
  @inline(__always) static func odd(_ v: Pairs) -> F {
    paft_odd_bf16_4(v)
  }
  @inline(__always) static func reload() {
    paft_reload()
  }

  @inline(__always) static func transpose_f32(
    _ dst: UnsafeMutablePointer<Float>, _ dstStride: Int, _ src: UnsafePointer<Float>,
    _ srcStride: Int, _ rows: Int, _ width: Int32
  ) {
    paft_transpose_f32(dst, dstStride, src, srcStride, rows, width)
  }
  @inline(__always) static func transpose_bf16(
    _ dst: UnsafeMutablePointer<UInt16>, _ dstStride: Int, _ src: UnsafePointer<Float>,
    _ srcStride: Int, _ rows: Int, _ width: Int32
  ) {
    paft_transpose_bf16(dst, dstStride, src, srcStride, rows, width)
  }
  @inline(__always) static func copyEight(
    _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>
  ) {
    paft_copy_eight(dst, src)
  }
  @inline(__always) static func copyEightPairs(
    _ dst: UnsafeMutablePointer<UInt16>, _ even: UnsafePointer<Float>, _ odd: UnsafePointer<Float>
  ) {
    paft_copy_eight_pairs(dst, even, odd)
  }
  @inline(__always) static func copySix(
    _ dst: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>
  ) {
    paft_copy_six(dst, src)
  }
  @inline(__always) static func copySixPairs(
    _ dst: UnsafeMutablePointer<UInt16>, _ even: UnsafePointer<Float>, _ odd: UnsafePointer<Float>
  ) {
    paft_copy_six_pairs(dst, even, odd)
  }
}
