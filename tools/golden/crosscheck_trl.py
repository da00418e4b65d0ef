# SPDX-License-Identifier: Apache-2.0
"""Run TRL's own trainers over the golden rows and compare all 20 losses and gradient norms.

The loops of training.py are written from the formulas; this script is their independent witness.
It hands SFTTrainer, DPOTrainer and ORPOTrainer the same pre-tokenised rows, padded batches of four,
in file order, with the Trainer's own AdamW, linear schedule, clipping and weight-decay groups.
TRL runs in float32, so agreement is asked to 2e-6 of the loss and 5e-6 of the gradient norm.
"""

import json
import pathlib
import tempfile

from datasets import Dataset
from peft import PeftModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import exact

FIXTURES = pathlib.Path(__file__).parents[2] / "Tests/Fixtures"
BASE = FIXTURES / "models/llama"
ADAPTER = FIXTURES / "training/adapter"
GOLDEN = json.loads((FIXTURES / "training/golden.json").read_text())


def lines(name):
    return [json.loads(line) for line in (FIXTURES / "training" / name).read_text().splitlines()]


def dummy_tokenizer():
    """The trainers insist on one, for its pad id only."""
    words = {f"t{i}": i for i in range(97)}
    inner = Tokenizer(models.WordLevel(words, unk_token="t0"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="t0", bos_token="t1", eos_token="t2"
    )


class AsGiven:
    """Rows that are tokenised already."""

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset

    def tokenize_row(self, row, **_):
        return row


class SFT(AsGiven, SFTTrainer):
    pass


class DPO(AsGiven, DPOTrainer):
    pass


class ORPO(AsGiven, ORPOTrainer):
    pass


def arguments(kind, run, folder, **extra):
    return kind(
        output_dir=folder,
        per_device_train_batch_size=4,
        max_steps=20,
        warmup_steps=5,
        lr_scheduler_type="linear",
        learning_rate=run["learning_rate"],
        weight_decay=run["weight_decay"],
        max_grad_norm=1.0,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        train_sampling_strategy="sequential",
        report_to=[],
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=1,
        **extra,
    )


def orpo_columns(row):
    prompt, columns = row["prompt_input_ids"], {}
    for side in ("chosen", "rejected"):
        ids = prompt + row[side + "_input_ids"]
        columns[side + "_input_ids"] = ids
        columns[side + "_attention_mask"] = [1] * len(ids)
        columns[side + "_labels"] = [exact.IGNORED] * len(prompt) + row[side + "_input_ids"]
    columns["prompt_input_ids"], columns["prompt_attention_mask"] = prompt, [1] * len(prompt)
    columns |= {"prompt": "", "chosen": "", "rejected": ""}
    return columns


def trainer_of(run, model, folder):
    common = dict(model=model, processing_class=dummy_tokenizer())
    if run["objective"] == "sft":
        args = arguments(SFTConfig, run, folder, dataset_kwargs={"skip_prepare_dataset": True})
        return SFT(args=args, train_dataset=Dataset.from_list(lines("sft.jsonl")), **common)
    pairs = lines("pairs.jsonl")
    if run["objective"] == "dpo":
        rows = [{k.replace("_input_ids", "_ids"): v for k, v in row.items()} for row in pairs]
        args = arguments(DPOConfig, run, folder, beta=0.1)
        if run["adapter"] == "full":
            common["ref_model"] = exact.load_stock(BASE)
        return DPO(args=args, train_dataset=Dataset.from_list(rows), **common)
    rows = [orpo_columns(row) for row in pairs]
    args = arguments(ORPOConfig, run, folder, beta=0.1, max_length=128, remove_unused_columns=False)
    return ORPO(args=args, train_dataset=Dataset.from_list(rows), **common)


def main():
    failed = False
    for name, run in GOLDEN["runs"].items():
        if "l1" in run:
            continue
        model = exact.load_stock(BASE)
        if run["adapter"] == "lora":
            model = PeftModel.from_pretrained(model, ADAPTER, is_trainable=True)
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(run, model, folder)
            trainer.train()
        history = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
        assert len(history) == 20, len(history)
        gaps = {}
        for ours, theirs in (
            ("losses", "loss"),
            ("grad_norms", "grad_norm"),
            ("learning_rates", "learning_rate"),
        ):
            pairs = zip(run[ours], (float(entry[theirs]) for entry in history))
            gaps[theirs] = max(abs(a - b) / max(abs(a), 1e-3) for a, b in pairs)
        good = gaps["loss"] < 2e-6 and gaps["grad_norm"] < 5e-6 and gaps["learning_rate"] < 1e-9
        failed |= not good
        shown = "  ".join(f"{key} {gap:.1e}" for key, gap in gaps.items())
        print(f"{'agrees' if good else 'DIFFERS'}  {name:10} largest relative gap: {shown}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
