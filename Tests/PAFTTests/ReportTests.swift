// SPDX-License-Identifier: Apache-2.0

import PAFT
import PAFTFormats
import Testing

@Suite("Reports and their numbers")
struct ReportTests {
  static let recipe = try! Recipe.parse(minimal, folder: "/r")

  static let report = Report(
    recipe: recipe,
    machine: Report.Machine(model: "A CPU", kernels: "avx2", workers: 4, peakBytes: 3 << 20),
    timing: Report.Timing(training: 75, total: 150),
    branches: [
      Report.Branch(
        name: "sft", objective: "sft", rows: 1200, heldOutRows: 10, steps: 300, parameters: 87552,
        tokens: 30000, seconds: 60, firstLoss: 2.5, finalLoss: 1.25, place: "CPUs 0-3",
        path: "/r/out/sft/adapter")
    ], merge: Report.Merge(method: "ties", path: "/r/out/merged", tensors: 20),
    scores: [
      ModelScore(
        model: "base",
        supervised: ModelScore.Supervised(rows: 10, tokens: 50, loss: 2, tokenAccuracy: 0.5),
        preference: ModelScore.Preference(
          pairs: 8, accuracy: 0.25, normalizedAccuracy: 0.5, rewardAccuracy: nil,
          rewardMargin: nil)),
      ModelScore(
        model: "merged",
        supervised: ModelScore.Supervised(rows: 10, tokens: 50, loss: 1, tokenAccuracy: 0.75),
        preference: ModelScore.Preference(
          pairs: 8, accuracy: 1, normalizedAccuracy: 1, rewardAccuracy: 0.875, rewardMargin: 0.5)),
    ],
    sparsity: [
      Report.Sparsity(
        model: "sft", form: "product", count: 1000, shares: [0, 0.1, 0.2, 0.3, 0.4, 0.9],
        norm: 1.5, relativeNorm: 0.01, largest: 0.25)
    ])

  @Test("report.json is JSON with the promised names")
  func json() throws {
    let json = try JSON.parse(Array(Self.report.json.utf8), source: "report")
    #expect(json["format"]?.int == 1)
    #expect(json["seconds"]?.double == 150)
    #expect(json["branches"]?[0]?["tokens_per_second"]?.double == 500)
    #expect(json["merge"]?["method"]?.string == "ties")
    let scores = json["evaluation"]
    #expect(scores?[0]?["supervised"]?["loss"]?.double == 2)
    #expect(scores?[0]?["preference"]?["reward_accuracy"]?.isNull == true)
    #expect(scores?[1]?["preference"]?["reward_accuracy"]?.double == 0.875)
    #expect(json["sparsity"]?[0]?["share_within"]?["0"]?.double == 0)
    #expect(json["sparsity"]?[0]?["share_within"]?["0.0001"]?.double == 0.9)
    #expect(json["recipe"]?["align"]?["beta"]?.double == 0.1)
  }

  @Test("report.md has aligned tables and nothing where nothing was measured")
  func markdown() {
    let lines = Self.report.markdown.split(separator: "\n", omittingEmptySubsequences: false)
    var block: [Substring] = []
    for line in lines + [""] {
      if line.hasPrefix("|") {
        block.append(line)
      } else {
        #expect(Set(block.map(\.count)).count <= 1, "a table is not aligned: \(block)")
        block = []
      }
    }
    let text = Self.report.markdown
    #expect(text.contains("| sft    |") && text.contains("| 1:00 |"))
    #expect(text.contains("| merged |") && text.contains("87.5 %"))
    #expect(!text.contains("exact match"), "no answers were graded")
    #expect(!text.contains("nan"))
  }

  @Test("an unfinished number is shown as what it is")
  func numbers() {
    #expect(Numbers.fixed(1.005, 2) == "1.00" || Numbers.fixed(1.005, 2) == "1.01")
    #expect(Numbers.fixed(-0.001, 2) == "0.00")
    #expect(Numbers.fixed(-1.5, 1) == "-1.5")
    #expect(Numbers.fixed(.nan, 3) == "nan")
    #expect(Numbers.fixed(.infinity, 3) == "inf")
    #expect(Numbers.fixed(0.05, 3) == "0.050")
    #expect(Numbers.percent(0.123) == "12.3 %")
    #expect(Numbers.grouped(1_234_567) == "1,234,567")
    #expect(Numbers.grouped(-1000) == "-1,000")
    #expect(Numbers.grouped(999) == "999")
    #expect(Numbers.significant(1.234e-5) == "1.23e-05")
    #expect(Numbers.significant(9.999e-5) == "1.00e-04")
    #expect(Numbers.significant(0.01234) == "0.0123")
    #expect(Numbers.significant(0) == "0")
    #expect(Numbers.duration(75) == "1:15")
    #expect(Numbers.duration(3700) == "1:01:40")
    #expect(Numbers.duration(0.25) == "0.25 s")
    #expect(Numbers.short(2) == "2")
    #expect(Numbers.short(1e-5) == "1e-05")
  }

  @Test("a table sets numbers right, words left, and drops empty columns on request")
  func table() {
    var table = TextTable(["name", "value", "note", "none"])
    table.add(["a", "1.5", "x", ""])
    table.add(["long", "10", "yy", ""])
    #expect(
      table.withoutEmptyColumns().text == """
        name  value  note
        a       1.5  x
        long     10  yy

        """)
  }
}
