// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

extension Decoder {
  /// Hidden states of some rows of a batch whose keys and values also enter the cache: the prompts.
  /// Sequence s of the batch becomes sequence `slots[s]` of the cache.
  package func prefill(
    _ batch: Batch, slots: [Int], finishing: RowSelection, _ weights: Weights,
    _ cache: KeyValueCache
  ) -> Matrix {
    let c = configuration
    prepareRotation(batch) { batch.sequences[$0].count }
    return walk(batch, weights, finishing: finishing) { layer, work in
      for s in 0..<batch.sequences.count {
        for (position, row) in batch.sequences[s].enumerated() {
          let at = slots[s] * cache.capacity + position
          cache.keys[layer].row(at).update(from: work.k.row(row), count: c.keyWidth)
          cache.values[layer].row(at).update(from: work.v.row(row), count: c.keyWidth)
        }
      }
    }
  }

  /// Hidden states of one new token for each of some cached sequences. Where the length decides
  /// frequencies, they are those of the length with the new token; cached keys stay as they are.
  ///
  /// - Parameters:
  ///   - batch: one token per row; every row is a sequence of its own with `positions` set.
  ///   - slots: the cache sequence of each row.
  package func step(
    _ batch: Batch, slots: [Int], _ weights: Weights, _ cache: KeyValueCache
  ) -> Matrix {
    let c = configuration
    let scratch = executor.scratch
    let x = Matrix(in: scratch, rows: batch.tokens, columns: c.hidden)
    prepareRotation(batch) { Int(batch.positions[$0]) + 1 }
    embed(batch, weights, into: x)
    for layer in 0..<c.layers {
      executor.withScratch { scratch in
        let work = activations(layer, weights, of: x, finishing: nil, .forward)
        forward(layer, work, weights.layers[layer], batch, into: x) {
          for (row, slot) in slots.enumerated() {
            let at = slot * cache.capacity + Int(batch.positions[row])
            cache.keys[layer].row(at).update(from: work.k.row(row), count: c.keyWidth)
            cache.values[layer].row(at).update(from: work.v.row(row), count: c.keyWidth)
          }
          CachedAttention.forward(
            q: work.q, keys: cache.keys[layer], values: cache.values[layer],
            capacity: cache.capacity, slots: slots, positions: batch.positions,
            shape: c.attention(layer: layer), into: work.attention, on: executor)
        }
      }
    }
    return x
  }
}
