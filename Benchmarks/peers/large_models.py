# SPDX-License-Identifier: Apache-2.0
"""Writes models of Mistral-7B's shapes in bf16: a base and two to merge, with a TIES configuration of them.

    python large_models.py FOLDER [LAYERS [base|left|right…]]

Layers repeat one drawn layer with norms of one, and the base is zeros that take no room on the disk: 29 GB for 32
layers of all three.
"""
import json
import os
import struct
import sys

import numpy as np

folder = os.path.abspath(sys.argv[1])
layers = int(sys.argv[2]) if len(sys.argv) > 2 else 32
names = sys.argv[3:] or ["base", "left", "right"]
hidden, inner, vocabulary, keys = 4096, 14336, 32000, 1024
shard_bytes = 5_000_000_000


def layer_shapes(layer):
    p = f"model.layers.{layer}."
    return {
        p + "self_attn.q_proj.weight": (hidden, hidden), p + "self_attn.k_proj.weight": (keys, hidden),
        p + "self_attn.v_proj.weight": (keys, hidden), p + "self_attn.o_proj.weight": (hidden, hidden),
        p + "mlp.gate_proj.weight": (inner, hidden), p + "mlp.up_proj.weight": (inner, hidden),
        p + "mlp.down_proj.weight": (hidden, inner), p + "input_layernorm.weight": (hidden,),
        p + "post_attention_layernorm.weight": (hidden,)}


groups = [{"model.embed_tokens.weight": (vocabulary, hidden)}, *map(layer_shapes, range(layers)),
          {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}]
config = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": hidden,
    "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": vocabulary, "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "bfloat16"}


def size(group):
    return sum(2 * int(np.prod(shape)) for shape in group.values())


def draw(seed):
    """bf16 values of both signs between 2^-12 and 2^-5, enough for the largest group."""
    words = np.random.default_rng(seed).integers(0, 1 << 16, max(map(size, groups)) // 2, dtype=np.uint16)
    return ((words & 0x83FF) + 0x3980).astype(np.uint16).tobytes()


def contents(group, data):
    """Drawn weights, one after the other, and norms of one."""
    start, parts = 0, []
    for shape in group.values():
        end = start + 2 * int(np.prod(shape))
        parts.append(memoryview(data)[start:end] if len(shape) > 1 else b"\x80\x3f" * shape[0])
        start = end
    return b"".join(parts)


def save(name, data):
    os.makedirs(f"{folder}/{name}")
    shards, used = [[]], 0
    for group in groups:
        if used and used + size(group) > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(group)
        used += size(group)
    weight_map = {}
    for number, members in enumerate(shards, 1):
        file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for group in members:
            for tensor, shape in group.items():
                end = offset + 2 * int(np.prod(shape))
                header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
                weight_map[tensor] = file_name
                offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{folder}/{name}/{file_name}", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for group in members:
                if data:
                    file.write(contents(group, data))
            file.truncate(8 + len(text) + offset)
    with open(f"{folder}/{name}/model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {"total_size": sum(map(size, groups))}, "weight_map": weight_map}, file)
    with open(f"{folder}/{name}/config.json", "w") as file:
        json.dump(config, file)


for name in names:
    save(name, draw(("left", "right").index(name) + 1) if name != "base" else None)
if {"base", "left", "right"} <= set(names):
    models = "".join(f"  - {{model: {folder}/{name}, parameters: {{weight: 1.0, density: 0.5}}}}\n"
                     for name in ("left", "right"))
    with open(f"{folder}/ties.yml", "w") as file:
        file.write(f"merge_method: ties\nbase_model: {folder}/base\nmodels:\n{models}dtype: bfloat16\n")
