// SPDX-License-Identifier: Apache-2.0

// Runs every kernel of the NEON table against the reference (plain loops, sums in Double), on an
// emulated CPU without an operating system's library: tools/check-neon says how. The tests proper
// need more of Swift than such a program has.

import PAFTKernelInterface
import PAFTKernelNEON

/// Names a comparison that was off.
@_silgen_name("neon_fault")
func reportFault(_ what: UnsafePointer<UInt8>, _ size: Int)

typealias Floats = UnsafeMutablePointer<Float>

/// Lengths around vectors and unrolls.
let lengths = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100]

/// Buffers of one case: drawn in -1...1, freed together. Beyond `count` lie values that must stay.
struct Scratch {
  static let margin = 16
  var state: UInt64 = 0x9E37_79B9_7F4A_7C15
  var faults: Int32 = 0
  var checks = 0

  mutating func draw() -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(Int32(truncatingIfNeeded: state >> 32)) * 0x1p-31
  }

  mutating func floats(_ count: Int) -> Floats {
    let p = Floats.allocate(capacity: count + Self.margin)
    for i in 0..<count { p[i] = draw() }
    for i in count..<count + Self.margin { p[i] = 12345 }
    return p
  }

  /// A second buffer with the same content.
  func copy(_ p: Floats, _ count: Int) -> Floats {
    let q = Floats.allocate(capacity: count + Self.margin)
    for i in 0..<count + Self.margin { q[i] = p[i] }
    return q
  }

  /// Both results within `bound` (of 1 + magnitude), and nothing written behind them.
  mutating func compare(
    _ what: StaticString, _ found: Floats, _ expected: Floats, _ count: Int, _ bound: Float
  ) {
    checks += 1
    var isGood = true
    for i in 0..<count {
      let (f, e) = (found[i], expected[i])
      let isSame = f == e || (f != f && e != e)
      if !isSame && !((f - e).magnitude <= bound * (1 + e.magnitude)) { isGood = false }
    }
    for i in count..<count + Self.margin where found[i] != 12345 { isGood = false }
    if !isGood { fault(what, count) }
  }

  mutating func fault(_ what: StaticString, _ size: Int) {
    faults += 1
    if faults <= 20 { reportFault(what.utf8Start, size) }
  }
}

/// A product of `rows` x `columns` x `k` by both tables, each with its own packing.
func product(
  _ table: KernelTable, _ other: KernelTable, _ rows: Int, _ columns: Int, _ k: Int,
  transposed: Bool, accumulate: Int, _ s: inout Scratch
) {
  let (stride, ldc) = (max(k, 16) + 3, columns + 2)
  let (a, b) = (s.floats(stride * stride), s.floats(stride * stride))
  let c = s.floats(rows * ldc)
  // The reference tile is smaller: C is compared where both have it.
  let (m, n) = (min(rows, other.gemm.tile_f32.rows), min(columns, other.gemm.tile_f32.columns))
  // k products below 1, each in at most k + 3 roundings; C and the sum once more.
  let bound = Float((k + 1) * (k + 4)) * 0x1p-24
  for type in 0..<2 where type == 0 || columns <= table.gemm.tile_bf16.columns {
    func run(_ t: KernelTable, _ rows: Int, _ columns: Int, _ c: Floats) {
      let tile = type == 0 ? t.gemm.tile_f32 : t.gemm.tile_bf16
      let pa = Floats.allocate(capacity: tile.rows * (k + 2) + 16)
      let pb = Floats.allocate(capacity: tile.columns * (k + 2) + 16)
      if type == 0 {
        (transposed ? t.gemm.packAT_f32 : t.gemm.packA_f32)(pa, a, rows, k, stride)
        (transposed ? t.gemm.packBT_f32 : t.gemm.packB_f32)(pb, b, columns, k, stride)
        t.gemm.multiply_f32(pa, pb, c, k, ldc, rows, columns, -0.75, accumulate)
      } else {
        let ha = UnsafeMutableRawPointer(pa).assumingMemoryBound(to: UInt16.self)
        let hb = UnsafeMutableRawPointer(pb).assumingMemoryBound(to: UInt16.self)
        (transposed ? t.gemm.packAT_bf16 : t.gemm.packA_bf16)(ha, a, rows, k, stride)
        (transposed ? t.gemm.packBT_bf16 : t.gemm.packB_bf16)(hb, b, columns, k, stride)
        t.gemm.multiply_bf16(ha, hb, c, k, ldc, rows, columns, -0.75, accumulate)
      }
      pa.deallocate()
      pb.deallocate()
    }
    let (found, expected) = (s.copy(c, rows * ldc), s.copy(c, rows * ldc))
    run(table, rows, columns, found)
    run(other, m, n, expected)
    for row in 0..<m {
      for column in 0..<n {
        let (f, e) = (found[row * ldc + column], expected[row * ldc + column])
        s.checks += 1
        if !((f - e).magnitude <= bound) { s.fault(type == 0 ? "product f32" : "product bf16", k) }
      }
      // Padding of C.
      for column in columns..<ldc where row * ldc + column < rows * ldc {
        if found[row * ldc + column] != c[row * ldc + column] { s.fault("padding of C", k) }
      }
    }
    found.deallocate()
    expected.deallocate()
  }
  a.deallocate()
  b.deallocate()
  c.deallocate()
}

/// A thin gradient of `rows` rows by both tables, either way round.
func thin(
  _ table: KernelTable, _ other: KernelTable, _ rank: Int, _ rows: Int, _ columns: Int,
  _ s: inout Scratch
) {
  let stride = columns + 3
  let (l, x) = (s.floats((rows + 1) * rank), s.floats((rows + 1) * stride))
  for turned in 0...1 {
    let (height, width) = turned == 0 ? (rank, columns) : (columns, rank)
    let g = s.floats(height * (width + 2))
    func run(_ t: KernelTable, _ g: Floats) {
      let packed = Floats.allocate(capacity: (rows + 2) * 16)
      let low = UnsafeMutableRawPointer(packed).assumingMemoryBound(to: UInt16.self)
      let room = Floats.allocate(capacity: GEMMKernels.thinRoom)
      t.gemm.packB_bf16(low, l, rank, rows, rank)
      t.gemm.multiplyThin_bf16(
        g, width + 2, turned, low, x, rows, columns, stride, rank, -0.75, room)
      packed.deallocate()
      room.deallocate()
    }
    let count = height * (width + 2)
    let (found, expected) = (s.copy(g, count), s.copy(g, count))
    run(table, found)
    run(other, expected)
    // Products below 1, each in at most rows + 3 roundings.
    let bound = Float((rows + 1) * (rows + 4)) * 0x1p-24
    for i in 0..<count {
      s.checks += 1
      let isPadding = i % (width + 2) >= width
      if !((found[i] - expected[i]).magnitude <= (isPadding ? 0 : bound)) { s.fault("thin", i) }
    }
    found.deallocate()
    expected.deallocate()
    g.deallocate()
  }
  l.deallocate()
  x.deallocate()
}

func rowsAndVectors(_ t: KernelTable, _ o: KernelTable, _ n: Int, _ s: inout Scratch) {
  let bound: Float = 1e-5
  let (x, y, w, z) = (s.floats(n), s.floats(n), s.floats(n), s.floats(n))
  /// One kernel on copies of x, y and z by both tables.
  func both(
    _ what: StaticString, _ s: inout Scratch, _ bound: Float,
    _ body: (KernelTable, Floats, Floats, Floats) -> Void
  ) {
    let (a, b, c) = (s.copy(x, n), s.copy(y, n), s.copy(z, n))
    let (d, e, f) = (s.copy(x, n), s.copy(y, n), s.copy(z, n))
    body(t, a, b, c)
    body(o, d, e, f)
    s.compare(what, a, d, n, bound)
    s.compare(what, b, e, n, bound)
    s.compare(what, c, f, n, bound)
    for p in [a, b, c, d, e, f] { p.deallocate() }
  }
  both("rmsNorm_f32", &s, bound) { t, a, b, c in t.rows.rmsNorm_f32(a, b, w, c, 1, n, n, 1e-5, 0) }
  let inverse = s.floats(1)
  inverse[0] = 1.5
  both("rmsNormBackward_f32", &s, bound) { t, a, b, c in
    t.rows.rmsNormBackward_f32(a, b, c, x, w, inverse, 1, n, n, 0)
  }
  both("swiglu_f32", &s, bound) { t, a, b, c in t.rows.swiglu_f32(a, b, c, n, 0) }
  both("swigluBackward_f32", &s, bound) { t, a, b, c in t.rows.swigluBackward_f32(a, b, w, c, y, n)
  }
  if n % 2 == 0 { both("rope_f32", &s, bound) { t, a, b, c in t.rows.rope_f32(a, b, c, 1, n, -1) } }
  both("softmaxOnline_f32", &s, bound) { t, a, b, c in
    b[0] = -.infinity
    c[0] = 0
    if n > 1 {
      (b[0], b[1]) = (0.25, 2)
      c[0] = t.rows.softmaxOnline_f32(a, n, 3, b)
    }
  }
  both("softmaxBackward_f32", &s, bound) { t, a, b, c in
    t.rows.softmaxBackward_f32(a, b, n, 2, 1.25, 0.5)
  }
  both("logSumExp_f32", &s, bound) { t, a, b, c in
    if n > 1 {
      (b[0], b[1]) = (0.25, 2)
      t.rows.logSumExp_f32(a, n, b)
    }
  }
  both("softmaxGradient_f32", &s, bound) { t, a, b, c in t.rows.softmaxGradient_f32(a, n, 0.5, -2) }
  both("argmax_f32", &s, 0) { t, a, b, c in a[0] = Float(t.rows.argmax_f32(b, n)) }
  both("axpy_f32", &s, bound) { t, a, b, c in t.vectors.axpy_f32(a, b, 0.3, n) }
  both("scale_f32", &s, 0) { t, a, b, c in t.vectors.scale_f32(a, 0.3, n) }
  both("dot_f32", &s, bound) { t, a, b, c in a[0] = Float(t.vectors.dot_f32(b, c, n)) }
  both("sumSquares_f32", &s, bound) { t, a, b, c in a[0] = Float(t.vectors.sumSquares_f32(b, n)) }
  both("sumAbsolute_f32", &s, bound) { t, a, b, c in a[0] = Float(t.vectors.sumAbsolute_f32(b, n)) }
  both("sign_f32", &s, 0) { t, a, b, c in t.vectors.sign_f32(a, n) }
  both("toBF16", &s, 0) { t, a, b, c in
    let half = UnsafeMutableRawPointer(b).assumingMemoryBound(to: UInt16.self)
    t.vectors.toBF16(half, a, n, n & 1)
    t.vectors.fromBF16(c, half, n, 0)
  }
  both("F16", &s, 0) { t, a, b, c in
    let half = UnsafeMutableRawPointer(b).assumingMemoryBound(to: UInt16.self)
    t.merging.toF16(half, a, n)
    t.merging.fromF16(c, half, n)
    t.merging.difference_f16(a, half, half, n)
  }
  let scalars = AdamWScalars(
    learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, correction1: 0.1,
    correction2: 0.01, gradientScale: 0.5)
  both("adamW_f32", &s, bound) { t, a, b, c in
    for i in 0..<n { c[i] = c[i].magnitude }
    scalars.withFloats { t.optimizer.adamW_f32(a, b, c, w, n, $0) }
  }
  both("softThreshold_f32", &s, bound) { t, a, b, c in t.optimizer.softThreshold_f32(a, b, 0.2, n) }
  merging(n, &s, x, y) { what, s, bound, body in both(what, &s, bound, body) }
  for p in [x, y, w, z, inverse] { p.deallocate() }
}

/// Every third entry of the deltas is zero.
func merging(
  _ n: Int, _ s: inout Scratch, _ x: Floats, _ y: Floats,
  _ both: (
    StaticString, inout Scratch, Float, (KernelTable, Floats, Floats, Floats) -> Void
  ) -> Void
) {
  func half(_ p: Floats) -> UnsafeMutablePointer<UInt16> {
    UnsafeMutableRawPointer(p).assumingMemoryBound(to: UInt16.self)
  }
  for i in 0..<n where i % 3 == 0 {
    x[i] = 0
    y[(i + i / 3) % n] = 0
  }
  both("difference_f32", &s, 0) { t, a, b, c in t.merging.difference_f32(a, b, c, n) }
  both("difference_bf16", &s, 0) { t, a, b, c in
    t.vectors.toBF16(half(b), c, n, 0)
    t.vectors.toBF16(half(c), a, n, 0)
    t.merging.difference_bf16(a, half(b), half(c), n)
  }
  both("add_f32", &s, 0) { t, a, b, c in t.merging.add_f32(a, b, n) }
  both("countBeyond_f32", &s, 0) { t, a, b, c in
    a[0] = Float(t.merging.countBeyond_f32(b, 0.5, n))
  }
  both("countWithin_f32", &s, 0) { t, a, b, c in
    var counts = (0, 0, 0)
    (c[0], c[1], c[2]) = (0, 0.25, 0.75)
    withUnsafeMutablePointer(to: &counts) {
      $0.withMemoryRebound(to: Int.self, capacity: 3) {
        t.merging.countWithin_f32($0, b, n, c, 3)
      }
    }
    a[0] = Float(counts.0 + 1000 * counts.1 + 1_000_000 * counts.2)
    if n < 3 { for i in n..<3 { c[i] = 12345 } }
  }
  both("countSigns_f32", &s, 0) { t, a, b, c in
    var counts = (0, 0)
    withUnsafeMutablePointer(to: &counts) {
      $0.withMemoryRebound(to: Int.self, capacity: 2) { t.merging.countSigns_f32($0, b, c, n) }
    }
    a[0] = Float(counts.0 + 1000 * counts.1)
  }
  both("measure_f32", &s, 1e-6) { t, a, b, c in
    var (squares, counts) = (0.0, (0, 0, 0))
    (c[0], c[1], c[2]) = (0, 0.25, 0.75)
    withUnsafeMutablePointer(to: &counts) {
      $0.withMemoryRebound(to: Int.self, capacity: 3) {
        t.merging.measure_f32(&squares, $0, b, n, c, 3)
      }
    }
    a[0] = Float(counts.0 + 1000 * counts.1 + 1_000_000 * counts.2)
    if n > 1 { a[1] = Float(squares) }
    if n < 3 { for i in n..<3 { c[i] = 12345 } }
  }
  both("relate_f32", &s, 1e-6) { t, a, b, c in
    var (dot, counts) = (0.0, (0, 0))
    withUnsafeMutablePointer(to: &counts) {
      $0.withMemoryRebound(to: Int.self, capacity: 2) {
        t.merging.relate_f32(&dot, $0, b, c, n)
      }
    }
    a[0] = Float(counts.0 + 1000 * counts.1)
    if n > 1 { a[1] = Float(dot) }
  }
  both("histogram_f32", &s, 0) { t, a, b, c in
    let counts = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << 15)
    for i in 0..<(1 << 15) { counts[i] = 0 }
    t.merging.histogram_f32(counts, b, n)
    for i in 0..<n { a[i] = Float(counts[Int(b[i].magnitude.bitPattern >> 16)]) }
    counts.deallocate()
  }
  both("collect_f32", &s, 0) { t, a, b, c in
    for i in 0..<n { b[i] = i % 2 == 0 ? 1 : b[i] }
    let found = half(a)
    let count = t.merging.collect_f32(found, b, n, Float(1).bitPattern >> 16)
    for i in 0..<n { a[i] = Float(count) }
  }
  both("cut_f32", &s, 0) { t, a, b, c in t.merging.cut_f32(a, 0.3, n) }
  both("thin_f32", &s, 0) { t, a, b, c in t.merging.thin_f32(a, n, 77, 5, 1 << 31) }
  both("collectBetween_f32", &s, 0) { t, a, b, c in
    for i in 0..<n { b[i] = i % 2 == 0 ? 1 : b[i] }
    let found = UnsafeMutablePointer<UInt32>.allocate(capacity: n + 15)
    var above = 0
    let (first, last) = (Float(0.25).bitPattern >> 16, Float(1).bitPattern >> 16)
    let count = t.merging.collectBetween_f32(found, &above, b, n, first, last)
    for i in 0..<n { a[i] = i < count ? Float(bitPattern: found[i]) : Float(above) }
    found.deallocate()
  }
  both("draw_bits", &s, 0) { t, a, b, c in
    let bits = UnsafeMutablePointer<UInt8>.allocate(capacity: n / 8 + 1)
    t.merging.draw_bits(bits, n, 77, 6, 1 << 31)
    t.merging.keep_f32(a, bits, n)
    bits.deallocate()
  }
  both("finish_bf16", &s, 1e-5) { t, a, b, c in
    for i in 0..<n { half(c)[i] = UInt16(truncatingIfNeeded: b[i].bitPattern >> 16) }
    var squares = 0.0
    let beyond = t.merging.finish_bf16(half(a), b, half(c), 0.5, &squares, n)
    if n > 1 { a[n - 1] = Float(squares) + Float(beyond) }
  }
  both("combine_f32", &s, 0) { t, a, b, c in
    let weights: [Float] = [0.7, -0.4]
    t.merging.combine_f32(a, [UnsafePointer(b), UnsafePointer(c)], weights, 2, n)
  }
  both("agree_f32", &s, 0) { t, a, b, c in
    let weights: [Float] = [0.7, 0.4]
    let models = [UnsafePointer(b), UnsafePointer(c)]
    t.merging.agree_f32(a, models, weights, weights, [0.1, 0.2], 2, 1, 0.9, n)
  }
}

/// The number of comparisons that were off; `checks` gets how many there were.
@_cdecl("check_neon")
func checkNEON(_ checks: UnsafeMutablePointer<Int>) -> Int32 {
  var table = KernelTable.reference
  KernelTable.neon(&table)
  var s = Scratch()
  for rows in 1...table.gemm.tile_f32.rows {
    for columns in 1...table.gemm.tile_f32.columns {
      for k in [0, 1, 2, 7, 8, 16, 17, 33] {
        product(table, .reference, rows, columns, k, transposed: false, accumulate: 0, &s)
        product(table, .reference, rows, columns, k, transposed: true, accumulate: 1, &s)
      }
    }
  }
  for rank in [1, 4, 5, 8] {
    for rows in [0, 1, 33, 130] {
      for columns in [1, 3, 16, 17, 64, 67] { thin(table, .reference, rank, rows, columns, &s) }
    }
  }
  for n in lengths { rowsAndVectors(table, .reference, n, &s) }
  checks.pointee = s.checks
  return s.faults
}
