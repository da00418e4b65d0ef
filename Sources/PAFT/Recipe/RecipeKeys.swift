// SPDX-License-Identifier: Apache-2.0

import PAFTTraining

/// One key of a recipe: what may stand there, what stands there when nobody says otherwise, and the
/// names that other trainers use for it. The tables below are the only place where a default is
/// written; reader, resolved recipe and `paft keys` all walk them.
package struct RecipeKey: Sendable {
  /// What a value must look like.
  package enum Kind: Sendable, Equatable {
    case text
    /// A file or folder, relative to the recipe's own folder.
    case path
    case flag
    /// A whole number in a range; `max` nil means no bound but Int's.
    case count(min: Int, max: Int? = nil)
    /// A finite number; the bounds are inclusive unless `open`.
    case number(
      min: Double? = nil, max: Double? = nil, openMin: Bool = false, openMax: Bool = false)
    case choice([String])
    /// One text or a list of them.
    case texts
    case numbers
    /// `auto`, `sequential`, or {sft: cpus, align: cpus}.
    case partitions
  }

  package let name: String
  package let kind: Kind
  /// The default as YAML; nil for "none" or where it depends on other keys (see `meaning`).
  package let standard: String?
  package let meaning: String
  /// Names in TRL, LLaMA-Factory, axolotl and mlx-lm.
  package let aliases: [String]

  init(
    _ name: String, _ kind: Kind, _ standard: String?, _ meaning: String, aliases: [String] = []
  ) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.meaning = meaning
    self.aliases = aliases
  }

  func isCalled(_ word: String) -> Bool { name == word || aliases.contains(word) }
}

/// A block of keys.
package struct RecipeSection: Sendable {
  package let name: String
  package let meaning: String
  package let keys: [RecipeKey]

  func key(_ word: String) -> RecipeKey? { keys.first { $0.isCalled(word) } }
}

extension RecipeSection {
  package static let top = RecipeSection(
    name: "", meaning: "the run",
    keys: [
      RecipeKey(
        "model", .path, nil, "base model, a Hugging Face folder (required)",
        aliases: ["model_name_or_path", "base_model"]),
      RecipeKey(
        "output", .path, nil, "folder of the run (required; empty or absent, or --resume)",
        aliases: ["output_dir"]),
      RecipeKey("seed", .count(min: 0), "42", "order of the data, adapter init, dropout, masks"),
      RecipeKey(
        "dtype", .choice(["bf16", "f32"]), "bf16", "precision of the matrix products",
        aliases: ["torch_dtype", "compute_dtype"]),
      RecipeKey(
        "base_dtype", .choice(["bf16", "f32", "int8"]), nil,
        "precision in which the base is multiplied (default: as dtype); int8 also while it is trained"
      ),
      RecipeKey(
        "baselines", .texts, "[]",
        "also train `sequential` (SFT, then alignment of its result) and `dense` (SFT without L1)"),
    ])

  package static let adapter = RecipeSection(
    name: "adapter", meaning: "what is trained; may also stand inside sft or align",
    keys: [
      RecipeKey(
        "type", .choice(["lora", "full"]), "lora", "low-rank adapter, or all weights",
        aliases: ["finetuning_type", "fine_tune_type", "peft_type"]),
      RecipeKey("r", .count(min: 1, max: 4096), "16", "rank", aliases: ["lora_r", "lora_rank"]),
      RecipeKey(
        "alpha", .number(min: 0, openMin: true), "32", "the adapter is scaled by alpha / r",
        aliases: ["lora_alpha"]),
      RecipeKey(
        "dropout", .number(min: 0, max: 1, openMax: true), "0", "dropout before A",
        aliases: ["lora_dropout"]),
      RecipeKey(
        "target_modules", .texts, "all-linear", "all-linear, or names such as [q_proj, v_proj]",
        aliases: ["lora_target_modules", "lora_target"]),
      RecipeKey(
        "rslora", .flag, "false", "scale by alpha / sqrt(r)",
        aliases: ["use_rslora", "peft_use_rslora"]),
    ])

  /// Training keys of `sft` and `align`; at the top of a recipe they hold for both.
  package static let branch = RecipeSection(
    name: "sft, align", meaning: "one branch's training; at the top they hold for both",
    keys: [
      RecipeKey(
        "epochs", .number(min: 0, openMin: true), "1", "passes over the data",
        aliases: ["num_train_epochs", "num_epochs"]),
      RecipeKey(
        "max_steps", .count(min: -1), "-1", "stop after so many optimizer steps; -1: by epochs",
        aliases: ["iters"]),
      RecipeKey(
        "learning_rate", .number(min: 0, openMin: true), nil,
        "peak (default: sft 2e-4 with LoRA, 2e-5 full; align 5e-6 with LoRA, 1e-6 full)",
        aliases: ["lr"]),
      RecipeKey(
        "lr_scheduler", .choice(Schedule.allCases.map(\.rawValue)), "cosine",
        "shape of the learning rate", aliases: ["lr_scheduler_type", "lr_schedule"]),
      RecipeKey(
        "warmup_ratio", .number(min: 0, max: 1), "0.1", "share of the steps that warm up"),
      RecipeKey(
        "warmup_steps", .count(min: 0), nil, "steps that warm up; wins over warmup_ratio"),
      RecipeKey(
        "optimizer", .choice(["adamw", "adamw_8bit", "sgd"]), "adamw",
        "update rule; adamw_8bit keeps its moments in 8 bits",
        aliases: ["optim"]),
      RecipeKey(
        "master_weights", .flag, "true",
        "of adapter.type full: false keeps BF16 weights alone, rounded stochastically, and updates "
          + "each layer in the backward pass (needs max_grad_norm 0, no accumulation, no l1)"),
      RecipeKey("adam_beta1", .number(min: 0, max: 1, openMax: true), "0.9", "AdamW"),
      RecipeKey("adam_beta2", .number(min: 0, max: 1, openMax: true), "0.999", "AdamW"),
      RecipeKey("adam_epsilon", .number(min: 0, openMin: true), "1e-8", "AdamW"),
      RecipeKey("momentum", .number(min: 0, max: 1, openMax: true), "0", "SGD"),
      RecipeKey(
        "weight_decay", .number(min: 0), "0", "decoupled; never on norms and biases"),
      RecipeKey(
        "max_grad_norm", .number(min: 0), "1.0", "clip the gradient's norm; 0: off"),
      RecipeKey(
        "batch_size", .count(min: 1), "8", "rows or pairs per micro-batch",
        aliases: ["per_device_train_batch_size", "micro_batch_size"]),
      RecipeKey(
        "gradient_accumulation_steps", .count(min: 1), "1", "micro-batches per optimizer step",
        aliases: ["grad_accumulation_steps"]),
      RecipeKey(
        "max_length", .count(min: 2), "1024", "tokens of a row; longer ones are cut",
        aliases: ["max_seq_length", "cutoff_len", "sequence_len"]),
      RecipeKey(
        "share_prompts", .flag, "true",
        "compute once what rows of a batch begin with alike, and a pair's prompt for both answers: "
          + "the same loss in less time"),
      RecipeKey(
        "assistant_only_loss", .flag, "false",
        "of conversations train only what the template marks as the assistant's"),
      RecipeKey(
        "completion_only_loss", .flag, "true", "of prompts and completions train the completion"),
      RecipeKey(
        "max_bad_rows", .count(min: 0), "0", "rows that may be bad and are left out"),
      RecipeKey(
        "shuffle", .flag, "true", "new order every epoch", aliases: ["shuffle_dataset"]),
      RecipeKey(
        "gradient_checkpointing", .flag, "false",
        "recompute activations: less memory, about a third more time", aliases: ["grad_checkpoint"]),
      RecipeKey(
        "save_steps", .count(min: 0), "500", "steps between checkpoints; 0: only when stopped",
        aliases: ["save_every"]),
      RecipeKey("save_total_limit", .count(min: 1), "2", "checkpoints kept"),
      RecipeKey(
        "logging_steps", .count(min: 1), "10", "steps between progress lines",
        aliases: ["steps_per_report"]),
      RecipeKey(
        "eval_fraction", .number(min: 0, max: 0.5), "0.1",
        "share of the data held out for evaluation, unless eval_data is given",
        aliases: ["val_set_size", "val_size"]),
    ])

  /// Keys that name a branch's own files.
  package static let files = RecipeSection(
    name: "sft, align", meaning: "files of a branch",
    keys: [
      RecipeKey(
        "data", .path, nil, "training rows, JSON lines (required)",
        aliases: ["dataset", "dataset_name", "dataset_path", "train_data"]),
      RecipeKey(
        "eval_data", .path, nil, "held-out rows", aliases: ["eval_dataset", "eval_dataset_path"]),
    ])

  package static let l1 = RecipeSection(
    name: "sft.l1", meaning: "penalty on the branch's delta; absent: none",
    keys: [
      RecipeKey(
        "target_sparsity", .number(min: 0, max: 1, openMax: true), nil,
        "lambda is driven until this share of the delta is zero (default 0.9)"),
      RecipeKey("lambda", .number(min: 0), nil, "fixed strength instead", aliases: ["l1_lambda"]),
      RecipeKey(
        "form", .choice(L1Penalty.Form.allCases.map(\.rawValue)), nil,
        "default: prox for full deltas, product for LoRA"),
    ])

  /// Keys of `align` alone.
  package static let preference = RecipeSection(
    name: "align", meaning: "the preference objective",
    keys: [
      RecipeKey(
        "loss", .texts, "dpo",
        "dpo, orpo, ipo, hinge, simpo, cpo, …; a list is summed with loss_weights",
        aliases: ["loss_type", "pref_loss", "rl", "dpo_loss_type"]),
      RecipeKey("loss_weights", .numbers, nil, "one number per loss (default: 1 each)"),
      RecipeKey(
        "beta", .number(min: 0, openMin: true), "0.1", "strength; ORPO's lambda",
        aliases: ["pref_beta", "rl_beta", "orpo_alpha", "dpo_beta"]),
      RecipeKey(
        "label_smoothing", .number(min: 0, max: 1, openMax: true), "0",
        "probability that a label is wrong", aliases: ["dpo_label_smoothing"]),
      RecipeKey("simpo_gamma", .number(), "0.5", "SimPO's target margin"),
      RecipeKey("cpo_alpha", .number(min: 0), "1.0", "weight of CPO's likelihood term"),
      RecipeKey("alpha_po", .number(), "0", "AlphaPO's shape; 0: off"),
      RecipeKey(
        "f_divergence_type",
        .choice(["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]), "reverse_kl",
        "f-DPO's divergence"),
      RecipeKey("f_alpha_divergence_coef", .number(), "0.5", "f-DPO's alpha"),
      RecipeKey(
        "discopop_tau", .number(min: 0, max: 1, openMin: true, openMax: true), "0.05",
        "DiscoPOP's temperature"),
      RecipeKey(
        "reference_cache", .path, nil,
        "folder that keeps the base's log-probabilities for the next run over the same pairs"),
    ])

  package static let merge = RecipeSection(
    name: "merge", meaning: "how the two deltas become one model",
    keys: [
      RecipeKey(
        "method", .text, "ties",
        "ties, task_arithmetic, linear, dare_ties, dare_linear, slerp, nuslerp, della, …",
        aliases: ["merge_method"]),
      RecipeKey("lambda", .number(), "1.0", "factor on the merged delta"),
      RecipeKey("normalize", .flag, nil, "divide by the weights (default: the method's)"),
      RecipeKey("t", .number(min: 0, max: 1), "0.5", "slerp: 0 is sft, 1 is align"),
      RecipeKey(
        "seed", .count(min: 0), nil, "random masks (default: the run's seed)",
        aliases: ["random_seed"]),
      RecipeKey(
        "dtype", .choice(["bf16", "f32", "f16"]), nil, "of the merged files (default: the base's)",
        aliases: ["out_dtype"]),
    ])

  /// Numbers of the merge that may differ by branch: a scalar, or {sft, align}.
  package static let density = RecipeSection(
    name: "merge.density",
    meaning: "share of each delta that takes part; one number or {sft, align}",
    keys: [
      RecipeKey(
        "sft", .number(min: 0, max: 1), "1.0", "whole: the L1 penalty has made it sparse already"),
      RecipeKey("align", .number(min: 0, max: 1), "0.5", "the larger half"),
    ])

  package static let weights = RecipeSection(
    name: "merge.weights", meaning: "weight of each delta; one number or {sft, align}",
    keys: [
      RecipeKey("sft", .number(), "1.0", "of the SFT delta"),
      RecipeKey("align", .number(), "1.0", "of the alignment delta"),
    ])

  package static let machine = RecipeSection(
    name: "machine", meaning: "where the branches run",
    keys: [
      RecipeKey(
        "partitions", .partitions, "auto",
        "auto; sequential (one after the other, all cores); {sft: \"0-3\", align: \"4-7\"}"),
      RecipeKey("threads", .count(min: 1), nil, "worker threads in all (default: all granted)"),
      RecipeKey(
        "memory_limit", .text, nil,
        "such as 4GiB: activations are recomputed and passes made smaller to keep it (default: all)"
      ),
    ])

  package static let evaluation = RecipeSection(
    name: "eval", meaning: "after the merge",
    keys: [
      RecipeKey("batch_size", .count(min: 1), "32", "answers generated together"),
      RecipeKey("limit", .count(min: 1), nil, "at most so many held-out rows of each data set"),
      RecipeKey(
        "grader", .choice(["none", "example"]), "none",
        "`example` also generates answers and grades those of the built-in example"),
      RecipeKey("max_new_tokens", .count(min: 1), "64", "length of generated answers"),
    ])

  /// Every section, in the order people read them.
  package static let all: [RecipeSection] = [
    top, adapter, files, branch, l1, preference, merge, density, weights, machine, evaluation,
  ]
}
