# SPDX-License-Identifier: Apache-2.0
"""Make Tests/Fixtures/text with Hugging Face's `tokenizers` and TRL as oracles.

  zoo.json          small tokenizers, one per component or combination of components, each with texts,
                    their ids (without and with special tokens, and with special tokens as plain text)
                    and what the ids decode to (fields equal to `ids`, `decoded` or `text` are left out)
  story-llama.json  ids and decoded texts of the blocks of a llama.cpp vocabulary test file under
                    story-llama's tokenizer (both files in the shared data folder)
  trainer.json      a corpus, and the vocabulary and merges that `BpeTrainer` learns from it
  examples.json     prompt/completion, text and preference rows, and the token sequences that TRL's
                    SFTTrainer and DPOTrainer make of them with the tokenizer of trainer.json
  packing.json      lengths, and the rows that TRL's `pack_dataset` (strategy bfd) makes of them

usage: text.py SHARED_DATA_FOLDER
"""

import json
import pathlib
import random
import sys
import tempfile

import datasets
import transformers
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

OUT = pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/text"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "", " ", "  ", "\n", "\t", "\n\n\n", " \n ", "a", "Hello world", " Hello  world ", "hello, WORLD!!!",
    "I'll say it's what they've DON'T we'D", "ſ 'ſ it'ſ", "1", "12345 678", "x1y22z333", "３４ ½ Ⅷ ٣٤",
    "naïve café", "nai\u0308ve cafe\u0301", "ﬁne ① ｆｕｌｌ", "ΟΔΟΣ İstanbul ẞ", "Привет, мир", "你好，世界 今天",
    "กินข้าว", "😀 👩‍👩‍👧 🏳️‍🌈", "nbsp\u00a0em\u2003ls\u2028nel\u0085mvs\u180ezw\u200bend", "tab\tnew\r\nline\rend",
    "a▁b ▁c▁▁ d", "▁", "▁▁x", "x▁", "<s>", "<s> a </s>b", "  <mask>  tail", "a<mask>b <mask> c", "<b><c><bc>",
    "word <w> in", "in<w>word <w>", "norm NORM Norm", "<|eot|>\n\n<|eot|> x<|eot|>", "Ġword Ċ", "aaaaaaa", "abababab" * 12,
    "�\u0000\u001f", "=" * 70 + " end", "the cat  sat on   the mat\n    def f(x):\n\treturn x**2  # ok\n",
    "e\u0301\u0323 \u1100\u1161\u11a8 각 Å Å", "...'''\"\"", "10,000.50$ -3e-7",
]


def corpus():
    """Words with shared beginnings and endings, so that small vocabularies have long tokens."""
    rng = random.Random(1)
    stems = ["walk", "talk", "train", "model", "merge", "spar", "align", "naïv", "мир", "世界", "wert"]
    ends = ["", "s", "ed", "ing", "er", "ers", "able", "ness", "'s", "12", ", ", ".\n", "ом", "  "]
    lines = [" ".join(rng.choice(stems) + rng.choice(ends) for _ in range(12)) for _ in range(120)]
    return lines + [t for t in TEXTS if "<" not in t] * 2


def noise(count):
    rng = random.Random(2)
    pools = [" \n\t'", "abcdefgstrl", "ABCRST", "0123456789", ".,!?-_<>|", "äéßñœ", "мирдом", "世界你好", "\u0301\u0308", "😀🚀",
             "▁", "\u00a0\u2003", "½Ⅷ"]
    return ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 60))) for _ in range(count)]


def build(name, pre=None, normal=None, decoder=None, post=None, added=(), byte_level=True, size=420, edit=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normal: tokenizer.normalizer = normal
    if pre: tokenizer.pre_tokenizer = pre
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    special = [t for t in ("<unk>", "<s>", "</s>") if not byte_level]
    if model.get("byte_fallback"): special += [f"<0x{b:02X}>" for b in range(256)]
    limit = {} if byte_level else {"limit_alphabet": 60}
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size + len(special), special_tokens=special, initial_alphabet=alphabet, show_progress=False, **limit))
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    if edit: edit(spec)
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_tokens([t for t in added if not t.special])
    tokenizer.add_special_tokens([t for t in added if t.special])
    if decoder: tokenizer.decoder = decoder
    if post: tokenizer.post_processor = post(tokenizer)
    cases = []
    for text in TEXTS + noise(25):
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids, "with_special": tokenizer.encode(text).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True)}
        tokenizer.encode_special_tokens = True
        case["plain"] = tokenizer.encode(text, add_special_tokens=False).ids
        # What says nothing new is left out: the reader takes `ids` or `decoded` in its place.
        for field, default in (("with_special", "ids"), ("plain", "ids"), ("decoded_skip", "decoded"), ("decoded", "text")):
            if case[field] == case[default]: del case[field]
        cases.append(case)
    return {"name": name, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases}


def bos(token):
    return lambda t: processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, t.token_to_id(token))])


def legacy():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def zoo():
    from tokenizers import Regex
    level = lambda **k: pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **k})
    split = lambda pattern, how="isolated", **k: pre_tokenizers.Split(Regex(pattern), how, **k)
    pieces = lambda *steps: pre_tokenizers.Sequence(list(steps))
    tokens = [
        AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False, rstrip=True),
        AddedToken("<mask>", special=True, normalized=False, lstrip=True), AddedToken("<b>", normalized=False),
        AddedToken("<bc>", normalized=False), AddedToken("<b><c>", normalized=False), AddedToken("<w>", single_word=True, normalized=False),
        AddedToken("norm", normalized=True), AddedToken("<|eot|>", special=True, normalized=False, lstrip=True, rstrip=True),
    ]
    strings = lambda spec: spec["model"].update(merges=[" ".join(m) for m in spec["model"]["merges"]])
    scheme = lambda how, **k: pre_tokenizers.Metaspace(prepend_scheme=how, **k)
    fallback = dict(byte_level=False, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    yield build("gpt2", level(use_regex=True), decoder=decoders.ByteLevel(), added=tokens, edit=strings)
    yield build("gpt2-prefix-space", level(use_regex=True, add_prefix_space=True), decoder=decoders.ByteLevel(), added=tokens)
    yield build("llama3", pieces(split(LLAMA3), level()), decoder=decoders.ByteLevel(), added=tokens, ignore_merges=True,
                post=lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), bos("<s>")(t)]))
    yield build("qwen2", pieces(split(LLAMA3.replace("{1,3}", "")), level()), normalizers.NFC(), decoders.ByteLevel(), added=tokens)
    yield build("starcoder", pieces(pre_tokenizers.Digits(individual_digits=True), level(use_regex=True)),
                decoder=decoders.ByteLevel(), added=tokens)
    yield build("digit-runs", pieces(pre_tokenizers.Digits(individual_digits=False), level()), decoder=decoders.ByteLevel())
    for how in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        yield build("split-" + how, pieces(split(r"\s|\p{P}", how), level()), decoder=decoders.ByteLevel())
    yield build("split-inverted", pieces(split(r"\p{L}+|\p{N}", "removed", invert=True), level()), decoder=decoders.ByteLevel())
    yield build("split-text", pieces(pre_tokenizers.Split("a", "merged_with_next"), pre_tokenizers.WhitespaceSplit(), level()),
                decoder=decoders.ByteLevel())
    yield build("llama2", None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), legacy(), bos("<s>"),
                tokens, **fallback)
    for how in ("always", "first", "never"):
        yield build("metaspace-" + how, scheme(how), decoder=decoders.Metaspace(prepend_scheme=how), added=tokens, **fallback)
    yield build("metaspace-whole", scheme("first", split=False), decoder=legacy(), added=tokens, **fallback)
    yield build("unknown-fused", scheme("always"), byte_level=False, fuse_unk=True, unk_token="<unk>", size=120)
    yield build("unknown-single", scheme("always"), byte_level=False, fuse_unk=False, unk_token="<unk>", size=120)
    yield build("no-unknown", scheme("always"), byte_level=False, size=120)
    yield build("nfkc-lower", level(use_regex=True), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]),
                decoders.ByteLevel(), added=tokens)
    yield build("nfd-replace", level(use_regex=True), normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r"\s+"), " ")]),
                decoders.ByteLevel(), added=tokens)
    yield build("nfkd", level(use_regex=True), normalizers.NFKD(), decoders.ByteLevel())


def story_llama(shared):
    # Texts come from transformers: alone, tokenizers 0.23 spells added tokens that are sought in the
    # normalized text as "▁<unk>" and then does not know them as special.
    folder = str(shared / "models/story-llama-0.66M")
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    whole = transformers.AutoTokenizer.from_pretrained(folder)
    text = (shared / "tokenizers/expected/ggml-vocab/ggml-vocab-gpt-2.gguf.inp").read_bytes().decode()
    for block in text.split("\n__ggml_vocab_test__\n"):
        ids = tokenizer.encode(block, add_special_tokens=False).ids
        yield {"ids": ids, "with_special": tokenizer.encode(block).ids, "decoded": whole.decode(ids, skip_special_tokens=True)}


def train(texts):
    special = ["<|begin|>", "<|end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=600, min_frequency=2, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer, special


def trainer():
    texts = corpus() + noise(60)
    tokenizer, special = train(texts)
    spec = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(spec["vocab"], key=spec["vocab"].get)
    return {"texts": texts, "special_tokens": special, "vocabulary_size": 600, "vocabulary": vocabulary, "merges": spec["merges"]}


def examples():
    """Rows cut by the trainers only when a batch is made are cut here, by the same rule."""
    tokenizer, special = train(corpus() + noise(60))
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[1], pad_token=special[1])
    config = transformers.LlamaConfig(vocab_size=600, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    rng, limit = random.Random(4), 32
    words = [w for line in corpus()[:60] for w in line.split(" ")]
    phrase = lambda least, most: " ".join(rng.choice(words) for _ in range(rng.randrange(least, most)))
    completions, pairs = [], []
    for i in range(40):
        prompt = phrase(0, 30) + rng.choice(["", " ", "\n", ": "])
        answer = rng.choice(["", " "]) + phrase(1, 16) + rng.choice(["", "", special[1]])
        completions.append({"prompt": prompt, "completion": answer if answer.strip() else "x"})
        pairs.append({"prompt": prompt, "chosen": "walk" + phrase(1, 12), "rejected": " talk " + phrase(1, 12)})
    texts = [{"text": "a" + phrase(1, 40)} for _ in range(12)]
    common = dict(max_length=limit, output_dir="/tmp/text-golden", bf16=False, use_cpu=True, report_to=[], gradient_checkpointing=False)

    def rows(kind, settings, data):
        with tempfile.TemporaryDirectory() as folder:
            transformers.LlamaForCausalLM(config).save_pretrained(folder)
            whole.save_pretrained(folder)
            return kind(model=folder, args=settings(**common), processing_class=whole, train_dataset=datasets.Dataset.from_list(data)).train_dataset

    def supervised(data):
        for row in rows(trl.SFTTrainer, trl.SFTConfig, data):
            ids = row["input_ids"][:limit]
            labels = row["labels"][:limit] if "labels" in row else ids
            if any(l != -100 for l in labels[1:]): yield {"ids": ids, "labels": labels}

    def preference(data):
        for row in rows(trl.DPOTrainer, trl.DPOConfig, data):
            prompt = row["prompt_ids"]
            room = limit - len(prompt)
            yield {"prompt": prompt, "chosen": row["chosen_ids"][:room], "rejected": row["rejected_ids"][:room]}

    return {"max_length": limit, "eos": special[1],
            "completions": {"rows": completions, "examples": list(supervised(completions))},
            "texts": {"rows": texts, "examples": list(supervised(texts))},
            "pairs": {"rows": pairs, "examples": list(preference(pairs))}}


def packing():
    rng = random.Random(3)
    for count, capacity, longest in ((4, 4, 5), (7, 8, 7), (60, 32, 40), (300, 128, 128), (300, 100, 30), (50, 1, 3), (900, 2048, 2500)):
        lengths = [rng.randrange(0, longest + 1) for _ in range(count)]
        rows = datasets.Dataset.from_dict({"input_ids": [list(range(n)) for n in lengths]})
        packed = trl.pack_dataset(rows, capacity, "bfd")
        yield {"lengths": lengths, "capacity": capacity, "rows": packed["seq_lengths"][:]}


def write(name, value):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    shared = pathlib.Path(sys.argv[1])
    write("story-llama.json", list(story_llama(shared)))
    write("zoo.json", list(zoo()))
    write("trainer.json", trainer())
    write("examples.json", examples())
    write("packing.json", list(packing()))
