// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat", abstract: "Talk with a model in the terminal, or with two side by side.",
    discussion: """
      Each line of standard input is a turn; answers appear as they are written. /reset forgets the \
      conversation, /system TEXT sets the system prompt, /quit (or the end of input) ends; ^C stops \
      an answer only. With --json every answer is a line {"turn","model","text","tokens"}.

        paft chat --model run/merged
        paft chat --model run/merged --against base
      """)

  @Option(name: .long, help: "Model folder with a chat template.") var model: String
  @Option(name: .long, help: "PEFT adapter folder beside it.") var adapter: String?
  @Option(name: .long, help: "A second model folder, which answers too.") var against: String?
  @Option(name: .long, help: "PEFT adapter folder of the second model (default: none).")
  var againstAdapter: String?
  @Option(name: .long, parsing: .unconditional, help: "System prompt.") var system: String?
  @Option(name: .long, parsing: .unconditional, help: "Most tokens of a conversation.")
  var context = 8192
  @OptionGroup var sampling: SamplingArguments
  @OptionGroup var compute: ComputeArguments
  @OptionGroup var common: CommonOptions

  func run() throws {
    var partners = [ChatVerb.Partner(model: model, adapter: adapter)]
    common.noteBase(of: adapter, model: model)
    if against != nil || againstAdapter != nil {
      partners.append(ChatVerb.Partner(model: against ?? model, adapter: againstAdapter))
      common.noteBase(of: againstAdapter, model: against ?? model)
    }
    var verb = ChatVerb(partners)
    verb.system = system
    sampling.apply(to: &verb.sampling)
    verb.context = context
    verb.compute = compute.options
    AnswerStop.install()
    let view = ChatView(sides: partners.count, json: common.json, quiet: common.quiet)
    try verb.run(
      nextLine: {
        view.prompt()
        return AnswerStop.atPrompt { readLine() }
      },
      isStopped: { AnswerStop.isRequested }, show: { view.show($0) })
    view.end()
  }
}
