// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTText

/// Gradient of one SFT step: the sum of the cross-entropies of all labels of the window, divided by
/// their number N, whatever the cut into passes: L = (1/N) sum -logp.
struct SupervisedPass {
  let decoder: Decoder
  let trainable: Trainable
  let rows: SupervisedRows
  let tokensPerPass: Int

  func run(_ window: UnsafeBufferPointer<Int32>, into report: inout StepReport) {
    var labels = 0
    for index in window {
      labels += liveLabels(rows[index])
      report.tokens += rows[index].ids.count
    }
    var sum = 0.0
    var correct = 0
    decoder.executor.withScratch { scratch in
      let cut = PassCut(
        window, capacity: tokensPerPass, shared: rows.prompts.common(window), in: scratch
      ) { rows[$0].ids.count }
      for index in 0..<cut.count { pass(cut[index], labels: labels, &sum, &correct) }
    }
    report.loss = labels == 0 ? 0 : -sum / Double(labels)
    report.tokenAccuracy = labels == 0 ? 0 : Double(correct) / Double(labels)
  }

  /// Labels that can be predicted: all but one on the first token.
  private func liveLabels(_ example: SFTExample) -> Int {
    var count = 0
    for t in 1..<max(1, example.labels.count) where example.labels[t] != Record.ignored {
      count += 1
    }
    return count
  }

  private func pass(
    _ window: UnsafeBufferPointer<Int32>, labels: Int, _ sum: inout Double, _ correct: inout Int
  ) {
    let scratch = decoder.executor.scratch
    let mark = scratch.mark
    defer { scratch.release(to: mark) }
    let batch = batch(window, in: scratch)
    let rows = HeadLoss.Rows(
      in: scratch, count: batch.labels, slopes: decoder.configuration.hidden)
    let coefficients = scratch.allocate(Float.self, count: max(1, batch.labels))
    coefficients.update(repeating: -1 / Float(labels), count: batch.labels)
    let hidden = decoder.forward(batch, trainable.weights)
    trainable.backward(
      decoder, hidden, batch, rows: rows, scored: false, coefficients: coefficients)
    for i in 0..<batch.labels {
      sum += Double(rows.logp[i])
      correct += Int(rows.correct[i])
    }
  }

  private func batch(_ window: UnsafeBufferPointer<Int32>, in arena: Arena) -> Batch {
    var batch = Batch(
      in: arena, tokens: rows.prompts.tokens(window) { rows[$0].ids.count },
      sequences: 2 * window.count)
    rows.prompts.walk(window) { beginning, parent in
      batch.append(beginning.ids, continuing: parent)
    } row: { row, from, parent in
      let example = rows[row]
      batch.continueSequence(parent)
      for t in from..<example.ids.count {
        batch.append(example.ids[t], labelled: example.labels[t] != Record.ignored)
      }
      batch.endSequence()
    }
    return batch
  }
}
