// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure kernels on this machine, against its own limits.",
    discussion: """
      Peak arithmetic and memory bandwidth are measured before and after the rows and between \
      their samples. Without --threads: one worker, then all that are granted.

        paft bench gemm
        paft bench gemm --shape 4096x4096x4096 --dtype f32 --threads 4 --json
        paft bench gemm attention --model qwen2.5-0.5b --tokens 2048 --format md
        paft bench loss --shape 2048x896x151936 --labelled 0.5 --dtype bf16
        paft bench gemm --json > before.jsonl; paft bench gemm --baseline before.jsonl
        paft bench step --model llama-3.2-1b --objective dpo --length 1024 --batch 4

      Shapes: gemm MxNxK, attention HxHkvxTxD, loss TxDxV, elementwise TxD, merge N.
      """)

  @Argument(
    help: ArgumentHelp(
      "gemm, attention, loss, elementwise, merge, step, stream, peak, team (default: all but step).",
      valueName: "kind"))
  var kinds: [BenchKind] = []
  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("Shape of one kind. May be repeated.", valueName: "AxBx…"))
  var shape: [String] = []
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Take the shapes of a model's layers: a folder with config.json, or "
        + BenchModel.names.joined(separator: ", ") + ".", valueName: "name"))
  var model: String?
  @Option(name: .long, help: "Rows of activations, with --model.") var tokens = 1024
  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("Only this pass, such as dgrad. May be repeated.", valueName: "pass"))
  var pass: [String] = []
  @Option(name: .long, help: "Samples; the median counts.") var repetitions = 7
  @Option(name: .long, help: "text, csv, md or json; --json is --format json.")
  var format = Format.text
  @Option(
    name: .long,
    help: ArgumentHelp("An earlier --json result to compare with.", valueName: "file"))
  var baseline: String?
  @OptionGroup var step: StepArguments
  @Option(
    name: .long,
    help: ArgumentHelp("Operands of products: bf16, f32 or int8 (default: all; step: bf16)."))
  var dtype: String?
  @Option(
    name: .long,
    help: "Instruction set: reference, avx2, avx512, avx512bf16, amx (default: the fastest here).")
  var isa: String?
  @OptionGroup var team: ThreadArguments
  @OptionGroup var common: CommonOptions

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, csv, md, json }

  func validate() throws {
    if let dtype, BenchType(rawValue: dtype) == nil {
      throw ValidationError("--dtype \(dtype): expected bf16, f32 or int8")
    }
    guard tokens >= 1, tokens <= 1 << 20 else {
      throw ValidationError("--tokens \(tokens): expected 1 to 1048576")
    }
  }

  func run() throws {
    var verb = BenchVerb()
    if !kinds.isEmpty { verb.kinds = kinds }
    verb.shapes = shape
    verb.model = model
    verb.tokens = tokens
    verb.passes = pass
    verb.repetitions = repetitions
    verb.baseline = baseline
    verb.step = step.settings
    if let labelled = step.labelled { verb.labelled = [labelled] }
    verb.types = (step.baseDtype ?? dtype).flatMap(BenchType.init).map { [$0] } ?? []
    verb.compute = ComputeOptions(threads: team.threads, isa: isa)
    let result = try verb.run()
    for warning in result.warnings { common.note("paft: warning: \(warning)") }
    switch common.json ? .json : format {
    case .text: Terminal.output(BenchRow.table(result.rows, result.system))
    case .csv: Terminal.output(BenchRow.csv(result.rows))
    case .md: Terminal.output(BenchRow.markdown(result.rows, result.system))
    case .json: for row in result.rows { Terminal.line(row.json) }
    }
  }
}

extension BenchKind: ExpressibleByArgument {}

/// What a training step on random weights is made of.
struct StepArguments: ParsableArguments {
  @Option(name: .long, help: "Of a step: sft, dpo, orpo, or paft (sft, then dpo, beside one base).")
  var objective = "sft"
  @Option(name: .long, help: "Of a step: lora or full.") var adapter = Adapter.lora
  @Option(name: .long, help: "Of a step: rank of the adapters.") var rank = 16
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Of a step: how weights are multiplied: bf16, f32 or int8.", valueName: "dtype"))
  var baseDtype: String?
  @Option(name: .long, help: "Of a step: adamw, adamw_8bit or sgd.") var optimizer = "adamw"
  @Option(name: .long, help: "Of a step: tokens of a sequence.") var length = 512
  @Option(name: .long, help: "Of a step: sequences (sft) or pairs.") var batch = 4
  @Flag(name: .long, help: "Of a step: compute activations again instead of keeping them.")
  var gradientCheckpointing = false
  @Flag(
    name: .long,
    help: "Of a full step: BF16 weights alone, each layer updated in the backward pass.")
  var noMasterWeights = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Of a step: 1, turned for input gradients, or 2 of each frozen weight (default: by the rows).",
      valueName: "count"))
  var layouts: Int?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Share of the rows that have a label (default: 1, of a step 0.5).", valueName: "share"))
  var labelled: Double?

  enum Adapter: String, CaseIterable, ExpressibleByArgument { case lora, full }

  func validate() throws {
    if let baseDtype, BenchType(rawValue: baseDtype) == nil {
      throw ValidationError("--base-dtype \(baseDtype): expected bf16, f32 or int8")
    }
    if let layouts, !(1...2).contains(layouts) {
      throw ValidationError("--layouts \(layouts): expected 1 or 2")
    }
    if let labelled, !(labelled > 0 && labelled <= 1) {
      throw ValidationError("--labelled \(labelled): expected a share above 0, at most 1")
    }
  }

  var settings: StepSettings {
    get {
      var settings = StepSettings()
      settings.objective = objective
      settings.isFull = adapter == .full
      settings.optimizer = optimizer
      settings.rank = rank
      settings.length = length
      settings.batch = batch
      settings.checkpointing = gradientCheckpointing
      settings.masters = !noMasterWeights
      settings.layouts = layouts
      if let labelled { settings.labelled = labelled }
      return settings
    }
  }
}
