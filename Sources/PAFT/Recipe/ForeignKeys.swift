// SPDX-License-Identifier: Apache-2.0

/// Keys of other trainers that have no counterpart here.
enum ForeignKeys {
  /// Accepted and named in a notice: what they ask for is always so, or has no meaning here.
  static let withoutEffect: [String: String] = [
    "packing": "rows are always packed, which never changes the loss",
    "sample_packing": "rows are always packed, which never changes the loss",
    "neat_packing": "rows are always packed, which never changes the loss",
    "packing_strategy": "rows are packed best-fit-decreasing",
    "pad_to_sequence_len": "nothing is padded",
    "precompute_ref_log_probs": "reference log-probabilities are always computed once",
    "report_to": "metrics go to metrics.jsonl",
    "dataset_num_proc": "tokenising needs no processes",
    "dataloader_num_workers": "tokenising needs no processes",
    "dataloader_pin_memory": "there is no device to pin memory for",
    "logging_dir": "metrics go to metrics.jsonl",
    "save_strategy": "save_steps decides",
    "do_train": "run always trains",
    "stage": "the branch decides",
    "use_cpu": "this is a CPU trainer",
    "no_cuda": "this is a CPU trainer",
    "tf32": "this is a CPU trainer",
    "flash_attention": "attention is always block-wise",
    "overwrite_output_dir": "a run never overwrites; use --resume or another folder",
    "remove_unused_columns": "unknown columns are left alone",
    "trust_remote_code": "no code of a model is ever run",
  ]

  /// Refused: the run would not be what its author meant.
  static let refused: [String: String] = [
    "fp16": "half precision has no fast path on CPUs; use dtype: bf16",
    "load_in_4bit": "4-bit bases are not supported",
    "load_in_8bit": "write base_dtype: int8, which is paft's own int8, not bitsandbytes'",
    "quantization_bit":
      "4-bit bases are not supported; for 8 bits write base_dtype: int8, which is paft's own int8",
    "use_dora": "DoRA is not supported",
    "peft_use_dora": "DoRA is not supported",
    "pissa_init": "PiSSA is not supported",
    "loraplus_lr_ratio": "LoRA+ is not supported",
    "ref_model": "the reference is always the base model",
    "deepspeed": "there is no DeepSpeed here",
    "fsdp": "there is no FSDP here",
    "neftune_noise_alpha": "NEFTune is not supported",
    "modules_to_save": "fully trained modules beside an adapter are not supported",
    "rpo_alpha": "write loss: [dpo, sft] and loss_weights: [1, alpha]",
    "pref_ftx": "write loss: [dpo, sft] and loss_weights: [1, pref_ftx]",
    "dataset_dir": "name the file itself in sft.data and align.data",
  ]
}
