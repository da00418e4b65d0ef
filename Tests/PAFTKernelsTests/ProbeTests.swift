// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import Testing

@Suite("Probe kernels", .pooled)
struct ProbeTests {
  /// Small whole numbers: every sum is exact, so every table must give the same.
  @Test("every chain sums its products, once a round", arguments: KernelTable.available, [0, 1, 7])
  func sums(table: KernelTable, rounds: Int) {
    let lanes = table.gemm.tile_f32.lanes
    let start = (0..<table.probe.sums * lanes).map { Float($0) }
    let x = Guarded((0..<2 * lanes).map { Float($0 % 5 - 2) })
    let y = Guarded((0..<2 * lanes).map { Float($0 % 7 + 1) })
    let single = Guarded(start)
    table.probe.peak_f32(single.pointer, x.pointer, y.pointer, rounds)
    for i in start.indices {
      let lane = i % lanes
      #expect(
        single.pointer[i] == start[i] + Float(rounds) * x.pointer[lane] * y.pointer[lane])
    }
    func rounded(_ v: Guarded<Float>) -> Guarded<UInt16> {
      Guarded(v.values.map { UInt16($0.bitPattern >> 16) })
    }
    let pairs = Guarded(start)
    table.probe.peak_bf16(pairs.pointer, rounded(x).pointer, rounded(y).pointer, rounds)
    for i in start.indices {
      let at = 2 * (i % lanes)
      let product =
        x.pointer[at] * y.pointer[at] + x.pointer[at + 1] * y.pointer[at + 1]
      #expect(pairs.pointer[i] == start[i] + Float(rounds) * product)
    }
    let quads = Guarded(start.map { Int32($0) })
    let left = Guarded((0..<4 * lanes).map { UInt8($0 % 251) })
    let right = Guarded((0..<4 * lanes).map { Int8($0 % 255 - 127) })
    table.probe.peak_u8s8(quads.pointer, left.pointer, right.pointer, rounds)
    for i in start.indices {
      let at = 4 * (i % lanes)
      let product = (at..<at + 4).reduce(0) { $0 + Int(left.pointer[$1]) * Int(right.pointer[$1]) }
      #expect(Int(quads.pointer[i]) == i + rounds * product)
    }
    #expect(single.isIntact && pairs.isIntact && quads.isIntact)
  }

  @Test("reading sums what it reads", arguments: KernelTable.available, awkwardLengths)
  func read(table: KernelTable, count: Int) {
    let x = Guarded((0..<count).map { Float($0 % 11 - 4) })
    #expect(table.probe.read_f32(x.pointer, count) == x.values.reduce(0, +))
    #expect(x.isIntact)
  }
}
