# SPDX-License-Identifier: Apache-2.0
"""What train_sft.py and train_dpo.py share: flags, the Alpaca prompt, and how a run is measured.

Seconds are those of `trainer.train()`: no import, no loading, no tokenising. Two token counts are
kept, because trainers pad: `tokens` are real ones, `padded_tokens` what the model computed on (for
pairs both rows count). Peak RSS is the process's high-water mark, interpreter and libraries
included; `rss_before_training_mib` lets a reader subtract them.
"""

import argparse
import json
import platform
import resource
import statistics
import time

import torch
import transformers
import trl
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

HEADER = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)


def alpaca_prompt(row):
    question = f"\n\n### Input:\n{row['input']}" if row.get("input") else ""
    return f"{HEADER}\n\n### Instruction:\n{row['instruction']}{question}\n\n### Response:\n"


def rows_of(path, limit):
    """A JSON array, or JSON lines."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    rows = json.loads(text) if text.lstrip().startswith("[") else map(json.loads, text.splitlines())
    return list(rows)[:limit]


def flags(description, learning_rate):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="HF folder")
    parser.add_argument("--data", required=True, help="JSON array or JSON lines, Alpaca keys")
    parser.add_argument("--output", help="save the trained adapter or model here")
    parser.add_argument("--adapter", choices=["lora", "full"], default="lora")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16: frozen base in bf16 (lora), autocast (full)",
    )
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--limit", type=int, help="use only the first rows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shuffle", action="store_true", help="default: the order of the file")
    parser.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="TRL's default; off here because it costs time",
    )
    parser.add_argument("--seed", type=int, default=42)
    return parser


def load(options):
    """(model, tokenizer, peft configuration or None)"""
    torch.set_num_threads(options.threads)
    transformers.set_seed(options.seed)
    low = options.dtype == "bfloat16" and options.adapter == "lora"
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.bfloat16 if low else torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    peft = None
    if options.adapter == "lora":
        peft = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    return model, tokenizer, peft


def common_settings(options, folder):
    """Trainer arguments that SFT and DPO share; nothing is saved or evaluated on the way."""
    return dict(
        output_dir=folder,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        max_steps=options.max_steps,
        num_train_epochs=options.epochs,
        max_length=options.max_length,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch",
        bf16=options.dtype == "bfloat16",
        gradient_checkpointing=options.gradient_checkpointing,
        train_sampling_strategy="random" if options.shuffle else "sequential",
        seed=options.seed,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


class Clock(TrainerCallback):
    """Time of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.steps.append(time.perf_counter() - self.start)


class Counter:
    """Counts what training steps are given: collators run ahead of them and would count more."""

    def __init__(self, trainer):
        self.step, self.tokens, self.padded = trainer.training_step, 0, 0
        trainer.training_step = self

    def __call__(self, model, inputs, *rest, **named):
        self.padded += inputs["input_ids"].numel()
        real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        self.tokens += int(real.sum())
        return self.step(model, inputs, *rest, **named)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train_and_report(trainer, options, objective):
    """Train, save if asked to, print one JSON object."""
    clock, before = Clock(), peak_mib()
    trainer.add_callback(clock)
    counter = Counter(trainer)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    if options.output:
        trainer.save_model(options.output)
    losses = [float(e["loss"]) for e in trainer.state.log_history if "loss" in e]
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    report = {
        "peer": f"trl {trl.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "objective": objective,
        "adapter": options.adapter,
        "dtype": options.dtype,
        "threads": options.threads,
        "machine": platform.processor() or platform.machine(),
        "steps": trainer.state.global_step,
        "trained_parameters": trained,
        "seconds": round(seconds, 3),
        # The first step pays for allocation and primitive caches.
        "median_step_seconds": round(statistics.median(clock.steps[1:] or clock.steps), 5),
        "tokens": counter.tokens,
        "padded_tokens": counter.padded,
        "tokens_per_second": round(counter.tokens / seconds, 1),
        "padded_tokens_per_second": round(counter.padded / seconds, 1),
        "rss_before_training_mib": round(before, 1),
        "peak_rss_mib": round(peak_mib(), 1),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "mean_last_10_losses": round(statistics.fmean(losses[-10:]), 5),
    }
    print(json.dumps(report, indent=1))
