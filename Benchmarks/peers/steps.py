# SPDX-License-Identifier: Apache-2.0
"""One training step in paft and in PyTorch, in turns: tokens/s, peak memory, the ratio.

    steps.py run --model qwen2.5-0.5b --objective sft --adapter lora --length 512 --csv steps.csv
    steps.py run --model llama-40m --objective dpo --length 2048 --base-dtype int8 --csv steps.csv
    steps.py table --csv steps.csv

`run` measures one cell: both programs load the same random model from the same folder and take the same
steps over the same rows of token ids, on the same cores, one after the other, `--rounds` times in
turns. A round is a process of its own for each; its time is the median step without the first two, its
memory the high-water mark of the process, loading included. (The kernel starts a child's mark at that of the
process that started it, so this one loads no library and leaves the making of models to a third.) The row that is appended to the CSV has the
medians of the rounds. Losses of both stand beside each other: they must agree.

PyTorch runs the loop that transformers, peft and TRL would run, without their trainers' overhead: the
transformers model with SDPA, peft's LoRA with factors in Float over a bfloat16 base (or Float
weights under autocast, `--adapter full`), the causal LM loss of transformers for SFT, TRL's
concatenated forward pass and its log-softmax of chosen labels for DPO, clipping, fused AdamW. Its memory is
glibc's as it comes (`--allocator stock`), or freed memory is kept and lies in huge pages (`tuned`), which
only who knows of it asks for. DPO's reference is computed in each step, which is TRL's default;
`--reference before` computes it before the measured steps, as paft does.

Tokens are counted as a trainer counts them that computes every sequence in full: batch x length for
SFT, 2 x batch x length for DPO.
"""

import argparse
import csv
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = {
    "llama-40m": dict(
        kind="llama", vocab_size=32000, hidden_size=512, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, intermediate_size=1408,
        max_position_embeddings=4096, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True,
    ),
    "qwen2.5-0.5b": dict(
        kind="qwen2", vocab_size=151936, hidden_size=896, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1000000.0,
        tie_word_embeddings=True,
    ),
    "llama-3.2-1b": dict(
        kind="llama", vocab_size=128256, hidden_size=2048, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, intermediate_size=8192,
        max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0,
        tie_word_embeddings=True,
    ),
}  # fmt: skip

FIELDS = [
    "model", "objective", "adapter", "rank", "base_dtype", "length", "batch", "threads",
    "reference", "allocator", "rounds", "steps", "paft_tokens_per_second", "torch_tokens_per_second", "ratio", "paft_peak_mib",
    "torch_peak_mib", "memory_ratio", "paft_loss", "torch_loss", "paft_commit", "torch",
    "transformers", "peft", "cores",
]  # fmt: skip

BETA = 0.1
LEARNING_RATE = 1e-5
# The first two steps grow buffers and fill caches, in both programs.
WARM = 2


def flags(parser):
    parser.add_argument("--model", choices=list(MODELS), default="qwen2.5-0.5b")
    parser.add_argument("--objective", choices=["sft", "dpo"], default="sft")
    parser.add_argument("--adapter", choices=["lora", "full", "full-bf16"], default="lora",
                        help="full-bf16: all weights, in paft without Float masters and with 8-bit "
                        "moments; nothing is clipped in either program")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--base-dtype", choices=["bf16", "int8"], default="bf16",
                        help="of the base's products in paft; PyTorch's are bfloat16")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=1, help="rows or pairs of a step")
    parser.add_argument("--labelled", type=float, default=0.5,
                        help="share of a sequence, at its end, that is the answer")
    parser.add_argument("--reference", choices=["step", "before"], default="step",
                        help="when PyTorch computes DPO's reference")
    parser.add_argument("--allocator", choices=["stock", "tuned"], default="stock",
                        help="PyTorch's memory: as it comes, or kept and in huge pages")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))


# MARK: - What both read


def prepare(folder, options):
    """Where the random model and the rows are, once another process has made them."""
    command = [sys.executable, __file__, "prepare", "--folder", str(folder)]
    for name in ["model", "objective", "length", "batch", "labelled", "steps"]:
        command += [f"--{name}", str(getattr(options, name))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / options.model, folder / "rows.jsonl"


def prepare_worker(options):
    """The random model and the rows; kept between cells of a model when `--cache` names a folder."""
    import torch
    import transformers

    folder = Path(options.folder)
    shape = dict(MODELS[options.model])
    kind = shape.pop("kind")
    model = folder / options.model
    if not (model / "config.json").exists():
        torch.manual_seed(1)
        make = {
            "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
            "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        }[kind]
        settings = make[0](**shape, bos_token_id=0, eos_token_id=0)
        make[1](settings).to(torch.bfloat16).save_pretrained(model)
    answer = min(options.length - 1, max(1, round(options.labelled * options.length)))
    prompt = options.length - answer
    generator = torch.Generator().manual_seed(2)
    rows = []
    for _ in range((options.steps + WARM) * options.batch):
        def ids(count):
            return torch.randint(1, shape["vocab_size"], (count,), generator=generator).tolist()

        if options.objective == "sft":
            all_ids = ids(options.length)
            rows.append({"input_ids": all_ids, "labels": [-100] * prompt + all_ids[prompt:]})
        else:
            rows.append({
                "prompt_input_ids": ids(prompt), "chosen_input_ids": ids(answer),
                "rejected_input_ids": ids(answer),
            })  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


# MARK: - paft


def run_paft(options, model, data):
    """(median seconds of a step, peak MiB, loss of the first step)"""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        settings = {
            "shuffle": "false", "batch_size": options.batch, "max_length": options.length,
            "max_steps": options.steps + WARM, "epochs": 1, "learning_rate": LEARNING_RATE,
            "lr_scheduler": "constant", "warmup_steps": 0, "eval_fraction": 0, "save_steps": 0,
            "max_grad_norm": 1.0, "adapter.type": options.adapter.split("-")[0],
            "base_dtype": options.base_dtype,
        }  # fmt: skip
        if options.adapter == "full-bf16":
            settings |= {"master_weights": "false", "max_grad_norm": 0, "optimizer": "adamw_8bit"}
        if options.adapter == "lora":
            settings |= {"adapter.r": options.rank, "adapter.alpha": 2 * options.rank}
        if options.objective == "dpo":
            settings |= {"align.loss": "dpo", "align.beta": BETA}
        verb = "sft" if options.objective == "sft" else "align"
        command = [options.paft, verb, "--model", model, "--data", data, "--output", out,
                   "--threads", options.threads, "--quiet"]  # fmt: skip
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        peak = child([str(part) for part in command], None)
        rows = [json.loads(line) for path in out.rglob("metrics.jsonl")
                for line in path.read_text().splitlines()]  # fmt: skip
    seconds = [row["seconds"] for row in rows[WARM:]]
    return statistics.median(seconds), peak, rows[0]["loss"]


def child(command, environment, result=None):
    """Runs a process to its end; its high-water mark in MiB."""
    process = subprocess.Popen(command, env=environment, stdout=result or subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command[:2])} … ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def commit(paft):
    text = subprocess.run([paft, "bench", "peak", "--repetitions", "1", "--json", "--quiet"],
                          capture_output=True, text=True).stdout  # fmt: skip
    first = next((line for line in text.splitlines() if line.startswith("{")), "{}")
    return json.loads(first).get("commit", "")


# MARK: - PyTorch


def run_torch(options, model, data):
    environment = os.environ | {
        "OMP_NUM_THREADS": str(options.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
    if options.allocator == "tuned":
        environment["GLIBC_TUNABLES"] = (
            "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=68719476736"
            ":glibc.malloc.mmap_threshold=68719476736:glibc.malloc.arena_max=1"
        )
    command = [sys.executable, __file__, "torch", "--folder", str(model), "--data", str(data)]
    for name in ["objective", "adapter", "rank", "batch", "steps", "threads", "reference"]:
        command += [f"--{name}", str(getattr(options, name))]
    with tempfile.TemporaryFile("w+") as result:
        peak = child(command, environment, result)
        result.seek(0)
        found = json.loads(result.read().splitlines()[-1])
    return found["seconds"], peak, found["loss"]


def torch_worker(options):
    import torch
    import torch.nn.functional as functional
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import selective_log_softmax

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    full = options.adapter.startswith("full")
    model = AutoModelForCausalLM.from_pretrained(
        options.folder, dtype=torch.float32 if full else torch.bfloat16, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    if not full:
        model = get_peft_model(
            model,
            LoraConfig(r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0,
                       target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    rows = [json.loads(line) for line in open(options.data, encoding="utf-8")]
    windows = [rows[i : i + options.batch] for i in range(0, len(rows), options.batch)]

    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def pairs(window, model=model):
        """Both answers' sums of log-probabilities, chosen before rejected, as TRL concatenates."""
        sides = ["chosen_input_ids", "rejected_input_ids"]
        ids = torch.tensor([r["prompt_input_ids"] + r[s] for s in sides for r in window])
        prompt = len(window[0]["prompt_input_ids"])
        # Logits of all tokens, as TRL asks for them, prompts masked afterwards.
        logps = selective_log_softmax(model(ids).logits[:, :-1], ids[:, 1:])
        logps = logps[:, prompt - 1 :].float().sum(-1)
        return logps[: len(window)] - logps[len(window) :]

    original = None
    if options.objective == "dpo" and full and options.reference == "step":
        original = AutoModelForCausalLM.from_pretrained(
            options.folder, dtype=torch.float32, attn_implementation="sdpa"
        )

    def reference(window):
        with torch.no_grad(), autocast():
            if original:
                return pairs(window, original)
            if full:
                return pairs(window)
            with model.disable_adapter():
                return pairs(window)

    references = []
    if options.objective == "dpo" and options.reference == "before":
        references = [reference(window) for window in windows]

    seconds, losses = [], []
    for step, window in enumerate(windows):
        started = time.perf_counter()
        with autocast():
            if options.objective == "sft":
                loss = model(
                    input_ids=torch.tensor([r["input_ids"] for r in window]),
                    labels=torch.tensor([r["labels"] for r in window]),
                ).loss
            else:
                known = references[step] if references else reference(window)
                loss = -functional.logsigmoid(BETA * (pairs(window) - known)).mean()
        loss.backward()
        if options.adapter != "full-bf16":
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
    print(json.dumps({"seconds": statistics.median(seconds[WARM:]), "loss": losses[0]}))


# MARK: - A cell and the table


def run_cell(options):
    sequences = options.batch * (2 if options.objective == "dpo" else 1)
    tokens = sequences * options.length
    results = {"paft": [], "torch": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.cache or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        model, data = prepare(folder, options)
        programs = [("paft", run_paft), ("torch", run_torch)]
        if options.only:
            programs = [p for p in programs if p[0] == options.only]
        for round in range(options.rounds):
            # Who goes first changes, for clocks and caches that drift.
            for name, program in programs if round % 2 == 0 else programs[::-1]:
                result = program(options, model, data)
                results[name].append(result)
                print(f"{name}: {tokens / result[0]:.1f} tokens/s, {result[1]:.0f} MiB, "
                      f"loss {result[2]:.5f}", file=sys.stderr)  # fmt: skip
        data.unlink()

    def median(name, index):
        return statistics.median([r[index] for r in results[name]]) if results[name] else math.nan

    row = {name: getattr(options, name) for name in
           ["model", "objective", "adapter", "rank", "base_dtype", "length", "batch", "threads",
            "reference", "allocator", "rounds", "steps"]}  # fmt: skip
    for name in results:
        row[f"{name}_tokens_per_second"] = round_to(tokens / median(name, 0))
        row[f"{name}_peak_mib"] = round_to(median(name, 1))
        row[f"{name}_loss"] = f"{median(name, 2):.5f}"
    row["ratio"] = round_to(median("torch", 0) / median("paft", 0))
    row["memory_ratio"] = round_to(median("paft", 1) / median("torch", 1))
    row |= {name: importlib.metadata.version(name) for name in ["torch", "transformers", "peft"]}
    row |= {"paft_commit": commit(options.paft),
            "cores": ",".join(map(str, sorted(os.sched_getaffinity(0))))}  # fmt: skip
    if options.csv:
        new = not Path(options.csv).exists()
        with open(options.csv, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(row)
    print(json.dumps(row))


def round_to(value):
    return value if math.isnan(value) else float(f"{value:.4g}")


def table(options):
    with open(options.csv, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The newest row of a cell counts.
    cells = {}
    for row in rows:
        cells[tuple(row[name] for name in FIELDS[:10])] = row
    print("| job | tokens x rows | threads | PyTorch tokens/s | paft tokens/s | ratio "
          "| PyTorch MiB | paft MiB | memory | loss PyTorch, paft |")  # fmt: skip
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for row in cells.values():
        how = f"LoRA r={row['rank']}" if row["adapter"] == "lora" else row["adapter"]
        base = f", {row['base_dtype']} {'base' if row['adapter'] == 'lora' else 'products'}"
        if row["objective"] == "dpo" and row["reference"] == "before":
            base += ", PyTorch's reference known"
        if row["allocator"] == "tuned":
            base += ", PyTorch's memory kept"
        print(
            f"| {row['model']} {row['objective'].upper()} {how}{base} "
            f"| {row['length']} x {row['batch']} | {row['threads']} "
            f"| {row['torch_tokens_per_second']} | {row['paft_tokens_per_second']} "
            f"| **{row['ratio']}** | {row['torch_peak_mib']} | {row['paft_peak_mib']} "
            f"| {row['memory_ratio']} | {row['torch_loss']}, {row['paft_loss']} |"
        )
    last = rows[-1]
    print(f"\nTorch {last['torch']}, transformers {last['transformers']}, peft {last['peft']}; "
          f"paft {last['paft_commit']}.")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    cell = verbs.add_parser("run", help="measure one cell")
    flags(cell)
    cell.add_argument("--rounds", type=int, default=3)
    cell.add_argument("--csv", help="append the cell's row here")
    cell.add_argument("--paft", default=".build/release/paft")
    cell.add_argument("--cache", help="keep the random models in this folder")
    cell.add_argument("--only", choices=["paft", "torch"], help="run one of the two alone")
    maker = verbs.add_parser("prepare", help="the random model and the rows (what run starts)")
    flags(maker)
    maker.add_argument("--folder", required=True)
    worker = verbs.add_parser("torch", help="PyTorch's side of a cell (what run starts)")
    flags(worker)
    worker.add_argument("--folder", required=True)
    worker.add_argument("--data", required=True)
    verbs.add_parser("table", help="rows to Markdown").add_argument("--csv", required=True)
    options = parser.parse_args()
    actions = {"run": run_cell, "prepare": prepare_worker, "torch": torch_worker, "table": table}
    actions[options.verb](options)


if __name__ == "__main__":
    main()
