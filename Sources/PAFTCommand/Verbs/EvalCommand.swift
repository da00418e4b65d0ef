// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval", abstract: "Loss and accuracy of a model on data files.",
    discussion: """
      Rows to learn give loss and token accuracy, preference pairs give the share whose chosen \
      answer is preferred; with an adapter also its rewards over the base.

        paft eval --model run/merged --task sft-eval.jsonl prefs-eval.jsonl
        paft eval --model base --adapter run/align/adapter \\
          --task prefs-eval.jsonl --json
      """)

  @Option(name: .long, help: "Model folder.") var model: String
  @Option(name: .long, help: "PEFT adapter folder beside it.") var adapter: String?
  @Option(
    name: .long, parsing: .upToNextOption,
    help: "Data files; several after one --task, or --task again.")
  var task: [String]
  @Option(name: .long, help: "Tokens of a row; longer ones are cut.") var maxLength = 1024
  @Option(name: .long, help: "Factor on rewards.") var beta = 0.1
  @Option(name: .long, help: "At most so many rows of a file.") var limit: Int?
  @Flag(name: .long, help: "Generate answers and grade those of the built-in example.")
  var gradeExample = false
  @Option(name: .long, help: "Tokens of a generated answer.") var maxNewTokens = 64
  @OptionGroup var compute: ComputeArguments
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if task.isEmpty { throw ValidationError("expected at least one --task") }
    if let limit, limit < 1 { throw ValidationError("--limit \(limit): expected at least 1") }
    if maxLength < 2 { throw ValidationError("--max-length \(maxLength): expected at least 2") }
    if maxNewTokens < 1 {
      throw ValidationError("--max-new-tokens \(maxNewTokens): expected at least 1")
    }
    guard beta.isFinite, beta > 0 else {
      throw ValidationError("--beta \(beta): expected a number > 0")
    }
  }

  func run() throws {
    var verb = EvalVerb(model: model, tasks: task)
    verb.adapter = adapter
    common.noteBase(of: adapter, model: model)
    verb.maxLength = maxLength
    verb.beta = beta
    verb.limit = limit
    verb.grader = gradeExample ? .example : .none
    verb.maxNewTokens = maxNewTokens
    verb.compute = compute.options
    let results = try verb.run()
    if common.json {
      for result in results { Terminal.line(result.json) }
    } else {
      Terminal.output(EvalVerb.table(results).text)
    }
  }
}
