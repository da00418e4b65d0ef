// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFT
import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

/// Training files of other programs, written from their documented keys.
@Suite("Recipes of others") struct ForeignRecipeTests {
  struct Import {
    var recipe: String
    var dropped: [String]
    var changed: [String]
  }

  private func imported(_ yaml: String) throws -> Import {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    try FileSystem.write(yaml, to: folder + "/theirs.yml")
    let (_, json) = try ImportVerb(
      file: folder + "/theirs.yml", output: folder + "/recipe.yaml"
    ).run { _ in }
    let answer = try JSON.parse(Array(json.utf8), source: "import")
    return Import(
      recipe: try FileSystem.text(folder + "/recipe.yaml"),
      dropped: (answer["dropped"]?.array ?? []).compactMap(\.string),
      changed: (answer["changed"]?.array ?? []).compactMap(\.string))
  }

  /// What a recipe says at a dotted path, as text.
  private func value(_ recipe: String, _ path: String) throws -> String? {
    var node: ConfigNode? = try ConfigNode.parse(recipe, source: "recipe")
    for key in path.split(separator: ".") { node = node?[String(key)] }
    guard let node else { return nil }
    return node.isSequence
      ? try node.elements().map { try $0.string() }.joined(separator: ",") : try node.string()
  }

  private func expect(_ result: Import, says expected: [String: String]) throws {
    for (path, text) in expected { #expect(try value(result.recipe, path) == text, "\(path)") }
  }

  /// There is a line about each of these.
  private func expect(_ result: Import, drops words: [String]) {
    for word in words {
      #expect(result.dropped.contains { $0.contains(word) }, "\(word): \(result.dropped)")
    }
  }

  static let trl = """
    # Model
    model_name_or_path: ./Qwen2.5-0.5B
    dtype: bfloat16
    # Data
    dataset_name: data/capybara.jsonl
    dataset_train_split: train
    # Training
    learning_rate: 2.0e-4
    num_train_epochs: 1
    packing: true
    per_device_train_batch_size: 2
    gradient_accumulation_steps: 8
    gradient_checkpointing: true
    eos_token: <|im_end|>
    eval_strategy: steps
    eval_steps: 100
    use_peft: true
    lora_r: 32
    lora_alpha: 16
    lora_target_modules: [q_proj, v_proj]
    output_dir: Qwen2.5-0.5B-SFT
    """

  static let axolotl = """
    base_model: NousResearch/Llama-3.2-1B
    load_in_8bit: false
    load_in_4bit: false
    rl: dpo
    datasets:
      - path: prefs.jsonl
        type: chat_template.default
        field_messages: conversation
      - path: more.jsonl
        split: train
    val_set_size: 0.05
    output_dir: ./outputs/dpo
    adapter: lora
    lora_r: 16
    lora_alpha: 32
    lora_dropout: 0.05
    lora_target_linear: true
    sequence_len: 2048
    sample_packing: false
    pad_to_sequence_len: false
    micro_batch_size: 2
    gradient_accumulation_steps: 4
    num_epochs: 1
    optimizer: adamw_8bit
    lr_scheduler: cosine
    learning_rate: 0.0002
    bf16: auto
    tf32: false
    rl_beta: 0.2
    warmup_steps: 20
    special_tokens:
      pad_token: <|end_of_text|>
    """

  static let factory = """
    ### model
    model_name_or_path: meta-llama/Llama-3.1-8B-Instruct
    trust_remote_code: true
    ### method
    stage: dpo
    do_train: true
    finetuning_type: lora
    lora_rank: 8
    lora_target: all
    pref_beta: 0.3
    pref_loss: orpo
    ### dataset
    dataset: dpo_en_demo
    template: llama3
    cutoff_len: 1024
    max_samples: 1000
    ### output
    output_dir: saves/llama3-8b/lora/dpo
    logging_steps: 10
    save_steps: 500
    plot_loss: true
    overwrite_output_dir: true
    ### train
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 8
    learning_rate: 5.0e-6
    num_train_epochs: 3.0
    lr_scheduler_type: cosine
    warmup_ratio: 0.1
    bf16: true
    """

  @Test("TRL's sft script") func trlSupervised() throws {
    let result = try imported(Self.trl)
    let expected = [
      "model": "./Qwen2.5-0.5B", "output": "Qwen2.5-0.5B-SFT", "dtype": "bf16",
      "adapter.type": "lora", "adapter.r": "32", "adapter.alpha": "16",
      "adapter.target_modules": "q_proj,v_proj", "sft.data": "data/capybara.jsonl",
      "sft.learning_rate": "2.0e-4", "sft.epochs": "1", "sft.batch_size": "2",
      "sft.gradient_accumulation_steps": "8", "sft.gradient_checkpointing": "true",
      // TRL's own defaults.
      "sft.lr_scheduler": "linear", "sft.max_length": "1024", "adapter.dropout": "0.05",
    ]
    try expect(result, says: expected)
    for key in ["packing", "eos_token", "eval_strategy", "eval_steps", "dataset_train_split"] {
      #expect(result.dropped.contains { $0.contains(" \(key) is not carried over") }, "\(key)")
      #expect(result.recipe.contains("\(key) is not carried over"))
    }
    #expect(result.dropped.contains { $0.contains("line 10: packing") })
  }

  @Test("axolotl's dpo") func axolotlPreference() throws {
    let result = try imported(Self.axolotl)
    let expected = [
      "model": "NousResearch/Llama-3.2-1B", "align.loss": "dpo", "align.data": "prefs.jsonl",
      "align.eval_fraction": "0.05", "adapter.type": "lora", "adapter.r": "16",
      "adapter.target_modules": "all-linear", "align.max_length": "2048",
      "align.batch_size": "2", "align.beta": "0.2", "align.warmup_steps": "20",
      "align.learning_rate": "0.0002", "adapter.dropout": "0.05",
    ]
    try expect(result, says: expected)
    #expect(try value(result.recipe, "align.optimizer") == "adamw_8bit")
    expect(
      result,
      drops: [
        "special_tokens", "'more.jsonl'", "datasets[0].type",
        "datasets[0].field_messages",
      ])
    #expect(!result.dropped.contains { $0.contains("load_in") })
  }

  @Test("LLaMA-Factory's orpo") func factoryPreference() throws {
    let result = try imported(Self.factory)
    let expected = [
      "model": "meta-llama/Llama-3.1-8B-Instruct", "align.loss": "orpo", "align.beta": "0.3",
      "align.data": "dpo_en_demo", "adapter.r": "8", "adapter.alpha": "16",
      "adapter.target_modules": "all-linear", "align.max_length": "1024",
      "align.learning_rate": "5.0e-6", "align.epochs": "3.0", "align.warmup_ratio": "0.1",
      "align.save_steps": "500",
    ]
    try expect(result, says: expected)
    expect(result, drops: ["template", "max_samples", "plot_loss", "'dpo_en_demo'"])
  }

  /// Like trl/examples and the recipes of the alignment handbook.
  static let trlPreference = """
    # Model arguments
    model_name_or_path: HuggingFaceTB/SmolLM2-360M-Instruct
    model_revision: main
    dtype: bfloat16
    attn_implementation: flash_attention_2
    load_in_4bit: true
    bnb_4bit_quant_type: nf4

    # Data training arguments
    dataset_name: trl-lib/ultrafeedback_binarized
    dataset_num_proc: 12

    # DPO trainer config
    bf16: true
    beta: 0.05
    loss_type: [sigmoid, bco_pair]
    loss_weights: [0.8, 0.2]
    label_smoothing: 0.0
    learning_rate: 5.0e-7
    lr_scheduler_type: cosine
    warmup_ratio: 0.1
    max_length: 2048
    num_train_epochs: 1
    per_device_train_batch_size: 4
    gradient_accumulation_steps: 4
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: false
    optim: adamw_torch
    output_dir: data/smol-dpo
    push_to_hub: false
    report_to:
    - wandb
    save_strategy: "steps"
    save_steps: 100
    save_total_limit: 1
    seed: 42
    """

  @Test("TRL's dpo with a sum of losses, all weights") func trlPreference() throws {
    let result = try imported(Self.trlPreference)
    let expected = [
      "model": "HuggingFaceTB/SmolLM2-360M-Instruct", "output": "data/smol-dpo", "seed": "42",
      "dtype": "bf16", "adapter.type": "full", "align.beta": "0.05",
      "align.loss": "sigmoid,bco_pair", "align.loss_weights": "0.8,0.2",
      "align.learning_rate": "5.0e-7", "align.lr_scheduler": "cosine",
      "align.warmup_ratio": "0.1", "align.max_length": "2048", "align.epochs": "1",
      "align.batch_size": "4", "align.gradient_accumulation_steps": "4",
      "align.save_steps": "100",
    ]
    try expect(result, says: expected)
    #expect(try value(result.recipe, "adapter.r") == nil)
    expect(
      result,
      drops: [
        "load_in_4bit", "bnb_4bit_quant_type", "attn_implementation",
        "gradient_checkpointing_kwargs",
        "report_to", "model_revision", "'trl-lib/ultrafeedback_binarized'",
      ])
    // The keys that switch nothing on need no line.
    #expect(!result.dropped.contains { $0.contains("label_smoothing") })
  }

  /// Like LLaMA-Factory's examples/train_full and examples/train_qlora.
  static func factorySupervised(_ method: String) -> String {
    """
    ### model
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    trust_remote_code: true

    ### method
    stage: sft
    do_train: true
    \(method)

    ### dataset
    dataset: identity,alpaca_en_demo
    template: qwen
    cutoff_len: 2048
    max_samples: 1000
    preprocessing_num_workers: 16
    dataloader_num_workers: 4

    ### output
    output_dir: saves/qwen2_5-0_5b/sft
    logging_steps: 10
    save_steps: 500
    plot_loss: true
    overwrite_output_dir: true
    save_only_model: false
    report_to: none

    ### train
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 2
    learning_rate: 1.0e-5
    num_train_epochs: 3.0
    lr_scheduler_type: cosine
    warmup_ratio: 0.1
    bf16: true
    ddp_timeout: 180000000
    resume_from_checkpoint: null

    ### eval
    # val_size: 0.1
    """
  }

  @Test("LLaMA-Factory's sft of all weights trains answers alone") func factoryFull() throws {
    let result = try imported(
      Self.factorySupervised("finetuning_type: full\ndeepspeed: ds_z3_config.json"))
    let expected = [
      "adapter.type": "full", "sft.data": "identity", "sft.assistant_only_loss": "true",
      "sft.learning_rate": "1.0e-5", "sft.epochs": "3.0", "sft.max_length": "2048",
      "sft.gradient_accumulation_steps": "2", "sft.batch_size": "1", "sft.eval_fraction": "0",
    ]
    try expect(result, says: expected)
    expect(
      result,
      drops: [
        "deepspeed", "'alpaca_en_demo'", "template", "max_samples", "preprocessing_num_workers",
        "dataloader_num_workers", "save_only_model", "ddp_timeout", "trust_remote_code",
      ])
    #expect(!result.dropped.contains { $0.contains("resume_from_checkpoint") })
  }

  @Test("its quantised LoRA: what is not quantised here is said") func factoryQuantised() throws {
    let result = try imported(
      Self.factorySupervised(
        """
        finetuning_type: lora
        lora_target: q_proj,v_proj
        lora_rank: 16
        quantization_bit: 4
        quantization_method: bnb
        train_on_prompt: true
        """))
    let expected = [
      "adapter.type": "lora", "adapter.r": "16", "adapter.alpha": "32",
      "adapter.target_modules": "q_proj,v_proj", "sft.assistant_only_loss": "false",
      "sft.completion_only_loss": "false",
    ]
    try expect(result, says: expected)
    #expect(
      result.dropped.contains { $0.contains("quantization_bit") && $0.contains("not quantised") })
    #expect(result.dropped.contains { $0.contains("quantization_method") })
  }

  @Test(
    "a base in 8 bits becomes paft's int8, which is said",
    arguments: ["quantization_bit: 8", "load_in_8bit: true\nquantization_bit: 8"])
  func eightBits(_ keys: String) throws {
    let result = try imported(Self.factorySupervised("finetuning_type: lora\n\(keys)"))
    try expect(result, says: ["base_dtype": "int8", "dtype": "bf16", "adapter.type": "lora"])
    #expect(result.changed.count == 1)
    let line = try #require(result.changed.first)
    #expect(line.contains("line ") && line.contains("base_dtype: int8"), "\(line)")
    #expect(line.contains("not bitsandbytes'") && result.recipe.contains(line))
    #expect(!result.dropped.contains { $0.contains("quantization_bit") || $0.contains("8bit") })
  }

  @Test("without such a key nothing is carried over as something else") func unchanged() throws {
    let result = try imported(Self.factorySupervised("finetuning_type: lora"))
    #expect(result.changed.isEmpty && !result.recipe.contains("Carried over as"))
    #expect(try value(result.recipe, "base_dtype") == nil)
  }

  @Test(
    "other spellings of the optimizer with moments in 8 bits",
    arguments: ["adamw_bnb_8bit", "paged_adamw_8bit", "adamw_8bit"])
  func eightBitOptimizers(_ name: String) throws {
    let result = try imported(
      Self.axolotlQuantised.replacingOccurrences(of: "adamw_bnb_8bit", with: name))
    // Carried over as it was spelt; the recipe reader knows it, or the line would be dropped.
    try expect(result, says: ["sft.optimizer": name])
    #expect(!result.dropped.contains { $0.contains("optimizer") })
  }

  /// Like axolotl's examples/llama-3/qlora-1b.yml.
  static let axolotlQuantised = """
    base_model: NousResearch/Llama-3.2-1B
    load_in_8bit: false
    load_in_4bit: true
    datasets:
      - path: teknium/GPT4-LLM-Cleaned
        type: alpaca
    dataset_prepared_path: last_run_prepared
    val_set_size: 0.1
    output_dir: ./outputs/qlora-out
    adapter: qlora
    lora_model_dir:
    sequence_len: 2048
    sample_packing: true
    eval_sample_packing: true
    lora_r: 32
    lora_alpha: 16
    lora_dropout: 0.05
    lora_target_modules:
      - gate_proj
      - down_proj
      - q_proj
    wandb_project:
    wandb_entity:
    gradient_accumulation_steps: 4
    micro_batch_size: 2
    num_epochs: 1
    optimizer: adamw_bnb_8bit
    lr_scheduler: cosine
    learning_rate: 0.0002
    bf16: auto
    tf32: false
    gradient_checkpointing: true
    logging_steps: 1
    flash_attention: true
    loss_watchdog_threshold: 5.0
    loss_watchdog_patience: 3
    warmup_ratio: 0.1
    evals_per_epoch: 4
    saves_per_epoch: 1
    weight_decay: 0.0
    special_tokens:
      pad_token: "<|end_of_text|>"
    """

  @Test("axolotl's qlora") func axolotlQuantised() throws {
    let result = try imported(Self.axolotlQuantised)
    let expected = [
      "adapter.type": "lora", "adapter.r": "32", "adapter.alpha": "16",
      "adapter.target_modules": "gate_proj,down_proj,q_proj", "sft.warmup_ratio": "0.1",
      "sft.assistant_only_loss": "true", "sft.eval_fraction": "0.1", "sft.batch_size": "2",
      "sft.weight_decay": "0.0", "sft.logging_steps": "1", "sft.optimizer": "adamw_bnb_8bit",
    ]
    try expect(result, says: expected)
    expect(
      result,
      drops: [
        "adapter: qlora", "load_in_4bit", "sample_packing", "eval_sample_packing",
        "evals_per_epoch", "saves_per_epoch", "dataset_prepared_path", "loss_watchdog_threshold",
        "flash_attention", "special_tokens",
      ])
    #expect(!result.dropped.contains { $0.contains("wandb") || $0.contains("load_in_8bit") })
  }

  static let refusals: [(String, [String])] = [
    (
      factorySupervised("finetuning_type: lora\npref_beta: 0.1")
        .replacingOccurrences(of: "stage: sft", with: "stage: kto"),
      ["line 6", "'kto'", "supported"]
    ),
    (
      factorySupervised("finetuning_type: freeze"), ["line 8", "'freeze'", "lora, full"]
    ),
    (axolotlQuantised + "\nrl: kto\n", ["line 43", "'kto'", "supported"]),
    (trlPreference + "\ndesirable_weight: 1.0\n", ["desirable_weight", "KTO"]),
    ("model_name_or_path: a\nstage: ppo\ndataset: b\n", ["line 2", "'ppo'", "supported"]),
    ("model_name_or_path: a\nstage: kto\ndataset: b\n", ["line 2", "'kto'"]),
    ("base_model: a\nrl: grpo\ndatasets:\n  - path: b\n", ["line 2", "'grpo'"]),
    ("base_model: a\n", ["no data set"]),
    ("model_name_or_path: a\nnum_generations: 8\ndataset_name: b\n", ["line 2", "GRPO"]),
    ("model_name_or_path: a\nloss_type: kto\ndataset_name: b\n", ["line 2"]),
    ("base_model: a\nadapter: ia3\ndatasets:\n  - path: b\n", ["line 2", "'ia3'"]),
    ("learning_rate: 1\n", ["model_name_or_path", "base_model"]),
    ("- a\n", ["a list", "mapping"]),
  ]

  @Test("other kinds are refused with a line", arguments: refusals)
  func refused(_ yaml: String, _ words: [String]) throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileSystem.remove(folder) }
    try FileSystem.write(yaml, to: folder + "/a.yml")
    let error = #expect(throws: PAFTError.self) {
      _ = try ImportVerb(file: folder + "/a.yml", output: folder + "/r.yaml").run { _ in }
    }
    #expect(error?.exitCode == 78)
    for word in words { #expect(error?.message.contains(word) == true, "\(error?.message ?? "")") }
    #expect(!FileSystem.exists(folder + "/r.yaml"))
  }
}
