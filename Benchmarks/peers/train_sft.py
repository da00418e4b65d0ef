# SPDX-License-Identifier: Apache-2.0
"""The SFT peer: TRL's SFTTrainer on CPU, loss on the response only."""

import tempfile

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

import measured


def main():
    parser = measured.flags(__doc__, learning_rate=2e-4)
    parser.add_argument("--packing", action="store_true", help="TRL's best-fit-decreasing packing")
    options = parser.parse_args()
    rows = [
        {"prompt": measured.alpaca_prompt(row), "completion": row["output"]}
        for row in measured.rows_of(options.data, options.limit)
    ]
    model, tokenizer, peft = measured.load(options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                packing=options.packing,
                completion_only_loss=True,
                **measured.common_settings(options, folder),
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=peft,
        )
        measured.train_and_report(trainer, options, "sft")


if __name__ == "__main__":
    main()
