// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import PAFTMachine
import PAFTOps
import Testing

@Suite("AdamW on a team")
struct AdamWStepTests {
  static let tables = KernelTable.available.map(\.name)
  /// Three grains and a piece of a block.
  static let count = 3 * 4096 + 77
  static let scalars = AdamWScalars(
    learningRate: 1e-2, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1,
    correction1: 0.1, correction2: 0.01, gradientScale: 1)

  private func grid(_ name: String, size: Double = 1) -> Grid {
    Grid(1, Self.count, random: name, size: size)
  }

  private func float(_ bits: [UInt16]) -> [Float] {
    bits.map { Float(bitPattern: UInt32($0) << 16) }
  }

  @Test("every kind of step gives the same bits on 1, 2 and 3 workers", arguments: tables)
  func workers(_ isa: String) throws {
    let n = Self.count
    try expectSameBits(Mode(isa: isa, compute: .f32)) { executor in
      let (p, m, v, g) = (grid("p"), grid("m", size: 0), grid("v", size: 0), grid("g"))
      AdamWStep.f32(
        weights: p.pointer, first: m.pointer, second: v.pointer, gradients: g.pointer, count: n,
        Self.scalars, on: executor)
      return executor.withScratch { scratch in
        let halves = (0..<3).map { _ in scratch.allocate(UInt16.self, count: n) }
        for i in 0..<n {
          halves[0][i] = UInt16(p[0, i].bitPattern >> 16)
          halves[1][i] = UInt16(truncatingIfNeeded: (p[0, i].bitPattern &+ 0x8000) >> 16)
          halves[2][i] = UInt16(truncatingIfNeeded: p[0, i].bitPattern)
        }
        AdamWStep.stochastic(
          weights: halves[0], first: m.pointer, second: v.pointer, gradients: g.pointer, count: n,
          Self.scalars, key: 99, on: executor)
        AdamWStep.split(
          upper: halves[1], lower: halves[2], first: m.pointer, second: v.pointer,
          gradients: g.pointer, count: n, Self.scalars, on: executor)
        let moments = EightBitMoments(in: scratch, count: n)
        for _ in 0..<2 {
          AdamWStep.eightBit(
            weights: p.pointer, moments, gradients: g.pointer, count: n, Self.scalars,
            on: executor)
        }
        return p.values + m.values + v.values
          + halves.flatMap { float(Array(UnsafeBufferPointer(start: $0, count: n))) }
          + (0..<n).flatMap { [Float(moments.first[$0]), Float(moments.second[$0])] }
      }
    }
  }

  @Test("the first 8-bit step is AdamW's, and its moments take 2.03 bytes", arguments: tables)
  func firstStep(_ isa: String) throws {
    let n = Self.count
    let (p, exact, g) = (grid("p"), grid("p"), grid("g"))
    let (m, v) = (grid("m", size: 0), grid("v", size: 0))
    try withExecutor(Mode(isa: isa, compute: .f32)) { executor in
      executor.withScratch { scratch in
        let before = scratch.used
        let moments = EightBitMoments(in: scratch, count: n)
        #expect(scratch.used - before <= EightBitMoments.bytes(count: n))
        AdamWStep.eightBit(
          weights: p.pointer, moments, gradients: g.pointer, count: n, Self.scalars, on: executor)
      }
      AdamWStep.f32(
        weights: exact.pointer, first: m.pointer, second: v.pointer, gradients: g.pointer, count: n,
        Self.scalars, on: executor)
    }
    // From moments of zero both do the same operations; only a fused product may round apart.
    for i in 0..<n {
      let error = abs(Double(p[0, i]) - Double(exact[0, i]))
      #expect(error <= 4 * roundoff * (abs(Double(exact[0, i])) + 0.1), "[\(i)]")
    }
    #expect(EightBitMoments.bytes(count: 1 << 26) < Int(2.04 * Double(1 << 26)))
  }
}
