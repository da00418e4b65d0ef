// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

/// Entries of deltas: zeros of both signs, subnormals, runs of equals and draws of several sizes.
private func entries(_ name: String, _ n: Int) -> [Float] {
  let random = CounterRandom(seed: 7).stream(name)
  return (0..<n).map { i in
    let sign: Float = random.integer(UInt64(4 * i), below: 2) == 0 ? 1 : -1
    let u = Float(random.uniform(UInt64(4 * i + 1)))
    switch random.integer(UInt64(4 * i + 2), below: 8) {
    case 0, 1: return sign * 0
    case 2: return sign * 0.25
    case 3: return sign * u * 0x1p-140
    case 4: return sign * u * 1e-6
    default: return sign * u
    }
  }
}

@Suite(.pooled) struct MergingTests {
  @Test("Deltas and sums are rounded once", arguments: KernelTable.available)
  func deltas(table: KernelTable) {
    for n in awkwardLengths {
      let (xs, bs) = (entries("x", n), Draw("b").floats(n))
      let d = Guarded<Float>(n, filledWith: .nan)
      table.merging.difference_f32(d.pointer, Guarded(xs).pointer, Guarded(bs).pointer, n)
      #expect(d.values == zip(xs, bs).map { $0 - $1 } && d.isIntact)
      table.merging.difference_f32(d.pointer, UnsafePointer(d.pointer), Guarded(bs).pointer, n)
      #expect(d.values == zip(xs, bs).map { $0 - $1 - $1 })
      table.merging.add_f32(d.pointer, Guarded(xs).pointer, n)
      #expect(d.values == zip(xs, bs).map { $0 - $1 - $1 + $0 } && d.isIntact)
      let (x16, b16) = (xs.map { BF16($0).bits }, bs.map { BF16($0).bits })
      table.merging.difference_bf16(d.pointer, Guarded(x16).pointer, Guarded(b16).pointer, n)
      let expected = zip(x16, b16).map { BF16(bits: $0).float - BF16(bits: $1).float }
      #expect(d.values == expected && d.isIntact)
    }
  }

  @Test("Every F16 survives the way to Float and back", arguments: KernelTable.available)
  func everyF16(table: KernelTable) {
    let all = Guarded<UInt16>((0...65_535).map { UInt16($0) })
    let floats = Guarded<Float>(65_536, filledWith: 0)
    let back = Guarded<UInt16>(65_536, filledWith: 0)
    table.merging.fromF16(floats.pointer, all.pointer, 65_536)
    table.merging.toF16(back.pointer, floats.pointer, 65_536)
    for i in 0..<65_536 {
      let expected = Float(Float16(bitPattern: UInt16(i)))
      if expected.isNaN {
        #expect(floats.pointer[i].isNaN && back.pointer[i] & 0x7FFF > 0x7C00)
      } else {
        #expect(floats.pointer[i].bitPattern == expected.bitPattern && back.pointer[i] == UInt16(i))
      }
    }
  }

  /// The compiler's own conversions are the other opinion. Midpoints and their neighbours, subnormals,
  /// the largest values and draws.
  @Test("F16 is rounded to nearest even", arguments: KernelTable.available)
  func roundingToF16(table: KernelTable) {
    var values: [Float] = [
      65504, 65519.996, 65520, 1e9, .infinity, 0, 0x1p-25, 0x1.000002p-25, 1e-30,
    ]
    for i in stride(from: 0, to: 0x7C00, by: 37) {
      let low = Float(Float16(bitPattern: UInt16(i)))
      let middle =
        (low
          + Float(
            Float16(bitPattern: UInt16(i + 1)).isFinite
              ? Float16(bitPattern: UInt16(i + 1)) : Float16(bitPattern: UInt16(i)))) / 2
      values += [middle, middle.nextUp, middle.nextDown, -middle]
    }
    for n in awkwardLengths where n <= values.count {
      let x = Array(values.suffix(n / 2) + values.prefix(n - n / 2))
      let y = Guarded<UInt16>(n, filledWith: 0xFFFF)
      table.merging.toF16(y.pointer, Guarded(x).pointer, n)
      #expect(y.values == x.map { Float16($0).bitPattern } && y.isIntact)
      let (d, widened) = (Guarded<Float>(n, filledWith: .nan), Guarded<Float>(n, filledWith: .nan))
      let other = (0..<n).map { Float16(Float($0) / 7).bitPattern }
      let finite = y.values.map { $0 & 0x7C00 == 0x7C00 ? 0x3C01 : $0 }
      table.merging.fromF16(widened.pointer, Guarded(finite).pointer, n)
      #expect(widened.values == finite.map { Float(Float16(bitPattern: $0)) } && widened.isIntact)
      table.merging.difference_f16(d.pointer, Guarded(finite).pointer, Guarded(other).pointer, n)
      let expected = zip(finite, other).map {
        Float(Float16(bitPattern: $0)) - Float(Float16(bitPattern: $1))
      }
      #expect(d.values == expected && d.isIntact)
    }
    let all = Guarded<UInt16>(values.count, filledWith: 0)
    table.merging.toF16(all.pointer, Guarded(values).pointer, values.count)
    #expect(all.values == values.map { Float16($0).bitPattern })
  }

  @Test("Counts are the ones of a plain loop", arguments: KernelTable.available)
  func counts(table: KernelTable) {
    for n in awkwardLengths {
      let (xs, ys) = (entries("x", n), entries("y", n))
      let x = Guarded(xs)
      for limit in [Float(0), 0.25, .greatestFiniteMagnitude] {
        #expect(
          table.merging.countBeyond_f32(x.pointer, limit, n) == xs.count { abs($0) > limit })
      }
      let limits: [Float] = [0, 1e-8, 0.25, 0.5, .infinity]
      for used in 0...limits.count {
        var found = [Int](repeating: 3, count: limits.count)
        table.merging.countWithin_f32(&found, x.pointer, n, Guarded(limits).pointer, used)
        let expected = limits.indices.map { k in
          3 + (k < used ? xs.count { abs($0) <= limits[k] } : 0)
        }
        #expect(found == expected)
      }
      var signs = [10, 20]
      table.merging.countSigns_f32(&signs, x.pointer, Guarded(ys).pointer, n)
      let both = zip(xs, ys).filter { $0 != 0 && $1 != 0 }
      #expect(signs == [10 + both.count, 20 + both.count { ($0 < 0) != ($1 < 0) }])
    }
  }

  /// Sums in Double of n products differ by the order of n roundings.
  @Test("What a report wants comes in one walk", arguments: KernelTable.available)
  func measures(table: KernelTable) {
    for n in awkwardLengths {
      let (xs, ys) = (entries("x", n), entries("y", n))
      let (x, y) = (Guarded(xs), Guarded(ys))
      let limits: [Float] = [0, 1e-8, 1e-6, 0.25, 0.3, 0.5, 0.75]
      for used in 0...limits.count {
        var (squares, counts) = (2.0, [Int](repeating: 3, count: limits.count))
        table.merging.measure_f32(
          &squares, &counts, x.pointer, n, Guarded(limits).pointer, used)
        #expect(
          counts
            == limits.indices.map { k in
              3 + (k < used ? xs.count { abs($0) <= limits[k] } : 0)
            })
        let expected = xs.reduce(2) { $0 + Double($1) * Double($1) }
        #expect(abs(squares - expected) <= Double(n + 1) * 0x1p-53 * expected)
      }
      var (dot, signs) = (-1.0, [10, 20])
      table.merging.relate_f32(&dot, &signs, x.pointer, y.pointer, n)
      let products = zip(xs, ys).map { Double($0) * Double($1) }
      let size = products.reduce(1) { $0 + abs($1) }
      #expect(abs(dot - products.reduce(-1, +)) <= Double(n + 1) * 0x1p-53 * size)
      let both = zip(xs, ys).filter { $0 != 0 && $1 != 0 }
      #expect(signs == [10 + both.count, 20 + both.count { ($0 < 0) != ($1 < 0) }])
    }
  }

  /// Whoever measures need not ask apart.
  @Test("Squares tell of what is not finite", arguments: KernelTable.available)
  func squaresOfNotFinite(table: KernelTable) {
    let limit = Guarded([Float(0.5)])
    for n in [1, 9, 40, 133] {
      for at in 0..<n {
        for bad in [Float.nan, -.infinity] {
          var xs = [Float](repeating: .greatestFiniteMagnitude, count: n)
          xs[at] = bad
          var (squares, counts) = (0.0, [0])
          table.merging.measure_f32(&squares, &counts, Guarded(xs).pointer, n, limit.pointer, 1)
          #expect(!squares.isFinite)
          xs[at] = 0
          squares = 0
          table.merging.measure_f32(&squares, &counts, Guarded(xs).pointer, n, limit.pointer, 1)
          #expect(squares.isFinite)
        }
      }
    }
  }

  @Test("Nothing that is not finite goes uncounted", arguments: KernelTable.available)
  func notFinite(table: KernelTable) {
    for n in [1, 9, 40, 133] {
      for at in 0..<n {
        for bad in [Float.nan, -.nan, .infinity, -.infinity] {
          var xs = [Float](repeating: -1, count: n)
          xs[at] = bad
          let found = table.merging.countBeyond_f32(
            Guarded(xs).pointer, .greatestFiniteMagnitude, n)
          #expect(found == 1)
        }
      }
    }
  }

  @Test("Histograms and matches are those of the bits", arguments: KernelTable.available)
  func selection(table: KernelTable) {
    for n in awkwardLengths {
      let xs = entries("x", n)
      var bins = [UInt32](repeating: 1, count: 1 << 15)
      table.merging.histogram_f32(&bins, Guarded(xs).pointer, n)
      var expected = [UInt32](repeating: 1, count: 1 << 15)
      for x in xs { expected[Int(abs(x).bitPattern >> 16)] += 1 }
      #expect(bins == expected)
      // Prefixes that occur: of nothing, of the equals, of whatever is first; and one that does not.
      for prefix in [0, Float(0.25).bitPattern >> 16, abs(xs.first ?? 1).bitPattern >> 16, 0x7F7F] {
        let found = Guarded<UInt16>(n, filledWith: 0)
        let count = table.merging.collect_f32(found.pointer, Guarded(xs).pointer, n, prefix)
        let matches = xs.filter { abs($0).bitPattern >> 16 == prefix }
        #expect(
          Array(found.values.prefix(count))
            == matches.map { UInt16(truncatingIfNeeded: $0.bitPattern) })
        #expect(found.isIntact)
      }
    }
  }

  @Test(
    "What lies between two prefixes is listed, what is above counted",
    arguments: KernelTable.available)
  func between(table: KernelTable) {
    for n in awkwardLengths {
      let xs = entries("x", n)
      let quarter = Float(0.25).bitPattern >> 16
      for range in [quarter...quarter, 0...0, quarter - 90...quarter + 40, 0...0x7F7F] {
        let found = Guarded<UInt32>(n + 15, filledWith: 0)
        var above = 4
        let count = table.merging.collectBetween_f32(
          found.pointer, &above, Guarded(xs).pointer, n, range.lowerBound, range.upperBound)
        let sizes = xs.map { abs($0).bitPattern }
        #expect(
          Array(found.values.prefix(count)) == sizes.filter { range.contains($0 >> 16) })
        #expect(above == 4 + sizes.count { $0 >> 16 > range.upperBound })
        #expect(found.isIntact)
      }
    }
  }

  @Test("Bits drawn once keep what drawing again would keep", arguments: KernelTable.available)
  func drawnBits(table: KernelTable) {
    let random = CounterRandom(seed: 5)
    for n in awkwardLengths {
      for density in [0, 0.001, 0.5, 0.97, 1] {
        let limit = UInt64((density * 0x1p32).rounded(.up))
        let bits = Guarded<UInt8>((n + 7) / 8, filledWith: 0xAA)
        table.merging.draw_bits(bits.pointer, n, random.key, 12_346, limit)
        let kept = (0..<n).map { i -> Bool in
          Double(random.word(UInt64(12_346 + i))) < density * 0x1p32
        }
        let bytes = bits.values
        let found = (0..<n).map { i -> Bool in
          let byte = bytes[i / 8]
          return (byte >> UInt8(i % 8)) & 1 == 1
        }
        #expect(found == kept)
        #expect(bits.isIntact)
        if n % 8 != 0 {
          let last = bytes[n / 8]
          #expect(last >> UInt8(n % 8) == 0)
        }
        let xs = entries("x", n)
        let x = Guarded(xs)
        table.merging.keep_f32(x.pointer, bits.pointer, n)
        let expected = zip(xs, kept).map { value, stays -> Float in stays ? value : 0 }
        #expect(x.values == expected && x.isIntact)
      }
    }
  }

  @Test("A result is what its four steps give", arguments: KernelTable.available)
  func finishing(table: KernelTable) {
    for n in awkwardLengths {
      let (xs, bs) = (entries("x", n), entries("b", n).map { BF16($0).bits })
      for limit in [Float(0.25), .greatestFiniteMagnitude] {
        let y = Guarded<UInt16>(n, filledWith: 7)
        var squares = 0.5
        let beyond = table.merging.finish_bf16(
          y.pointer, Guarded(xs).pointer, Guarded(bs).pointer, limit, &squares, n)
        let sums = zip(xs, bs).map { $0 + BF16(bits: $1).float }
        #expect(y.values == sums.map { BF16($0).bits } && y.isIntact)
        #expect(beyond == sums.count { !(abs($0) <= limit) })
        let total: Double = xs.reduce(0.5) { $0 + Double($1) * Double($1) }
        #expect(abs(squares - total) <= total * Double(n + 4) * 0x1p-52)
      }
    }
    for bad in [Float.nan, .infinity, -.infinity] {
      for at in [0, 17, 63, 64, 69] {
        var xs = [Float](repeating: 1, count: 70)
        xs[at] = bad
        let (y, b) = (
          Guarded<UInt16>(70, filledWith: 0), Guarded([UInt16](repeating: 0, count: 70))
        )
        var squares = 0.0
        let found = table.merging.finish_bf16(
          y.pointer, Guarded(xs).pointer, b.pointer, .greatestFiniteMagnitude, &squares, 70)
        #expect(found == 1 && y.values[at] & 0x7F80 == 0x7F80)
      }
    }
  }

  @Test("What is cut or drawn away becomes zero, the rest stays", arguments: KernelTable.available)
  func thinning(table: KernelTable) {
    for n in awkwardLengths {
      let xs = entries("x", n)
      for floor in [Float(0), 0x1p-141, 0.25, .infinity] {
        let x = Guarded(xs)
        table.merging.cut_f32(x.pointer, floor, n)
        #expect(x.values == xs.map { abs($0) < floor ? 0 : $0 } && x.isIntact)
      }
      let random = CounterRandom(seed: 5)
      for density in [0, 0.001, 0.5, 0.97, 1] {
        for first in [12_345, 12_346] {
          let x = Guarded([Float](repeating: 1.5, count: n))
          let limit = UInt64((density * 0x1p32).rounded(.up))
          table.merging.thin_f32(x.pointer, n, random.key, first, limit)
          let expected = (0..<n).map { i -> Float in
            Double(random.word(UInt64(first + i))) < density * 0x1p32 ? 1.5 : 0
          }
          #expect(x.values == expected && x.isIntact)
        }
      }
    }
  }

  @Test("Models are combined as the equations say", arguments: KernelTable.available)
  func combining(table: KernelTable) {
    for n in awkwardLengths {
      for models in 1...4 {
        let xs = (0..<models).map { entries("\($0)", n) }
        let buffers = xs.map { Guarded($0) }
        let pointers = buffers.map { UnsafePointer($0.pointer) }
        let w = Array(([0.7, 1.1, -0.4, 0.25] as [Float]).prefix(models))
        let y = Guarded<Float>(n, filledWith: .nan)
        table.merging.combine_f32(y.pointer, pointers, w, models, n)
        let sums = (0..<n).map { i in
          w.indices.reduce(0.0) { $0 + Double(w[$1]) * Double(xs[$1][i]) }
        }
        // Each product and each of the sums, all below 2.5.
        expectClose(y.values, sums, "\(table.name) combine \(n)") { _ in
          2.5 * 2 * Double(models) * roundoff
        }
        #expect(y.isIntact)

        let floors = Array(([0, 0.25, 0.5, .infinity] as [Float]).prefix(models))
        for (votes, normalize) in [(w, 1), (w, 0), (w.map { _ in 1 }, 1)] {
          table.merging.agree_f32(
            y.pointer, pointers, w, votes, floors, models, normalize, 0.9, n)
          let expected = (0..<n).map { i -> Float in
            let entries = w.indices.map { abs(xs[$0][i]) < floors[$0] ? 0 : xs[$0][i] }
            let elected = w.indices.reduce(Float(0)) { $0 + votes[$1] * entries[$1] }
            let sign: Float = elected < 0 ? -1 : 1
            let agreeing = w.indices.filter { votes[$0] * entries[$0] * sign > 0 }
            var value = agreeing.reduce(Float(0)) { $0 + w[$1] * entries[$1] }
            let divisor = agreeing.reduce(Float(0)) { $0 + votes[$1] }
            if normalize != 0, divisor != 0 { value /= divisor }
            return value * 0.9
          }
          #expect(y.values == expected && y.isIntact, "\(table.name) agree \(n) of \(models)")
        }
      }
    }
  }
}
