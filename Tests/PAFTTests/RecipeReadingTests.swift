// SPDX-License-Identifier: Apache-2.0

import PAFT
import Testing

/// The least a recipe must say.
let minimal = """
  model: base
  output: out
  sft: {data: sft.jsonl}
  align: {data: prefs.jsonl}

  """

/// What reading `yaml` fails with; nil when it does not.
func complaint(_ yaml: String, _ overrides: [String] = []) -> PAFTError? {
  do {
    _ = try Recipe.parse(yaml, overrides: overrides, folder: "/r")
    return nil
  } catch { return error as? PAFTError }
}

@Suite("Reading recipes")
struct RecipeReadingTests {
  @Test("a minimal recipe gets the documented defaults")
  func defaults() throws {
    let recipe = try Recipe.parse(minimal, folder: "/r")
    #expect(recipe.model == "/r/base")
    #expect(recipe.output == "/r/out")
    #expect(recipe.seed == 42)
    #expect(recipe.dtype == .bf16)
    #expect(recipe.baseDtype == .bf16)
    let sft = try #require(recipe.sft)
    #expect(sft.data == "/r/sft.jsonl")
    #expect(
      sft.adapter == .lora(r: 16, alpha: 32, dropout: 0, targetModules: [], rslora: false))
    #expect(sft.learningRate == 2e-4)
    #expect(sft.lrScheduler == "cosine")
    #expect(sft.warmup == 0.1)
    #expect(sft.batchSize == 8)
    #expect(sft.maxLength == 1024)
    #expect(sft.maxGradNorm == 1)
    #expect(sft.optimizer == .adamw(beta1: 0.9, beta2: 0.999, epsilon: 1e-8))
    #expect(sft.l1 == nil)
    #expect(sft.preference == nil)
    let align = try #require(recipe.align)
    #expect(align.learningRate == 5e-6)
    #expect(align.preference?.losses == ["dpo"])
    #expect(align.preference?.beta == 0.1)
    #expect(recipe.merge.method == "ties")
    #expect(recipe.merge.density == Recipe.PerBranch(sft: 1, align: 0.5))
    #expect(recipe.merge.weights == Recipe.PerBranch(sft: 1, align: 1))
    #expect(recipe.machine.partitions == .auto)
  }

  @Test("full fine-tuning has learning rates of its own")
  func fullRates() throws {
    let recipe = try Recipe.parse(minimal + "adapter: full\n")
    #expect(recipe.sft?.learningRate == 2e-5)
    #expect(recipe.align?.learningRate == 1e-6)
  }

  @Test(
    "weights without masters are refused beside what needs a step's whole gradient, in one line")
  func mastersAndTheRest() throws {
    let full = minimal + "adapter: full\nmaster_weights: false\n"
    for (extra, word) in [
      ("", "max_grad_norm: found 1, expected 0"),
      (
        "max_grad_norm: 0\ngradient_accumulation_steps: 2\n",
        "gradient_accumulation_steps: found 2, expected 1"
      ),
      ("max_grad_norm: 0\ndtype: f32\n", "dtype: found f32, expected bf16"),
    ] {
      let fault = #expect(throws: (any Error).self) { try Recipe.parse(full + extra) }
      #expect("\(fault!)".contains(word), "\(fault!)")
    }
    #expect(try Recipe.parse(full + "max_grad_norm: 0\n").sft?.masterWeights == false)
    // An adapter's weights are Floats in any case.
    #expect(try Recipe.parse(minimal + "master_weights: false\n").sft?.adapter != .full)
  }

  @Test("the recipe of the manual is read key by key")
  func manual() throws {
    let recipe = try Recipe.parse(
      """
      model: ./base
      output: ./runs/first
      seed: 7
      dtype: f32
      adapter: {type: lora, r: 8, alpha: 16, dropout: 0.05, target_modules: [q_proj, v_proj], rslora: true}
      sft:   {data: sft.jsonl, eval_data: held.jsonl, epochs: 2, learning_rate: 3.0e-4, lr_scheduler: linear,
              warmup_ratio: 0.03, optimizer: sgd, momentum: 0.9, weight_decay: 0.1, max_grad_norm: 0.5,
              batch_size: 4, gradient_accumulation_steps: 2, max_length: 256, shuffle: false,
              l1: {target_sparsity: 0.8}, max_steps: 17, save_steps: 3, save_total_limit: 4,
              gradient_checkpointing: true, logging_steps: 1, eval_fraction: 0}
      align: {data: prefs.jsonl, loss: [ipo, sft], loss_weights: [1, 0.5], beta: 0.2, learning_rate: 1.0e-5,
              warmup_steps: 9, label_smoothing: 0.1, adapter: {r: 4}}
      merge: {method: dare_ties, density: 0.5, weights: {sft: 0.7, align: 1.3}, lambda: 1.1, t: 0.3, seed: 5,
              dtype: f32, normalize: false}
      baselines: [sequential, dense]
      machine: {partitions: {sft: "0-3", align: "4-7"}, threads: 8}
      eval: {batch_size: 2, limit: 50, grader: example, max_new_tokens: 12}
      """, folder: "/r")
    let sft = try #require(recipe.sft)
    #expect(
      sft.adapter
        == .lora(
          r: 8, alpha: 16, dropout: 0.05, targetModules: ["q_proj", "v_proj"], rslora: true))
    #expect(sft.evalData == "/r/held.jsonl")
    #expect(sft.epochs == 2)
    #expect(sft.maxSteps == 17)
    #expect(sft.learningRate == 3e-4)
    #expect(sft.lrScheduler == "linear")
    #expect(sft.warmup == 0.03)
    #expect(sft.optimizer == .sgd(momentum: 0.9))
    #expect(sft.weightDecay == 0.1)
    #expect(sft.maxGradNorm == 0.5)
    #expect(sft.batchSize == 4)
    #expect(sft.gradientAccumulationSteps == 2)
    #expect(sft.maxLength == 256)
    #expect(sft.shuffle == false)
    #expect(sft.gradientCheckpointing)
    #expect(sft.saveSteps == 3)
    #expect(sft.saveTotalLimit == 4)
    #expect(sft.loggingSteps == 1)
    #expect(sft.evalFraction == 0)
    #expect(sft.l1 == Recipe.L1(lambda: nil, targetSparsity: 0.8, form: nil))
    let align = try #require(recipe.align)
    #expect(
      align.adapter
        == .lora(
          r: 4, alpha: 16, dropout: 0.05, targetModules: ["q_proj", "v_proj"], rslora: true))
    #expect(align.warmup == 9)
    #expect(align.preference?.losses == ["ipo", "sft"])
    #expect(align.preference?.lossWeights == [1, 0.5])
    #expect(align.preference?.beta == 0.2)
    #expect(align.preference?.labelSmoothing == 0.1)
    #expect(recipe.merge.method == "dare_ties")
    #expect(recipe.merge.density == Recipe.PerBranch(sft: 0.5, align: 0.5))
    #expect(recipe.merge.weights == Recipe.PerBranch(sft: 0.7, align: 1.3))
    #expect(recipe.merge.lambda == 1.1)
    #expect(recipe.merge.t == 0.3)
    #expect(recipe.merge.seed == 5)
    #expect(recipe.merge.dtype == "f32")
    #expect(recipe.merge.normalize == false)
    #expect(recipe.baselines == [.sequential, .dense])
    #expect(recipe.machine.partitions == .cpus(sft: "0-3", align: "4-7"))
    #expect(recipe.machine.threads == 8)
    #expect(recipe.evaluation.limit == 50)
    #expect(recipe.evaluation.grader == .example)
    #expect(recipe.evaluation.maxNewTokens == 12)
  }

  @Test("names of TRL and PEFT mean what they mean there")
  func aliases() throws {
    let recipe = try Recipe.parse(
      """
      model_name_or_path: base
      output_dir: out
      bf16: true
      use_peft: true
      lora_r: 4
      lora_alpha: 8
      lora_dropout: 0.1
      lora_target_modules: [q_proj]
      use_rslora: false
      per_device_train_batch_size: 2
      gradient_accumulation_steps: 3
      num_train_epochs: 3
      lr_scheduler_type: linear
      max_seq_length: 99
      optim: adamw_torch
      packing: true
      loss_type: hinge
      sft: {dataset_path: a.jsonl, l1_lambda: 1e-4}
      align: {data: b.jsonl, max_length: 50}
      """)
    #expect(recipe.model.hasSuffix("/base"))
    #expect(
      recipe.sft?.adapter
        == .lora(r: 4, alpha: 8, dropout: 0.1, targetModules: ["q_proj"], rslora: false))
    #expect(recipe.sft?.batchSize == 2)
    #expect(recipe.align?.gradientAccumulationSteps == 3)
    #expect(recipe.align?.epochs == 3)
    #expect(recipe.sft?.lrScheduler == "linear")
    #expect(recipe.sft?.maxLength == 99)
    #expect(recipe.align?.maxLength == 50, "a branch's own word wins over the shared one")
    #expect(recipe.sft?.l1 == Recipe.L1(lambda: 1e-4, targetSparsity: nil, form: nil))
    #expect(recipe.align?.preference?.losses == ["hinge"])
  }

  @Test(
    "numbers are numbers in every spelling",
    arguments: ["1e-5", "1E-5", "0.00001", ".00001", "+1e-5"])
  func numbers(text: String) throws {
    let recipe = try Recipe.parse(minimal + "learning_rate: \(text)\n")
    #expect(recipe.sft?.learningRate == 1e-5)
    #expect(recipe.align?.learningRate == 1e-5)
  }

  @Test("no, off and null mean what a person means by them")
  func switches() throws {
    #expect(try Recipe.parse(minimal + "shuffle: no\n").sft?.shuffle == false)
    #expect(try Recipe.parse(minimal + "shuffle: off\n").sft?.shuffle == false)
    #expect(try Recipe.parse(minimal + "shuffle: null\n").sft?.shuffle == true)
    #expect(try Recipe.parse(minimal + "seed: ~\n").seed == 42)
    let off = minimal.replacing("{data: sft.jsonl}", with: "{data: sft.jsonl, l1: off}")
    #expect(try Recipe.parse(off).sft?.l1 == nil)
    let on = minimal.replacing("{data: sft.jsonl}", with: "{data: sft.jsonl, l1: {}}")
    #expect(
      try Recipe.parse(on).sft?.l1 == Recipe.L1(lambda: nil, targetSparsity: 0.9, form: nil))
  }

  @Test("--set wins over the file, in either spelling, and for both branches at once")
  func overrides() throws {
    let recipe = try Recipe.parse(
      minimal + "num_train_epochs: 3\nseed: 1\n",
      overrides: [
        "epochs=2", "sft.l1.lambda=1e-3", "merge.density={sft: 0.3, align: 0.4}", "seed=9",
        "sft.adapter.lora_r=2", "align.loss=[dpo, sft]",
      ], folder: "/r")
    #expect(recipe.sft?.epochs == 2)
    #expect(recipe.align?.epochs == 2)
    #expect(recipe.seed == 9)
    #expect(recipe.merge.density == Recipe.PerBranch(sft: 0.3, align: 0.4))
    #expect(recipe.sft?.l1?.lambda == 1e-3)
    #expect(recipe.align?.preference?.losses == ["dpo", "sft"])
    guard case .lora(let r, _, _, _, _) = recipe.sft?.adapter else {
      Issue.record("no LoRA")
      return
    }
    #expect(r == 2)
    let target = minimal.replacing(
      "{data: sft.jsonl}", with: "{data: sft.jsonl, l1: {target_sparsity: 0.5}, epochs: 4}")
    let changed = try Recipe.parse(target, overrides: ["sft.l1.lambda=0.5", "epochs=1"])
    #expect(changed.sft?.l1 == Recipe.L1(lambda: 0.5, targetSparsity: nil, form: nil))
    #expect(changed.sft?.epochs == 1)
    #expect(try Recipe.parse(target, overrides: ["sft.l1=off"]).sft?.l1 == nil)
  }

  @Test("paths of --set are relative to the current folder, the file's to the file")
  func paths() throws {
    let recipe = try Recipe.parse(minimal, overrides: ["output=elsewhere"], folder: "/r")
    #expect(recipe.model == "/r/base")
    #expect(recipe.output != "/r/elsewhere")
    #expect(recipe.output.hasPrefix("/") && recipe.output.hasSuffix("/elsewhere"))
  }

  @Test("the resolved recipe reads back as itself")
  func roundTrip() throws {
    for yaml in [
      minimal,
      minimal + "adapter: full\ndtype: f32\nmachine: {partitions: {sft: \"0\", align: \"1\"}}\n",
      minimal.replacing("{data: sft", with: "{l1: {lambda: 1e-7}, data: 'odd: [na]me")
        .replacing(".jsonl}\nalign", with: ".jsonl'}\nalign")
        + "eval: {limit: 3}\nmerge: {normalize: false, method: linear}\nlearning_rate: 1e-30\n",
      minimal + "optimizer: sgd\nwarmup_steps: 12\nbaselines: [dense]\nloss: [dpo, sft]\n",
    ] {
      let recipe = try Recipe.parse(yaml, folder: "/r")
      let again = try Recipe.parse(recipe.yaml, folder: "/somewhere/else")
      #expect(again == recipe, "\(recipe.yaml)")
    }
  }

  @Test("a resumption may change where and how often, not what")
  func differences() throws {
    let recipe = try Recipe.parse(minimal)
    func changed(_ override: String) throws -> String? {
      recipe.firstDifference(from: try Recipe.parse(minimal, overrides: [override]))
    }
    #expect(try changed("save_steps=7") == nil)
    #expect(try changed("machine.threads=1") == nil)
    #expect(try changed("sft.learning_rate=1e-3") == "sft.learning_rate")
    #expect(try changed("merge.density.align=0.25") == "merge.density.align")
    #expect(try changed("align.loss=ipo") == "align.loss")
  }
}
