// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

/// Two branches of a base as BF16 bits, and their deltas: zeros of both signs, runs of equals, small ones.
private struct Branches {
  let (x, y, b): ([UInt16], [UInt16], [UInt16])
  let (dx, dy): ([Float], [Float])

  init(_ n: Int) {
    let random = CounterRandom(seed: 9)
    func branch(_ name: String, _ base: [Float]) -> [UInt16] {
      let draws = random.stream(name)
      return base.indices.map { i in
        let u = Float(draws.uniform(UInt64(3 * i))) - 0.5
        switch draws.integer(UInt64(3 * i + 1), below: 6) {
        case 0: return BF16(base[i]).bits
        case 1: return BF16(base[i] + 0.25).bits
        case 2: return BF16(base[i] + u * 1e-3).bits
        case 3: return BF16(-base[i]).bits
        default: return BF16(base[i] + u).bits
        }
      }
    }
    let base = (0..<n).map { i -> Float in
      i % 7 == 3 ? -0.0 : BF16(Float(random.uniform(UInt64(i))) - 0.5).float
    }
    (x, y, b) = (branch("x", base), branch("y", base), base.map { BF16($0).bits })
    dx = zip(x, base).map { BF16(bits: $0).float - $1 }
    dy = zip(y, base).map { BF16(bits: $0).float - $1 }
  }
}

@Suite(.pooled) struct BranchMergingTests {
  /// Sums in Double of n products differ by the order of n roundings.
  @Test("A survey is what a report counts one by one", arguments: KernelTable.available)
  func survey(table: KernelTable) {
    let limits: [Float] = [0, 1e-8, 1e-4, 0.1, 0.25, 0.5]
    for n in awkwardLengths {
      let branches = Branches(n)
      let (dx, dy) = (branches.dx, branches.dy)
      var (sums, counts) = ([1.0, 2, 3], [Int](repeating: 5, count: 14))
      table.merging.survey_bf16(
        &sums, &counts, Guarded(branches.x).pointer, Guarded(branches.y).pointer,
        Guarded(branches.b).pointer, n, Guarded(limits).pointer)
      let both = zip(dx, dy).filter { $0 != 0 && $1 != 0 }
      let expected =
        limits.map { limit in dx.count { abs($0) <= limit } }
        + limits.map { limit in dy.count { abs($0) <= limit } }
        + [both.count, both.count { ($0 < 0) != ($1 < 0) }]
      #expect(counts == expected.map { $0 + 5 }, "\(table.name) \(n)")
      for (found, (start, products)) in zip(
        sums, [(1.0, zip(dx, dx)), (2, zip(dy, dy)), (3, zip(dx, dy))])
      {
        let terms = products.map { Double($0) * Double($1) }
        let size = terms.reduce(start) { $0 + abs($1) }
        #expect(abs(found - terms.reduce(start, +)) <= Double(n + 1) * 0x1p-53 * size)
      }
    }
  }

  @Test("A survey tells of what is not finite", arguments: KernelTable.available)
  func notFinite(table: KernelTable) {
    let limits = Guarded([Float](repeating: 1, count: 6))
    for n in [1, 9, 40, 133] {
      for at in 0..<n {
        for bad in [Float.nan, -.infinity] {
          let fine = [UInt16](repeating: BF16(Float(3e38)).bits, count: n)
          var spoilt = fine
          spoilt[at] = BF16(bad).bits
          for (x, y, b) in [(spoilt, fine, fine), (fine, spoilt, fine), (fine, fine, spoilt)] {
            var (sums, counts) = ([0.0, 0, 0], [Int](repeating: 0, count: 14))
            table.merging.survey_bf16(
              &sums, &counts, Guarded(x).pointer, Guarded(y).pointer, Guarded(b).pointer, n,
              limits.pointer)
            #expect(sums[0].isFinite == (x == fine && b == fine))
            #expect(sums[1].isFinite == (y == fine && b == fine))
          }
        }
      }
    }
  }

  @Test("Deltas between two prefixes are listed", arguments: KernelTable.available)
  func between(table: KernelTable) {
    for n in awkwardLengths {
      let branches = Branches(n)
      let sizes = branches.dx.map { abs($0).bitPattern }
      let quarter = Float(0.25).bitPattern >> 16
      for range in [quarter...quarter, 0...0, quarter - 90...quarter + 40, 0...0x7F7F] {
        let found = Guarded<UInt32>(n + 15, filledWith: 0)
        var above = 4
        let count = table.merging.collectBetween_bf16(
          found.pointer, &above, Guarded(branches.x).pointer, Guarded(branches.b).pointer, n,
          range.lowerBound, range.upperBound)
        #expect(Array(found.values.prefix(count)) == sizes.filter { range.contains($0 >> 16) })
        #expect(above == 4 + sizes.count { $0 >> 16 > range.upperBound })
        #expect(found.isIntact)
      }
    }
  }

  @Test("Draws keep what the stream says, and sums tell how much", arguments: KernelTable.available)
  func draws(table: KernelTable) {
    let random = CounterRandom(seed: 5)
    for n in awkwardLengths {
      let branches = Branches(n)
      for density in [0, 0.001, 0.5, 0.97, 1] {
        let bits = Guarded<UInt8>((n + 7) / 8, filledWith: 0xAA)
        var sums = [1.0, 2]
        table.merging.drawSums_bf16(
          bits.pointer, &sums, Guarded(branches.x).pointer, Guarded(branches.b).pointer, n,
          random.key, 12_346, UInt64((density * 0x1p32).rounded(.up)))
        let kept = (0..<n).map { Double(random.word(UInt64(12_346 + $0))) < density * 0x1p32 }
        let bytes = bits.values
        #expect(
          (0..<8 * bytes.count).allSatisfy { i in
            (bytes[i / 8] >> UInt8(i % 8) & 1 == 1) == (i < n && kept[i])
          })
        #expect(bits.isIntact)
        let sizes = branches.dx.map { Double(abs($0)) }
        let (all, some) = (
          sizes.reduce(1, +), zip(sizes, kept).reduce(2) { $0 + ($1.1 ? $1.0 : 0) }
        )
        #expect(abs(sums[0] - all) <= Double(n + 1) * 0x1p-53 * all)
        #expect(abs(sums[1] - some) <= Double(n + 1) * 0x1p-53 * some)
        // The bits of the result hang on these: they are those of the way by Floats.
        let floats = Guarded(branches.dx)
        let before = table.vectors.sumAbsolute_f32(floats.pointer, n)
        table.merging.keep_f32(floats.pointer, bits.pointer, n)
        let after = table.vectors.sumAbsolute_f32(floats.pointer, n)
        #expect(sums == [1 + before, 2 + after], "\(table.name) \(n)")
      }
    }
  }

  /// Entries, election and sums one by one, every operation rounded to Float as the contract says.
  @Test("Branches are merged as the equations say", arguments: KernelTable.available)
  func agreeing(table: KernelTable) {
    let random = CounterRandom(seed: 6)
    for n in awkwardLengths {
      let branches = Branches(n)
      let drawn = [UInt8]((0..<(n + 7) / 8).map { UInt8(random.bits(UInt64($0)) & 0xFF) })
      let other = drawn.map { ~$0 }
      let rounds:
        [(floors: [Float], factors: [Float], bits: Bool, votes: [Float], normalize: Int)] =
          [
            ([0, 0], [1, 1], false, [0.7, 1.1], 1), ([0.25, 0.1], [1, 1], false, [1, 1], 1),
            ([0.1, .infinity], [1, 1], false, [0.5, -0.5], 1),
            ([0, 0], [1.75, 2.25], true, [0.7, 1.1], 0), ([0.1, 0], [2, 1], true, [1, 1], 1),
          ]
      for (floors, factors, bits, votes, normalize) in rounds {
        for limit in [Float(0.25), .greatestFiniteMagnitude] {
          let r = Guarded<UInt16>(n, filledWith: 7)
          let (first, second) = (Guarded(drawn), Guarded(other))
          let w: [Float] = [0.7, 1.1]
          var squares = 0.5
          let beyond = table.merging.agree_bf16(
            r.pointer, Guarded(branches.x).pointer, Guarded(branches.y).pointer,
            Guarded(branches.b).pointer, w, votes, floors, factors,
            bits ? UnsafePointer(first.pointer) : nil, bits ? UnsafePointer(second.pointer) : nil,
            normalize, 0.9, limit, &squares, n)
          let deltas = (0..<n).map { i -> Float in
            let isSet = drawn[i / 8] >> UInt8(i % 8) & 1 == 1
            func entry(_ d: Float, _ m: Int, _ kept: Bool) -> Float {
              (bits && !kept) || abs(d) < floors[m] ? 0 : d * factors[m]
            }
            let entries = [
              entry(branches.dx[i], 0, isSet), entry(branches.dy[i], 1, !isSet),
            ]
            let elected = votes[0] * entries[0] + votes[1] * entries[1]
            let sign: Float = elected < 0 ? -1 : 1
            let agreeing = [0, 1].filter { votes[$0] * entries[$0] * sign > 0 }
            var value = agreeing.reduce(Float(0)) { $0 + w[$1] * entries[$1] }
            let divisor = agreeing.reduce(Float(0)) { $0 + votes[$1] }
            if normalize != 0, divisor != 0 { value /= divisor }
            return value * 0.9
          }
          let sums = zip(deltas, branches.b).map { $0 + BF16(bits: $1).float }
          #expect(r.values == sums.map { BF16($0).bits } && r.isIntact, "\(table.name) \(n)")
          #expect(beyond == sums.count { !(abs($0) <= limit) })
          let total: Double = deltas.reduce(0.5) { $0 + Double($1) * Double($1) }
          #expect(abs(squares - total) <= total * Double(n + 4) * 0x1p-52)
        }
      }
    }
  }
}
