// SPDX-License-Identifier: Apache-2.0

/// How operands of one type are multiplied and written, on one instruction set.
@usableFromInline package protocol AttentionProduct {
  associatedtype I: InstructionSet
  associatedtype Element: BitwiseCopyable
  /// Values of the reduced dimension that lie together.
  static var depth: Int { get }
  /// Whether four steps may stand in a row. Halves that are widened take so many registers that
  /// the compiler keeps accumulators on the stack when it sees more than one step.
  static var isUnrolled: Bool { get }

  /// sums[r][j] += one step of left row r (at a + r * rowStride) times right vector j.
  static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, I.F>>, _ a: UnsafePointer<Element>,
    _ rowStride: Int, _ b: UnsafePointer<Element>)

  /// Two neighbouring rows of one vector as a right operand of `width` columns.
  static func storeRight(
    _ p: UnsafeMutablePointer<Element>, _ width: Int, _ even: I.F, _ odd: I.F)
  /// The same as rows of a left operand, `width` apart.
  static func storeRows(
    _ p: UnsafeMutablePointer<Element>, _ width: Int, _ even: I.F, _ odd: I.F)
  static func element(_ x: Float) -> Element

  /// 8 x 8 steps transposed: source rows run along the reduced dimension. `width` as in
  /// CVectorTranspose.inc; dst rows are `dstStride` steps apart.
  static func transpose(
    _ dst: UnsafeMutablePointer<Element>, _ dstStride: Int, _ src: UnsafePointer<Float>,
    _ srcStride: Int, _ rows: Int, _ width: Int32)
  /// Six columns of one step of the reduced dimension.
  static func copySix(
    _ dst: UnsafeMutablePointer<Element>, _ src: UnsafePointer<Float>, _ srcStride: Int)
}

// MARK: steps of the three kinds

@_alwaysEmitIntoClient @inline(__always)
package func stepSingles<I: InstructionSet, let R: Int, let C: Int>(
  _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>, _ a: UnsafePointer<Float>,
  _ rowStride: Int, _ b: UnsafePointer<Float>
) {
  var right = InlineArray<C, I.F>(repeating: I.splat(0))
  for j in 0..<C { right[j] = I.load(b + j &* I.lanes) }
  for r in 0..<R {
    let left = I.splat(a[r &* rowStride])
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func stepPairs<I: PairDot, let R: Int, let C: Int>(
  dot _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>, _ a: UnsafePointer<UInt16>,
  _ rowStride: Int, _ b: UnsafePointer<UInt16>
) {
  var right = InlineArray<C, I.Pairs>(repeating: I.loadPairs(b))
  for j in 0..<C { right[j] = I.loadPairs(b + 2 &* j &* I.lanes) }
  for r in 0..<R {
    let left = I.splatPair(a + r &* rowStride)
    for j in 0..<C { sums[r][j] = I.dot(sums[r][j], left, right[j]) }
  }
}

/// Without the pair instruction: even halves first, then the odd ones (see GEMMTile).
@_alwaysEmitIntoClient @inline(__always)
package func stepPairs<I: InstructionSet, let R: Int, let C: Int>(
  widening _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>,
  _ a: UnsafePointer<UInt16>, _ rowStride: Int, _ b: UnsafePointer<UInt16>
) {
  var right = InlineArray<C, I.F>(repeating: I.splat(0))
  for j in 0..<C { right[j] = I.even(I.loadPairs(b + 2 &* j &* I.lanes)) }
  for r in 0..<R {
    let left = I.even(I.splatPair(a + r &* rowStride))
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
  I.reload()
  for j in 0..<C { right[j] = I.odd(I.loadPairs(b + 2 &* j &* I.lanes)) }
  for r in 0..<R {
    let left = I.odd(I.splatPair(a + r &* rowStride))
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
}

// MARK: the loop over the reduced dimension

/// sums += left · right over `steps`, four at a time: the loop's exit is then foreseen by the
/// branch predictor for every head size in use, and the bookkeeping hides behind the products.
@_alwaysEmitIntoClient @inline(__always)
package func multiply<P: AttentionProduct, let R: Int, let C: Int>(
  _: P.Type, _ sums: inout InlineArray<R, InlineArray<C, P.I.F>>, _ a: UnsafePointer<P.Element>,
  _ rowStride: Int, _ stepStride: Int, _ b: UnsafePointer<P.Element>, _ steps: Int
) {
  let rightStride = C &* P.I.lanes &* P.depth
  var (a, b) = (a, b)
  var remaining = steps
  while P.isUnrolled && remaining >= 4 {
    P.step(&sums, a, rowStride, b)
    P.step(&sums, a + stepStride, rowStride, b + rightStride)
    P.step(&sums, a + 2 &* stepStride, rowStride, b + 2 &* rightStride)
    P.step(&sums, a + 3 &* stepStride, rowStride, b + 3 &* rightStride)
    a += 4 &* stepStride
    b += 4 &* rightStride
    remaining &-= 4
  }
  while remaining > 0 {
    P.step(&sums, a, rowStride, b)
    a += stepStride
    b += rightStride
    remaining &-= 1
  }
}
