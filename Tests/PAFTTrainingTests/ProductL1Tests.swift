// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTTestSupport
import PAFTTraining
import Testing

@Suite("The L1 penalty on a LoRA product")
struct ProductL1Tests {
  struct Factors {
    var a: [Float]
    var b: [Float]
    var out: Int
    var `in`: Int
    var rank: Int
    var scale: Float
  }

  struct Answer: Equatable {
    var penalty = 0.0
    var dA: [Float]
    var dB: [Float]
  }

  func factors(out: Int, in columns: Int, rank: Int, seed: UInt64) -> Factors {
    let random = CounterRandom(seed: seed)
    func draw(_ name: String, _ n: Int) -> [Float] {
      let stream = random.stream(name)
      return (0..<n).map { Float(2 * stream.uniform(UInt64($0)) - 1) }
    }
    return Factors(
      a: draw("a", rank * columns), b: draw("b", out * rank), out: out, in: columns, rank: rank,
      scale: 0.5)
  }

  /// Units last first where `backwards`, as workers might take them.
  func run(
    _ f: Factors, lambda: Float, backwards: Bool = false, _ kernels: KernelTable = .reference
  ) -> Answer {
    var answer = Answer(
      dA: Array(repeating: 0, count: f.a.count), dB: Array(repeating: 0, count: f.b.count))
    withProduct(f) { product, scratch in
      func units(_ count: Int) -> [Int] { backwards ? (0..<count).reversed() : Array(0..<count) }
      for tile in units(product.rowTiles) {
        product.addRows(tile: tile, lambda: lambda, dB: &answer.dB, scratch: scratch, kernels)
      }
      for tile in units(product.columnTiles) {
        product.addColumns(tile: tile, lambda: lambda, dA: &answer.dA, scratch: scratch, kernels)
        answer.penalty +=
          product.measure(tile: tile, threshold: 0, scratch: scratch, kernels).norm
      }
    }
    return answer
  }

  /// With scratch full of NaN.
  func withProduct(_ f: Factors, _ body: (ProductL1, UnsafeMutablePointer<Float>) -> Void) {
    f.a.withUnsafeBufferPointer { a in
      f.b.withUnsafeBufferPointer { b in
        let product = ProductL1(
          a: a.baseAddress!, b: b.baseAddress!, out: f.out, in: f.in, rank: f.rank, scale: f.scale)
        var scratch = [Float](repeating: .nan, count: product.scratch)
        scratch.withUnsafeMutableBufferPointer { body(product, $0.baseAddress!) }
      }
    }
  }

  /// lambda * sum|s B A| in Double, plain.
  func penalty(_ f: Factors, lambda: Double, a: [Double], b: [Double]) -> Double {
    var sum = 0.0
    for i in 0..<f.out {
      for j in 0..<f.in {
        var p = 0.0
        for k in 0..<f.rank { p += b[i * f.rank + k] * a[k * f.in + j] }
        sum += abs(Double(f.scale) * p)
      }
    }
    return lambda * sum
  }

  @Test("The worked example")
  func golden() {
    let f = Factors(a: [3, -1, 1, 1], b: [1, 0.5, -2, 1], out: 2, in: 2, rank: 2, scale: 0.5)
    let found = run(f, lambda: 0.1)
    #expect(abs(0.1 * found.penalty - 0.6) < 1e-7)
    for (x, y) in zip(found.dB, [0.2, 0, -0.2, 0] as [Float]) { #expect(abs(x - y) < 1e-7) }
    for (x, y) in zip(found.dA, [0.15, -0.15, -0.025, 0.025] as [Float]) {
      #expect(abs(x - y) < 1e-7)
    }
  }

  @Test("PyTorch's gradients of the penalty")
  func oracle() throws {
    let rows = try JSON.read(path: TestData.fixture("training/product_l1.json")).array
    for row in try #require(rows) {
      func matrix(_ key: String) throws -> [Float] {
        try #require(row[key]?.array).flatMap { line in
          try #require(line.array).map { Float(try #require($0.double)) }
        }
      }
      let out = try #require(row["B"]?.array).count
      let rank = try #require(row["A"]?.array).count
      let a = try matrix("A")
      let f = Factors(
        a: a, b: try matrix("B"), out: out, in: a.count / rank, rank: rank,
        scale: Float(try #require(row["scale"]?.double)))
      let lambda = try #require(row["lambda"]?.double)
      let found = run(f, lambda: Float(lambda))
      let expected = try #require(row["penalty"]?.double)
      #expect(abs(lambda * found.penalty - expected) < 1e-6 * expected)
      for (x, y) in zip(found.dA, try matrix("dA")) { #expect(abs(x - y) < 1e-6) }
      for (x, y) in zip(found.dB, try matrix("dB")) { #expect(abs(x - y) < 1e-6) }
    }
  }

  @Test("Gradients agree with central differences", arguments: [(7, 5, 3), (9, 270, 2)])
  func finiteDifferences(_ out: Int, _ columns: Int, _ rank: Int) {
    let f = factors(out: out, in: columns, rank: rank, seed: 5)
    let found = run(f, lambda: 0.1)
    let a = f.a.map(Double.init)
    let b = f.b.map(Double.init)
    let h = 1e-7
    for i in stride(from: 0, to: a.count, by: 3) {
      var (up, down) = (a, a)
      up[i] += h
      down[i] -= h
      let slope =
        (penalty(f, lambda: 0.1, a: up, b: b) - penalty(f, lambda: 0.1, a: down, b: b)) / (2 * h)
      #expect(abs(Double(found.dA[i]) - slope) < 1e-5 * (1 + abs(slope)))
    }
    for i in b.indices {
      var (up, down) = (b, b)
      up[i] += h
      down[i] -= h
      let slope =
        (penalty(f, lambda: 0.1, a: a, b: up) - penalty(f, lambda: 0.1, a: a, b: down)) / (2 * h)
      #expect(abs(Double(found.dB[i]) - slope) < 1e-5 * (1 + abs(slope)))
    }
    #expect(abs(0.1 * found.penalty - penalty(f, lambda: 0.1, a: a, b: b)) < 1e-5)
  }

  @Test("However units are shared out, the bits are the same")
  func blocking() {
    let f = factors(out: 129, in: 3 * ProductL1.tile + 17, rank: 5, seed: 6)
    let whole = run(f, lambda: 0.01)
    let other = run(f, lambda: 0.01, backwards: true)
    #expect(whole.dA == other.dA && whole.dB == other.dB)
    #expect(abs(whole.penalty - other.penalty) < 1e-9 * whole.penalty)
  }

  /// Factors of whole numbers: every sum below is exact in Float, and many entries are exactly zero.
  @Test("Every table gives what the definition gives", arguments: KernelTable.available)
  func tables(kernels: KernelTable) {
    for (out, columns, rank) in [(1, 1, 1), (3, 65, 2), (64, 64, 4), (67, 130, 7), (200, 63, 16)] {
      var f = factors(out: out, in: columns, rank: rank, seed: 9)
      f.a = f.a.map { ($0 * 3).rounded() }
      f.b = f.b.map { ($0 * 3).rounded() }
      var expected = Answer(
        dA: Array(repeating: 0, count: f.a.count), dB: Array(repeating: 0, count: f.b.count))
      var zeros = 0
      for i in 0..<out {
        for j in 0..<columns {
          var p: Float = 0
          for k in 0..<rank { p += f.b[i * rank + k] * f.a[k * columns + j] }
          expected.penalty += Double(abs(f.scale * p))
          if abs(f.scale * p) <= 1 { zeros += 1 }
          let sign: Float = p > 0 ? 1 : p < 0 ? -1 : 0
          for k in 0..<rank {
            expected.dB[i * rank + k] += sign * f.a[k * columns + j]
            expected.dA[k * columns + j] += sign * f.b[i * rank + k]
          }
        }
      }
      #expect(run(f, lambda: 2, kernels) == expected, "\(out)x\(columns)x\(rank)")
      var within = 0
      withProduct(f) { product, scratch in
        for tile in 0..<product.columnTiles {
          within += product.measure(tile: tile, threshold: 1, scratch: scratch, kernels).within
        }
      }
      #expect(within == zeros, "\(out)x\(columns)x\(rank)")
    }
  }

  @Test("Scaling A by k and B by 1/k changes neither penalty nor product")
  func gauge() {
    let f = factors(out: 8, in: 40, rank: 3, seed: 7)
    var other = f
    other.a = f.a.map { $0 * 4 }
    other.b = f.b.map { $0 / 4 }
    let (x, y) = (run(f, lambda: 0.1), run(other, lambda: 0.1))
    #expect(x.penalty == y.penalty)
    #expect(x.dA.map { $0 / 4 } == y.dA)
    #expect(x.dB.map { $0 * 4 } == y.dB)
  }

  @Test("A fresh adapter (B = 0) has no penalty and gets no push; lambda 0 pushes nothing")
  func still() {
    var f = factors(out: 8, in: 40, rank: 3, seed: 7)
    let off = run(f, lambda: 0)
    #expect(off.penalty > 0 && off.dA.allSatisfy { $0 == 0 } && off.dB.allSatisfy { $0 == 0 })
    f.b = f.b.map { _ in 0 }
    let found = run(f, lambda: 0.1)
    #expect(found.penalty == 0)
    #expect(found.dA.allSatisfy { $0 == 0 } && found.dB.allSatisfy { $0 == 0 })
  }
}
