// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge", abstract: "Merge models by a mergekit configuration.",
    discussion: """
      Reads mergekit's YAML; a model is a folder, or `folder+adapter`. Tensors are streamed, so \
      memory is a few times the largest one.

        paft merge merge.yaml merged
      """)

  @Argument(help: "mergekit's YAML.") var config: String
  @Argument(help: "Model folder to make.") var output: String
  @Flag(name: .long, help: "Replace a folder that is there.") var overwrite = false
  @OptionGroup var team: ThreadArguments
  @OptionGroup var common: CommonOptions

  func run() throws {
    var verb = MergeVerb(configuration: config, output: output)
    verb.threads = team.threads
    verb.replaces = overwrite
    let isLive = Terminal.errorIsTerminal && !common.quiet
    let (text, json) = try verb.run { step in
      switch step {
      case .plan(let line), .note(let line): common.note(line)
      case .tensor(let index, let count, let name):
        if isLive {
          Terminal.error(
            ("\r\u{1B}[K\(index + 1)/\(count) \(name)").prefix(Terminal.width - 1)
              + (index + 1 == count ? "\n" : ""))
        }
      }
    }
    if common.json { Terminal.line(json) } else { Terminal.output(text) }
  }
}
