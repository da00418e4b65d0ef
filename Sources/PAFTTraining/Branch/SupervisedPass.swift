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
  let examples: [SFTExample]
  let tokensPerPass: Int

  func run(_ window: UnsafeBufferPointer<Int32>, into report: inout StepReport) {
    var labels = 0
    for index in window { labels += liveLabels(examples[Int(index)]) }
    var sum = 0.0
    var correct = 0
    decoder.executor.withScratch { scratch in
      let cut = PassCut(window, capacity: tokensPerPass, in: scratch) {
        examples[Int($0)].ids.count
      }
      for index in 0..<cut.count {
        let range = cut.range(index)
        let tokens = range.reduce(0) { $0 + examples[Int(cut.rows[$1])].ids.count }
        report.tokens += tokens
        pass(cut.rows, range, tokens: tokens, labels: labels, &sum, &correct)
      }
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
    _ window: UnsafePointer<Int32>, _ range: Range<Int>, tokens: Int, labels: Int,
    _ sum: inout Double, _ correct: inout Int
  ) {
    let scratch = decoder.executor.scratch
    let mark = scratch.mark
    defer { scratch.release(to: mark) }
    var batch = Batch(in: scratch, tokens: tokens, sequences: range.count)
    for at in range {
      let example = examples[Int(window[at])]
      for t in 0..<example.ids.count {
        batch.append(example.ids[t], labelled: example.labels[t] != Record.ignored)
      }
      batch.endSequence()
    }
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
}
