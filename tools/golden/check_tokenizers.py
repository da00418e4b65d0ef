# SPDX-License-Identifier: Apache-2.0
"""Compare `paft tokenize` with Hugging Face's tokenizers and with SentencePiece (see tools/check-tokenizers).

Tokenizers: those of the shared data folder; small ones trained here on the text with the components of each
family, where no vocabulary is shared; SentencePiece models trained here; GPT-2's ranks as a tiktoken file.

Both sides run on one thread. Times are of the CPU, so that other processes disturb them little; paft's have the
reading and writing of JSON in them.

usage: check_tokenizers.py MEGABYTES [REPEATS]
"""

import base64
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import sentencepiece
import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAFT = ROOT / ".build/release/paft"
DATA = pathlib.Path(os.environ.get("PAFT_DATA", ROOT.parent / "shared/data"))
REPEATS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = TEKKEN.replace("+|", "+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|", 1).replace("*|", "*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|", 1).replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
SCRIPTS = [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x586), (0x5D0, 0x5EA), (0x620, 0x64A),
           (0x904, 0x94D), (0xE01, 0xE4E), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2010, 0x205E), (0x2070, 0x20BF),
           (0x2190, 0x22FF), (0x2460, 0x24FF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFB06), (0xFF01, 0xFF5E),
           (0x10330, 0x1034A), (0x1D400, 0x1D4FF), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF), (0x20000, 0x20100)]


def text(size):
    """Documents: half from the shared data (stories, dialogues, JSON), half words of many scripts, code, numbers, emoji, odd blanks,
    control characters and marks without a letter, with runs of blanks and line breaks between and within them."""
    rng = random.Random(7)
    shared = "".join(p.read_text("utf-8", "replace") for p in sorted(DATA.glob("sft/**/*")) if p.suffix in (".txt", ".json", ".jsonl"))
    shared = shared.replace("<|endoftext|>", "").replace("\r", "")
    words = {s: ["".join(chr(rng.randint(*s)) for _ in range(rng.randint(1, 9))) for _ in range(400)] for s in SCRIPTS}
    accents = ["e\u0301", "a\u0308", "o\u0302\u0323", "n\u0303", "\uac01", "\u1100\u1161\u11a8", "👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "👍🏽",
               "👨🏿\u200d🚀", "🇩🇪🇯🇵", "1\ufe0f\u20e3", "\ufb01", "½", "①", "３", "क्षत्रिय", "हिन्दी", "العَرَبِيَّة", "مرحبا\u200cبك", "Straße", "naïve"]
    blanks = [" "] * 40 + ["  ", "   ", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "     ", "\u180e", "\u0085", "\u2028"]
    rare = ["\u0301", "\u0308\u0308", "\u093f", "\u064b", "\u20dd", "\ufe0f", "\u200d", "\u202e", "\ufeff", "\ufffd", "\x00", "\x01", "\x07", "\x0b", "\x0c",
            "\x1b[0m", "\x1f", "\x7f", "\x9f", "\ufffe", "\U0010ffff", "\U000e0067"]
    code = ["def f(x):", "    return x**2", "{\"a\": [1, 2]}", "<div class='b'>", "// TODO", "a->b[0] += 1;", "http://x.org/?q=%20", "it's", "don't", "WE'LL", "I'm",
            "camelCaseName", "HTTPServer2", "\tif (x) {", "}\n\n", "x = [\n  1,\n]", "they\u2019re", "'S'T"]
    breaks = ["\n"] * 12 + ["\n\n"] * 4 + ["\r\n", "\n\n\n\n", "\n \n\t\n", " \n", "\r"]
    out, length = [], 0
    while length < size:
        pieces = []
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            if rng.random() < 0.4:
                at = rng.randrange(max(1, len(shared) - 4000))
                pieces.append(shared[at:at + rng.randrange(50, 1500)])
            else:
                script = rng.choice(SCRIPTS)
                for _ in range(rng.randrange(3, 40)):
                    kind = rng.random()
                    pieces.append(
                        rng.choice(words[script]) if kind < 0.6 else rng.choice(accents) if kind < 0.68 else rng.choice(code) if kind < 0.8
                        else str(rng.randrange(10 ** rng.randrange(1, 12))) if kind < 0.89 else rng.choice(rare) if kind < 0.91
                        else rng.choice(blanks)[0] * rng.randrange(1, 300) if kind < 0.915 else "\n" * rng.randrange(1, 100) if kind < 0.918
                        else rng.choice("ab=-_0é字") * rng.randrange(1, 200) if kind < 0.921 else rng.choice(words[rng.choice(SCRIPTS)]))
                    pieces.append(rng.choice(blanks))
            pieces.append(rng.choice(breaks))
        document = "".join(pieces)
        if rng.random() < 0.5: document = document.strip("\n")
        out.append(document)
        length += len(document.encode())
    return out


def sample(lines):
    """Enough of the texts to train a small vocabulary on, few enough that it holds every character of theirs."""
    return lines[::max(1, len(lines) // 130)]


def family(lines, pre=None, normal=None, model=None, trainer=None, decoder=None):
    tokenizer = Tokenizer(model or models.BPE())
    if normal: tokenizer.normalizer = normal
    if pre: tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder or decoders.ByteLevel()
    tokenizer.train_from_iterator(sample(lines), trainer or trainers.BpeTrainer(
        vocab_size=6000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"]))
    return tokenizer


def zoo(lines):
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = lambda pattern: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), level])
    bytes256 = [f"<0x{b:02X}>" for b in range(256)]
    characters = lambda: trainers.BpeTrainer(vocab_size=6000, show_progress=False, limit_alphabet=800, special_tokens=["<unk>"] + bytes256)
    fallback = lambda: models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    unigram = lambda: trainers.UnigramTrainer(vocab_size=8000, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"] + bytes256)
    plain = lambda t: json.dumps({**json.loads(t.to_str()), "added_tokens": []})
    yield "llama3 parts", family(lines, split(LLAMA3)).to_str()
    yield "cl100k parts (olmo2)", family(lines, split(CL100K)).to_str()
    yield "tekken parts (mistral)", family(lines, split(TEKKEN)).to_str()
    yield "o200k parts", family(lines, split(O200K)).to_str()
    yield "gpt2 parts, prefix", family(lines, pre_tokenizers.ByteLevel(add_prefix_space=True)).to_str()
    yield "qwen2 parts", family(lines, split(QWEN), normalizers.NFC()).to_str()
    yield "smollm/starcoder parts", family(lines, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])).to_str()
    yield "gemma parts", plain(family(lines, pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"), fallback(), characters()))
    yield "llama2 parts", plain(family(lines, None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), fallback(), characters()))
    yield "unigram, metaspace", plain(family(lines, pre_tokenizers.Metaspace(), normalizers.NFKC(), models.Unigram([("<unk>", 0.0)], 0, False), unigram()))
    spec = json.loads(plain(family(lines, pre_tokenizers.Metaspace(split=False), None, models.Unigram([("<unk>", 0.0)], 0, False), unigram())))
    spec["model"]["byte_fallback"] = True
    yield "unigram, bytes, one word", json.dumps(spec)


def cpu(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def ours(folder, source, count):
    """Ids of each document, and the CPU seconds without those that loading the tokenizer takes; with those for JSON in and out."""
    command = ["taskset", "-c", "0", str(PAFT), "tokenize", "--model", str(folder), "--json"]
    start = cpu(resource.RUSAGE_CHILDREN)
    subprocess.run(command, input=b"", stdout=subprocess.DEVNULL, check=True)
    loaded = cpu(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as out, open(source, "rb") as given:
        subprocess.run(command, stdin=given, stdout=out, check=True)
        seconds = cpu(resource.RUSAGE_CHILDREN) - loaded - (loaded - start)
        out.seek(0)
        ids = [json.loads(l)["input_ids"] for l in out]
    assert len(ids) == count, (len(ids), count)
    return ids, seconds


def theirs(encode, texts):
    """`encode` gives the ids of many texts, or what has them as `ids`."""
    start = cpu(resource.RUSAGE_SELF)
    found = encode(texts)
    seconds = cpu(resource.RUSAGE_SELF) - start
    return [getattr(e, "ids", e) for e in found], seconds


def compare(name, folder, encode, lines, source, size):
    seconds_ours, seconds_theirs = [], []
    for _ in range(REPEATS):
        a, seconds = ours(folder, source, len(lines)); seconds_ours.append(seconds)
        b, seconds = theirs(encode, lines); seconds_theirs.append(seconds)
    wrong = [i for i in range(len(lines)) if a[i] != b[i]]
    rate = lambda seconds: size / sorted(seconds)[len(seconds) // 2] / 1e6
    ids = sum(map(len, b))
    print(f"| {name} | {ids} | {len(wrong)} | {rate(seconds_ours):.1f} | {rate(seconds_theirs):.1f} | "
          f"{rate(seconds_ours) / rate(seconds_theirs):.2f} |", flush=True)
    for i in wrong[:2]:
        k = next((k for k, (x, y) in enumerate(zip(a[i], b[i])) if x != y), min(len(a[i]), len(b[i])))
        print(f"   text {i}: ours from {k}: {a[i][max(0, k - 2):k + 8]}, reference {b[i][max(0, k - 2):k + 8]}\n   {lines[i][:300]!r}")
    # SentencePiece is the truth for its own files; who is to be kept up with is the tokenizers library.
    return not wrong and (rate(seconds_ours) >= rate(seconds_theirs) or "(sentencepiece)" in name)


def protocol(path):
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return proto


def converted(path):
    """A unigram model in the library's components: with compiled rules those that transformers converts it to, but for blanks
    at the ends, which go as SentencePiece takes them off."""
    proto = protocol(path)
    tokenizer = Tokenizer(models.Unigram(
        [(p.piece, p.score) for p in proto.pieces], proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback))
    rules = proto.normalizer_spec.precompiled_charsmap
    blanks = [normalizers.Replace(Regex(pattern), content) for pattern, content in (("\\A +", ""), ("[ ▁]+\\z", ""), (" {2,}", " "))]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(rules), *blanks, normalizers.Prepend("▁")] if rules else
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if rules: tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    # As it is on a disk: read from JSON, a score may be a last bit away, which decides between equal sums.
    return Tokenizer.from_str(tokenizer.to_str())


def batch(tokenizer):
    return lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def main():
    lines = text(int(float(sys.argv[1]) * 1e6))
    good = True
    print(f"{len(lines)} documents, tokenizers {tokenizers.__version__}, medians of {REPEATS}, MB of text in a CPU second\n\n"
          "| tokenizer | ids | texts that differ | paft, MB/s | reference, MB/s | ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source = folder / "lines.jsonl"
        source.write_text("".join(json.dumps({"text": l}, ensure_ascii=False) + "\n" for l in lines))
        size = sum(len(l.encode()) for l in lines)

        def hugging(name, spec):
            nonlocal good
            place = folder / "hf"
            place.mkdir(exist_ok=True)
            (place / "tokenizer.json").write_text(spec)
            tokenizer = Tokenizer.from_str(spec)
            good &= compare(name, place, batch(tokenizer), lines, source, size)

        for name in ("gpt2", "phi-3-mini"):
            hugging(name, (DATA / "tokenizers" / name / "tokenizer.json").read_text())
        hugging("story-llama", (DATA / "models/story-llama-0.66M/tokenizer.json").read_text())
        for name, spec in zoo(lines): hugging(name, spec)

        # A ranks file says the bytes of a token; GPT-2's ranks are its ids but for the bytes' order.
        alphabet = {c: b for b, c in zip(sorted(range(256), key=lambda b: not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b)),
                                         [chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b] + [chr(256 + k) for k in range(68)])}
        gpt2 = json.loads((DATA / "tokenizers/gpt2/tokenizer.json").read_text())
        ranks = sorted((i, t) for t, i in gpt2["model"]["vocab"].items() if t != "<|endoftext|>")
        file = folder / "gpt2.tiktoken"
        file.write_bytes(b"".join(base64.b64encode(bytes(alphabet[c] for c in t)) + b" %d\n" % i for i, t in ranks))
        tokenizer = Tokenizer.from_file(str(DATA / "tokenizers/gpt2/tokenizer.json"))
        good &= compare("gpt2 as tiktoken ranks", file, batch(tokenizer), lines, source, size)

        def pieces(name, path):
            nonlocal good
            model = sentencepiece.SentencePieceProcessor(model_file=str(path))
            good &= compare(name, path, model.encode, lines, source, size)

        pieces("mistral v1 (sentencepiece)", DATA / "tokenizers/mistral/tokenizer.model.v1")
        corpus = folder / "corpus.txt"
        corpus.write_text("\n".join(l for text in sample(lines) for l in text.replace("\0", "").splitlines() if l))
        common = dict(input=str(corpus), vocab_size=8000, hard_vocab_limit=False, minloglevel=2, num_threads=2, max_sentence_length=100000,
                      character_coverage=0.99)
        for kind, rule in (("bpe", "identity"), ("bpe", "nmt_nfkc"), ("unigram", "identity"), ("unigram", "nmt_nfkc")):
            path = folder / f"{kind}-{rule}.model"
            identity = rule == "identity"
            sentencepiece.SentencePieceTrainer.train(
                model_prefix=str(path)[:-6], model_type=kind, normalization_rule_name=rule, byte_fallback=identity,
                remove_extra_whitespaces=not identity, split_digits=identity, **common)
            pieces(f"{kind}, {rule} (sentencepiece)", path)
            # A tokenizer.json made of it is another tokenizer: the library applies rules to graphemes and adds in 64 bits.
            if kind == "unigram": hugging(f"{kind}, {rule} (tokenizers)", converted(path).to_str())
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
