// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How the next token is chosen.
package struct Sampling: Sendable {
  /// 0 takes the most probable token.
  package var temperature: Double
  /// Smallest set of most probable tokens that holds this much probability (nucleus sampling).
  package var topP: Double
  package var seed: UInt64

  package init(temperature: Double = 0, topP: Double = 1, seed: UInt64 = 42) {
    self.temperature = temperature
    self.topP = topP
    self.seed = seed
  }

  /// The token for one row of logits; `counter` numbers the draw inside its stream.
  package func choose(
    _ logits: UnsafeMutablePointer<Float>, _ n: Int, _ random: CounterRandom, _ counter: Int
  )
    -> Int32
  {
    var best = 0
    for i in 1..<max(1, n) where logits[i] > logits[best] { best = i }
    if temperature <= 0 { return Int32(best) }
    let top = Double(logits[best])
    var candidates = (0..<n).map {
      (id: $0, weight: exp((Double(logits[$0]) - top) / temperature))
    }
    let total = candidates.reduce(0) { $0 + $1.weight }
    if topP < 1 {
      candidates.sort { $0.weight != $1.weight ? $0.weight > $1.weight : $0.id < $1.id }
      var mass = 0.0
      var kept = 0
      while kept < candidates.count && mass < topP * total {
        mass += candidates[kept].weight
        kept += 1
      }
      candidates.removeLast(candidates.count - max(1, kept))
    }
    var left = random.uniform(UInt64(counter)) * candidates.reduce(0) { $0 + $1.weight }
    for candidate in candidates {
      left -= candidate.weight
      if left < 0 { return Int32(candidate.id) }
    }
    return Int32(candidates.last!.id)
  }
}

/// Batched generation with a key-value cache: prompts are prefilled together, then every step
/// advances all unfinished sequences by one token. A sequence's tokens do not depend on which
/// others are generated beside it.
package struct Generator {
  package let decoder: Decoder
  package let weights: Weights
  package var sampling: Sampling
  /// Ids that end a sequence; the end token is not part of the answer.
  package var stops: Set<Int32>
  /// Sequences advanced together.
  package var batchSize = 32

  package init(
    _ decoder: Decoder, _ weights: Weights, sampling: Sampling = Sampling(), stops: [Int32]? = nil
  ) {
    self.decoder = decoder
    self.weights = weights
    self.sampling = sampling
    self.stops = Set(stops ?? decoder.configuration.eosIDs)
  }

  /// Throws 65 for prompts that the model cannot take, 80 when its logits are not numbers.
  ///
  /// - Parameter onToken: called with (prompt index, id) as tokens appear; return false to stop.
  package func generate(
    _ prompts: [[Int32]], maxTokens: Int, onToken: (Int, Int32) -> Bool = { _, _ in true }
  ) throws -> [[Int32]] {
    var answers = [[Int32]](repeating: [], count: prompts.count)
    for (index, prompt) in prompts.enumerated() {
      guard !prompt.isEmpty else { throw Fault(.data, "prompt \(index) is empty") }
      guard prompt.count < decoder.maxPositions else {
        throw Fault(
          .data,
          "prompt \(index) has \(prompt.count) tokens, the model takes \(decoder.maxPositions)")
      }
      try decoder.configuration.check(prompt, row: index)
    }
    var from = 0
    while from < prompts.count && maxTokens > 0 {
      let to = min(prompts.count, from + batchSize)
      try generate(prompts, from..<to, maxTokens, onToken, into: &answers)
      from = to
    }
    return answers
  }

  private func generate(
    _ prompts: [[Int32]], _ range: Range<Int>, _ maxTokens: Int, _ onToken: (Int, Int32) -> Bool,
    into answers: inout [[Int32]]
  ) throws {
    let c = decoder.configuration
    let executor = decoder.executor
    let longest = prompts[range].reduce(0) { max($0, $1.count) }
    // Every prompt is shorter than the positions; a sum could overflow for any `maxTokens`.
    let capacity = longest + min(decoder.maxPositions - longest, maxTokens)
    let arena = try Arena(
      capacity: KeyValueCache.bytes(c, sequences: range.count, capacity: capacity) + (1 << 16),
      node: executor.team.place.node, name: "key-value cache")
    let cache = KeyValueCache(c, sequences: range.count, capacity: capacity, in: arena)
    let streams = range.map { CounterRandom(seed: sampling.seed).stream($0) }
    // Position of the next token to feed, per slot; finished slots leave `live`.
    var positions = prompts[range].map { $0.count }
    var live: [Int] = []
    var feed: [Int32] = []
    var isBroken = false

    func accept(_ logits: Matrix, _ slots: [Int]) {
      for (row, slot) in slots.enumerated() {
        let index = range.lowerBound + slot
        let id = sampling.choose(logits.row(row), c.vocabulary, streams[slot], answers[index].count)
        // A single NaN anywhere in the weights makes all logits of a row NaN.
        if logits.row(row)[Int(id)].isNaN {
          isBroken = true
          continue
        }
        if stops.contains(id) { continue }
        answers[index].append(id)
        let goes = onToken(index, id)
        if goes && answers[index].count < maxTokens && positions[slot] < capacity {
          live.append(slot)
          feed.append(id)
        }
      }
    }

    func prefill(_ sequences: [[Int32]], _ slots: [Int]) {
      executor.withScratch { scratch in
        var batch = Batch(
          in: scratch, tokens: sequences.reduce(0) { $0 + $1.count }, sequences: slots.count)
        for sequence in sequences {
          for id in sequence { batch.append(id, labelled: false) }
          batch.endSequence()
        }
        let last = scratch.allocate(Int32.self, count: slots.count)
        for row in slots.indices { last[row] = Int32(batch.sequences[row].upperBound - 1) }
        let hidden = decoder.prefill(
          batch, slots: slots, finishing: RowSelection(last, count: slots.count), weights, cache)
        let logits = Matrix(in: scratch, rows: slots.count, columns: c.vocabulary)
        decoder.logits(hidden, weights, into: logits)
        accept(logits, slots)
      }
    }

    prefill(Array(prompts[range]), Array(0..<range.count))
    while !live.isEmpty {
      let all = zip(live, feed)
      // Past LongRoPE's first length all of a sequence is rotated otherwise: its keys are made anew.
      let turning = live.filter { positions[$0] == c.rotationSwitch }
      let steady = all.filter { positions[$0.0] != c.rotationSwitch }
      live.removeAll(keepingCapacity: true)
      feed.removeAll(keepingCapacity: true)
      for slot in turning {
        let index = range.lowerBound + slot
        positions[slot] += 1
        prefill([prompts[index] + answers[index]], [slot])
      }
      if steady.isEmpty { continue }
      executor.withScratch { scratch in
        var batch = Batch(in: scratch, tokens: steady.count, sequences: steady.count)
        for (row, (slot, id)) in steady.enumerated() {
          batch.append(id, labelled: false)
          batch.endSequence()
          batch.positions[row] = Int32(positions[slot])
          positions[slot] += 1
        }
        let slots = steady.map(\.0)
        let hidden = decoder.step(batch, slots: slots, weights, cache)
        let logits = Matrix(in: scratch, rows: slots.count, columns: c.vocabulary)
        decoder.logits(hidden, weights, into: logits)
        accept(logits, slots)
      }
    }
    if isBroken {
      throw Fault(
        .notFinite, "the model's logits are not numbers",
        hint: "its weights hold NaN, or it was trained at too high a learning rate")
    }
  }
}
