# SPDX-License-Identifier: Apache-2.0
"""Check what paft wrote with the libraries its users will load it with.

  verify.py score --model DIR [--adapter DIR] --data rows.jsonl --scores scores.jsonl
      Load with transformers (and peft) and compare every log-probability with `paft score`'s.
      rows.jsonl: {"input_ids": [...]} or
      {"prompt_input_ids": [...], "chosen_input_ids": [...], "rejected_input_ids": [...]}
  verify.py ties --base DIR --branch A --branch B --merged DIR [--weight W]... [--density D]...
      Run mergekit's TIES in float32 on the same inputs (a branch may be `model+adapter`)
      and compare every tensor.
  verify.py merge --config merge.yaml --merged DIR
      The same for any mergekit configuration, as it was given to `paft merge`.

Exit status: 0 agrees, 1 differs, 2 cannot compare.
"""

import argparse
import json
import math
import pathlib
import sys
import tempfile

import torch
from safetensors import safe_open


class CannotCompare(Exception):
    """The two sides do not hold the same things; the message says which."""


def json_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def verdict(good, text):
    print(("agrees: " if good else "DIFFERS: ") + text)
    return 0 if good else 1


# Scores


def load_model(folder, adapter, dtype):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def log_probabilities(model, ids, first):
    """log p of ids[first:], each given all ids before it."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    log_p = torch.log_softmax(logits[:-1].float(), dim=-1)
    return log_p.gather(1, torch.tensor(ids[1:])[:, None])[first - 1 :, 0].tolist()


def scored_parts(row, score):
    """(label, ids, index of the first scored id, paft's answer) of one line."""
    if "input_ids" in row:
        yield "", row["input_ids"], 1, score
    elif "prompt_input_ids" in row:
        prompt = row["prompt_input_ids"]
        for side in ("chosen", "rejected"):
            ids = prompt + row[side + "_input_ids"]
            # Without a prompt nothing predicts the first token of the completion.
            yield " " + side, ids, max(1, len(prompt)), score[side]
    else:
        raise CannotCompare(f"a row needs input_ids or prompt_input_ids, found {sorted(row)}")


def verify_score(options):
    rows, scores = json_lines(options.data), json_lines(options.scores)
    if len(rows) != len(scores):
        raise CannotCompare(f"{len(rows)} rows but {len(scores)} scores")
    model = load_model(options.model, options.adapter, getattr(torch, options.dtype))
    worst, where, tokens = 0.0, "", 0
    for score in scores:
        index = score["index"]
        for label, ids, first, answer in scored_parts(rows[index], score):
            expected, found = log_probabilities(model, ids, first), answer["logprobs"]
            name = f"row {index}{label}"
            if len(expected) != len(found):
                raise CannotCompare(f"{name}: expected {len(expected)} scores, found {len(found)}")
            gaps = {f"token {first + i}": e - f for i, (e, f) in enumerate(zip(expected, found))}
            gaps["sum"] = (sum(found) - answer["sum"]) / max(1, len(found))
            for place, gap in gaps.items():
                gap = math.inf if math.isnan(gap) else abs(gap)
                if gap > worst:
                    worst, where = gap, f"{name} {place}"
            tokens += len(found)
    good = worst <= options.tolerance
    text = f"{tokens} log-probabilities of {len(rows)} rows, largest gap {worst:.2e}"
    return verdict(good, f"{text} at {where or 'none'} (tolerance {options.tolerance:g})")


# Merges


def tensor_files(folder):
    """{tensor name: file} of an HF folder, sharded or not."""
    files = sorted(pathlib.Path(folder).glob("*.safetensors"))
    if not files:
        raise CannotCompare(f"{folder}: no safetensors file")
    found = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found


def read_tensor(files, name):
    with safe_open(files[name], framework="pt") as tensors:
        return tensors.get_tensor(name).double()


def tied_entries(base, branches, densities, name):
    """Entries whose |delta| equals a branch's density threshold: which of them are kept is a matter
    of sorting order, which mergekit leaves to torch.topk."""
    start = read_tensor(base, name).float()
    tied = torch.zeros(start.shape, dtype=torch.bool)
    for branch, density in zip(branches, densities):
        delta = (read_tensor(branch, name).float() - start).abs()
        kept = int(density * delta.numel())
        if 0 < kept < delta.numel():
            threshold = delta.flatten().topk(kept).values[-1]
            if threshold > 0:  # keeping or dropping a zero comes to the same
                tied |= delta == threshold
    return tied


def compare_folders(expected, merged, tolerance, tied=None):
    """Each entry's gap is measured against the largest entry of its tensor. `tied` names the entries
    of a tensor that the peer may decide either way; they are counted, and not held against anyone."""
    theirs, ours = tensor_files(expected), tensor_files(merged)
    missing, extra = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    if missing or extra:
        raise CannotCompare(f"tensors missing: {missing}, unexpected: {extra}")
    rows, entries, off, either = [], 0, 0, 0
    for name in theirs:
        want, have = read_tensor(theirs, name), read_tensor(ours, name)
        if want.shape != have.shape:
            raise CannotCompare(f"{name}: shape {list(have.shape)}, expected {list(want.shape)}")
        gap = (have - want).abs() / want.abs().max().clamp(min=1e-30)
        gap = gap.nan_to_num(nan=math.inf)
        differs = gap > tolerance
        if tied and differs.any():
            free = differs & tied(name)
            either += int(free.sum())
            gap[free] = 0
            differs &= ~free
        beyond = int(differs.sum())
        rows.append((gap.max().item(), beyond, want.numel(), name))
        entries, off = entries + want.numel(), off + beyond
    rows.sort(key=lambda row: (-row[1], -row[0]))
    for gap, beyond, count, name in rows[:5]:
        print(f"  {gap:.2e}  {beyond} of {count} entries beyond  {name}")
    text = f"{len(rows)} tensors, {off} of {entries} entries beyond {tolerance:g}"
    if either:
        text += f" ({either} more are ties at a density threshold)"
    return verdict(off == 0, f"{text}, largest relative gap {max(r[0] for r in rows):.2e}")


def run_mergekit(config, tolerance, merged, tied=None):
    """Merge with mergekit into a temporary folder, then compare."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as folded:
        options = MergeOptions(
            copy_tokenizer=False,
            write_model_card=False,
            quiet=True,
            lora_merge_cache=folded,
            lora_merge_dtype="float32",
        )
        run_merge(MergeConfiguration.model_validate(config), folder, options)
        return compare_folders(folder, merged, tolerance, tied)


def per_branch(values, branches, name):
    values = values or [1.0]
    if len(values) not in (1, branches):
        raise CannotCompare(f"{len(values)} values of --{name} for {branches} branches")
    return values * branches if len(values) == 1 else values


def verify_ties(options):
    count = len(options.branch)
    weights = per_branch(options.weight, count, "weight")
    densities = per_branch(options.density, count, "density")
    config = {
        "merge_method": "ties",
        "base_model": options.base,
        "dtype": "float32",
        "models": [
            {"model": branch, "parameters": {"weight": weight, "density": density}}
            for branch, weight, density in zip(options.branch, weights, densities)
        ],
        "parameters": {"normalize": not options.no_normalize, "lambda": options.lambda_},
    }
    if any("+" in branch for branch in options.branch):
        return run_mergekit(config, options.tolerance, options.merged)
    base, branches = tensor_files(options.base), [tensor_files(b) for b in options.branch]
    return run_mergekit(
        config,
        options.tolerance,
        options.merged,
        lambda name: tied_entries(base, branches, densities, name),
    )


def verify_merge(options):
    import yaml

    with open(options.config, encoding="utf-8") as file:
        return run_mergekit(yaml.safe_load(file), options.tolerance, options.merged)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="score|ties|merge")
    score = verbs.add_parser("score", help="log-probabilities against transformers and peft")
    score.add_argument("--model", required=True)
    score.add_argument("--adapter")
    score.add_argument("--data", required=True)
    score.add_argument("--scores", required=True)
    score.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    score.add_argument("--tolerance", type=float, default=1e-3)
    score.set_defaults(run=verify_score)
    ties = verbs.add_parser("ties", help="a TIES merge against mergekit")
    ties.add_argument("--base", required=True)
    ties.add_argument("--branch", action="append", required=True)
    ties.add_argument("--weight", type=float, action="append")
    ties.add_argument("--density", type=float, action="append")
    ties.add_argument("--lambda", dest="lambda_", type=float, default=1.0)
    ties.add_argument("--no-normalize", action="store_true")
    ties.set_defaults(run=verify_ties)
    merge = verbs.add_parser("merge", help="any mergekit configuration")
    merge.add_argument("--config", required=True)
    merge.set_defaults(run=verify_merge)
    for verb in (ties, merge):
        verb.add_argument("--merged", required=True)
        verb.add_argument("--tolerance", type=float, default=1e-5)
    return parser.parse_args()


def main():
    options = arguments()
    try:
        return options.run(options)
    except CannotCompare as error:
        print(f"cannot compare: {error}", file=sys.stderr)
    except Exception as error:  # whatever a library throws must not look like "differs"
        print(f"cannot compare: {type(error).__name__}: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
