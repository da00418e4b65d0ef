// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import Testing

@Suite(.pooled) struct IntegerTests {
  /// Any bytes; the weights without -128, which quantisation never makes.
  private static func unsigned(_ name: String, _ count: Int) -> [UInt8] {
    Draw(name).floats(count, size: 128).map { UInt8($0 + 128) }
  }
  private static func signed(_ name: String, _ count: Int) -> [Int8] {
    Draw(name).floats(count, size: 127.99).map { Int8($0) }
  }

  /// A panel in the documented order, `group` values of k together, `padded` values of k in all;
  /// what is missing is `fill`.
  private func panel<T: ExpressibleByIntegerLiteral>(
    _ k: Int, width: Int, valid: Int, group: Int, padded: Int, fill: T,
    _ value: (_ p: Int, _ index: Int) -> T
  ) -> [T] {
    var bytes: [T] = []
    for first in stride(from: 0, to: padded, by: group) {
      for index in 0..<width {
        for p in first..<first + group {
          bytes.append(p < k && index < valid ? value(p, index) : fill)
        }
      }
    }
    return bytes
  }

  private func left(
    _ tile: Tile, _ k: Int, valid: Int, fill: UInt8, _ value: (_ p: Int, _ row: Int) -> UInt8
  ) -> Guarded<UInt8> {
    Guarded(
      panel(
        k, width: tile.rows, valid: valid, group: tile.depth, padded: tile.padded(k), fill: fill,
        value))
  }

  /// Panels of so many rows together, `apart` bytes between them.
  private func left(
    _ tile: Tile, _ k: Int, rows: Int, apart: Int, fill: UInt8,
    _ value: (_ p: Int, _ row: Int) -> UInt8
  ) -> Guarded<UInt8> {
    var bytes: [UInt8] = []
    for first in stride(from: 0, to: rows, by: tile.rows) {
      if first > 0 { bytes += [UInt8](repeating: fill, count: apart) }
      bytes += panel(
        k, width: tile.rows, valid: min(tile.rows, rows - first), group: tile.depth,
        padded: tile.padded(k), fill: fill
      ) { value($0, first + $1) }
    }
    return Guarded(bytes)
  }

  private func right(
    _ tile: Tile, _ k: Int, valid: Int, _ value: (_ p: Int, _ column: Int) -> Int8
  ) -> Guarded<Int8> {
    Guarded(
      panel(
        k, width: tile.width(valid), valid: valid, group: 4, padded: tile.padded(k), fill: 0,
        value))
  }

  // MARK: products

  private struct Case {
    var rows: Int
    var columns: Int
    var k: Int
    var carried = false
    var scaled = false
    var biased = false
    var accumulate = 0
  }

  /// The sum by 64-bit integers, the rest by the same four operations in Float: equal bits.
  private func check(_ table: KernelTable, _ c: Case) {
    let tile = table.integer.tile
    let (a, b) = (Self.unsigned("a", c.rows * c.k), Self.signed("b", c.columns * c.k))
    let width = tile.width(c.columns)
    // Whatever stands in A beside B's zeros must not matter.
    let pa = left(tile, c.k, rows: c.rows, apart: 64, fill: 201) { a[$1 * c.k + $0] }
    let stride = tile.padded(c.k) * tile.rows + 64
    let whole = (c.rows + tile.rows - 1) / tile.rows * tile.rows
    let pb = right(tile, c.k, valid: c.columns) { b[$1 * c.k + $0] }
    let starts = Draw("start").floats((c.carried ? whole : 1) * width, size: 0x1p20)
    let start = Guarded(starts.map { Int32($0) })
    let ldc = c.columns + 3
    let result = Draw("c").matrix(c.rows, c.columns, stride: ldc)
    let before = result.values
    let rowScale = Guarded(Draw("row").floats(c.rows))
    let columnScale = Guarded(Draw("column").floats(c.columns))
    let bias = Guarded(Draw("bias").floats(c.columns, size: 1e4))
    let kept = Guarded<Int32>(whole * width, filledWith: 0)
    func run(partial: UnsafeMutablePointer<Int32>?) {
      table.integer.strip_u8s8(
        pa.pointer, stride, pb.pointer, c.k, start.pointer, c.carried ? width : 0, partial,
        result.pointer, ldc, c.rows, c.columns, rowScale.pointer,
        c.scaled ? columnScale.pointer : nil, c.biased ? bias.pointer : nil, c.accumulate,
        pb.pointer, 4 * width, 100)
    }
    run(partial: kept.pointer)
    #expect(result.values.map(\.bitPattern) == before.map(\.bitPattern), "C was written early")
    run(partial: nil)
    let found = result.values
    for row in 0..<c.rows {
      for column in 0..<min(ldc, found.count - row * ldc) {
        let at = row * ldc + column
        guard column < c.columns else {
          #expect(found[at].bitPattern == before[at].bitPattern, "padding of C was written")
          continue
        }
        var sum = Int64(start.pointer[(c.carried ? row * width : 0) + column])
        for p in 0..<c.k { sum += Int64(a[row * c.k + p]) * Int64(b[column * c.k + p]) }
        let left = Float(sum) * rowScale.pointer[row]
        let factor = c.scaled ? columnScale.pointer[column] : 1
        var value = left * factor
        if c.biased { value = bias.pointer[column].addingProduct(left, factor) }
        if c.accumulate != 0 { value += before[at] }
        if kept.pointer[row * width + column] != sum || found[at].bitPattern != value.bitPattern {
          Issue.record(
            """
            \(table.name) \(c): [\(row), \(column)] is \(kept.pointer[row * width + column]) and \
            \(found[at]), expected \(sum) and \(value)
            """)
          return
        }
      }
    }
    #expect(result.isIntact && rowScale.isIntact && columnScale.isIntact && bias.isIntact)
    #expect(pa.isIntact && pb.isIntact && start.isIntact && kept.isIntact)
    Pool.current.drain()
  }

  @Test("A product is the sum of integers, scaled", arguments: KernelTable.availableOrEmulated)
  func product(table: KernelTable) {
    let tile = table.integer.tile
    let (lanes, columns) = (tile.lanes, tile.columns)
    let widths = Set([
      1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 3 * lanes, columns - 1, columns,
    ])
    // The emulated tile is large and slow.
    for rows in 1...tile.rows where tile.rows <= 8 || [1, 2, 15, 16, 17, 31, 32].contains(rows) {
      for width in widths.sorted() where (1...columns).contains(width) {
        for k in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 31, 33, 64, 127] {
          check(table, Case(rows: rows, columns: width, k: k))
          check(table, Case(rows: rows, columns: width, k: k, carried: true, scaled: true))
          check(
            table,
            Case(rows: rows, columns: width, k: k, scaled: true, biased: true, accumulate: 1))
          check(table, Case(rows: rows, columns: width, k: k, biased: true))
          check(table, Case(rows: rows, columns: width, k: k, carried: true, accumulate: 1))
        }
      }
    }
  }

  @Test(
    "So is a strip of several panels, far apart", arguments: KernelTable.availableOrEmulated)
  func strip(table: KernelTable) {
    let tile = table.integer.tile
    for rows in [tile.rows + 1, 2 * tile.rows, 3 * tile.rows + 2] {
      for columns in [1, tile.lanes + 1, tile.columns] {
        // Beyond twice 48 quads C is prefetched row by row.
        for k in [5, 127, 383, 389, 516] {
          check(table, Case(rows: rows, columns: columns, k: k, scaled: true, biased: true))
          check(table, Case(rows: rows, columns: columns, k: k, carried: true, accumulate: 1))
        }
      }
    }
  }

  @Test(
    "The largest sums neither saturate nor overflow", arguments: KernelTable.availableOrEmulated)
  func extremes(table: KernelTable) {
    let tile = table.integer.tile
    for k in [14336, IntegerKernels.maximumDepth] {
      for (x, w) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
        let columns = tile.lanes
        let pa = left(tile, k, valid: tile.rows, fill: 128) { _, _ in UInt8(x + 128) }
        let pb = right(tile, k, valid: columns) { _, _ in Int8(w) }
        let start = Guarded<Int32>(columns, filledWith: 1)
        table.integer.compensation_s8(start.pointer, pb.pointer, columns, k)
        let sums = Guarded<Int32>(tile.rows * columns, filledWith: 0)
        let one = Guarded<Float>(tile.rows, filledWith: 1)
        table.integer.strip_u8s8(
          pa.pointer, 0, pb.pointer, k, start.pointer, 0, sums.pointer, one.pointer, 0, tile.rows,
          columns, one.pointer, nil, nil, 0, pb.pointer, 0, 0)
        #expect(sums.values.allSatisfy { Int($0) == k * x * w }, "\(table.name) \(k) \(x) \(w)")
        Pool.current.drain()
      }
    }
  }

  // MARK: quantisation

  /// Row by row, so that everything a row can be is in one panel: ordinary, large, zeros, below the
  /// smallest, of the smallest, subnormal and ordinary mixed.
  private func rows(_ k: Int) -> [[Float]] {
    let draw = { (name: String, size: Float) in Draw(name).floats(k, size: size) }
    return [
      draw("p", 1), draw("q", 3e37), [Float](repeating: -0, count: k), draw("r", 0x1p-122),
      draw("s", 0x1.8p-119), draw("t", 0x1p-130).enumerated().map { $0 % 3 == 1 ? 2.5 : $1 },
    ]
  }

  @Test(
    "A quantised row is within half a step of the row", arguments: KernelTable.availableOrEmulated)
  func quantizeA(table: KernelTable) {
    let tile = table.integer.tile
    for k in awkwardLengths {
      let source = rows(k)
      for (valid, scaled) in [(tile.rows, false), (tile.rows, true), (1, false), (2, true)] {
        let stride = k + 5
        let x = Guarded<Float>((valid - 1) * stride + k, filledWith: .nan)
        for row in 0..<valid { for p in 0..<k { x.pointer[row * stride + p] = source[row % 6][p] } }
        let columns = Guarded(Draw("columns").floats(k, size: 4))
        let scale = Guarded<Float>(valid, filledWith: .nan)
        let dst = Guarded<UInt8>(tile.padded(k) * tile.rows, filledWith: 7)
        table.integer.quantizeA_u8(
          dst.pointer, scale.pointer, x.pointer, scaled ? columns.pointer : nil, valid, k, stride)
        #expect(dst.isIntact && scale.isIntact)
        checkPanel(table, dst, scale, valid: valid, k: k) { row, p in
          source[row % 6][p] * (scaled ? columns.pointer[p] : 1)
        }
        Pool.current.drain()
      }
    }
  }

  /// Scales, bytes and padding of an A panel of `value`, whose scales carry `factor`.
  private func checkPanel(
    _ table: KernelTable, _ dst: Guarded<UInt8>, _ scale: Guarded<Float>, valid: Int, k: Int,
    factor: (Int) -> Double = { _ in 1 }, _ value: (_ row: Int, _ p: Int) -> Float
  ) {
    let tile = table.integer.tile
    for row in 0..<tile.rows {
      let size = row < valid ? (0..<k).reduce(Float(0)) { max($0, abs(value(row, $1))) } : 0
      let step = size < IntegerKernels.smallest ? 0 : Double(size) / 127 * factor(row)
      if row < valid {
        let found = Double(scale.pointer[row])
        #expect(abs(found - step) <= 8 * roundoff * step, "\(table.name) scale of row \(row)")
      }
      var largest = 0
      for p in 0..<tile.padded(k) {
        let byte = dst.pointer[(p / tile.depth * tile.rows + row) * tile.depth + p % tile.depth]
        let q = Int(byte) - 128
        if row >= valid || p >= k || step == 0 {
          if q != 0 {
            Issue.record("\(table.name) row \(row) of \(valid), \(p) of \(k) is \(q), not zero")
            return
          }
          continue
        }
        largest = max(largest, abs(q))
        let x = Double(value(row, p)) * factor(row)
        // Half a step; 127 of them carry the roundings of scale, inverse and product.
        if !(abs(x - step * Double(q)) <= step * (0.5 + 127 * 12 * roundoff)) {
          Issue.record("\(table.name) k \(k) row \(row): \(x) became \(q) steps of \(step)")
          return
        }
      }
      #expect(largest == (step > 0 ? 127 : 0), "\(table.name) k \(k) row \(row)")
    }
  }

  @Test("A value that is not finite shows in the scale", arguments: KernelTable.availableOrEmulated)
  func notFinite(table: KernelTable) {
    let tile = table.integer.tile
    for k in [1, 7, 16, 33, 129] {
      for bad in [Float.nan, .infinity, -.infinity, -.signalingNaN] {
        for at in Set([0, k / 2, k - 1]) {
          let x = Draw("x").matrix(2, k, stride: k)
          x.pointer[k + at] = bad
          let scale = Guarded<Float>(2, filledWith: 0)
          let inverse = Guarded<Float>(2, filledWith: 3)
          let dst = Guarded<UInt8>(tile.padded(k) * tile.rows, filledWith: 7)
          let ones = Guarded<Float>(k, filledWith: 1)
          for columns in [nil, ones.pointer] {
            table.integer.quantizeA_u8(dst.pointer, scale.pointer, x.pointer, columns, 2, k, k)
            #expect(scale.pointer[0] > 0 && scale.pointer[1].isNaN, "\(table.name) \(k) \(bad)")
          }
          table.integer.quantizeNormA_u8(
            dst.pointer, scale.pointer, inverse.pointer, x.pointer, ones.pointer, 2, k, k, 1e-6)
          #expect(scale.pointer[0] > 0 && scale.pointer[1].isNaN, "\(table.name) \(k) \(bad)")
          table.integer.quantizers_f32(scale.pointer, inverse.pointer, x.pointer, 2, k, k)
          #expect(scale.pointer[0] > 0 && scale.pointer[1].isNaN, "\(table.name) \(k) \(bad)")
          #expect(inverse.pointer[1] == 0)
          Pool.current.drain()
        }
      }
    }
  }

  @Test("A norm is quantised as if it had been written", arguments: KernelTable.availableOrEmulated)
  func norm(table: KernelTable) {
    let tile = table.integer.tile
    for k in awkwardLengths where k > 0 {
      for valid in [1, tile.rows] {
        let stride = k + 2
        let x = Draw("x").matrix(valid, k, stride: stride, size: 6)
        let w = Guarded(Draw("w").floats(k, size: 2))
        let scale = Guarded<Float>(valid, filledWith: .nan)
        let inverse = Guarded<Float>(valid, filledWith: .nan)
        let dst = Guarded<UInt8>(tile.padded(k) * tile.rows, filledWith: 7)
        table.integer.quantizeNormA_u8(
          dst.pointer, scale.pointer, inverse.pointer, x.pointer, w.pointer, valid, k, stride, 1e-5)
        #expect(dst.isIntact && scale.isIntact && inverse.isIntact)
        let r = (0..<valid).map { row in
          let squares = (0..<k).reduce(0.0) { $0 + Double(x.pointer[row * stride + $1]).squared }
          return 1 / (squares / Double(k) + 1e-5).squareRoot()
        }
        // A Float sum of squares is off by at most k/8 roundings in four lanes' sums, its root by half.
        expectClose(inverse.values, r, "\(table.name) inverse \(k)") {
          (Double(k) / 8 + 4) * roundoff * r[$0]
        }
        checkPanel(
          table, dst, scale, valid: valid, k: k, factor: { Double(inverse.pointer[$0]) }
        ) { row, p in x.pointer[row * stride + p] * w.pointer[p] }
        let y = Guarded<Float>(valid * stride, filledWith: 0)
        let same = Guarded<Float>(valid, filledWith: .nan)
        table.rows.rmsNorm_f32(
          y.pointer, x.pointer, w.pointer, same.pointer, valid, k, stride, 1e-5, 0)
        #expect(same.values == inverse.values, "\(table.name): the norm's own inverse, \(k)")
        Pool.current.drain()
      }
    }
  }

  @Test("Both layouts of a weight hold the same bytes", arguments: KernelTable.availableOrEmulated)
  func weights(table: KernelTable) {
    let tile = table.integer.tile
    for (out, inputs) in [
      (1, 1), (3, 9), (8, 32), (13, 67), (64, 64), (9, 257), (17, 33), (63, 40),
    ] {
      let stride = inputs + 3
      let w = Draw("w").matrix(out, inputs, stride: stride, size: 0.2)
      if out > 2 { for p in 0..<inputs { w.pointer[2 * stride + p] = 0 } }
      let scale = Guarded<Float>(out, filledWith: .nan)
      let inverse = Guarded<Float>(out, filledWith: .nan)
      table.integer.quantizers_f32(scale.pointer, inverse.pointer, w.pointer, out, inputs, stride)
      #expect(scale.isIntact && inverse.isIntact)
      // The definition, apart from the kernels.
      let bytes = (0..<out).map { n -> [Int8] in
        let row = (0..<inputs).map { w.pointer[n * stride + $0] }
        let size = row.map { abs($0) }.max()!
        #expect(scale.pointer[n] == size / 127 && inverse.pointer[n] == (size > 0 ? 127 / size : 0))
        return row.map { Int8(($0 * (size > 0 ? 127 / size : 0)).rounded(.toNearestOrEven)) }
      }
      for (first, columns) in blocks(of: out, tile.columns) {
        checkWeights(table, columns, inputs, "forward", { bytes[first + $1][$0] }) {
          table.integer.packBT_s8(
            $0, w.pointer + first * stride, inverse.pointer + first, columns, inputs, stride)
        }
      }
      for (first, columns) in blocks(of: inputs, tile.columns) {
        checkWeights(table, columns, out, "backward", { bytes[$0][first + $1] }) {
          table.integer.packB_s8(
            $0, w.pointer + first, inverse.pointer, columns, out, stride)
        }
      }
      Pool.current.drain()
    }
  }

  private func blocks(of count: Int, _ size: Int) -> [(first: Int, count: Int)] {
    stride(from: 0, to: count, by: size).map { ($0, min(size, count - $0)) }
  }

  private func checkWeights(
    _ table: KernelTable, _ columns: Int, _ k: Int, _ what: String,
    _ value: (_ p: Int, _ column: Int) -> Int8, _ pack: (UnsafeMutablePointer<Int8>) -> Void
  ) {
    let tile = table.integer.tile
    let width = tile.width(columns)
    let dst = Guarded<Int8>(tile.padded(k) * width, filledWith: 7)
    pack(dst.pointer)
    let expected = right(tile, k, valid: columns, value)
    #expect(dst.values == expected.values, "\(table.name) \(what) \(columns) of \(k)")
    let sums = Guarded<Int32>(width, filledWith: 7)
    table.integer.compensation_s8(sums.pointer, dst.pointer, columns, k)
    let totals = (0..<width).map { column in
      column < columns ? -128 * (0..<k).reduce(0) { $0 + Int(value($1, column)) } : 0
    }
    #expect(sums.values.map { Int($0) } == totals, "\(table.name) \(what) \(columns) of \(k)")
    #expect(dst.isIntact && sums.isIntact)
  }
}

extension Double {
  fileprivate var squared: Double { self * self }
}
