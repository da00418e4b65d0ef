// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "How far one model is from another: norms and sparsity.",
    discussion: """
        paft diff base run/merged
        paft diff base base+run/sft/adapter --json
      """)

  @Argument(help: "Model folder, safetensors file, or folder+adapter.") var a: String
  @Argument(help: "The other one.") var b: String
  @OptionGroup var team: ThreadArguments
  @OptionGroup var common: CommonOptions

  func run() throws {
    let (text, json) = try DiffVerb.run(a, b, threads: team.threads)
    if common.json { Terminal.line(json) } else { Terminal.output(text) }
  }
}
