// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTTraining
import Testing

/// Against `objectives.json`: values and gradients by automatic differentiation in PyTorch (and by
/// TRL's own code), functions to 50 digits, schedules by transformers. See tools/golden/objectives.py.
@Suite("Objectives against PyTorch, TRL and transformers")
struct ObjectiveOracleTests {
  let oracle: JSON

  init() throws { oracle = try JSON.read(path: TestData.fixture("training/objectives.json")) }

  func number(_ json: JSON, _ key: String) throws -> Double { try #require(json[key]?.double) }

  func pair(_ json: JSON) throws -> PairLogps {
    PairLogps(
      policyChosen: try number(json, "logpi_w"), policyRejected: try number(json, "logpi_l"),
      referenceChosen: try number(json, "ref_w"), referenceRejected: try number(json, "ref_l"),
      chosenCount: try #require(json["n_w"]?.int), rejectedCount: try #require(json["n_l"]?.int))
  }

  /// The oracle's name of a loss as ours and its settings.
  func loss(_ name: String, beta: Double) throws -> (PreferenceLoss, PreferenceSettings)? {
    let constants = try #require(oracle["constants"])
    var settings = PreferenceSettings(beta: beta, simpoGamma: try number(constants, "simpo_gamma"))
    var ours = name
    let smoothing = try number(constants, "label_smoothing")
    switch name {
    case "cdpo", "robust": settings.labelSmoothing = smoothing
    case "exo_pair":
      // The oracle takes this constant through a float32 tensor before its logarithms.
      settings.labelSmoothing = Double(Float(try number(constants, "exo_label_smoothing")))
    case "sigmoid/forward_kl", "sigmoid/js", "sigmoid/alpha":
      settings.divergence = try .named(
        name == "sigmoid/forward_kl" ? "forward_kl" : String(name.dropFirst(8)),
        coefficient: try number(constants, "alpha_divergence"))
      ours = "sigmoid"
    case "orpo_odds": ours = "orpo"
    case "cpo_sigmoid": ours = "cpo"
    case "cpo_sigmoid_smoothed":
      settings.labelSmoothing = smoothing
      ours = "cpo"
    case "simpo_smoothed":
      settings.labelSmoothing = smoothing
      ours = "simpo"
    case "alphapo":
      settings.alphaPO = try number(constants, "alphapo_alpha")
      ours = "simpo"
    default: if name.contains("desirable") { return nil }
    }
    return (try PreferenceLoss.named(ours), settings)
  }

  func close(_ found: Double, _ expected: Double) -> Bool {
    abs(found - expected) <= 1e-9 * max(1e-3, abs(expected))
  }

  @Test("Every paired loss, value and gradient, on easy and extreme pairs")
  func paired() throws {
    var checked = 0
    for row in try #require(oracle["cases"]?.array) {
      let pair = try pair(row)
      for (name, expected) in try #require(row["losses"]?.object) {
        guard let (loss, settings) = try loss(name, beta: try number(row, "beta")) else { continue }
        let found = loss(pair, settings)
        for (value, index) in [
          (found.loss, 0), (found.dPolicyChosen, 1), (found.dPolicyRejected, 2),
        ] {
          let wanted = try #require(expected[index]?.double)
          #expect(
            close(value, wanted), "\(name) [\(index)] of \(pair): \(value), expected \(wanted)")
        }
        checked += 1
      }
    }
    #expect(checked == 22 * 24)
  }

  @Test("Losses of single rated answers")
  func unpaired() throws {
    for row in try #require(oracle["cases"]?.array) {
      let pair = try pair(row)
      for loss in UnpairedLoss.allCases {
        for desirable in [true, false] {
          let name = loss.rawValue + (desirable ? "_desirable" : "_undesirable")
          let expected = try #require(row["losses"]?[name])
          let found = loss(
            ratio: desirable ? pair.chosenRatio : pair.rejectedRatio, desirable: desirable,
            beta: try number(row, "beta"), kl: try number(row, "z"))
          #expect(close(found.loss, try #require(expected[0]?.double)), "\(name) \(pair)")
          #expect(close(found.slope, try #require(expected[desirable ? 1 : 2]?.double)))
        }
      }
    }
  }

  @Test("Sorted losses and their gradients per pair")
  func sorted() throws {
    for batch in try #require(oracle["batches"]?.array) {
      func column(_ key: String) throws -> [Double] {
        try #require(batch[key]?.array).map { try #require($0.double) }
      }
      let (w, l, rw, rl) = (
        try column("logpi_w"), try column("logpi_l"), try column("ref_w"), try column("ref_l")
      )
      let pairs = w.indices.map {
        PairLogps(
          policyChosen: w[$0], policyRejected: l[$0], referenceChosen: rw[$0],
          referenceRejected: rl[$0], chosenCount: 1, rejectedCount: 1)
      }
      let settings = PreferenceSettings(
        beta: try number(batch, "beta"), labelSmoothing: try number(batch, "label_smoothing"))
      for (name, expected) in try #require(batch["losses"]?.object) {
        let transport = SortedTransport(capacity: 16)
        var gradients = [PairLoss](repeating: .zero, count: pairs.count)
        let value = pairs.withUnsafeBufferPointer { input in
          gradients.withUnsafeMutableBufferPointer {
            transport(input, paired: name == "aot", settings, gradients: $0)
          }
        }
        #expect(close(value, try number(expected, "value")))
        for i in pairs.indices {
          #expect(close(gradients[i].dPolicyChosen, try #require(expected["d_w"]?[i]?.double)))
          #expect(close(gradients[i].dPolicyRejected, try #require(expected["d_l"]?[i]?.double)))
        }
      }
    }
  }

  @Test("Hard arguments of the scalar functions, to 50 digits")
  func functions() throws {
    let functions = try #require(oracle["functions"])
    for row in try #require(functions["softplus_of_minus"]?.array) {
      let (x, y) = (try #require(row[0]?.double), try #require(row[1]?.double))
      #expect(abs(StableMath.softplus(-x) - y) <= 4e-16 * y, "softplus(\(-x))")
    }
    for row in try #require(functions["log1mexp"]?.array) {
      let (p, y) = (try #require(row[0]?.double), try #require(row[1]?.double))
      #expect(abs(StableMath.log1mexp(p) - y) <= 4e-16 * abs(y), "log1mexp(\(p))")
    }
    for row in try #require(functions["log_odds"]?.array) {
      let (w, l) = (try #require(row[0]?.double), try #require(row[1]?.double))
      let y = try #require(row[2]?.double)
      #expect(abs(ReferenceFree.logOdds(w, l).value - y) <= 1e-12 * max(1, abs(y)), "\(w) \(l)")
    }
  }

  @Test("Learning rates over whole runs")
  func schedules() throws {
    for row in try #require(oracle["schedules"]?.array) {
      let name = try #require(row["name"]?.string)
      // The oracle's "constant" is transformers' constant_with_warmup.
      let rate = LearningRate(
        peak: 1, schedule: try .named(name == "constant" ? "constant_with_warmup" : name),
        warmupSteps: try #require(row["warmup"]?.int), totalSteps: try #require(row["steps"]?.int))
      for (step, factor) in try #require(row["factors"]?.array).enumerated() {
        #expect(abs(rate.factor(step) - (try #require(factor.double))) < 1e-15, "\(row) \(step)")
      }
    }
  }
}
