// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTTraining
import Testing

/// One pair with every quantity different; values were computed in float64 by an independent script.
private let golden = PairLogps(
  policyChosen: -12, policyRejected: -15, referenceChosen: -12.5, referenceRejected: -14.7,
  chosenCount: 6, rejectedCount: 5)

struct GoldenLoss: Sendable, CustomTestStringConvertible {
  var name: String
  var settings = PreferenceSettings()
  var loss: Double
  var dChosen: Double
  var dRejected: Double
  var testDescription: String { "\(name) \(settings)" }

  static let all: [GoldenLoss] = [
    .init(name: "sigmoid", loss: 0.653947, dChosen: -0.048001, dRejected: 0.048001),
    .init(name: "dpo", loss: 0.653947, dChosen: -0.048001, dRejected: 0.048001),
    .init(name: "hinge", loss: 0.92, dChosen: -0.1, dRejected: 0.1),
    .init(name: "ipo", loss: 23.587211, dChosen: -1.618889, dRejected: 1.942667),
    .init(
      name: "exo_pair", settings: .init(labelSmoothing: 1e-3), loss: 2.623969, dChosen: -0.170396,
      dRejected: 0.170396),
    .init(name: "nca_pair", loss: 1.366819, dChosen: -0.023125, dRejected: 0.024625),
    .init(
      name: "robust", settings: .init(labelSmoothing: 0.1), loss: 0.643947, dChosen: -0.060501,
      dRejected: 0.060501),
    .init(
      name: "cdpo", settings: .init(labelSmoothing: 0.1), loss: 0.661947, dChosen: -0.038001,
      dRejected: 0.038001),
    .init(name: "bco_pair", loss: 1.346719, dChosen: -0.04875, dRejected: 0.04925),
    .init(
      name: "bco_pair", settings: .init(bcoDelta: 0.01), loss: 1.346694, dChosen: -0.049,
      dRejected: 0.049),
    .init(name: "sppo_hard", loss: 42.34, dChosen: -9, dRejected: 9.4),
    .init(name: "apo_zero", loss: 0.980003, dChosen: -0.024984, dRejected: 0.024994),
    .init(name: "apo_down", loss: 0.992508, dChosen: 0.000024, dRejected: 0.02496),
    .init(name: "discopop", loss: 0.877901, dChosen: -0.009628, dRejected: 0.009628),
    .init(name: "sigmoid_norm", loss: 0.686006, dChosen: -0.008274, dRejected: 0.009928),
    .init(
      name: "sigmoid", settings: .init(divergence: .forwardKL), loss: 0.656671,
      dChosen: -0.0292, dRejected: 0.064986),
    .init(
      name: "sigmoid", settings: .init(divergence: .jensenShannon), loss: 0.674314,
      dChosen: -0.018518, dRejected: 0.028176),
    .init(
      name: "sigmoid", settings: .init(divergence: .alpha(0.5)), loss: 0.655577,
      dChosen: -0.037449, dRejected: 0.055868),
    .init(name: "orpo", loss: 0.028875, dChosen: -0.004834, dRejected: 0.005279),
    .init(
      name: "simpo", settings: .init(beta: 2, simpoGamma: 1), loss: 0.313262, dChosen: -0.089647,
      dRejected: 0.107577),
    .init(name: "simpo", loss: 0.913015, dChosen: -0.009978, dRejected: 0.011974),
    .init(name: "cpo", loss: 0.554355, dChosen: -0.042556, dRejected: 0.042556),
    .init(name: "cpo_hinge", loss: 0.7, dChosen: -0.1, dRejected: 0.1),
    .init(name: "cpo_ipo", loss: 16, dChosen: -1.333333, dRejected: 1.6),
    .init(
      name: "simpo", settings: .init(alphaPO: 0.25), loss: 0.861664, dChosen: -0.01587,
      dRejected: 0.024453),
  ]
}

@Suite("Preference losses")
struct PreferenceLossTests {
  @Test("Every loss has the published value and slopes", arguments: GoldenLoss.all)
  func goldenValues(_ row: GoldenLoss) throws {
    let found = try PreferenceLoss.named(row.name)(golden, row.settings)
    #expect(abs(found.loss - row.loss) < 1e-6)
    #expect(abs(found.dPolicyChosen - row.dChosen) < 1e-6)
    #expect(abs(found.dPolicyRejected - row.dRejected) < 1e-6)
  }

  @Test("Slopes agree with central differences at random pairs", arguments: GoldenLoss.all)
  func finiteDifferences(_ row: GoldenLoss) throws {
    let loss = try PreferenceLoss.named(row.name)
    let random = CounterRandom(seed: 11).stream(row.name)
    let h = 1e-5
    for trial in 0..<200 {
      let base = UInt64(trial * 6)
      func draw(_ k: UInt64) -> Double { random.uniform(base + k) }
      let pair = PairLogps(
        policyChosen: -0.5 - 30 * draw(0), policyRejected: -0.5 - 30 * draw(1),
        referenceChosen: -0.5 - 30 * draw(2), referenceRejected: -0.5 - 30 * draw(3),
        chosenCount: 1 + Int(9 * draw(4)), rejectedCount: 1 + Int(9 * draw(5)))
      func at(_ chosen: Double, _ rejected: Double) -> Double {
        var moved = pair
        moved.policyChosen += chosen
        moved.policyRejected += rejected
        return loss(moved, row.settings).loss
      }
      let found = loss(pair, row.settings)
      // A hinge's corner has no slope; it is met with probability 0.
      let chosen = (at(h, 0) - at(-h, 0)) / (2 * h)
      let rejected = (at(0, h) - at(0, -h)) / (2 * h)
      let bound = 1e-7 * (1 + abs(found.loss)) + 1e-6 * (abs(chosen) + abs(rejected))
      #expect(abs(found.dPolicyChosen - chosen) <= bound, "trial \(trial): \(pair)")
      #expect(abs(found.dPolicyRejected - rejected) <= bound, "trial \(trial): \(pair)")
    }
  }

  @Test(
    "Margins of ±10000, certain tokens and single tokens stay finite", arguments: GoldenLoss.all)
  func extremes(_ row: GoldenLoss) throws {
    let loss = try PreferenceLoss.named(row.name)
    let logps = [0, -1e-30, -1e-8, -1, -1e4, -1e5]
    for w in logps {
      for l in logps {
        for (rw, rl) in [(0.0, -1e5), (-1e5, 0.0), (w, l)] {
          for n in [0, 1, 1000] {
            let found = loss(
              PairLogps(
                policyChosen: w, policyRejected: l, referenceChosen: rw, referenceRejected: rl,
                chosenCount: n, rejectedCount: 1), row.settings)
            #expect(found.loss.isFinite, "\(w) \(l) \(rw) \(rl) \(n)")
            #expect(found.dPolicyChosen.isFinite && found.dPolicyRejected.isFinite)
          }
        }
      }
    }
  }

  @Test("Where policy and reference agree, DPO's loss is ln 2 and nothing is won")
  func firstStep() throws {
    let pair = PairLogps(
      policyChosen: -9, policyRejected: -7, referenceChosen: -9, referenceRejected: -7,
      chosenCount: 3, rejectedCount: 4)
    let objective = try PreferenceObjective()
    #expect(abs(objective(pair).loss - 0.693_147_180_559_945_3) < 1e-15)
    var metrics = PreferenceMetrics()
    metrics.add(pair, loss: objective(pair).loss, rewards: objective.rewards(pair))
    #expect(metrics.rewardsAccuracies == 0 && metrics.rewardsMargins == 0)
    #expect(metrics.logpsChosen == -9 && metrics.logpsRejected == -7)
  }

  @Test("Swapping chosen and rejected negates the margin")
  func swapped() throws {
    var swap = golden
    (swap.policyChosen, swap.policyRejected) = (golden.policyRejected, golden.policyChosen)
    (swap.referenceChosen, swap.referenceRejected) =
      (golden.referenceRejected, golden.referenceChosen)
    let objective = try PreferenceObjective()
    let a = objective.rewards(golden)
    let b = objective.rewards(swap)
    #expect(abs(a.chosen - 0.05) < 1e-12 && abs(a.rejected + 0.03) < 1e-12)
    #expect(a.chosen - a.rejected == -(b.chosen - b.rejected))
  }

  @Test("Combined losses add up: RPO and MPO with a likelihood of 1.25")
  func combinations() throws {
    let rpo = try PreferenceObjective(losses: ["sigmoid", "sft"], weights: [1, 1])
    #expect(abs(rpo(golden).loss + 1.25 * rpo.nllWeight - 1.903947) < 1e-6)
    let mpo = try PreferenceObjective(
      losses: ["sigmoid", "bco_pair", "sft"], weights: [0.8, 0.2, 1])
    #expect(abs(mpo(golden).loss + 1.25 * mpo.nllWeight - 2.042501) < 1e-6)
    #expect(!mpo.nllCoversPrompt && mpo.needsReference)
  }

  @Test("ORPO carries its own likelihood over prompt and answer and needs no reference")
  func orpo() throws {
    let objective = try PreferenceObjective(losses: ["orpo"])
    #expect(objective.nllWeight == 1 && objective.nllCoversPrompt && !objective.needsReference)
    let odds = ReferenceFree.logOdds(-2, -3)
    #expect(abs(odds.value - 1.094344) < 1e-6)
    #expect(abs(odds.dChosen / 6 - 0.192753) < 1e-6)
    #expect(abs(odds.dRejected / 5 + 0.210479) < 1e-6)
    #expect(try PreferenceObjective(losses: ["simpo"]).nllWeight == 0)
    #expect(try PreferenceObjective(losses: ["cpo"], cpoAlpha: 0.5).nllWeight == 0.5)
    for (w, l, value, loss) in [
      (-1e-6, -3.0, 16.764441, 5.23957e-8), (-3.0, -1e-6, -16.764441, 16.764441),
      (-40.0, -40.5, 0.5, 0.474077),
    ] {
      let odds = ReferenceFree.logOdds(w, l).value
      #expect(abs(odds - value) < 1e-6)
      #expect(abs(StableMath.softplus(-odds) - loss) < 1e-6 * max(1e-7, loss))
    }
  }

  @Test("Single rated answers: KTO and unpaired APO")
  func unpaired() {
    let rows: [(UnpairedLoss, Double, Bool, Double, Double)] = [
      (.kto, 0.5, true, 0.492501, -0.024994), (.kto, -0.3, false, 0.487503, 0.024984),
      (.apoZeroUnpaired, 0.5, true, 0.487503, -0.024984),
      (.apoZeroUnpaired, -0.3, false, 0.492501, 0.024994),
    ]
    for (loss, ratio, desirable, value, slope) in rows {
      let found = loss(ratio: ratio, desirable: desirable, beta: 0.1, kl: 0.2)
      #expect(abs(found.loss - value) < 1e-6)
      #expect(abs(found.slope - slope) < 1e-6)
    }
  }

  @Test("Unknown names and impossible settings are refused with the nearest name")
  func refusals() {
    let unknown = #expect(throws: Fault.self) { try PreferenceObjective(losses: ["sigmod"]) }
    #expect(unknown?.exitCode == .configuration)
    #expect(unknown?.hint == "did you mean \"sigmoid\"?")
    #expect(throws: Fault.self) { try PreferenceObjective(losses: ["exo_pair"]) }
    #expect(throws: Fault.self) {
      try PreferenceObjective(losses: ["robust"], settings: .init(labelSmoothing: 0.5))
    }
    #expect(throws: Fault.self) { try PreferenceObjective(settings: .init(beta: 0)) }
    #expect(throws: Fault.self) { try PreferenceObjective(settings: .init(beta: .nan)) }
    #expect(throws: Fault.self) { try PreferenceObjective(losses: ["sigmoid"], weights: [1, 2]) }
    #expect(throws: Fault.self) { try PreferenceObjective(losses: []) }
    let divergence = #expect(throws: Fault.self) { try Divergence.named("forward_kll") }
    #expect(divergence?.hint == "did you mean \"forward_kl\"?")
  }
}
