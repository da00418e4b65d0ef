# SPDX-License-Identifier: Apache-2.0
"""Make Tests/Fixtures/text/pieces.json and sentencepiece.json: SentencePiece models, unigram tokenizers, rare components.

  sentencepiece   models trained here (base64 of the .model file), texts, and the ids that SentencePiece gives
  tokenizers      tokenizer.json values with parts that zoo.json (text.py) has not, texts, ids and decoded texts of the
                  `tokenizers` library; `decoded` is left out where it is the text

usage: pieces.py
"""

import base64
import contextlib
import io
import json
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from text import OUT, TEXTS, corpus, noise, write

LINES = [l for l in corpus() if l.strip()]
# Control tokens in a text are tokens to a tokenizer file and characters to SentencePiece itself.
CASES = [t for t in TEXTS + noise(12) if "<" not in t and "\0" not in t]
RULES = "\n".join(["FF21\t41", "FF22\t42", "FB01\t66 69", "2460\t31", "BD\t31 2F 32", "E9\t65", "65 301\t65", "3000\t20", "A0\t20", "9\t20",
                   "200B\t", "AC01\tAC00"])

# Rules within each other, one of which makes blanks: SentencePiece takes the longest.
LONGER = RULES + "\n2126\t57\n2126 301\t20 57 20\n2126 301 308\t78"


def trained(folder, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, hard_vocab_limit=False, minloglevel=2, vocab_size=360,
        character_coverage=0.98, **options)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(out.getvalue())
    return proto


def pieces(name, texts=(), coarse=False, **options):
    """`coarse` scores are whole numbers: then most cuts of a text have equals, and order decides."""
    proto = trained(name, **options)
    if coarse:
        for piece in proto.pieces:
            if piece.type == piece.NORMAL: piece.score = float(round(piece.score))
    model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return {"name": name, "model": base64.b64encode(proto.SerializeToString()).decode(),
            "cases": [{"text": t, "ids": model.encode(t)} for t in [*CASES, *texts]]}


@contextlib.contextmanager
def rules(text):
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write(text)
        file.flush()
        yield file.name


def cases(tokenizer, skip=()):
    tokenizer = Tokenizer.from_str(json.dumps(spec := json.loads(tokenizer.to_str())))
    result = []
    for text in CASES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        if case["decoded"] == text: del case["decoded"]
        result.append(case)
    return {"tokenizer": spec, "cases": result}


def unigram(name, normal=None, pre=None, fallback=False, size=260):
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0)], 0, False))
    if normal: tokenizer.normalizer = normal
    if pre: tokenizer.pre_tokenizer = pre
    extra = [f"<0x{b:02X}>" for b in range(256)] if fallback else []
    tokenizer.train_from_iterator(LINES, trainers.UnigramTrainer(
        vocab_size=size + len(extra), unk_token="<unk>", special_tokens=["<unk>"] + extra, show_progress=False))
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = []
    spec["model"]["byte_fallback"] = fallback
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps) if fallback else decoders.Metaspace()
    return {"name": name, **cases(tokenizer)}


def bpe(name, normal=None, pre=None, decoder=None, **trainer):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if normal: tokenizer.normalizer = normal
    if pre: tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(
        vocab_size=260, limit_alphabet=60, special_tokens=["<unk>"], show_progress=False, **trainer))
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoder or decoders.Fuse()
    return {"name": name, **cases(tokenizer)}


def tokenizers():
    with rules(RULES) as file:
        charsmap = trained("rules", model_type="unigram", normalization_rule_tsv=file).normalizer_spec.precompiled_charsmap
    yield unigram("unigram-metaspace", None, pre_tokenizers.Metaspace())
    yield unigram("unigram-bytes-one-word", normalizers.NFKC(), pre_tokenizers.Metaspace(split=False), True)
    yield unigram("unigram-precompiled", normalizers.Sequence([
        normalizers.Precompiled(charsmap), normalizers.Strip(False, True), normalizers.Replace(Regex(" {2,}"), "▁")]),
        pre_tokenizers.Metaspace(prepend_scheme="always"))
    yield bpe("strip-accents-whitespace", normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), pre_tokenizers.Whitespace())
    yield bpe("nmt-punctuation", normalizers.Nmt(), pre_tokenizers.Punctuation("merged_with_previous"))
    yield bpe("delimiter", None, pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit("a"), pre_tokenizers.Punctuation()]))
    yield bpe("byte-level-normalizer", normalizers.ByteLevel(), None, decoders.ByteLevel())


if __name__ == "__main__":
    sentence = [
        pieces("llama2", model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
        pieces("gemma", model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
               add_dummy_prefix=False, allow_whitespace_only_pieces=True),
        pieces("unigram", model_type="unigram", normalization_rule_name="identity"),
        pieces("unigram-bytes", model_type="unigram", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    ]
    long = [" ".join(CASES), "".join(CASES)]
    defined = ["[X]", " ab ", "12", "e\u0301", "th", "the"]
    meet = ["[X]", " a[X]b ", "[X] the  ab 12", "th[X]e\u0301 \ufb01[X] ", "  [X]  ab  [X]  ", "31212 ab the", "e\u0301e\u0300\u00e9"]
    nested = ["\u2126\u0301 \u2126 a\u2126\u0301\u0308b\u2126\u0301", " \u2126\u0301  \u2126\u0301", "\u200b", "\u200b a\u3000\u00a0 \u200b"]
    with rules(LONGER) as file:
        more = [
            pieces("unigram-rules", long + nested, model_type="unigram", normalization_rule_tsv=file),
            pieces("unigram-equals", long, coarse=True, model_type="unigram", normalization_rule_name="identity"),
            pieces("bpe-equals", long, coarse=True, model_type="bpe", normalization_rule_name="identity"),
            pieces("unigram-defined", meet + nested, model_type="unigram", normalization_rule_tsv=file, user_defined_symbols=defined),
            pieces("bpe-defined", meet + nested, model_type="bpe", normalization_rule_tsv=file, user_defined_symbols=defined,
                   remove_extra_whitespaces=False),
        ]
    write("pieces.json", {"sentencepiece": sentence, "tokenizers": list(tokenizers())})
    write("sentencepiece.json", {"sentencepiece": more})
    for name in ("pieces.json", "sentencepiece.json"): print(name, (OUT / name).stat().st_size)
