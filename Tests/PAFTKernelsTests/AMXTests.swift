// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

/// Products of BF16 on tiles; the bytes' are in IntegerTests.swift.
@Suite(.pooled, .enabled(if: KernelTable.emulatedAMX != nil)) struct AMXTests {
  /// Rows, columns and depths around every tile boundary.
  static let edges = [1, 2, 7, 15, 16, 17, 31, 32]
  static let depths = [0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 100]

  /// `count` vectors of length k with NaN beyond their rows, stored along k or across it.
  private struct Source {
    let memory: Guarded<Float>
    let stride: Int
    let alongK: Bool

    init(_ name: String, _ count: Int, _ k: Int, alongK: Bool) {
      self.alongK = alongK
      let (rows, width) = alongK ? (count, k) : (k, count)
      stride = width + 3
      memory = Draw(name).matrix(rows, width, stride: stride)
    }

    func rounded(_ vector: Int, _ p: Int) -> BF16 {
      BF16(memory.pointer[alongK ? vector * stride + p : p * stride + vector])
    }
  }

  /// Packs as the table does, into memory that was all NaN.
  private static func pack(
    _ table: KernelTable, _ a: Source, _ rows: Int, _ b: Source, _ columns: Int, _ k: Int
  ) -> (Guarded<UInt16>, Guarded<UInt16>) {
    let tile = table.gemm.tile_bf16
    let pa = Guarded<UInt16>(tile.padded(k) * tile.rows, filledWith: 0x7FFF)
    let pb = Guarded<UInt16>(tile.padded(k) * tile.width(columns), filledWith: 0x7FFF)
    (a.alongK ? table.gemm.packA_bf16 : table.gemm.packAT_bf16)(
      pa.pointer, a.memory.pointer, rows, k, a.stride)
    (b.alongK ? table.gemm.packBT_bf16 : table.gemm.packB_bf16)(
      pb.pointer, b.memory.pointer, columns, k, b.stride)
    return (pa, pb)
  }

  @Test("Panels hold the source and zeros, in the documented order", arguments: [true, false])
  func panels(alongK: Bool) {
    let table = KernelTable.emulatedAMX!
    let tile = table.gemm.tile_bf16
    for k in Self.depths {
      for count in Self.edges {
        let a = Source("a", count, k, alongK: alongK)
        let b = Source("b", count, k, alongK: alongK)
        let (pa, pb) = Self.pack(table, a, count, b, count, k)
        let width = tile.width(count)
        for p in 0..<tile.padded(k) {
          for slot in 0..<tile.rows {
            let expected = slot < count && p < k ? a.rounded(slot, p).bits : 0
            let found = pa.pointer[(p / 32 * 32 + slot) * 32 + p % 32]
            if found != expected { Issue.record("A \(count)x\(k): [\(slot), \(p)] is \(found)") }
          }
          for slot in 0..<width {
            let expected = slot < count && p < k ? b.rounded(slot, p).bits : 0
            let found = pb.pointer[(p / 2 * width + slot) * 2 + p % 2]
            if found != expected { Issue.record("B \(k)x\(count): [\(p), \(slot)] is \(found)") }
          }
        }
        #expect(pa.isIntact && pb.isIntact)
      }
      Pool.current.drain()
    }
  }

  /// Bound: an instruction adds two sums of 16 products to C, so C takes at most k/32 + 1 + 17
  /// roundings of the sum of magnitudes; alpha and the addition two more.
  @Test("A product equals the sum in Double on every edge", arguments: [true, false])
  func product(alongK: Bool) {
    for k in Self.depths {
      for rows in Self.edges {
        for columns in Self.edges {
          let a = Source("a", rows, k, alongK: alongK)
          let b = Source("b", columns, k, alongK: !alongK)
          check(a, b, rows, columns, k, alpha: 1, accumulate: false)
          check(a, b, rows, columns, k, alpha: -0.75, accumulate: true)
          Pool.current.drain()
        }
      }
    }
  }

  private func check(
    _ a: Source, _ b: Source, _ rows: Int, _ columns: Int, _ k: Int, alpha: Float, accumulate: Bool
  ) {
    let table = KernelTable.emulatedAMX!
    let (pa, pb) = Self.pack(table, a, rows, b, columns, k)
    let ldc = columns + 3
    let c = Draw("c").matrix(rows, columns, stride: ldc)
    let before = c.values
    table.gemm.multiply_bf16(
      pa.pointer, pb.pointer, c.pointer, k, ldc, rows, columns, alpha, accumulate ? 1 : 0)
    let after = c.values
    #expect(c.isIntact)
    for at in after.indices {
      let (row, column) = (at / ldc, at % ldc)
      if column >= columns {
        #expect(after[at].bitPattern == before[at].bitPattern, "padding of C was written")
        continue
      }
      var (sum, size) = (0.0, 0.0)
      for p in 0..<k {
        let product = Double(a.rounded(row, p).float) * Double(b.rounded(column, p).float)
        sum += product
        size += abs(product)
      }
      let old = accumulate ? Double(before[at]) : 0
      let expected = Double(alpha) * sum + old
      let bound = roundoff * (Double(k / 32 + 20) * abs(Double(alpha)) * size + 2 * abs(old))
      if !(abs(Double(after[at]) - expected) <= bound) {
        Issue.record(
          "\(rows)x\(columns)x\(k): C[\(row), \(column)] is \(after[at]), not \(expected)")
        return
      }
    }
  }

  @Test("A row's bits do not depend on how many rows there are")
  func rowsAlone() {
    let (table, k, columns) = (KernelTable.emulatedAMX!, 70, 32)
    let a = Source("a", 32, k, alongK: true)
    let b = Source("b", columns, k, alongK: true)
    func product(_ rows: Int) -> [Float] {
      let (pa, pb) = Self.pack(table, a, rows, b, columns, k)
      let c = Guarded<Float>(rows * columns, filledWith: .nan)
      table.gemm.multiply_bf16(pa.pointer, pb.pointer, c.pointer, k, columns, rows, columns, 1, 0)
      return c.values
    }
    let all = product(32)
    for rows in 1..<32 { #expect(product(rows) == Array(all[..<(rows * columns)])) }
  }

  @Test("Subnormal operands count as zero, as the instruction has it")
  func subnormals() {
    let table = KernelTable.emulatedAMX!
    let tiny = Guarded<Float>([Float](repeating: 0x1p-130, count: 32))
    let one = Guarded<Float>([Float](repeating: 1, count: 32))
    let pa = Guarded<UInt16>(32 * 32, filledWith: 0)
    let pb = Guarded<UInt16>(32 * 16, filledWith: 0)
    let c = Guarded<Float>(1, filledWith: .nan)
    table.gemm.packA_bf16(pa.pointer, tiny.pointer, 1, 32, 32)
    table.gemm.packBT_bf16(pb.pointer, one.pointer, 1, 32, 32)
    table.gemm.multiply_bf16(pa.pointer, pb.pointer, c.pointer, 32, 1, 1, 1, 1, 0)
    #expect(c.pointer[0] == 0)
  }
}
