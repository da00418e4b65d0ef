# SPDX-License-Identifier: Apache-2.0
"""Folds LoRA adapters into copies of their base, as who merges models does before mergekit sees them.

    merge_adapters.py --model DIR --dtype bfloat16 --output DIR ADAPTER…

Writes OUTPUT/NAME for each adapter's folder NAME.
"""

import argparse
import os

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="HF folder")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("adapters", nargs="+", metavar="ADAPTER")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    for adapter in options.adapters:
        base = AutoModelForCausalLM.from_pretrained(
            options.model, dtype=getattr(torch, options.dtype)
        )
        folder = os.path.join(options.output, os.path.basename(os.path.normpath(adapter)))
        PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
