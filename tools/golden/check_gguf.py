# SPDX-License-Identifier: Apache-2.0
"""Compare GGUF files of `paft export` with the models they were made from (see tools/check-outputs-gguf).

Tiny models of every family that llama.cpp knows, random weights of transformers rounded to the type of the file, so that
f32, f16 and bf16 lose nothing. For each type:

bytes         every tensor's bytes against those that the gguf package makes of the folder's, under its own names, q and k
              permuted and norms shifted as llama.cpp's converter does.
folder        log-probabilities that transformers computes in f32 of the file's tensors, read by the gguf package, against
              those of the model's folder. At most 1e-3; Q8_0 (not lossless) instead: each weight within half a step.
import        the same against `paft score` of the folder that `paft import` makes of the file: at most 1e-3.
llama.cpp     the same against llama.cpp's. Its CPU products round activations to the type of the weights (Q8_0: to blocks
              of bytes), so this shows its arithmetic, not the file's.
rounded       llama.cpp's against transformers with the inputs of every linear layer rounded so, and Gemma's activation read
              from a table of f16 as there, for five prompts: the best at most 1e-3, of f32 the worst too. An activation
              next to a tie rounds to the other side in one of the two by the noise of f32, which is a step of the type;
              a prompt without such a flip agrees to 1e-6.

usage: check_gguf.py [NAME ...]
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers

try:
    import xllamacpp
except ImportError:
    xllamacpp = None

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]
PAFT = pathlib.Path(os.environ.get("PAFT", ROOT / ".build/release/paft"))
DATA = pathlib.Path(os.environ.get("PAFT_DATA", ROOT.parent / "shared/data"))
KINDS = gguf.GGMLQuantizationType
TYPES = {"f32": (KINDS.F32, torch.float32), "f16": (KINDS.F16, torch.float16), "bf16": (KINDS.BF16, torch.bfloat16),
         "q8_0": (KINDS.Q8_0, torch.float32)}
TOLERANCE = 1e-3
CONTEXT = 128
SIZES = dict(vocab_size=131, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, pad_token_id=None, bos_token_id=None, eos_token_id=None)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LONG = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5], long_factor=[1.3, 2.5, 3.0, 4.0, 5.0, 6.0])
# Name, class, and what differs from SIZES. Numbers that llama.cpp knows by itself are its own.
MODELS = [
    ("llama", "Llama", dict(tie_word_embeddings=False)),
    ("llama-biases", "Llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    ("llama-wide", "Llama", dict(head_dim=24)),
    ("llama-linear", "Llama", dict(rope_scaling=dict(rope_type="linear", factor=2.5))),
    ("llama-llama3", "Llama", dict(rope_scaling=LLAMA3)),
    ("llama-yarn", "Llama", dict(rope_scaling=dict(
        rope_type="yarn", factor=4.0, beta_fast=4.0, original_max_position_embeddings=64))),
    ("llama-yarn-loud", "Llama", dict(rope_scaling=dict(
        rope_type="yarn", factor=4.0, attention_factor=1.3, original_max_position_embeddings=64))),
    ("mistral", "Mistral", dict(sliding_window=None)),
    ("qwen2", "Qwen2", dict(tie_word_embeddings=True)),
    ("qwen3", "Qwen3", dict(head_dim=24)),
    ("qwen3-yarn", "Qwen3", dict(head_dim=16, rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=64))),
    ("gemma", "Gemma", dict(head_dim=24)),
    ("gemma2", "Gemma2", dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=8, attn_logit_softcapping=5.0,
                              final_logit_softcapping=3.0)),
    ("gemma3", "Gemma3", dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=8, num_hidden_layers=7,
                              rope_theta=1e6, rope_local_base_freq=1e4)),
    ("gemma3-pattern", "Gemma3", dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=8, num_hidden_layers=4,
                                      sliding_window_pattern=2, rope_theta=1e6, rope_local_base_freq=1e4,
                                      rope_scaling=dict(rope_type="linear", factor=8.0))),
    # llama.cpp looks for certain tokens where the name has "phi3" in it.
    ("phi", "Phi3", dict(tie_word_embeddings=False)),
    ("phi-long", "Phi3", dict(partial_rotary_factor=0.75, rope_scaling=LONG, original_max_position_embeddings=16)),
    ("smollm3", "SmolLM3", dict(num_hidden_layers=5, no_rope_layer_interval=4)),
    ("granite", "Granite", dict(attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.4,
                                logits_scaling=2.5)),
    ("granite-biases", "Granite", dict(attention_bias=True, mlp_bias=True)),
    ("olmo2", "Olmo2", dict(tie_word_embeddings=False)),
    # Trained ones, with their own tokenizers.
    ("story-llama-0.66M", None, None),
    ("stories260K-hf", None, None),
]


def build(name, family, changes, place, dtype):
    """A folder of a random model whose weights and norms are anything but what they start as."""
    folder = place / f"{name}-{str(dtype).rsplit('.', 1)[-1]}"
    if family is None:
        source = DATA / "models" / name
        model = load(source).to(dtype)
        model.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (source / file).exists(): (folder / file).write_bytes((source / file).read_bytes())
        if not (folder / "tokenizer.json").exists(): write_tokens(folder, model.config.vocab_size)
        return folder
    torch.manual_seed(5)
    names = {"Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM")}
    config, model = names.get(family, (family + "Config", family + "ForCausalLM"))
    config = getattr(transformers, config)(**{**SIZES, **changes})
    model = getattr(transformers, model)(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            shift = 0 if "Gemma" in family else 1
            value.copy_(torch.randn_like(value) * (0.1 if value.ndim > 1 else 0.3) + (shift if "norm" in key else 0))
    model.to(dtype).save_pretrained(folder)
    write_tokens(folder, config.vocab_size)
    return folder


def write_tokens(folder, count):
    """One token for each id, GPT-2's spelling of bytes first: llama.cpp serves no model without."""
    letters = [chr(c) for c in range(33, 127)] + ["\u0120", "\u010a"] + [chr(c) for c in range(161, 173)]
    letters += [a + b for a in letters for b in letters]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "vocab": {letters[i]: i for i in range(count)}, "merges": []}}))


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


class File:
    """The tensors of a GGUF file under transformers' names, as the gguf package reads them."""

    def __init__(self, path, config):
        reader = gguf.GGUFReader(path)
        self.config = config
        self.arch = bytes(reader.fields["general.architecture"].parts[-1]).decode()
        arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == self.arch)
        self.names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        self.tensors = {t.name: t for t in reader.tensors}

    def name(self, ours):
        stem, end = ours.rsplit(".", 1)
        return self.names.get_name(stem) + "." + end

    def permuted(self, ours, tensor, back=False):
        """Rows of q and k as llama.cpp's converter orders them, or the other way."""
        if self.arch not in ("llama", "granite", "smollm3") or not (".q_proj" in ours or ".k_proj" in ours): return tensor
        heads = self.config.num_attention_heads if ".q_proj" in ours else self.config.num_key_value_heads
        half = tensor.shape[0] // heads // 2
        split = (heads, half, 2) if back else (heads, 2, half)
        return tensor.reshape(*split, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)

    def offset(self, ours): return 1.0 if self.arch.startswith("gemma") and ours.endswith("norm.weight") else 0.0

    def packed(self, ours, values, kind):
        """What the gguf package makes of a tensor of the folder, and its type."""
        type = TYPES[kind][0] if values.ndim > 1 else KINDS.F32
        if type == KINDS.Q8_0 and values.shape[-1] % 32: type = KINDS.F16
        values = self.permuted(ours, values + np.float32(self.offset(ours)))
        return type, gguf.quants.quantize(np.ascontiguousarray(values), type)

    def values(self, ours):
        tensor = self.tensors[self.name(ours)]
        shape = [int(n) for n in reversed(tensor.shape)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        return self.permuted(ours, values, back=True) - np.float32(self.offset(ours))


def compare_bytes(file, model, kind):
    """Whether all bytes are equal and no tensor is too many, and how far weights are off, in steps of Q8_0."""
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    if model.config.tie_word_embeddings: weights.pop("lm_head.weight", None)
    good = set(file.tensors) - {file.name(k) for k in weights} <= {
        "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
    if not good: print("   tensors that are not the model's:", set(file.tensors) - {file.name(k) for k in weights})
    worst = 0.0
    for name, values in weights.items():
        tensor = file.tensors.get(file.name(name))
        if tensor is None:
            print("   missing:", name)
            good = False
            continue
        type, packed = file.packed(name, values, kind)
        right = tensor.tensor_type == type and np.array_equal(tensor.data.view(np.uint8).ravel(), packed.view(np.uint8).ravel())
        if not right: print("   differs:", name, tensor.tensor_type, type)
        good &= bool(right)
        if type == KINDS.Q8_0:
            blocks = values.reshape(-1, 32)
            step = np.abs(blocks).max(1, keepdims=True) / 127
            worst = max(worst, float((np.abs(blocks - file.values(name).reshape(-1, 32)) / np.maximum(step, 1e-30)).max()))
    return good, worst


def of_file(file, folder):
    """transformers' model of the folder's configuration with the file's tensors."""
    model = load(folder)
    with torch.no_grad():
        for name, value in model.named_parameters(): value.copy_(torch.from_numpy(file.values(name)))
    return model


def round_activations(model, file):
    """The inputs of every linear layer as ggml's CPU backend multiplies them: in the type of the weights."""
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear): continue
        own = name + ".weight"
        tied = name == "lm_head" and model.config.tie_word_embeddings
        type = file.tensors[file.name("model.embed_tokens.weight" if tied else own)].tensor_type

        def rounded(_, arguments, type=type):
            x = arguments[0]
            if type == KINDS.F16: return (x.half().float(),)
            if type == KINDS.BF16: return (x.bfloat16().float(),)
            if type == KINDS.Q8_0:
                packed = gguf.quants.quantize(np.ascontiguousarray(x.numpy()), type)
                return (torch.from_numpy(gguf.quants.dequantize(packed, type).reshape(x.shape)),)
            return (x,)

        module.register_forward_pre_hook(rounded)
    # Gemma's activation is a table of f16 values at f16 places there.
    if has_gelu(model):
        for name, module in model.named_modules():
            if name.endswith("act_fn"):
                module.register_forward_hook(lambda _, arguments, __: torch.nn.functional.gelu(
                    arguments[0].half().float(), approximate="tanh").half().float())


def has_gelu(model): return "gelu" in str(getattr(model.config, "hidden_activation", None) or model.config.hidden_act)


def by_transformers(model, ids):
    with torch.no_grad(): logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return torch.log_softmax(logits.double(), -1).numpy()


def by_paft(folder, ids, size):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for token in range(size): file.write(json.dumps({"input_ids": ids + [token]}) + "\n")
        file.flush()
        out = paft("score", "--model", folder, "--data", file.name, "--dtype", "f32")
    return np.array([json.loads(line)["logprobs"][-1] for line in out.splitlines()])


def paft(*words, text=None):
    done = subprocess.run([PAFT, *map(str, words)], capture_output=True, text=True, input=text)
    if done.returncode != 0: sys.exit(f"paft {words[0]}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def server(file):
    """llama.cpp with caches in f32, without flash attention."""
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = CONTEXT, 1, False, -1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(params)


def by_llama(server, ids, size):
    answer = server.handle_completions({"prompt": ids, "max_tokens": 1, "n_predict": 1, "n_probs": size, "logprobs": size, "temperature": 0, "cache_prompt": False})
    logp = np.full(size, np.nan)
    for entry in probabilities(answer): logp[entry["id"]] = entry["logprob"]
    return logp


def probabilities(answer):
    """The list of a token's alternatives, wherever the server's version has put it."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("top_logprobs"), list) and node["top_logprobs"]: found.append(node["top_logprobs"])
            for value in node.values(): walk(value)
        elif isinstance(node, list):
            for value in node: walk(value)

    walk(answer)
    assert found, str(answer)[:500]
    return found[0]


def check(name, folder, kind, place):
    file, back = place / f"{name}-{kind}.gguf", place / f"{name}-{kind}"
    paft("export", "--model", folder, "--output", file, "--dtype", kind)
    paft("import", file, "-o", back)
    whole = load(folder)
    size = whole.config.vocab_size
    rng = np.random.default_rng(1)
    # llama.cpp chooses LongRoPE's factors by its context, transformers by the sequence: long ones in both.
    lengths = (24, 23, 21, 19, 17) if "long" in name else (24, 16, 9, 5, 3)
    prompts = [rng.integers(3, size, n).tolist() for n in lengths]
    read = File(file, whole.config)
    right, worst = compare_bytes(read, whole, kind)
    line = f"{name:16} {kind:5} bytes {'equal' if right else 'DIFFER'}"
    theirs = of_file(read, folder)
    exact = [by_transformers(theirs, ids) for ids in prompts]

    def gaps(other, of=exact): return sorted(float(np.abs(a - b).max()) for a, b in zip(of, other))

    of_folder = gaps([by_transformers(whole, ids) for ids in prompts])[-1]
    of_import = gaps([by_paft(back, prompts[0], size)])[-1]
    line += f"  folder {of_folder:.1e}  import {of_import:.1e}"
    # Half a step, and what rounding the step itself to f16 adds over 127 of them.
    right &= of_folder <= TOLERANCE if kind != "q8_0" else worst <= 0.5 + 127 * 2 ** -11
    if kind == "q8_0": line += f"  steps {worst:.2f}"
    right &= of_import <= TOLERANCE
    if xllamacpp:
        running = server(file)
        llama = [by_llama(running, ids, size) for ids in prompts]
        line += f"  llama.cpp {gaps(llama)[-1]:.1e}"
        round_activations(theirs, read)
        rounded = gaps(llama, [by_transformers(theirs, ids) for ids in prompts])
        line += f"  rounded {rounded[0]:.1e} to {rounded[-1]:.1e}"
        right &= rounded[-1 if kind == "f32" else 0] <= TOLERANCE
    print(line, "" if right else " FAIL", flush=True)
    return bool(right)


def main():
    wanted, failures = sys.argv[1:], 0
    with tempfile.TemporaryDirectory(prefix="paft-gguf-") as place:
        place = pathlib.Path(place)
        for name, family, changes in MODELS:
            if wanted and name not in wanted: continue
            if family is None and not (DATA / "models" / name).is_dir():
                print(f"{name:16} is not in {DATA}")
                continue
            for kind, (_, dtype) in TYPES.items():
                failures += not check(name, build(name, family, changes, place, dtype), kind, place)
    sys.exit(f"{failures} comparisons failed" if failures else 0)


if __name__ == "__main__":
    main()
