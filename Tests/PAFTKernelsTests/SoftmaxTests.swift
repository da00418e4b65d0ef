// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTBase
import PAFTKernels
import Testing

@Suite(.pooled) struct SoftmaxTests {
  @Test("The exponential is within 2 ulp and right at its ends", arguments: KernelTable.available)
  func exponential(table: KernelTable) {
    let draw = Draw("exp").random
    var xs = (0..<200_003).map { Float(draw.uniform(UInt64($0)) * 193.5 - 104.5) }
    xs += (0..<100_000).map { Float(draw.uniform(UInt64($0) + 1 << 20) * 2 - 1) }
    xs += [
      0, -0.0, 1e-40, -1e-40, 88.722_83, 88.722_84, 88.8, 89.5, 100, 1e4, 3e38, .infinity, -87.3,
      -87.4, -103.9, -103.97, -103.98, -104, -105, -1e4, -3e38, -.infinity, .nan,
    ]
    let x = Guarded(xs)
    table.rows.softmaxGradient_f32(x.pointer, xs.count, 0, 1)
    let expected = xs.map { exp(Double($0)) }
    var worst = 0.0
    for i in xs.indices {
      let (found, truth) = (x.pointer[i], expected[i])
      if xs[i].isNaN {
        #expect(found.isNaN)
      } else if Float(truth).isInfinite {
        #expect(found == .infinity, "exp(\(xs[i]))")
      } else {
        worst = max(worst, abs(Double(found) - truth) / Double(Float(truth).ulp))
      }
    }
    #expect(worst <= 2, "\(table.name): \(worst) ulp")
    #expect(x.isIntact)
  }

  @Test("Softmax in pieces equals softmax at once", arguments: KernelTable.available)
  func online(table: KernelTable) {
    for n in awkwardLengths where n > 0 {
      for pieces in [1, 3] {
        let (scores, scale) = (Draw("s").floats(n, size: 30), Float(0.35))
        let state = Guarded<Float>([-.infinity, 0])
        var probabilities = [Float]()
        for piece in 0..<pieces {
          let part = Array(scores[n * piece / pieces..<n * (piece + 1) / pieces])
          let s = Guarded(part)
          let shrink = table.rows.softmaxOnline_f32(s.pointer, part.count, scale, state.pointer)
          probabilities = probabilities.map { $0 * shrink } + s.values
          #expect(s.isIntact && state.isIntact)
        }
        let scaled = scores.map { Double($0) * Double(scale) }
        let maximum = scaled.max()!
        let expected = scaled.map { exp($0 - maximum) }
        let sum = expected.reduce(0, +)
        // An error of the exponent's argument, at most 22 here, is a relative error of the result.
        let unit = roundoff * (22 + 8 + Double(4 * pieces))
        expectClose(probabilities, expected, "\(table.name) n \(n)") { unit * expected[$0] }
        #expect(abs(Double(state.pointer[0]) - maximum) <= roundoff * abs(maximum))
        #expect(abs(Double(state.pointer[1]) - sum) <= (unit + roundoff * Double(n)) * sum)
      }
    }
  }

  @Test("A masked row stays zero and does not disturb the state", arguments: KernelTable.available)
  func masked(table: KernelTable) {
    let state = Guarded<Float>([-.infinity, 0])
    let row = Guarded<Float>(37, filledWith: -.infinity)
    #expect(table.rows.softmaxOnline_f32(row.pointer, 37, 1, state.pointer) == 0)
    #expect(row.values.allSatisfy { $0 == 0 })
    #expect(state.values == [-.infinity, 0])
    #expect(table.rows.softmaxOnline_f32(row.pointer, 0, 1, state.pointer) == 0)

    let half = Guarded<Float>((0..<37).map { $0 < 20 ? -.infinity : 5 })
    #expect(table.rows.softmaxOnline_f32(half.pointer, 37, 1, state.pointer) == 0)
    #expect(half.values == (0..<37).map { $0 < 20 ? 0 : 1 })
    #expect(state.values == [5, 17])
    let more = Guarded<Float>(37, filledWith: -.infinity)
    #expect(table.rows.softmaxOnline_f32(more.pointer, 37, 1, state.pointer) == 1)
    #expect(state.values == [5, 17])
  }

  @Test("A row with NaN gives a NaN sum", arguments: KernelTable.available)
  func poisoned(table: KernelTable) {
    for at in [0, 5, 18, 36] {
      let row = Guarded<Float>((0..<37).map { $0 == at ? .nan : 1 })
      let state = Guarded<Float>([-.infinity, 0])
      _ = table.rows.softmaxOnline_f32(row.pointer, 37, 1, state.pointer)
      #expect(state.pointer[1].isNaN)
    }
  }

  @Test("The attention row gradient equals its formula", arguments: KernelTable.available)
  func backward(table: KernelTable) {
    for n in awkwardLengths {
      var scores = Draw("s").floats(n, size: 20)
      if n > 4 { scores[3] = -.infinity }
      let gradients = Draw("dp").floats(n)
      let (scale, lse, delta) = (Float(0.4), Float(7.5), Float(0.21))
      let (s, dp) = (Guarded(scores), Guarded(gradients))
      table.rows.softmaxBackward_f32(s.pointer, dp.pointer, n, scale, lse, delta)
      let p = scores.map { exp(Double($0) * Double(scale) - Double(lse)) }
      let unit = roundoff * 30
      expectClose(s.values, p, "\(table.name) p \(n)") { unit * p[$0] }
      let expected = (0..<n).map {
        p[$0] * (Double(gradients[$0]) - Double(delta)) * Double(scale)
      }
      expectClose(dp.values, expected, "\(table.name) dp \(n)") {
        unit * abs(expected[$0]) + 4 * roundoff * p[$0]
      }
      #expect(s.isIntact && dp.isIntact)
    }
  }

  @Test("Log-sum-exp folds rows of any length into one state", arguments: KernelTable.available)
  func logSumExp(table: KernelTable) {
    for n in awkwardLengths + [2047, 2048, 2049, 10_007] {
      for offset: Float in [0, 3000, -3000] {
        let rows = (0..<3).map { i in Draw("row\(i)").floats(n, size: 20).map { $0 + offset } }
        let state = Guarded<Float>([-.infinity, 0])
        for row in rows { table.rows.logSumExp_f32(Guarded(row).pointer, n, state.pointer) }
        let all = rows.flatMap { $0 }
        guard let maximum = all.max() else {
          #expect(state.values == [-.infinity, 0])
          continue
        }
        let sum = all.reduce(0.0) { $0 + exp(Double($1) - Double(maximum)) }
        #expect(state.pointer[0] == maximum)
        let bound = roundoff * (20 + Double(min(n, 2048)) / Double(table.gemm.tile_f32.lanes)) * sum
        #expect(abs(Double(state.pointer[1]) - sum) <= bound, "\(table.name) n \(n)")
      }
    }
    let state = Guarded<Float>([-.infinity, 0])
    table.rows.logSumExp_f32(Guarded<Float>(19, filledWith: -.infinity).pointer, 19, state.pointer)
    #expect(state.values == [-.infinity, 0])
    table.rows.logSumExp_f32(Guarded<Float>(19, filledWith: 1e4).pointer, 19, state.pointer)
    #expect(state.values == [1e4, 19])
    table.rows.logSumExp_f32(Guarded<Float>(19, filledWith: .nan).pointer, 19, state.pointer)
    #expect(state.pointer[1].isNaN)
  }

  @Test("The cross-entropy gradient scales exp(x - lse)", arguments: KernelTable.available)
  func gradient(table: KernelTable) {
    for n in awkwardLengths {
      let xs = Draw("x").floats(n, size: 10)
      let x = Guarded(xs)
      table.rows.softmaxGradient_f32(x.pointer, n, 11.5, 0.125)
      let expected = xs.map { 0.125 * exp(Double($0) - 11.5) }
      // x - lse is below 22 and rounded once: 11 roundings of the result.
      expectClose(x.values, expected, "\(table.name) n \(n)") { roundoff * 30 * expected[$0] }
      #expect(x.isIntact)
    }
  }

  @Test("Argmax answers the first of equals and never NaN", arguments: KernelTable.available)
  func argmax(table: KernelTable) {
    for n in awkwardLengths + [2048, 2049, 6001] where n > 0 {
      let xs = Draw("x").floats(n)
      var best = 0
      for i in 0..<n where xs[i] > xs[best] { best = i }
      #expect(table.rows.argmax_f32(Guarded(xs).pointer, n) == best)
      for first in Set([0, n / 3, n - 1]) {
        var ties = xs
        ties[first] = 7
        ties[n - 1] = 7
        if first > 0 { ties[0] = .nan }
        #expect(table.rows.argmax_f32(Guarded(ties).pointer, n) == first, "\(table.name) n \(n)")
      }
      #expect(table.rows.argmax_f32(Guarded<Float>(n, filledWith: -.infinity).pointer, n) == 0)
      #expect(table.rows.argmax_f32(Guarded<Float>(n, filledWith: .nan).pointer, n) == 0)
      var lonely = [Float](repeating: .nan, count: n)
      lonely[n - 1] = -.infinity
      #expect(table.rows.argmax_f32(Guarded(lonely).pointer, n) == n - 1, "\(table.name) n \(n)")
    }
    #expect(table.rows.argmax_f32(Guarded<Float>([-1, -0.0, 0, -2]).pointer, 4) == 1)
  }
}
