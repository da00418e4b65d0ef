// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct ValidateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Check recipes and data files as a run would.",
    discussion: """
        paft validate recipe.yaml sft.jsonl prefs.jsonl
        paft validate --model base sft.jsonl
      """)

  @Argument(help: "Recipes (.yaml) and data files.") var files: [String]
  @Option(name: .long, help: "Tokenise data with this model's tokenizer.") var model: String?
  @Option(name: .long, help: "Tokens of a row.") var maxLength = 1024
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if maxLength < 2 { throw ValidationError("--max-length \(maxLength): expected at least 2") }
  }

  func run() throws {
    var verb = ValidateVerb(files: files)
    verb.model = model
    verb.maxLength = maxLength
    let verdicts = try verb.run()
    for verdict in verdicts {
      if common.json {
        Terminal.line(verdict.json)
      } else if verdict.error == nil {
        Terminal.line("\(verdict.file): ok")
        for line in verdict.lines { Terminal.line("  \(line)") }
      }
      if let error = verdict.error { Failure.report(error) }
    }
    if let first = verdicts.lazy.compactMap(\.error).first { throw ExitCode(first.exitCode) }
  }
}
