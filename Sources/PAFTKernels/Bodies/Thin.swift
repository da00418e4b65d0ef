// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

// G[rank, columns] += alpha · LᵀX, the gradient of an adapter's factor (contract with the other
// products). X meets sixteen columns and is never seen again: to pack all of it costs more than the
// product. Here 128 rows of 64 columns at a time become pairs, 16 KiB in the first-level cache, and are
// multiplied on the spot by L, which stays there too. Rows are further apart than what fetches lines by
// itself follows, so the tiles ask for the next block beside their products.
//
// Zen 4, two cores, rank 16, 512 x 4864 and 512 x 896 (peak 470 GFLOP/s): 335 and 340 GFLOP/s out of the
// caches, 265 and 320 out of memory, on a machine to itself; `paft bench gemm --pass wgrad` on a busy one
// 183...230 and 192...279. In a step's profile they take 180...270: X comes from memory, and the
// gradient's pages are touched for the first time. Pairs made in registers, once for each eight ranks,
// were as fast at best and 15 to 30 % slower out of memory.

/// Columns of X that go together.
@_alwaysEmitIntoClient package var thinColumns: Int { @inline(__always) get { 64 } }

/// Rows of X that go together, an even number. Where rows lie a multiple of a page apart they share a
/// few sets of the caches, in which only so many have room beside those that are asked for.
@_alwaysEmitIntoClient @inline(__always)
package func thinRows(_ bytes: Int) -> Int { (bytes & 4095) == 0 ? 32 : 128 }

/// How X lies: as Floats, or rounded already.
@usableFromInline package protocol ThinRows {
  associatedtype Verbs: InstructionSet
  associatedtype Element: BitwiseCopyable
  static func load(_ p: UnsafePointer<Element>) -> Verbs.F
  /// 0 < count <= lanes values, the others 0.
  static func loadPart(_ p: UnsafePointer<Element>, _ count: Int) -> Verbs.F
}

@usableFromInline package enum FloatRows<Verbs: InstructionSet>: ThinRows {
  @_alwaysEmitIntoClient @inline(__always)
  package static func load(_ p: UnsafePointer<Float>) -> Verbs.F { Verbs.load(p) }
  @_alwaysEmitIntoClient @inline(__always)
  package static func loadPart(_ p: UnsafePointer<Float>, _ count: Int) -> Verbs.F {
    Verbs.loadPart(p, count, Verbs.splat(0))
  }
}

@usableFromInline package enum RoundedRows<Verbs: InstructionSet>: ThinRows {
  @_alwaysEmitIntoClient @inline(__always)
  package static func load(_ p: UnsafePointer<UInt16>) -> Verbs.F { Verbs.loadBF16(p) }
  @_alwaysEmitIntoClient @inline(__always)
  package static func loadPart(_ p: UnsafePointer<UInt16>, _ count: Int) -> Verbs.F {
    Verbs.loadPartBF16(p, count)
  }
}

/// Rows of X as pairs, `thinColumns` wide, of which `columns` are there; zeros on to a multiple of
/// `grain`, and behind an odd last row.
@_alwaysEmitIntoClient @inline(__always)
func pairRows<X: ThinRows>(
  _: X.Type, _ pairs: UnsafeMutablePointer<UInt16>, _ x: UnsafePointer<X.Element>, _ rows: Int,
  _ stride: Int, _ columns: Int, _ grain: Int
) {
  typealias I = X.Verbs
  let whole = columns & ~(I.lanes &- 1)
  var row = 0
  while row < rows {
    let (to, even) = (pairs + row &* thinColumns, x + row &* stride)
    let hasOdd = row &+ 1 < rows
    let odd = hasOdd ? even + stride : even
    var j = 0
    if whole == thinColumns && hasOdd {
      while j < thinColumns {
        I.storePairs(to + 2 &* j, I.pair(even: X.load(even + j), odd: X.load(odd + j)))
        j &+= I.lanes
      }
    }
    while j < columns {
      let count = smaller(columns &- j, I.lanes)
      let (a, b) = (X.loadPart(even + j, count), X.loadPart(odd + j, count))
      I.storePairs(to + 2 &* j, I.pair(even: a, odd: hasOdd ? b : I.splat(0)))
      j &+= I.lanes
    }
    while j & (grain &- 1) != 0 {
      I.storePairs(to + 2 &* j, I.pair(even: I.splat(0), odd: I.splat(0)))
      j &+= I.lanes
    }
    row &+= 2
  }
}

/// sums[R, C vectors] += L's pairs by X's, over `steps` of them. Each step asks for `bytes` bytes at
/// `ahead`, and as many at `besides`, and goes on by `hop`.
@_alwaysEmitIntoClient @inline(__always)
func thinTile<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _: TileShape<R, C>.Type, _ totals: UnsafeMutablePointer<Float>, _ isFirst: Bool,
  _ low: UnsafePointer<UInt16>, _ lowStep: Int, _ pairs: UnsafePointer<UInt16>, _ steps: Int,
  _ ahead: UnsafeRawPointer, _ besides: Int?, _ hop: Int, bytes: Int
) where P.Element == UInt16 {
  typealias I = P.I
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  if !isFirst {
    for r in 0..<R {
      for j in 0..<C { sums[r][j] = I.load(totals + (r &* thinColumns &+ j &* I.lanes)) }
    }
  }
  var (left, right, wanted) = (low, pairs, ahead)
  var remaining = steps
  while remaining > 0 {
    P.step(&sums, left, 2, right)
    var line = 0
    while line < bytes {
      I.prefetchFar(wanted + line)
      if let besides { I.prefetchFar(wanted + (besides &+ line)) }
      line &+= lineBytes
    }
    left += lowStep
    right += 2 &* thinColumns
    wanted += hop
    remaining &-= 1
  }
  for r in 0..<R {
    for j in 0..<C { I.store(totals + (r &* thinColumns &+ j &* I.lanes), sums[r][j]) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func multiplyThin_bf16<P: AttentionProduct, X: ThinRows, let R: Int, let C: Int>(
  _: P.Type, _: X.Type, _: TileShape<R, C>.Type, _ g: UnsafeMutablePointer<Float>, _ ldg: Int,
  _ turned: Int, _ low: UnsafePointer<UInt16>, _ x: UnsafePointer<X.Element>, _ rows: Int,
  _ columns: Int, _ stride: Int, _ rank: Int, _ alpha: Float,
  _ room: UnsafeMutablePointer<Float>
) where P.Element == UInt16, X.Verbs == P.I {
  typealias I = P.I
  // Sums of at most 64 ranks; behind them the pairs, and in the end the sums transposed.
  let behind = room + 64 &* thinColumns
  let pairs = UnsafeMutableRawPointer(behind).assumingMemoryBound(to: UInt16.self)
  let (grain, size) = (C &* I.lanes, MemoryLayout<X.Element>.stride)
  let (width, block) = (panelWidth(I.self, rank), thinRows(stride &* size))
  // With one tile of ranks its steps ask for two rows each, with two or more the first for the even ones
  // and the second for the odd ones.
  let besides = rank > R ? nil : stride &* size
  var column = 0
  while column < columns {
    let count = smaller(columns &- column, thinColumns)
    var row = 0
    repeat {
      let from = x + (column &+ row &* stride)
      let these = smaller(block, rows &- row)
      let next = row &+ block < rows ? from + block &* stride : x + (column &+ thinColumns)
      pairRows(X.self, pairs, from, these, stride, count, grain)
      var first = 0
      while first < rank {
        let isAsking = first < 2 &* R
        let wanted = first == 0 ? next : next + stride
        var j = 0
        while j < count {
          thinTile(
            P.self, TileShape<R, C>.self, room + (first &* thinColumns &+ j), row == 0,
            low + (row &* width &+ 2 &* first), 2 &* width, pairs + 2 &* j, (these &+ 1) / 2,
            isAsking ? UnsafeRawPointer(wanted + j) : UnsafeRawPointer(pairs), besides,
            isAsking ? 2 &* stride &* size : 0, bytes: grain &* size)
          j &+= grain
        }
        first &+= R
      }
      row &+= block
    } while row < rows
    if turned == 0 {
      addThin(I.self, g + column, ldg, alpha, room, thinColumns, rank, count)
    } else {
      transposeThin(I.self, behind, room, rank, count)
      addThin(I.self, g + column &* ldg, ldg, alpha, behind, thinColumns, count, rank)
    }
    column &+= thinColumns
  }
}

/// g[rows, columns] += alpha · totals.
@_alwaysEmitIntoClient @inline(__always)
func addThin<I: InstructionSet>(
  _: I.Type, _ g: UnsafeMutablePointer<Float>, _ ldg: Int, _ alpha: Float,
  _ totals: UnsafePointer<Float>, _ stride: Int, _ rows: Int, _ columns: Int
) {
  for row in 0..<rows {
    let (to, from) = (g + row &* ldg, totals + row &* stride)
    var j = 0
    while j < columns {
      let count = smaller(columns &- j, I.lanes)
      let sum = I.fma(I.splat(alpha), I.load(from + j, count), I.load(to + j, count))
      I.store(to + j, sum, count)
      j &+= I.lanes
    }
  }
}

/// turned[columns, rows] of totals[rows, columns], both `thinColumns` wide.
@_alwaysEmitIntoClient @inline(__always)
func transposeThin<I: InstructionSet>(
  _: I.Type, _ turned: UnsafeMutablePointer<Float>, _ totals: UnsafePointer<Float>, _ rows: Int,
  _ columns: Int
) {
  var j = 0
  while j < columns {
    var r = 0
    while r < rows {
      I.transpose_f32(
        turned + (j &* thinColumns &+ r), thinColumns, totals + (r &* thinColumns &+ j),
        thinColumns, smaller(8, rows &- r), 8)
      r &+= 8
    }
    j &+= 8
  }
}
