# SPDX-License-Identifier: Apache-2.0
"""Writes Tests/Fixtures/formats: one safetensors file made by the safetensors library, with every
float type, an integer type, rank 0 and an empty tensor, and the float values PyTorch reads in it.

    python tools/golden/formats.py        (needs torch, safetensors)
"""
import json
import pathlib

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/formats"
here.mkdir(parents=True, exist_ok=True)
generator = torch.Generator().manual_seed(7)
values = torch.randn(3, 5, generator=generator) * 3
tensors = {
    "double": values.double() / 3,
    "single": values,
    "half": values.half(),
    "brain": values.bfloat16(),
    "eight.e4m3": values.to(torch.float8_e4m3fn),
    "eight.e5m2": values.to(torch.float8_e5m2),
    "ids": torch.tensor([[1, -2], [3, 4]], dtype=torch.int64),
    "scalar": torch.tensor(0.15625),
    "empty": torch.zeros(0, 4),
    "naïve": torch.tensor([1.0, -0.0]),
}
save_file(tensors, here / "mixed.safetensors", metadata={"format": "pt", "note": 'quotes " and ü'})
expected = {
    name: {"shape": list(t.shape), "values": t.float().flatten().tolist()}
    for name, t in tensors.items()
    if t.is_floating_point()
}
(here / "mixed.json").write_text(json.dumps(expected, indent=1) + "\n")
