// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import Testing

@Suite("Faults")
struct DiagnosableTests {
  @Test(
    "A misspelt word finds the one that was meant",
    arguments: [
      ("batchsize", "batch_size"), ("bach_size", "batch_size"), ("lerning_rate", "learning_rate"),
      ("DPO", nil), ("dop", nil), ("dp", "dpo"), ("dpoo", "dpo"), ("", nil), ("zebra", nil),
    ] as [(String, String?)])
  func misspelt(word: String, meant: String?) {
    #expect(nearest(to: word, in: ["batch_size", "learning_rate", "dpo"]) == meant)
  }

  @Test("Of two candidates the nearer one is taken, of none nothing")
  func candidates() {
    #expect(nearest(to: "sigmoid_nrm", in: ["sigmoid", "sigmoid_norm"]) == "sigmoid_norm")
    #expect(nearest(to: "sigmoid", in: [String]()) == nil)
  }

  /// Scripts rely on these numbers; the first group is sysexits.h, the last 128 + signal.
  @Test("Exit codes are what scripts know")
  func exitCodes() {
    let known: [(ExitCode, Int32)] = [
      (.unexpected, 1), (.usage, 64), (.data, 65), (.missingInput, 66), (.internal, 70),
      (.cannotCreate, 73), (.inputOutput, 74), (.locked, 75), (.configuration, 78),
      (.notFinite, 80), (.memoryBudget, 81), (.checkpoint, 82), (.interrupted, 130),
      (.terminated, 143),
    ]
    for (code, number) in known { #expect(code.rawValue == number) }
  }

  @Test("Element types have the sizes their names say")
  func elementTypes() {
    for type in DType.allCases {
      // F8_E4M3 and BF16 carry their width among letters: it is the first number in the name.
      let digits = type.rawValue.drop { !$0.isNumber }.prefix { $0.isNumber }
      let bits = type == .bool ? 8 : Int(digits)!
      #expect(type.size * 8 == bits, "\(type.rawValue)")
      #expect(type.isFloat == type.rawValue.contains("F"))
    }
  }
}
