// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTText

/// Log-probabilities of both answers of every pair under the frozen reference, computed once.
package struct ReferenceLogps: @unchecked Sendable {
  /// [2 * pairs]: chosen, rejected, ...
  package let values: UnsafeMutablePointer<Double>
  package let pairs: Int

  package init(in arena: Arena, pairs: Int) {
    self.pairs = pairs
    values = arena.allocate(Double.self, count: max(1, 2 * pairs))
  }
}

/// Gradient of one preference step, the mean over the pairs of its window:
/// L = (1/P) sum_p loss(p) + w/N sum -logp(chosen), the second part for objectives with a likelihood
/// term (ORPO over prompt and answer, RPO and CPO over the answer), N its labels in the window.
struct PreferencePass {
  let decoder: Decoder
  let pairs: PreferenceRows
  let objective: PreferenceObjective
  let tokensPerPass: Int

  /// Where the labels of one pair lie among a batch's.
  private struct Labels: BitwiseCopyable {
    var prompt = 0  // labels of the chosen sequence's prompt (ORPO)
    var chosen = 0
    var rejected = 0
    var all: Int { prompt + chosen + rejected }
  }

  /// - Parameter reference: nil for objectives that need none.
  func run(
    _ window: UnsafeBufferPointer<Int32>, _ trainable: Trainable, reference: ReferenceLogps?,
    into report: inout StepReport
  ) {
    var nllLabels = 0
    for index in window {
      let labels = labels(pairs[index])
      nllLabels += labels.prompt + labels.chosen
      report.tokens += pairs[index].tokens
    }
    var metrics = PreferenceMetrics()
    var nll = 0.0
    var correct = 0
    var chosenLabels = 0
    let share = 1 / Double(window.count)
    passes(window) { pass in
      let scratch = decoder.executor.scratch
      let mark = scratch.mark
      defer { scratch.release(to: mark) }
      let batch = batch(pass, in: scratch)
      let rows = HeadLoss.Rows(
        in: scratch, count: batch.labels, slopes: decoder.configuration.hidden)
      let coefficients = scratch.allocate(Float.self, count: max(1, batch.labels))
      let hidden = decoder.forward(batch, trainable.weights)
      decoder.score(hidden, batch, trainable.weights, into: rows)
      var at = 0
      for row in pass {
        let index = Int(row)
        let labels = labels(pairs[row])
        let chosen = at + labels.prompt
        let rejected = chosen + labels.chosen
        let end = rejected + labels.rejected
        let pair = PairLogps(
          policyChosen: sum(rows.logp, chosen..<rejected),
          policyRejected: sum(rows.logp, rejected..<end),
          referenceChosen: reference?.values[2 * index] ?? 0,
          referenceRejected: reference?.values[2 * index + 1] ?? 0,
          chosenCount: labels.chosen, rejectedCount: labels.rejected)
        let loss = objective(pair)
        metrics.add(pair, loss: loss.loss, rewards: objective.rewards(pair))
        let likelihood = objective.nllWeight / Double(max(1, nllLabels))
        for i in at..<chosen { coefficients[i] = Float(-likelihood) }
        for i in chosen..<rejected {
          coefficients[i] = Float(loss.dPolicyChosen * share - likelihood)
        }
        for i in rejected..<end { coefficients[i] = Float(loss.dPolicyRejected * share) }
        nll -= sum(rows.logp, at..<rejected)
        for i in chosen..<rejected { correct += Int(rows.correct[i]) }
        chosenLabels += labels.chosen
        at = end
      }
      trainable.backward(
        decoder, hidden, batch, rows: rows, scored: true, coefficients: coefficients)
    }
    report.loss = metrics.meanLoss
    if objective.nllWeight != 0 {
      let mean = nll / Double(max(1, nllLabels))
      report.loss += objective.nllWeight * mean
      report.nll = mean
    }
    report.preference = metrics
    report.tokenAccuracy = chosenLabels == 0 ? 0 : Double(correct) / Double(chosenLabels)
  }

  /// Reference log-probabilities of some pairs, in one ordered walk through the data.
  ///
  /// - Parameter check: called before each pass; what it throws ends the walk.
  func fill(
    _ reference: ReferenceLogps, _ weights: Weights, order: UnsafeBufferPointer<Int32>,
    check: () throws -> Void
  ) rethrows {
    try passes(order) { pass in
      try check()
      let scratch = decoder.executor.scratch
      let mark = scratch.mark
      defer { scratch.release(to: mark) }
      let batch = batch(pass, in: scratch)
      let rows = HeadLoss.Rows(in: scratch, count: batch.labels)
      let hidden = decoder.inference(batch, weights, finishing: batch.labelled)
      decoder.score(hidden, batch, weights, into: rows)
      var at = 0
      for row in pass {
        let index = Int(row)
        let labels = labels(pairs[row])
        let chosen = at + labels.prompt
        let rejected = chosen + labels.chosen
        reference.values[2 * index] = sum(rows.logp, chosen..<rejected)
        reference.values[2 * index + 1] = sum(rows.logp, rejected..<rejected + labels.rejected)
        at += labels.all
      }
    }
  }

  // MARK: - Batches of pairs

  private func passes(
    _ window: UnsafeBufferPointer<Int32>, _ body: (UnsafeBufferPointer<Int32>) throws -> Void
  ) rethrows {
    try decoder.executor.withScratch { scratch in
      let cut = PassCut(
        window, capacity: tokensPerPass, shared: pairs.prompts.common(window), in: scratch
      ) { pairs.layout($0).tokens }
      for index in 0..<cut.count { try body(cut[index]) }
    }
  }

  private func labels(_ pair: PreferenceExample) -> Labels {
    // Without a prompt the first token of an answer cannot be predicted.
    let lost = pair.prompt.isEmpty ? 1 : 0
    return Labels(
      prompt: objective.nllCoversPrompt ? max(0, pair.prompt.count - 1) : 0,
      chosen: max(0, pair.chosen.count - lost), rejected: max(0, pair.rejected.count - lost))
  }

  private func batch(_ pass: UnsafeBufferPointer<Int32>, in arena: Arena) -> Batch {
    var batch = Batch(
      in: arena, tokens: pairs.prompts.tokens(pass) { pairs.layout($0).tokens },
      sequences: 4 * pass.count)
    pairs.prompts.walk(pass) { beginning, parent in
      batch.append(beginning.ids, continuing: parent)
    } row: { row, from, parent in
      append(pairs[row], pairs.layout(row), from, parent, to: &batch)
    }
    return batch
  }

  /// A pair, of whose prompt all before token `from` stands in sequence `parent`: the rest that is computed
  /// once, then each answer behind what is not.
  private func append(
    _ pair: PreferenceExample, _ layout: PairLayout, _ from: Int, _ parent: Int?,
    to batch: inout Batch
  ) {
    var prompt = parent
    if from < layout.shared {
      batch.continueSequence(parent)
      for i in from..<layout.shared {
        batch.append(pair.prompt[i], labelled: objective.nllCoversPrompt)
      }
      batch.endSequence()
      prompt = batch.sequenceCount - 1
    }
    batch.continueSequence(prompt)
    for i in layout.shared..<pair.prompt.count {
      batch.append(pair.prompt[i], labelled: objective.nllCoversPrompt)
    }
    for id in pair.chosen { batch.append(id, labelled: true) }
    batch.endSequence()
    batch.continueSequence(prompt)
    for i in layout.shared..<pair.prompt.count { batch.append(pair.prompt[i], labelled: false) }
    for id in pair.rejected { batch.append(id, labelled: true) }
    batch.endSequence()
  }

  private func sum(_ values: UnsafePointer<Float>, _ range: Range<Int>) -> Double {
    var sum = 0.0
    for i in range { sum += Double(values[i]) }
    return sum
  }
}
