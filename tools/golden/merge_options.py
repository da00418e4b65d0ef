# SPDX-License-Identifier: Apache-2.0
"""Writes Tests/Fixtures/merging/options: every merge method with filters, gradients, slices and adapters
at once, as mergekit merges it.

    python tools/golden/merge_options.py        (needs torch, transformers, peft, mergekit)

ARCHITECTURE/base left right far      model folders, f32; tuned aligned other: PEFT adapters of base
gpt2/tuned.safetensors                PEFT's merge of base and tuned
ARCHITECTURE/NAME.yml                 mergekit configurations; NAME.safetensors is mergekit's result
"""
import contextlib
import json
import os
import pathlib
import shutil
import tempfile

import merge_cases as cases
import torch
import yaml
from peft import PeftModel
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

root = pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/merging/options"


def write(folder, case, settings):
    (folder / f"{case}.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    with tempfile.TemporaryDirectory() as out, contextlib.chdir(folder):
        run_merge(MergeConfiguration.model_validate(settings), f"{out}/merged", MergeOptions(
            copy_tokenizer=False, write_model_card=False, quiet=True,
            lora_merge_cache=f"{out}/lora", lora_merge_dtype="float32"))
        merged = {}
        for file in sorted(pathlib.Path(out, "merged").glob("*.safetensors")):
            merged.update(load_file(file))
    save_file(merged, folder / f"{case}.safetensors")
    (folder / f"{case}.safetensors").chmod(0o644)


def slice_bases(folder):
    """The base of each slice in place of the configuration's."""
    def source(name, layers, weight=None):
        entry = {"model": f"{folder}/{name}", "layer_range": layers}
        return entry if weight is None else entry | {"parameters": {"weight": weight}}
    return {
        "merge_method": "task_arithmetic", "dtype": "float32", "out_dtype": "float32",
        "base_model": f"{folder}/base",
        "slices": [
            {"sources": [source("left", [0, 2], 0.7), source("base", [0, 2])]},
            {"sources": [source("far", [1, 2]), source("right", [2, 3], 0.4)],
             "base_model": f"{folder}/far"}]}


shutil.rmtree(root, ignore_errors=True)
for number, architecture in enumerate(("qwen2", "gpt2")):
    folder = root / architecture
    folder.mkdir(parents=True)
    cases.write_models(architecture, folder)
    for case in list(cases.methods)[number::2]:
        write(folder, case, cases.configuration(case, "together", f"../{architecture}"))
    if architecture == "qwen2":
        write(folder, "slice_bases", slice_bases(f"../{architecture}"))
# PEFT's own word on weights that are stored [in, out].
model = cases.AutoModelForCausalLM.from_pretrained(root / "gpt2/base", dtype=torch.float32)
merged = PeftModel.from_pretrained(model, root / "gpt2/tuned").merge_and_unload().state_dict()
save_file({k: v.contiguous() for k, v in merged.items() if k != "lm_head.weight"},
          root / "gpt2/tuned.safetensors")
for name in ("aligned", "other"):
    shutil.rmtree(root / "gpt2" / name)
# The base by where it is beside the adapter, not by where it was on this machine.
for file in root.rglob("adapter_config.json"):
    settings = json.loads(file.read_text())
    settings["base_model_name_or_path"] = "../base"
    file.write_text(json.dumps(settings, indent=2))
for name in ("generation_config.json", "README.md"):
    for file in root.rglob(name):
        file.unlink()
for file in root.rglob("*.safetensors"):
    file.chmod(0o644)
