// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

// Methods that move a base towards one other model, entry by entry.

extension MergeMethod {
  /// Moves where the models are near each other: out = b + g d, g = clamp(t / |d|, 0, 1).
  static let nearswap = MergeMethod(
    name: "nearswap", paper: "", operands: .deltas, base: .reference, models: 1...1,
    parameters: [.global("t")]
  ) { (task) throws(Fault) in
    let t = task.parameters["t"]
    let (delta, out) = (task.models[0], task.out)
    task.lanes.overChunks(task.count) { _, range in
      for i in range {
        let d = Double(delta[i])
        out[i] = Float(max(0, min(1, t / max(abs(d), 1e-6))) * d)
      }
    }
  }

  /// Keeps the changes of outstanding importance: |d| times the divergence KL(p || q) of its row,
  /// with p and q the softmax of the row in the model and in the base; the threshold is the usual
  /// outlier rule, median + 1.5 interquartile ranges, over the whole tensor.
  static let arceeFusion = MergeMethod(
    name: "arcee_fusion", paper: "", operands: .deltas, base: .reference, models: 1...1,
    parameters: []
  ) { (task) throws(Fault) in
    let (delta, base, out) = (task.models[0], task.base!, task.out)
    let length = task.rowLength
    guard length > 0, task.count > 0 else { return }
    task.lanes.forEach(task.count / length) { row in
      let range = row * length..<(row + 1) * length
      var (maxP, maxQ) = (-Double.infinity, -Double.infinity)
      for i in range {
        maxP = max(maxP, Double(base[i]) + Double(delta[i]))
        maxQ = max(maxQ, Double(base[i]))
      }
      var (sumP, sumQ) = (0.0, 0.0)
      for i in range {
        sumP += exp(Double(base[i]) + Double(delta[i]) - maxP)
        sumQ += exp(Double(base[i]) - maxQ)
      }
      var divergence = 0.0
      for i in range {
        let p = exp(Double(base[i]) + Double(delta[i]) - maxP) / sumP + 1e-8
        let q = exp(Double(base[i]) - maxQ) / sumQ + 1e-8
        divergence += p * log(p / q)
      }
      for i in range { out[i] = Float(abs(Double(delta[i])) * max(0, divergence)) }
    }
    let n = task.count
    func quantile(_ z: Double) -> Double {
      // Ascending rank r is descending rank n - 1 - r, so it is the smallest of the n - r largest.
      let rank = Int(z * Double(n - 1))
      return Double(MagnitudeCut.smallest(out, count: n, ofLargest: n - rank, task.lanes))
    }
    let threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25))
    task.lanes.overChunks(n) { _, range in
      for i in range { out[i] = Double(out[i]) >= threshold ? delta[i] : 0 }
    }
  }
}
