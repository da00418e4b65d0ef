// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTTraining
import Testing

@Suite("AOT: sorted margins")
struct SortedTransportTests {
  let pairs: [PairLogps] = zip(
    zip([-10.0, -12, -9], [-14.0, -11, -12]), zip([-10.5, -11.5, -9.5], [-11.0, -14, -11])
  ).map {
    PairLogps(
      policyChosen: $0.0, policyRejected: $0.1, referenceChosen: $1.0, referenceRejected: $1.1,
      chosenCount: 4, rejectedCount: 4)
  }

  func run(_ pairs: [PairLogps], paired: Bool) -> (Double, [PairLoss]) {
    let transport = SortedTransport(capacity: pairs.count)
    var gradients = [PairLoss](repeating: .zero, count: pairs.count)
    let loss = pairs.withUnsafeBufferPointer { input in
      gradients.withUnsafeMutableBufferPointer {
        transport(input, paired: paired, PreferenceSettings(), gradients: $0)
      }
    }
    return (loss, gradients)
  }

  @Test("Three pairs give the published losses")
  func golden() throws {
    #expect(abs(run(pairs, paired: true).0 - 0.670957) < 1e-6)
    #expect(abs(run(pairs, paired: false).0 - 0.674279) < 1e-6)
    let dpo = try PreferenceObjective()
    #expect(abs(pairs.map { dpo($0).loss }.reduce(0, +) / 3 - 0.679240) < 1e-6)
  }

  @Test(
    "The gradient follows the permutation, whatever the order of pairs", arguments: [true, false])
  func gradient(paired: Bool) {
    let random = CounterRandom(seed: 3)
    let batch = (0..<17).map { i in
      func draw(_ k: Int) -> Double { -20 * random.uniform(UInt64(4 * i + k)) }
      return PairLogps(
        policyChosen: draw(0), policyRejected: draw(1), referenceChosen: draw(2),
        referenceRejected: draw(3), chosenCount: 5, rejectedCount: 5)
    }
    let (loss, gradients) = run(batch, paired: paired)
    #expect(abs(gradients.map(\.loss).reduce(0, +) - loss) < 1e-12)
    let h = 1e-6
    for i in batch.indices {
      func moved(_ chosen: Double, _ rejected: Double) -> Double {
        var other = batch
        other[i].policyChosen += chosen
        other[i].policyRejected += rejected
        return run(other, paired: paired).0
      }
      #expect(abs((moved(h, 0) - moved(-h, 0)) / (2 * h) - gradients[i].dPolicyChosen) < 1e-8)
      #expect(abs((moved(0, h) - moved(0, -h)) / (2 * h) - gradients[i].dPolicyRejected) < 1e-8)
    }
    let order = random.permutation(17)
    #expect(abs(run(order.map { batch[$0] }, paired: paired).0 - loss) < 1e-12)
  }
}
