// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

/// How an operand lies in memory: along k row by row, or transposed.
private enum Layout: CaseIterable { case straight, transposed }

@Suite(.pooled) struct GEMMTests {
  @Test("A packed product equals the sum in Double", arguments: KernelTable.available)
  func product(table: KernelTable) {
    let (lanes, columns) = (table.gemm.tile_f32.lanes, table.gemm.tile_f32.columns)
    let widths = Set([1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, columns - 1, columns])
    for rows in 1...table.gemm.tile_f32.rows {
      for width in widths.sorted() where (1...columns).contains(width) {
        for (i, k) in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127].enumerated() {
          let a: Layout = i % 2 == 0 ? .straight : .transposed
          for b in Layout.allCases {
            multiply_f32(table, rows, width, k, a, b, alpha: 1, accumulate: 0)
            multiply_f32(table, rows, width, k, a, b, alpha: -0.75, accumulate: 1)
            multiply_bf16(table, rows, width, k, a, b, alpha: 1, accumulate: 0)
            multiply_bf16(table, rows, width, k, a, b, alpha: -0.75, accumulate: 1)
          }
        }
      }
    }
  }

  private func multiply_f32(
    _ table: KernelTable, _ rows: Int, _ columns: Int, _ k: Int, _ la: Layout, _ lb: Layout,
    alpha: Float, accumulate: Int
  ) {
    let (a, b) = (Source("a", la, rows, k), Source("b", lb, columns, k))
    let pa = Guarded<Float>(k * table.gemm.tile_f32.rows, filledWith: .nan)
    let pb = Guarded<Float>(k * table.gemm.tile_f32.width(columns), filledWith: .nan)
    (la == .straight ? table.gemm.packA_f32 : table.gemm.packAT_f32)(
      pa.pointer, a.memory.pointer, rows, k, a.stride)
    (lb == .transposed ? table.gemm.packB_f32 : table.gemm.packBT_f32)(
      pb.pointer, b.memory.pointer, columns, k, b.stride)
    check(
      table, "f32", rows, columns, k, alpha, accumulate, a: a.value, b: b.value,
      unit: roundoff
    ) { c, ldc in
      table.gemm.multiply_f32(pa.pointer, pb.pointer, c, k, ldc, rows, columns, alpha, accumulate)
    }
    #expect(pa.isIntact && pb.isIntact)
    Pool.current.drain()
  }

  private func multiply_bf16(
    _ table: KernelTable, _ rows: Int, _ columns: Int, _ k: Int, _ la: Layout, _ lb: Layout,
    alpha: Float, accumulate: Int
  ) {
    let (a, b) = (Source("a", la, rows, k), Source("b", lb, columns, k))
    let pairs = (k + 1) / 2 * 2
    let pa = Guarded<UInt16>(pairs * table.gemm.tile_f32.rows, filledWith: 0x7FFF)
    let pb = Guarded<UInt16>(pairs * table.gemm.tile_f32.width(columns), filledWith: 0x7FFF)
    (la == .straight ? table.gemm.packA_bf16 : table.gemm.packAT_bf16)(
      pa.pointer, a.memory.pointer, rows, k, a.stride)
    (lb == .transposed ? table.gemm.packB_bf16 : table.gemm.packBT_bf16)(
      pb.pointer, b.memory.pointer, columns, k, b.stride)
    // Operands rounded once, products exact: what is left is the Float accumulation.
    check(
      table, "bf16", rows, columns, k, alpha, accumulate,
      a: { Double(BF16(Float(a.value($0, $1))).float) },
      b: { Double(BF16(Float(b.value($0, $1))).float) }, unit: 2 * roundoff
    ) { c, ldc in
      table.gemm.multiply_bf16(pa.pointer, pb.pointer, c, k, ldc, rows, columns, alpha, accumulate)
    }
    #expect(pa.isIntact && pb.isIntact)
    Pool.current.drain()
  }

  /// Runs one tile into a C whose padding is NaN and compares with sums in Double. The error of a
  /// dot product of length k is at most (k + 3) roundings of the sum of absolute products.
  private func check(
    _ table: KernelTable, _ type: String, _ rows: Int, _ columns: Int, _ k: Int, _ alpha: Float,
    _ accumulate: Int, a: (Int, Int) -> Double, b: (Int, Int) -> Double, unit: Double,
    _ run: (UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    let ldc = columns + 3
    let c = Draw("c").matrix(rows, columns, stride: ldc)
    let before = c.values
    run(c.pointer, ldc)
    let after = c.values
    #expect(c.isIntact)
    for row in 0..<rows {
      for column in 0..<ldc where row * ldc + column < after.count {
        let at = row * ldc + column
        if column >= columns {
          #expect(after[at].bitPattern == before[at].bitPattern, "padding of C was written")
          continue
        }
        var (sum, size) = (0.0, 0.0)
        for p in 0..<k {
          sum += a(row, p) * b(column, p)
          size += abs(a(row, p) * b(column, p))
        }
        let old = accumulate != 0 ? Double(before[at]) : 0
        let expected = Double(alpha) * sum + old
        let bound = unit * (Double(k + 3) * abs(Double(alpha)) * size + 2 * abs(old))
        if !(abs(Double(after[at]) - expected) <= bound) {
          Issue.record(
            """
            \(table.name) \(type) \(rows)x\(columns)x\(k): C[\(row), \(column)] is \(after[at]), \
            expected \(expected) within \(bound)
            """)
          return
        }
      }
    }
  }

  @Test(
    "Panels hold the source and zeros, in the documented order", arguments: KernelTable.available)
  func panels(table: KernelTable) {
    for k in [0, 1, 2, 7, 8, 9, 16, 17, 33, 50] {
      for layout in Layout.allCases {
        for rows in 1...table.gemm.tile_f32.rows {
          let a = Source("a", layout, rows, k)
          let mr = table.gemm.tile_f32.rows
          let p = Guarded<Float>(k * mr, filledWith: .nan)
          let h = Guarded<UInt16>((k + 1) / 2 * 2 * mr, filledWith: 0x7FFF)
          let straight = layout == .straight
          (straight ? table.gemm.packA_f32 : table.gemm.packAT_f32)(
            p.pointer, a.memory.pointer, rows, k, a.stride)
          (straight ? table.gemm.packA_bf16 : table.gemm.packAT_bf16)(
            h.pointer, a.memory.pointer, rows, k, a.stride)
          #expect(p.values == panel(a, k, width: mr, valid: rows), "\(table.name) A \(layout) \(k)")
          #expect(h.values == pairs(a, k, width: mr, valid: rows), "\(table.name) A \(layout) \(k)")
        }
        for columns in 1...table.gemm.tile_f32.columns {
          let b = Source("b", layout, columns, k)
          let width = table.gemm.tile_f32.width(columns)
          let p = Guarded<Float>(k * width, filledWith: .nan)
          let h = Guarded<UInt16>((k + 1) / 2 * 2 * width, filledWith: 0x7FFF)
          let straight = layout == .transposed
          (straight ? table.gemm.packB_f32 : table.gemm.packBT_f32)(
            p.pointer, b.memory.pointer, columns, k, b.stride)
          (straight ? table.gemm.packB_bf16 : table.gemm.packBT_bf16)(
            h.pointer, b.memory.pointer, columns, k, b.stride)
          #expect(
            p.values == panel(b, k, width: width, valid: columns), "\(table.name) B \(layout) \(k)")
          #expect(
            h.values == pairs(b, k, width: width, valid: columns), "\(table.name) B \(layout) \(k)")
        }
      }
    }
  }

  @Test("Any number of transposed panels, one after the other", arguments: KernelTable.available)
  func transposedPanels(table: KernelTable) {
    let (f32, bf16) = (table.gemm.tile_f32, table.gemm.tile_bf16)
    for rows in [1, 7, 47, 48, 49, 53, 54, 101] {
      for k in [0, 1, 2, 3, 17, 34] {
        let a = Source("a", .transposed, rows, k)
        func value(_ row: Int, _ p: Int) -> Float {
          row < rows && p < k ? Float(a.value(row, p)) : 0
        }
        let panels = (rows + f32.rows - 1) / f32.rows
        let p = Guarded<Float>(panels * f32.rows * k, filledWith: .nan)
        table.gemm.packAT_f32(p.pointer, a.memory.pointer, rows, k, a.stride)
        var expected: [Float] = []
        for panel in 0..<panels {
          for depth in 0..<k {
            for row in 0..<f32.rows { expected.append(value(panel * f32.rows + row, depth)) }
          }
        }
        #expect(p.values == expected && p.isIntact, "\(table.name) f32 \(rows)x\(k)")

        // The layout of a tile unit is AMXTests' matter.
        guard bf16.depth == 2 else { continue }
        let h = Guarded<UInt16>(panels * bf16.rows * bf16.padded(k), filledWith: 0x7FFF)
        table.gemm.packAT_bf16(h.pointer, a.memory.pointer, rows, k, a.stride)
        var halves: [UInt16] = []
        for panel in 0..<panels {
          for depth in stride(from: 0, to: k, by: 2) {
            for row in 0..<bf16.rows {
              for half in depth..<depth + 2 {
                halves.append(BF16(value(panel * bf16.rows + row, half)).bits)
              }
            }
          }
        }
        #expect(h.values == halves && h.isIntact, "\(table.name) bf16 \(rows)x\(k)")
        Pool.current.drain()
      }
    }
  }

  private func panel(_ source: Source, _ k: Int, width: Int, valid: Int) -> [Float] {
    (0..<k).flatMap { p in
      (0..<width).map { $0 < valid ? Float(source.value($0, p)) : 0 }
    }
  }

  private func pairs(_ source: Source, _ k: Int, width: Int, valid: Int) -> [UInt16] {
    var slots = [UInt16]()
    for p in stride(from: 0, to: k, by: 2) {
      for slot in 0..<width {
        for half in p..<p + 2 {
          let isThere = slot < valid && half < k
          slots.append(isThere ? BF16(Float(source.value(slot, half))).bits : 0)
        }
      }
    }
    return slots
  }

  @Test(
    "A product with bf16 operands is within two operand roundings", arguments: KernelTable.available
  )
  func operandRounding(table: KernelTable) {
    let (rows, columns, k) = (table.gemm.tile_f32.rows, table.gemm.tile_f32.columns, 200)
    let (a, b) = (Source("a", .straight, rows, k), Source("b", .transposed, columns, k))
    let pa = Guarded<UInt16>(k * rows, filledWith: 0)
    let pb = Guarded<UInt16>(k * table.gemm.tile_f32.width(columns), filledWith: 0)
    let c = Guarded<Float>(rows * columns, filledWith: 0)
    table.gemm.packA_bf16(pa.pointer, a.memory.pointer, rows, k, a.stride)
    table.gemm.packB_bf16(pb.pointer, b.memory.pointer, columns, k, b.stride)
    table.gemm.multiply_bf16(pa.pointer, pb.pointer, c.pointer, k, columns, rows, columns, 1, 0)
    for row in 0..<rows {
      for column in 0..<columns {
        var (sum, size) = (0.0, 0.0)
        for p in 0..<k {
          sum += a.value(row, p) * b.value(column, p)
          size += abs(a.value(row, p) * b.value(column, p))
        }
        #expect(abs(Double(c.pointer[row * columns + column]) - sum) <= 2.1 * 0x1p-9 * size)
      }
    }
  }

  /// An operand of `count` vectors of length k, in either layout, with NaN in the padding.
  private struct Source {
    let memory: Guarded<Float>
    let stride: Int
    let layout: Layout

    init(_ name: String, _ layout: Layout, _ count: Int, _ k: Int) {
      self.layout = layout
      let (rows, width) = layout == .straight ? (count, k) : (k, count)
      stride = width + 5
      memory = Draw(name).matrix(rows, width, stride: stride)
    }

    func value(_ vector: Int, _ p: Int) -> Double {
      Double(memory.pointer[layout == .straight ? vector * stride + p : p * stride + vector])
    }
  }
}
