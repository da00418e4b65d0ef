// SPDX-License-Identifier: Apache-2.0

/// AOT (Melnyk 2024): preference by first-order stochastic dominance over a batch. The sorted policy
/// values are matched with the sorted reference values (or chosen with rejected ratios) and each
/// difference d is a DPO margin; the gradient follows the permutation. Mean over the batch.
///
/// Owns the index buffers of the largest batch, so a step allocates nothing.
package struct SortedTransport: ~Copyable {
  private let capacity: Int
  private let keys: UnsafeMutablePointer<Double>
  private let order: UnsafeMutablePointer<Int>

  package init(capacity: Int) {
    self.capacity = capacity
    keys = .allocate(capacity: 2 * capacity)
    order = .allocate(capacity: 2 * capacity)
  }

  deinit {
    keys.deallocate()
    order.deallocate()
  }

  /// `paired`: d = sort(policy margins) - sort(reference margins), `aot`; otherwise
  /// d = sort(chosen ratios) - sort(rejected ratios), `aot_unpaired`. Writes each pair's own share
  /// (already divided by the batch size) to `gradients`; returns the mean loss.
  package borrowing func callAsFunction(
    _ pairs: UnsafeBufferPointer<PairLogps>, paired: Bool, _ settings: PreferenceSettings,
    gradients: UnsafeMutableBufferPointer<PairLoss>
  ) -> Double {
    let n = pairs.count
    precondition(n <= capacity && gradients.count >= n, "batch of \(n) exceeds \(capacity)")
    for i in 0..<n {
      let p = pairs[i]
      keys[i] = paired ? p.policyChosen - p.policyRejected : p.chosenRatio
      keys[n + i] = paired ? p.referenceChosen - p.referenceRejected : p.rejectedRatio
      gradients[i] = .zero
    }
    sort(offset: 0, n)
    sort(offset: n, n)
    var total = 0.0
    for rank in 0..<n {
      let i = order[rank]
      let j = order[n + rank]
      let f = MarginLoss.sigmoid(
        settings.beta * (keys[i] - keys[n + j]), settings.labelSmoothing)
      let slope = f.slope * settings.beta / Double(n)
      total += f.loss
      gradients[i].loss += f.loss / Double(n)
      gradients[i].dPolicyChosen += slope
      gradients[paired ? i : j].dPolicyRejected -= slope
    }
    return n == 0 ? 0 : total / Double(n)
  }

  /// Stable insertion sort of indices by key: batches are small and it needs no memory.
  private borrowing func sort(offset: Int, _ n: Int) {
    let values = keys + offset
    let indices = order + offset
    for i in 0..<n {
      var k = i
      while k > 0, values[indices[k - 1]] > values[i] {
        indices[k] = indices[k - 1]
        k -= 1
      }
      indices[k] = i
    }
  }
}
