# SPDX-License-Identifier: Apache-2.0
"""The DPO peer: TRL's DPOTrainer on CPU; the reference is the base (adapter off, or a copy)."""

import tempfile

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import measured


def main():
    parser = measured.flags(__doc__, learning_rate=5e-6)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument(
        "--precompute-ref",
        action="store_true",
        help="reference log-probabilities once, before the measured time",
    )
    options = parser.parse_args()
    rows = [
        {
            "prompt": measured.alpaca_prompt(row),
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
        for row in measured.rows_of(options.data, options.limit)
    ]
    model, tokenizer, peft = measured.load(options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                beta=options.beta,
                precompute_ref_log_probs=options.precompute_ref,
                **measured.common_settings(options, folder),
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=peft,
        )
        measured.train_and_report(trainer, options, "dpo")


if __name__ == "__main__":
    main()
