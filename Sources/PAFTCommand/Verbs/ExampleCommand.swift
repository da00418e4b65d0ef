// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct ExampleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "example", abstract: "Write the built-in data set and a recipe for it.",
    discussion: """
        paft example --output demo && cd demo
        paft pretrain --data corpus.jsonl --output base
        paft run recipe.yaml
      """)

  @Option(name: .long, help: "Folder to make.") var output: String
  @Option(name: .long, help: "Of the random world.") var seed = 42
  @Option(name: .long, help: "Documents to pre-train on.") var documents = 4000
  @Option(name: .long, help: "Rows for SFT.") var instructions = 4000
  @Option(name: .long, help: "Pairs for alignment.") var preferences = 1500
  @Option(name: .long, help: "Held-out rows of each kind.") var heldOut = 300
  @OptionGroup var common: CommonOptions

  func run() throws {
    var verb = ExampleVerb(output: output)
    verb.seed = seed
    verb.documents = documents
    verb.instructions = instructions
    verb.preferences = preferences
    verb.heldOut = heldOut
    let files = try verb.run()
    for file in files {
      let path = output + "/" + file
      Terminal.line(common.json ? JSONText.object([(name: "file", value: path)]) : path)
    }
  }
}
