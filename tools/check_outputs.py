# SPDX-License-Identifier: Apache-2.0
"""The comparisons of tools/check-outputs: log-probabilities that paft computes against those of
transformers and peft, for models and adapters that the other one wrote; and of what mergekit makes of
models that paft wrote against what paft makes of them."""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

try:
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
except ImportError:
    run_merge = None

TOLERANCE = 1e-3
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Checker:
    def __init__(self, paft, folder, vocabulary):
        self.paft, self.folder = paft, folder
        random.seed(7)
        rows = [[random.randrange(3, vocabulary) for _ in range(n)] for n in (19, 8, 13, 21)]
        self.rows = rows
        self.data = self.write("rows.jsonl", [{"input_ids": ids} for ids in rows])
        self.pairs = self.write(
            "pairs.jsonl",
            [
                {
                    "prompt_input_ids": ids[:5],
                    "chosen_input_ids": ids[5:],
                    "rejected_input_ids": list(reversed(ids[5:])),
                }
                for ids in rows
            ],
        )
        self.failures = 0

    def write(self, name, rows):
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def run(self, *words):
        done = subprocess.run(
            [self.paft, *map(str, words)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"paft {words[0]}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def by_paft(self, model, adapter=None):
        words = ["score", "--model", model, "--data", self.data, "--dtype", "f32", "--quiet"]
        out = self.run(*words, *(["--adapter", adapter] if adapter else []))
        return [torch.tensor(json.loads(line)["logprobs"]) for line in out.splitlines()]

    def by_transformers(self, model, adapter=None):
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        if adapter:
            loaded = PeftModel.from_pretrained(loaded, adapter).eval()
        found = []
        for ids in self.rows:
            with torch.no_grad():
                logits = loaded(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            logps = torch.log_softmax(logits.double(), -1)
            found.append(torch.stack([logps[t, ids[t + 1]] for t in range(len(ids) - 1)]))
        return found

    def compare(self, what, model, adapter=None, unlike=None, other=None):
        """`other` is a model for transformers alone."""
        ours, theirs = self.by_paft(model, adapter), self.by_transformers(other or model, adapter)
        gap = max((a - b).abs().max().item() for a, b in zip(ours, theirs))
        # A file that changed nothing would be equal too.
        moved = max((a - b).abs().max().item() for a, b in zip(ours, unlike)) if unlike else 1.0
        ok = gap < TOLERANCE and moved > 10 * gap
        self.failures += not ok
        print(f"  {what:34} {gap:.1e}{f', moved {moved:.3f}' if unlike else ''}  {'' if ok else 'FAIL'}")
        return ours

    def merged_by_mergekit(self, base, models, unlike):
        """The same merge of models that paft wrote, by mergekit and by paft."""
        config = {
            "merge_method": "ties",
            "base_model": str(base),
            "models": [
                {"model": str(m), "parameters": {"weight": w, "density": 0.5}}
                for m, w in zip(models, (0.6, 0.5))
            ],
            "dtype": "float32",
        }
        text = self.folder / "merge.yaml"
        text.write_text(yaml.safe_dump(config))
        theirs = self.folder / "mergekit"
        run_merge(
            MergeConfiguration.model_validate(config), str(theirs),
            options=MergeOptions(copy_tokenizer=False, quiet=True, allow_crimes=True),
        )  # fmt: skip
        self.run("merge", text, self.folder / "ties", "--quiet")
        ours, theirs_by_name = tensors(self.folder / "ties"), tensors(theirs)
        lost = sorted(ours.keys() - theirs_by_name.keys())
        if not lost:
            self.compare("merged by mergekit", self.folder / "ties", unlike=unlike, other=theirs)
            return
        # mergekit's table of an architecture may lack tensors that a model has (biases), and then its
        # result has none: what it does write is compared.
        gap = max(
            ((ours[name] - theirs_by_name[name]).abs().max() / ours[name].abs().max()).item()
            for name in theirs_by_name.keys() & ours.keys()
        )
        self.failures += not gap < TOLERANCE
        print(
            f"  {'merged by mergekit':34} {gap:.1e} of its {len(theirs_by_name)} tensors; it leaves out"
            f" {len(lost)}, such as {lost[0]}  {'' if gap < TOLERANCE else 'FAIL'}"
        )


def tensors(folder):
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        found |= load_file(file)
    return found


def check(paft, source, root):
    folder = root / source.name
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    print(f"{source.name}: {config['architectures'][0]}")
    checker = Checker(paft, folder, config["vocab_size"])
    base = checker.compare("base", source)
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"model: {source}\noutput: {folder}/run\ndtype: f32\nmax_steps: 3\nlearning_rate: 0.05\n"
        f"lr_scheduler: constant\nadapter: {{r: 3, alpha: 7, rslora: true}}\n"
        f"sft: {{data: {checker.data}, eval_data: {checker.data}}}\n"
        f"align: {{data: {checker.pairs}, eval_data: {checker.pairs}}}\nmerge: {{dtype: float32}}\n"
    )
    checker.run("run", recipe, "--quiet")
    checker.compare("adapter by paft, SFT (rsLoRA)", source, folder / "run/sft/adapter", base)
    checker.compare("adapter by paft, DPO", source, folder / "run/align/adapter", base)
    checker.compare("merged model", folder / "run/merged", unlike=base)
    # Decay moves every weight by an amount of its own: three steps of AdamW alone move many by the same, and
    # which of equals a density keeps is nobody's rule.
    checker.run(
        "sft", "--model", source, "--data", checker.data, "--eval-data", checker.data, "--output",
        folder / "full", "--dtype", "f32", "--set", "adapter.type=full", "--set", "max_steps=3",
        "--set", "learning_rate=0.01", "--set", "weight_decay=0.1", "--quiet",
    )  # fmt: skip
    checker.compare("model by paft, all weights", folder / "full/model", unlike=base)

    if run_merge:
        checker.merged_by_mergekit(source, (folder / "run/merged", folder / "full/model"), base)

    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    names = sorted(
        {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        - {"lm_head"}
    )
    lora = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=names,
        rank_pattern={names[0]: 2, f"model.layers.1.mlp.{names[0]}": 2},
        alpha_pattern={names[-1]: 3.5},
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    get_peft_model(model, lora).save_pretrained(folder / "peft")
    checker.compare("adapter by peft, patterns", source, folder / "peft", base)
    return checker.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paft", type=pathlib.Path, required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("families", nargs="*")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="paft-outputs-") as root:
        for source in sorted(options.models.iterdir()):
            if not options.families or source.name in options.families:
                failures += check(options.paft.resolve(), source.resolve(), pathlib.Path(root))
    sys.exit(f"{failures} comparisons failed" if failures else 0)


if __name__ == "__main__":
    main()
