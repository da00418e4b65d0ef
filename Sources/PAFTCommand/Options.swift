// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

/// Of every verb.
struct CommonOptions: ParsableArguments {
  @Flag(name: .long, help: "Machine-readable results on standard output.")
  var json = false

  @Flag(name: .shortAndLong, help: "No progress, no notices; errors only.")
  var quiet = false

  func note(_ text: String) { if !quiet { Terminal.error(text + "\n") } }

  func noteBase(of adapter: String?, model: String) {
    if let warning = AdapterBase.warning(adapter: adapter, model: model) { note(warning) }
  }
}

/// Of verbs that use several cores.
struct ThreadArguments: ParsableArguments {
  @Option(
    name: .long, parsing: .unconditional,
    help: "Worker threads (default: PAFT_THREADS, else all granted).")
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 {
      throw ValidationError("--threads \(threads): expected at least 1")
    }
  }
}

/// Of verbs that compute.
struct ComputeArguments: ParsableArguments {
  @OptionGroup var team: ThreadArguments
  var threads: Int? { team.threads }

  @Option(
    name: .long,
    help: "Instruction set: reference, avx2, avx512, avx512bf16, amx (default: the fastest here).")
  var isa: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Precision of matrix products: bf16, f32, or to score and generate int8 (default: bf16 to "
        + "train, otherwise as the weights are stored)."))
  var dtype: String?

  func validate() throws {
    if let dtype, Recipe.Precision(rawValue: dtype) == nil {
      throw ValidationError("--dtype \(dtype): expected bf16, f32 or int8")
    }
  }

  var options: ComputeOptions {
    ComputeOptions(threads: threads, isa: isa, dtype: dtype.flatMap(Recipe.Precision.init))
  }

  /// As overrides of a recipe.
  var overrides: [String] {
    (threads.map { ["machine.threads=\($0)"] } ?? []) + (dtype.map { ["dtype=\($0)"] } ?? [])
  }
}

/// Of verbs that write answers.
struct SamplingArguments: ParsableArguments {
  @Option(
    name: .long, parsing: .unconditional,
    help: "Most tokens of an answer (default: 128, in a chat 512).")
  var maxTokens: Int?

  @Option(
    name: .long, parsing: .unconditional, help: "0 always takes the most probable token.")
  var temperature = 0.0

  @Option(
    name: .long, parsing: .unconditional,
    help: "Sample from the smallest set with this probability.")
  var topP = 1.0

  @Option(name: .long, parsing: .unconditional, help: "Of the samples.") var seed = 42

  func apply(to options: inout SamplingOptions) {
    if let maxTokens { options.maxTokens = maxTokens }
    options.temperature = temperature
    options.topP = topP
    options.seed = seed
  }
}

/// Of verbs that train a base, or plan it.
struct BaseArguments: ParsableArguments {
  @Option(
    name: .long,
    help: "How the base is multiplied: int8, or as --dtype (default).")
  var baseDtype: String?

  /// As overrides of a recipe, which checks them.
  var overrides: [String] { baseDtype.map { ["base_dtype=\($0)"] } ?? [] }
}

/// Of verbs that train.
struct TrainingArguments: ParsableArguments {
  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp(
      "Set a key of the recipe (`paft keys`), dotted: l1.target_sparsity=0.9. May be repeated.",
      valueName: "key=value"))
  var set: [String] = []

  @Flag(name: .long, help: "Go on with the run in the output folder.")
  var resume = false

  @OptionGroup var base: BaseArguments

  var overrides: [String] { self.set + base.overrides }
}
