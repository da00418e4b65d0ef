// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure kernels on this machine.",
    subcommands: [GEMMBenchCommand.self])
}

struct GEMMBenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gemm", abstract: "Matrix products, against the peak of the same micro-kernel.",
    discussion: """
        paft bench gemm
        paft bench gemm --shape 4096x4096x4096 --dtype f32 --threads 4 --json
        paft bench gemm --format csv > gemm.csv
      """)

  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp(
      "Rows x columns x reduced dimension. May be repeated.", valueName: "MxNxK"))
  var shape: [String] = []
  @Option(name: .long, help: "Samples; the median counts.") var repetitions = 7
  @Option(name: .long, help: "text, csv, md or json; --json is --format json.")
  var format = Format.text
  @OptionGroup var compute: ComputeArguments
  @OptionGroup var common: CommonOptions

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, csv, md, json }

  func validate() throws {
    for text in shape where BenchVerb.Shape(text) == nil {
      throw ValidationError("--shape \(text): expected MxNxK, each from 1 to 1048576")
    }
  }

  func run() throws {
    var verb = BenchVerb()
    if !shape.isEmpty { verb.shapes = shape.compactMap(BenchVerb.Shape.init) }
    verb.repetitions = repetitions
    var rows: [BenchRow] = []
    let asked = compute.options
    for precision in asked.dtype.map({ [$0] }) ?? Recipe.Precision.allCases {
      verb.compute = asked
      verb.compute.dtype = precision
      rows += try verb.run()
    }
    switch common.json ? .json : format {
    case .text: Terminal.output(BenchRow.table(rows))
    case .csv: Terminal.output(BenchRow.csv(rows))
    case .md: Terminal.output(BenchRow.markdown(rows))
    case .json: for row in rows { Terminal.line(row.json) }
    }
  }
}
