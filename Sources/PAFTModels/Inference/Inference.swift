// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

/// A row of tokens to score: log-probabilities of the tokens where `scored` says so. The first
/// token has none.
package struct ScoreRequest: Sendable {
  package var ids: [Int32]
  /// First scored index (at least 1), or an explicit mask.
  package var scored: [Bool]

  package init(ids: [Int32], scored: [Bool]) {
    self.ids = ids
    self.scored = scored
  }

  /// Tokens before the one that predicts the first scored one.
  fileprivate var sharable: Int {
    max(0, (scored.dropFirst().firstIndex(of: true) ?? ids.count) - 1)
  }

  /// Scores ids[from...].
  package init(ids: [Int32], from: Int = 1) {
    self.ids = ids
    scored = ids.indices.map { $0 >= max(1, from) }
  }
}

package struct ScoreResult: Sendable {
  /// One per scored token, in order.
  package var logprobs: [Float] = []
  /// Whether each scored token was the most probable one.
  package var correct: [Bool] = []

  package var sum: Double { logprobs.reduce(0) { $0 + Double($1) } }
}

/// Scoring with a set of weights. Rows are packed into micro-batches of at most `batchTokens`
/// tokens (a longer row goes alone), so a call needs bounded memory for any number of rows. What rows of
/// a micro-batch begin with alike, before their scored tokens, is computed once.
package struct Scorer {
  package let decoder: Decoder
  package let weights: Weights
  package var batchTokens: Int

  package init(_ decoder: Decoder, _ weights: Weights, batchTokens: Int = 2048) {
    self.decoder = decoder
    self.weights = weights
    self.batchTokens = batchTokens
  }

  /// Throws a `Fault` (65) for a row longer than the decoder's positions or an id out of range.
  package func score(_ requests: [ScoreRequest]) throws -> [ScoreResult] {
    var results = [ScoreResult](repeating: ScoreResult(), count: requests.count)
    for (index, request) in requests.enumerated() {
      if request.ids.count > decoder.maxPositions {
        throw Fault(
          .data,
          "row \(index) has \(request.ids.count) tokens, the model takes \(decoder.maxPositions)")
      }
      try decoder.configuration.check(request.ids, row: index)
    }
    var from = 0
    while from < requests.count {
      var to = from
      var tokens = 0
      repeat {
        tokens += requests[to].ids.count
        to += 1
      } while to < requests.count && tokens + requests[to].ids.count <= batchTokens
      score(requests, from..<to, into: &results)
      from = to
    }
    return results
  }

  private func score(
    _ requests: [ScoreRequest], _ range: Range<Int>, into results: inout [ScoreResult]
  ) {
    decoder.executor.withScratch { scratch in
      let batch = batch(requests[range], in: scratch)
      let rows = HeadLoss.Rows(in: scratch, count: batch.labels)
      let hidden = decoder.inference(batch, weights, finishing: batch.labelled)
      decoder.score(hidden, batch, weights, into: rows)
      var next = 0
      for index in range {
        let count = requests[index].scored.dropFirst().reduce(0) { $0 + ($1 ? 1 : 0) }
        results[index].logprobs = (next..<next + count).map { rows.logp[$0] }
        results[index].correct = (next..<next + count).map { rows.correct[$0] != 0 }
        next += count
      }
    }
  }

  private func batch(_ requests: ArraySlice<ScoreRequest>, in arena: Arena) -> Batch {
    let (first, count) = (requests.startIndex, requests.count)
    let shares = !decoder.configuration.rotatesByLength
    let prompts = PromptTree(rows: count, window: count) {
      shares ? requests[first + $0].sharable : 0
    } token: {
      requests[first + $0].ids[$1]
    }
    return (0..<Int32(count)).map { $0 }.withUnsafeBufferPointer { rows in
      var batch = Batch(
        in: arena, tokens: prompts.tokens(rows) { requests[first + Int($0)].ids.count },
        sequences: 2 * count)
      prompts.walk(rows) { beginning, parent in
        batch.append(beginning.ids, continuing: parent)
      } row: { row, from, parent in
        let request = requests[first + Int(row)]
        batch.continueSequence(parent)
        for (id, scored) in zip(request.ids, request.scored).dropFirst(from) {
          batch.append(id, labelled: scored)
        }
        batch.endSequence()
      }
      return batch
    }
  }
}

extension ModelConfiguration {
  /// Throws when an id lies outside the vocabulary.
  package func check(_ ids: [Int32], row: Int) throws {
    if let bad = ids.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
      throw Fault(
        .data, "row \(row): token id \(bad) is outside the model's vocabulary of \(vocabulary)",
        hint: "was the data tokenised with another tokenizer?")
    }
  }
}
