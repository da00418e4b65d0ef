// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct PretrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pretrain", abstract: "A small base model from texts alone.",
    discussion: """
      Learns a tokenizer, then trains a Llama from random weights. Meant for the example and for \
      tests; real work starts from a real base.

        paft pretrain --data corpus.jsonl --output base
      """)

  @Option(name: .long, help: "Texts, JSON lines of {\"text\"}.") var data: String
  @Option(name: .long, help: "Model folder to make.") var output: String
  @Flag(name: .long, help: "Go on with an unfinished pre-training.") var resume = false
  @Option(name: .long, help: "Of weights and data order.") var seed = 42
  @Option(name: .long, help: "Tokens of the tokenizer, at most.") var vocabulary = 1024
  @Option(name: .long, help: "Width of the model.") var hidden = 128
  @Option(name: .long, help: "Layers.") var layers = 4
  @Option(name: .long, help: "Attention heads.") var heads = 4
  @Option(name: .long, help: "Passes over the data.") var epochs = 3.0
  @Option(name: .long, help: "Stop after so many steps.") var maxSteps: Int?
  @Option(name: .long, help: "Rows of a step.") var batchSize = 16
  @Option(name: .long, help: "Tokens of a row.") var maxLength = 256
  @Option(name: .long, help: "Peak learning rate.") var learningRate = 3e-3
  @Option(name: .long, help: "Steps between checkpoints; 0: only when stopped.") var saveSteps = 200
  @OptionGroup var compute: ComputeArguments
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard learningRate.isFinite, learningRate > 0 else {
      throw ValidationError("--learning-rate \(learningRate): expected a number > 0")
    }
    guard epochs.isFinite, epochs > 0 else {
      throw ValidationError("--epochs \(epochs): expected a number > 0")
    }
    guard saveSteps >= 0 else {
      throw ValidationError("--save-steps \(saveSteps): expected a number >= 0")
    }
  }

  func run() throws {
    var verb = PretrainVerb(data: data, output: output)
    verb.resume = resume
    verb.seed = seed
    verb.vocabulary = vocabulary
    verb.hidden = hidden
    verb.layers = layers
    verb.heads = heads
    verb.epochs = epochs
    verb.maxSteps = maxSteps
    verb.batchSize = batchSize
    verb.maxLength = maxLength
    verb.learningRate = learningRate
    verb.saveSteps = saveSteps
    verb.compute = compute.options
    Interruption.install()
    let progress = Progress(quiet: common.quiet)
    defer { progress.finish() }
    try verb.run(
      RunObserver(
        onEvent: { progress.handle($0) }, shouldStop: { Interruption.request }))
    progress.finish()
    let findings = try InspectVerb.run(output)
    Terminal.output(common.json ? findings.jsonText + "\n" : findings.text)
  }
}
