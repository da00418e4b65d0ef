// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge", abstract: "Merge models, or adapters, by a mergekit configuration.",
    discussion: """
      Reads mergekit's YAML; a model is a folder, or `folder+adapter`. Tensors are streamed, so \
      memory is a few times the largest one.

        paft merge merge.yaml merged
        paft merge merge.yaml adapter --as-adapter 16
        paft merge merge.yaml tried --sweep density=0.2,0.5,0.8 weight.2=0.5,1 \\
          --eval sft-eval.jsonl prefs-eval.jsonl

      With `output: adapter` in the YAML, PEFT adapters become one adapter without their base: \
      merge_method is then cat (exact), svd, linear, ties, dare_linear, dare_ties, \
      magnitude_prune, or one of the last four with _svd.
      """)

  @Argument(help: "mergekit's YAML.") var config: String
  @Argument(help: "Model folder to make.") var output: String
  @Flag(name: .long, help: "Replace a folder that is there.") var overwrite = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write the merged change of the base as a LoRA adapter of this rank.", valueName: "rank"))
  var asAdapter: Int?
  @Flag(
    name: .long,
    help: "Write the merged change of the base without its zeros; merge it again as base+folder.")
  var asSparse = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Bytes of a file at most, with K, M or B for thousands, millions, billions. A merge that was "
        + "killed goes on behind the files it had finished.", valueName: "size"))
  var outShardSize: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write a report of the deltas, by kind and by layer: Markdown, or JSON by its ending.",
      valueName: "file"))
  var report: String?
  @Option(
    name: .long, parsing: .upToNextOption,
    help: ArgumentHelp(
      "Merge with every combination of these values, score each on the --eval files, and write a "
        + "table and a plot instead of a model; name.N is that of the N-th model alone.",
      valueName: "name=value,…"))
  var sweep: [String] = []
  @Option(
    name: .long, parsing: .upToNextOption,
    help: ArgumentHelp("Rows to learn or preference pairs, not trained on.", valueName: "file"))
  var eval: [String] = []
  @Option(name: .long, help: "Sweep: tokens of a row, 1024; longer ones are cut.")
  var maxLength: Int?
  @Option(name: .long, help: "Sweep: at most so many rows of a file.") var limit: Int?
  @OptionGroup var team: ThreadArguments
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if let asAdapter, !(1...16384).contains(asAdapter) {
      throw ValidationError("--as-adapter \(asAdapter): expected 1 to 16384")
    }
    if let outShardSize, Self.bytes(outShardSize) == nil {
      throw ValidationError("--out-shard-size \(outShardSize): expected a size such as 500M or 5B")
    }
    if outShardSize != nil, asAdapter != nil || asSparse || !sweep.isEmpty {
      throw ValidationError("--out-shard-size is for the merge of a model")
    }
    if sweep.isEmpty != eval.isEmpty {
      throw ValidationError("--sweep and --eval go together: what to try, and on what to judge it")
    }
    if asAdapter != nil, asSparse {
      throw ValidationError("--as-adapter and --as-sparse: expected one of them")
    }
    if asAdapter != nil || asSparse, !sweep.isEmpty {
      throw ValidationError("--sweep writes no model: leave out --as-adapter and --as-sparse")
    }
    if report != nil, asAdapter != nil || asSparse || !sweep.isEmpty {
      throw ValidationError("--report describes the merge of a model")
    }
    for (name, value) in [("--limit", limit), ("--max-length", maxLength)]
    where value != nil && sweep.isEmpty {
      throw ValidationError("\(name) is for --sweep, which scores rows of the --eval files")
    }
    if let limit, limit < 1 { throw ValidationError("--limit \(limit): expected at least 1") }
    if let maxLength, maxLength < 2 {
      throw ValidationError("--max-length \(maxLength): expected at least 2")
    }
  }

  func run() throws {
    if !sweep.isEmpty { return try runSweep() }
    var verb = MergeVerb(configuration: config, output: output)
    verb.adapterRank = asAdapter
    verb.isSparse = asSparse
    verb.reportFile = report
    verb.shardBytes = outShardSize.flatMap(Self.bytes)
    verb.threads = team.threads
    verb.replaces = overwrite
    let isLive = Terminal.errorIsTerminal && !common.quiet
    let (text, json) = try verb.run { step in
      switch step {
      case .plan(let line), .note(let line): common.note(line)
      case .tensor(let index, let count, let name):
        if isLive {
          Terminal.error(
            ("\r\u{1B}[K" + Self.bar(index + 1, of: count) + " \(name)").prefix(Terminal.width - 1)
              + (index + 1 == count ? "\n" : ""))
        }
      }
    }
    if common.json { Terminal.line(json) } else { Terminal.output(text) }
  }

  /// mergekit's sizes: `5B` is five thousand million.
  private static func bytes(_ text: String) -> Int? {
    let factors: [Character: Int] = [
      "K": 1_000, "M": 1_000_000, "B": 1_000_000_000, "G": 1_000_000_000,
    ]
    let factor = text.last.flatMap { factors[Character($0.uppercased())] }
    guard let number = Int(factor == nil ? text : String(text.dropLast())), number > 0 else {
      return nil
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: factor ?? 1)
    return overflow ? nil : bytes
  }

  private static func bar(_ done: Int, of count: Int) -> String {
    let (width, total) = (24, max(count, 1))
    let filled = width * done / total
    return String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
      + " \(100 * done / total) %"
  }

  private func runSweep() throws {
    var verb = SweepVerb(configuration: config, output: output, axes: sweep, tasks: eval)
    verb.replaces = overwrite
    if let maxLength { verb.maxLength = maxLength }
    verb.limit = limit
    verb.compute.threads = team.threads
    let result = try verb.run { step in
      switch step {
      case .note(let text): common.note(text)
      case .scored(let index, let count, let text): common.note("\(index)/\(count)  \(text)")
      }
    }
    if common.json {
      Terminal.line(result.jsonText)
    } else {
      Terminal.output(result.table.text)
    }
  }
}
