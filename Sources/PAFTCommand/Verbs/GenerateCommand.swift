// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Continue prompts, answer conversations.",
    discussion: """
        paft generate --model run/merged --prompt "Once upon a time"
        paft generate --model base --adapter run/align/adapter \\
          --prompt "Hello" --temperature 0.8 --seed 7
        paft generate --model run/merged --messages talk.json
      """)

  @Option(name: .long, help: "Model folder.") var model: String
  @Option(name: .long, help: "PEFT adapter folder beside it.") var adapter: String?
  @Option(
    name: .long, parsing: .unconditionalSingleValue, help: "Text to continue. May be repeated.")
  var prompt: [String] = []
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Conversations to answer: a list of {role, content}, or {\"messages\"} on each line.",
      valueName: "file"))
  var messages: String?
  @OptionGroup var sampling: SamplingArguments
  @OptionGroup var compute: ComputeArguments
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if prompt.isEmpty && messages == nil {
      throw ValidationError("expected at least one --prompt, or --messages")
    }
  }

  func run() throws {
    var verb = GenerateVerb(model: model, prompts: prompt)
    verb.adapter = adapter
    verb.messages = messages
    common.noteBase(of: adapter, model: model)
    sampling.apply(to: &verb.sampling)
    verb.compute = compute.options
    let (answers, seconds) = try verb.run()
    for answer in answers {
      let text = answer.isReply ? answer.text : answer.prompt + answer.text
      Terminal.line(common.json ? answer.json : text)
    }
    let tokens = answers.reduce(0) { $0 + $1.tokens }
    common.note(
      "\(Numbers.grouped(tokens)) tokens in \(Numbers.duration(seconds)), loading included")
  }
}
