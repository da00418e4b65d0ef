// SPDX-License-Identifier: Apache-2.0

// C[rows, columns] (+)= alpha * A·B for one packed A panel and one packed B panel.
//
// The tile is R rows x C vectors, all accumulators in registers. R = 6 with C = 4 zmm leaves
// 24 + 4 + 1 of 32 registers in use and needs 10 loads per 24 products; R = 6 with C = 2 ymm leaves
// 12 + 2 + 1 of 16. Fewer rows or vectors have their own instances, because a single decoded token
// would otherwise pay for six. tools/check-kernels watches that nothing spills.

/// Rows of an A panel, for every SIMD table.
@_alwaysEmitIntoClient package var panelRows: Int { @inline(__always) get { 6 } }

/// The shape of a tile instance, as a type.
@usableFromInline package enum TileShape<let rows: Int, let vectors: Int> {}

/// One call of a micro-tile: the arguments of `GEMMKernels.strip_f32`, of one A panel.
@usableFromInline package struct TileCall<Element> {
  @usableFromInline package var a: UnsafePointer<Element>
  @usableFromInline package let b: UnsafePointer<Element>
  @usableFromInline package var c: UnsafeMutablePointer<Float>
  @usableFromInline package let k: Int
  @usableFromInline package let ldc: Int
  @usableFromInline package var rows: Int
  @usableFromInline package let columns: Int
  @usableFromInline package let alpha: Float
  /// What the product is added to: nothing, C itself, another matrix, or (stride 0) one row.
  @usableFromInline package var addend: UnsafePointer<Float>?
  @usableFromInline package let ldAddend: Int
  /// Memory that will be read soon, and how many cache lines of it to ask for.
  @usableFromInline package var ahead: UnsafeRawPointer
  @usableFromInline package let lines: Int

  @_alwaysEmitIntoClient @inline(__always)
  package init(
    _ a: UnsafePointer<Element>, _ b: UnsafePointer<Element>, _ c: UnsafeMutablePointer<Float>,
    _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int, _ alpha: Float,
    _ addend: UnsafePointer<Float>?, _ ldAddend: Int, _ ahead: UnsafeRawPointer, _ lines: Int
  ) {
    self.a = a
    self.b = b
    self.c = c
    self.k = k
    self.ldc = ldc
    self.rows = rows
    self.columns = columns
    self.alpha = alpha
    self.addend = addend
    self.ldAddend = ldAddend
    self.ahead = ahead
    self.lines = lines
  }

  /// The arguments of `GEMMKernels.multiply_f32`.
  @_alwaysEmitIntoClient @inline(__always)
  package init(
    _ a: UnsafePointer<Element>, _ b: UnsafePointer<Element>, _ c: UnsafeMutablePointer<Float>,
    _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int, _ alpha: Float, _ accumulate: Int
  ) {
    self.init(
      a, b, c, k, ldc, rows, columns, alpha, accumulate != 0 ? UnsafePointer(c) : nil, ldc,
      UnsafeRawPointer(b), 0)
  }

  /// Goes to the next A panel of `panel` rows, `stride` elements on, and to what to ask for beside it,
  /// `step` bytes on.
  @_alwaysEmitIntoClient @inline(__always)
  package mutating func advance(_ panel: Int, _ stride: Int, _ step: Int) {
    a += stride
    c += panel &* ldc
    if let base = addend { addend = base + panel &* ldAddend }
    ahead += step
    rows &-= panel
  }
}

/// One step of the loop over k. A type and not a closure: LLVM would keep the sums of a closure in
/// memory.
@usableFromInline package protocol TileStep {
  associatedtype Verbs: InstructionSet
  associatedtype Element
  static func step<let R: Int, let C: Int>(
    _ sums: inout InlineArray<R, InlineArray<C, Verbs.F>>, _ a: inout UnsafePointer<Element>,
    _ b: inout UnsafePointer<Element>)
}

/// One value of k: every product of an A column and a B row.
@_alwaysEmitIntoClient @inline(__always)
package func step_f32<I: InstructionSet, let R: Int, let C: Int>(
  _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>, _ a: inout UnsafePointer<Float>,
  _ b: inout UnsafePointer<Float>
) {
  var right = InlineArray<C, I.F>(repeating: I.splat(0))
  for j in 0..<C { right[j] = I.load(b + j &* I.lanes) }
  for r in 0..<R {
    let left = I.splat(a[r])
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
  a += panelRows
  b += C &* I.lanes
}

/// BF16 by the pair instruction: one product of two pairs per lane.
@_alwaysEmitIntoClient @inline(__always)
package func step_bf16<I: PairDot, let R: Int, let C: Int>(
  dot _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>,
  _ a: inout UnsafePointer<UInt16>, _ b: inout UnsafePointer<UInt16>
) {
  var right = InlineArray<C, I.Pairs>(repeating: I.loadPairs(b))
  for j in 0..<C { right[j] = I.loadPairs(b + 2 &* j &* I.lanes) }
  for r in 0..<R {
    let left = I.splatPair(a + 2 &* r)
    for j in 0..<C { sums[r][j] = I.dot(sums[r][j], left, right[j]) }
  }
  a += 2 &* panelRows
  b += 2 &* C &* I.lanes
}

/// BF16 without the pair instruction: both halves become Float (a shift, exact) and go through FMA.
/// The even halves are finished before the odd ones are loaded; together they would not fit.
@_alwaysEmitIntoClient @inline(__always)
package func step_bf16<I: InstructionSet, let R: Int, let C: Int>(
  widening _: I.Type, _ sums: inout InlineArray<R, InlineArray<C, I.F>>,
  _ a: inout UnsafePointer<UInt16>, _ b: inout UnsafePointer<UInt16>
) {
  var right = InlineArray<C, I.F>(repeating: I.splat(0))
  for j in 0..<C { right[j] = I.even(I.loadPairs(b + 2 &* j &* I.lanes)) }
  for r in 0..<R {
    let left = I.even(I.splatPair(a + 2 &* r))
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
  I.reload()
  for j in 0..<C { right[j] = I.odd(I.loadPairs(b + 2 &* j &* I.lanes)) }
  for r in 0..<R {
    let left = I.odd(I.splatPair(a + 2 &* r))
    for j in 0..<C { sums[r][j] = I.fma(left, right[j], sums[r][j]) }
  }
  a += 2 &* panelRows
  b += 2 &* C &* I.lanes
}

/// The tile: `steps` steps over k, then C.
@_alwaysEmitIntoClient @inline(__always)
package func multiplyTile<S: TileStep, let R: Int, let C: Int>(
  _: S.Type, _: TileShape<R, C>.Type, _ call: TileCall<S.Element>, steps: Int
) {
  typealias I = S.Verbs
  var sums = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: I.splat(0)))
  var (a, b) = (call.a, call.b)
  var asking = Asking<R, C>(
    I.self, call.ahead, call.lines, steps, call.rows, call.c, call.ldc)
  var remaining = steps
  while remaining > 0 {
    asking.turn(I.self, remaining)
    S.step(&sums, &a, &b)
    asking.ask(I.self)
    remaining &-= 1
  }
  storeTile(I.self, sums, call)
}

/// What a tile's steps ask for beside their products, C lines each: first what the caller wants next,
/// evenly, then the tile of C shortly before its sums are done, then what is there already, which costs
/// load slots of which there are plenty. Spread like this, because a burst of misses keeps the operands
/// waiting.
@usableFromInline package struct Asking<let R: Int, let C: Int> {
  @usableFromInline var wanted: UnsafeRawPointer
  /// How far each of the C lines goes on. Below a line some are asked for twice, which is how few lines
  /// spread over many steps.
  @usableFromInline var hop = 0
  /// Steps until something else is wanted.
  @usableFromInline var count: Int
  @usableFromInline var row = 0
  @usableFromInline let rows: Int
  @usableFromInline let c: UnsafeRawPointer
  @usableFromInline let rowBytes: Int

  /// - Parameters:
  ///   - lines: to ask for from `ahead` on, beside a full panel of rows.
  ///   - c: the tile, `rows` of it valid, if it will be written.
  @_alwaysEmitIntoClient @inline(__always)
  package init<I: InstructionSet>(
    _: I.Type, _ ahead: UnsafeRawPointer, _ lines: Int, _ steps: Int, _ rows: Int,
    _ c: UnsafeMutablePointer<Float>?, _ ldc: Int
  ) {
    let isLong = R > 2 && steps > 2 &* nearSteps
    if !isLong, let c {
      for r in 0..<R where r < rows {
        for j in 0..<C { I.prefetch(c + (r &* ldc &+ j &* I.lanes)) }
      }
    }
    wanted = ahead
    count = isLong ? steps &- nearSteps : steps
    self.rows = c == nil ? 0 : smaller(R, rows)
    self.c = c.map { UnsafeRawPointer($0) } ?? ahead
    rowBytes = ldc &* MemoryLayout<Float>.stride
    let bytes = lineBytes &* lines &* smaller(rows, panelRows) / panelRows
    if bytes > 0 && count > 0 {
      hop = smaller(lineBytes, (bytes &+ count &* C &- 1) / (count &* C))
    }
  }

  /// Before each step, of which `remaining` are left.
  @_alwaysEmitIntoClient @inline(__always)
  package mutating func turn<I: InstructionSet>(_: I.Type, _ remaining: Int) {
    if count == 0 {
      if row < rows {
        let line = c + row &* rowBytes
        for j in 0..<C { I.prefetch((line + j &* lineBytes).assumingMemoryBound(to: Float.self)) }
      }
      (wanted, hop) = (c, 0)
      row &+= 1
      count = row < rows ? 1 : remaining
    }
  }

  @_alwaysEmitIntoClient @inline(__always)
  package mutating func ask<I: InstructionSet>(_: I.Type) {
    for j in 0..<C { I.prefetchFar(wanted + j &* hop) }
    wanted += C &* hop
    count &-= 1
  }
}

@_alwaysEmitIntoClient package var lineBytes: Int { @inline(__always) get { 64 } }
/// Steps before the end at which C is asked for: 24 cycles each, so memory has 1000 cycles.
@_alwaysEmitIntoClient package var nearSteps: Int { @inline(__always) get { 48 } }

@_alwaysEmitIntoClient @inline(__always)
package func smaller(_ a: Int, _ b: Int) -> Int { a < b ? a : b }

/// A full tile goes from registers to C. A partial one goes through memory: a row or column count
/// known only at run time would otherwise keep every accumulator on the stack for full tiles too.
/// Without a factor the sum is added on the units that do not multiply: the next tile's products
/// need not wait.
@_alwaysEmitIntoClient @inline(__always)
package func storeTile<I: InstructionSet, Element, let R: Int, let C: Int>(
  _: I.Type, _ sums: InlineArray<R, InlineArray<C, I.F>>, _ call: TileCall<Element>
) {
  let alpha = I.splat(call.alpha)
  if call.rows >= R && call.columns == C &* I.lanes {
    if let addend = call.addend {
      if call.alpha == 1 {
        for r in 0..<R {
          for j in 0..<C {
            I.store(
              call.c + (r &* call.ldc &+ j &* I.lanes),
              I.add(sums[r][j], I.load(addend + (r &* call.ldAddend &+ j &* I.lanes))))
          }
        }
      } else {
        for r in 0..<R {
          for j in 0..<C {
            I.store(
              call.c + (r &* call.ldc &+ j &* I.lanes),
              I.fma(alpha, sums[r][j], I.load(addend + (r &* call.ldAddend &+ j &* I.lanes))))
          }
        }
      }
    } else if call.alpha == 1 {
      for r in 0..<R {
        for j in 0..<C { I.store(call.c + (r &* call.ldc &+ j &* I.lanes), sums[r][j]) }
      }
    } else {
      for r in 0..<R {
        for j in 0..<C {
          I.store(call.c + (r &* call.ldc &+ j &* I.lanes), I.mul(alpha, sums[r][j]))
        }
      }
    }
    return
  }
  var copies = InlineArray<R, InlineArray<C, I.F>>(repeating: .init(repeating: alpha))
  for r in 0..<R {
    for j in 0..<C { copies[r][j] = sums[r][j] }
  }
  let last = call.columns &- (C &- 1) &* I.lanes
  for r in 0..<smaller(R, call.rows) {
    let row = call.c + r &* call.ldc
    for j in 0..<C {
      let count = j == C &- 1 ? last : I.lanes
      var value = I.mul(alpha, copies[r][j])
      if let addend = call.addend {
        value = I.fma(
          alpha, copies[r][j], I.load(addend + (r &* call.ldAddend &+ j &* I.lanes), count))
      }
      I.store(row + j &* I.lanes, value, count)
    }
  }
}
