# SPDX-License-Identifier: MIT
"""Ids and offsets against the `tokenizers` library: every kind, every code point, random Unicode, and the real problems."""
import gzip
import json
import os
import pathlib
import random
import struct
import subprocess
import unicodedata

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BUILD = pathlib.Path(os.environ["STRATA_BUILD"])
DATA = pathlib.Path(os.environ["STRATA_SOURCE"]) / ".." / "shared" / "data"
TOOL = BUILD / "tests" / "text_tool_encode"
RANDOM_STRINGS = 100_000  # over all kinds

CORPUS = [
    "The quick brown fox jumps over the lazy dog's back, doesn't it? I'll say we've seen that they're right; I'd, I'm.",
    "Step 1: Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nStep 2: 48+24 = 72 clips altogether in April and May.\n\n",
    "Let $x^2 + y^2 = 1$ and \\frac{a}{b} \\le \\sqrt{2}.  Then   f(x) = 3x - 7 for all x \u2208 \u211d, so \u2211 n = 12345.\r\n",
    "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m stra\u00dfe \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442 \u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \ud55c\uad6d\uc5b4 \u0939\u093f\u0928\u094d\u0926\u0940 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "def f(x):\n    return [i ** 2 for i in range(x)]\n\tif x > 0:\n\t\tpass\n",
] * 4

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def byte_level(pattern=None, normalizer=None, prefix=False, trim=False, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    if pattern is not None:
        level = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated", invert=False), level])
    tokenizer.pre_tokenizer = level
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim, add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def qwen2():
    tokenizer = byte_level(QWEN2, normalizers.NFC())
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<think>>", normalized=False)])
    return tokenizer


def llama3():
    tokenizer = byte_level(LLAMA3, ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", bos)])])
    return tokenizer


def gpt2():
    return byte_level(prefix=False, trim=True)


def gpt2_prefix():
    return byte_level(prefix=True, trim=True)


def o200k():
    """Phi-4-mini's pattern: every category of letters, and marks."""
    upper, lower, short = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    return byte_level(rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{short}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{short}|\p{{N}}{{1,3}}"
                      r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def smollm():
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), tokenizer.pre_tokenizer])
    return tokenizer


def sentencepiece(metaspace):
    """The shape of Llama 2 and Mistral v0.1: characters, byte fallback, merges over whole texts."""
    words = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=True)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = words
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = [t for t in made["added_tokens"] if t["content"] in ("<unk>", "<s>", "</s>")]
    if metaspace:
        made["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": metaspace, "split": False}
    else:
        made["pre_tokenizer"] = None
        made["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    made["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                                 {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    return Tokenizer.from_str(json.dumps(made))


def llama2():
    return sentencepiece(None)


def mistral():
    return sentencepiece("first")


def metaspace_split():
    tokenizer = sentencepiece("always")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=True)
    return tokenizer


def no_fallback():
    """An unknown token, fused, and no bytes to fall back on."""
    made = json.loads(sentencepiece("always").to_str())
    made["model"]["byte_fallback"] = False
    return Tokenizer.from_str(json.dumps(made))


def partial_fallback():
    """Only some bytes have a token: unknown characters stand beside ones that fall back."""
    made = json.loads(sentencepiece("never").to_str())
    vocab = made["model"]["vocab"]
    for byte in range(0xE3, 0xF0):
        vocab[f"<gone{byte}>"] = vocab.pop(f"<0x{byte:02X}>")
    made["model"]["fuse_unk"] = False
    return Tokenizer.from_str(json.dumps(made))


def flags():
    """Added tokens with every flag, some found in normalized text, after a chain of normalizers."""
    chain = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer = byte_level(QWEN2, chain, trim=True)
    tokenizer.add_tokens([
        AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
        AddedToken("<b>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False),
        AddedToken("step", single_word=True, normalized=True), AddedToken("\ufb01n", normalized=True),
        AddedToken(" x", rstrip=True, normalized=False), AddedToken("NORM", normalized=True, lstrip=True, rstrip=True)])
    return tokenizer


def splits(behavior, invert=False):
    def make():
        tokenizer = byte_level()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"\p{P}|\s"), behavior, invert=invert), pre_tokenizers.Split("e", behavior),
            pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.normalizer = normalizers.NFD()
        return tokenizer
    make.__name__ = f"split_{behavior}{'_inverted' if invert else ''}"
    return make


def pairs(make):
    """The same pre-tokenizer with a model that shows where words begin: ASCII merges with any neighbour within a word, before all else."""
    def made():
        parts = json.loads(make().to_str())
        alphabet = {chr(c): b for b, c in enumerate(byte_characters())}
        vocab = {c: b for c, b in alphabet.items()}
        merges = sorted(((x, y) for x in alphabet for y in alphabet if min(alphabet[x], alphabet[y]) < 128),
                        key=lambda m: min(alphabet[m[0]], alphabet[m[1]]) * 7919 % 128)
        for x, y in merges:
            vocab[x + y] = len(vocab)
        parts["model"].update(vocab=vocab, merges=[list(m) for m in merges])
        for k, token in enumerate(parts["added_tokens"]):
            token["id"] = len(vocab) + k
        parts["added_tokens"] = [t for t in parts["added_tokens"] if t["content"] not in vocab]
        parts["post_processor"] = None
        return Tokenizer.from_str(json.dumps(parts))
    made.__name__ = make.__name__ + "_pairs"
    return made


def byte_characters():
    """The code point that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [b if b in printable else 0x100 + others.index(b) for b in range(256)]


def deep():
    """Merges that overlap a great deal, over whole texts: their order matters everywhere."""
    source = random.Random(5)
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    tokenizer.train_from_iterator(["".join(source.choice("aabc") for _ in range(60)) for _ in range(300)], trainer)
    return tokenizer


def nfkd():
    return byte_level(None, normalizers.NFKD())


KINDS = [pairs(qwen2), pairs(o200k), pairs(gpt2), pairs(smollm), pairs(flags), qwen2, llama3, gpt2, gpt2_prefix, smollm, o200k, llama2, mistral, metaspace_split, no_fallback, partial_fallback, flags, nfkd,
         splits("removed"), splits("isolated"), splits("merged_with_previous"), splits("merged_with_next"), splits("contiguous"),
         splits("removed", True), splits("merged_with_next", True)]


def encode(path, texts, *options):
    """Ids, starts, ends, firsts of every text by the program under test; a message where it refuses the text."""
    raw = [t if isinstance(t, bytes) else t.encode() for t in texts]
    stream = b"".join(struct.pack("<I", len(t)) + t for t in raw)
    out = subprocess.run([TOOL, path, *options], input=stream, stdout=subprocess.PIPE, check=True).stdout
    at, results = 0, []
    for _ in raw:
        count = struct.unpack_from("<i", out, at)[0]
        at += 4
        if count < 0:
            size = struct.unpack_from("<I", out, at)[0]
            results.append(out[at + 4:at + 4 + size].decode())
            at += 4 + size
            continue
        columns = []
        for kind, width in (("<i4", 4), ("<u4", 4), ("<u4", 4), ("<i8", 8)):
            columns.append(np.frombuffer(out, kind, count, at))
            at += width * count
        results.append(columns)
    assert at == len(out)
    return results


def compare(path, library, texts, special=True):
    results = encode(path, texts, *([] if special else ["--no-special"]))
    for text, result in zip(texts, results):
        expected = library.encode(text, add_special_tokens=special)
        assert not isinstance(result, str), (text, result)
        ids, start, end, first = result
        offsets = np.array(expected.offsets, dtype=np.int64).reshape(-1, 2)
        sizes = np.concatenate([[0], np.cumsum([len(c.encode()) for c in text], dtype=np.int64)])
        offsets = sizes[offsets]
        same = ids.tolist() == expected.ids and np.array_equal(offsets[:, 0], start) and np.array_equal(offsets[:, 1], end)
        assert same, (text, ids.tolist(), expected.ids, list(zip(start, end)), offsets.tolist())
        added = np.array(expected.special_tokens_mask, dtype=bool)
        assert np.all(first[added] == -1) and np.all(first[~added] >= 0), text
        assert np.all(np.diff(first[~added]) >= 0), text


@pytest.fixture(scope="module", params=KINDS, ids=lambda make: make.__name__)
def kind(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
    request.param().save(str(path))
    return path, Tokenizer.from_file(str(path))


NASTY = [
    "", " ", "  ", "\n", "\r\n", "\t", "a", "\u2581", "\u2581\u2581a \u2581", " \u2581 ", "\x00", "a\x00b", "  It's 12345 HELLOworld.\n\n  x",
    "<|im_start|>user\nhi<|im_end|>\n", "<think><think>></think>", "<|im_start|", "<<|im_end|>>", "<s>a</s> b<s>", "x <s> y",
    " " * 3000, "\n" * 500 + " " * 500 + "x", "a" * 5000, "\u00e9" * 700, "ab " * 2000, "\r\n\r\n \r\n x\r", "\u00a0\u3000\u2003x \u180e y\u0085z",
    "I'LL they'Re WE'VE don'T '\u017f X'\u017f' 'S 'd'D'm", "K\u212a \u212aK 'll\u1efb", "12345678901234567890 \u0661\u0662\u0663 \u00bd\u2167\u0f33 3.14",
    "\u0915\u094d\u0937\u0947\u0924\u094d\u0930 \u0939\u093f\u0928\u094d\u0926\u0940", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea",
    "A\u030a \u212b \u1e9b\u0323 \u1100\u1161\u11a8 \uac00\u11a8 \uac01\u11a8 e\u0301\u0323\u0316", "\u0301abc", "a\u0301", "\u0344\u0345", "\u0f71\u0f72\u0f73\u0f81", "a" + "\u0301\u0316" * 60 + "b",
    "\ufb01n \ufb03 \ufdfa \u1e9e \u0130I\u0131i \u03a3\u03c3\u03c2", "<l>  <r>   <b>  x  <b>y", " word sword words word's word_ (word) \u0301word word\u0301 step STEP steps",
    "  x  <r>  x  x", "a  NORM  b norm", "\ud7a3\u11a7\u11a8", "\ufeffbom", "\ufffd\ufffe\U0010ffff", "``x'' -- \u2014 \u201cq\u201d \\frac{1}{2}$$",
    "a\u0305\u0301 e\u0313\u0301\u0301 o\u031b\u0323\u0302", "e,e;e  ee.e", "....", "e", ",", "1e2,3", "\u0958\u0344 \u2adc \u2add\u0338", "\u05e9\u05bc\u05c1", "\U0001d15e \U000110a5\U000110ba \U00011131\U00011127",
]


def test_nasty(kind):
    compare(*kind, NASTY)
    compare(*kind, NASTY, special=False)


def random_code(random):
    kind = random.random()
    if kind < 0.25:
        return random.choice(" \n\r\t'.,:<>|0123456789 estdmlvrSTx")
    if kind < 0.4:
        return chr(random.randrange(0x20, 0x7F))
    if kind < 0.5:
        return chr(random.randrange(0x80, 0x600))
    if kind < 0.6:
        return chr(random.choice((random.randrange(0x300, 0x370), random.randrange(0x1100, 0x1200), random.randrange(0xAC00, 0xD7A4),
                                  random.randrange(0x900, 0xE00), random.randrange(0x1D00, 0x2100), random.randrange(0xF70, 0xF90))))
    if kind < 0.7:
        return chr(random.choice((random.randrange(0x1F300, 0x1FB00), 0x200D, 0xFE0F, 0x3000, 0xA0, 0x2581, 0x17F, 0x212A)))
    if kind < 0.85:
        code = random.randrange(0x10000)
    else:
        code = random.randrange(0x10000, 0x110000)
    return "\u0345" if 0xD800 <= code < 0xE000 else chr(code)


def random_text(random):
    specials = ["<|im_start|>", "<think>", "<s>", "</s>", "<l>", "<r>", "<b>", "word", "step", "NORM", " x", "<|endoftext|>", "  ", "'ll", "\r\n"]
    parts = []
    for _ in range(random.randrange(1, 24)):
        if random.random() < 0.06:
            parts.append(random.choice(specials))
        elif random.random() < 0.05:
            parts.append(random.choice("aeou\u00e9\u01a1\u1100\uac00"))
            parts.extend(random.choice("\u0301\u0301\u0323\u0305\u0302\u031b\u0345\u0327\u1161\u11a8") for _ in range(random.randrange(1, 5)))
        else:
            parts.append(random_code(random))
    return "".join(parts)


def test_random_unicode(kind):
    path, library = kind
    source = random.Random(library.get_vocab_size())
    compare(path, library, [random_text(source) for _ in range(RANDOM_STRINGS // len(KINDS) + 1)])


@pytest.mark.parametrize("make", [*map(pairs, (qwen2, o200k, flags, smollm, splits("isolated"))), nfkd], ids=lambda make: make.__name__)
def test_every_code_point(make, tmp_path):
    """Each code point alone between letters, before a mark and after one: 300 to a text, kept apart by spaces.

    Of the planes that are empty or private every 17th stands for its neighbours."""
    path = tmp_path / "tokenizer.json"
    make().save(str(path))
    library = Tokenizer.from_file(str(path))
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x34000 or 0xE0000 <= c < 0xE1000 or c % 17 == 0)]
    texts = []
    for i in range(0, len(codes), 300):
        part = codes[i:i + 300]
        texts.append("".join(f"a{chr(c)}b {chr(c)}1 " for c in part))
        if part[0] < 0x3400 or 0xA000 <= part[0] < 0x20000:
            texts.append("".join(f"\u0323{chr(c)}\u0334 {chr(c)}word word{chr(c)} " for c in part))
    compare(path, library, texts)


def test_long_pieces(tmp_path):
    """A megabyte without a space takes as long per byte as a short text (else this test would not end)."""
    library = llama2()
    path = tmp_path / "tokenizer.json"
    library.save(str(path))
    source = random.Random(7)
    compare(path, library, ["".join(source.choice("abcdefgh\u00e9\u6587") for _ in range(400_000)), "a" * 1_000_000])
    library = deep()
    library.save(str(path))
    compare(path, library, ["".join(source.choice("aabc") for _ in range(n)) for n in (*range(60), *range(100, 400), 200_000)])


def test_bad_texts(tmp_path):
    path = tmp_path / "tokenizer.json"
    qwen2().save(str(path))
    bad, good, cut = encode(path, [b"ab\xffc", "good", b"\xe2\x82"])
    assert "byte 2" in bad and "UTF-8" in bad and "byte 0" in cut
    assert not isinstance(good, str) and len(good[0]) > 0


@pytest.mark.parametrize("change, word", [
    (lambda t: t["model"].update(dropout=0.5), "dropout"),
    (lambda t: t["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    (lambda t: t["model"].update(type="Unigram"), "Unigram"),
    (lambda t: t["model"].update(surprise=1), "surprise"),
    (lambda t: t.update(normalizer={"type": "Nmt"}), "Nmt"),
    (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
    (lambda t: t.update(post_processor={"type": "BertProcessing", "sep": ["x", 1], "cls": ["x", 1]}), "BertProcessing"),
    (lambda t: t["added_tokens"][0].update(id=5), "id is 5"),
    (lambda t: t["model"]["merges"].append(["nothere", "x"]), "merges"),
    (lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\R+"}), "escape"),
    (lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"a*"}), "empty"),
])
def test_refused(change, word, tmp_path):
    path = tmp_path / "tokenizer.json"
    made = json.loads(qwen2().to_str())
    change(made)
    path.write_text(json.dumps(made))
    done = subprocess.run([TOOL, path], input=b"", capture_output=True)
    assert done.returncode == 65 and word in done.stderr.decode() and str(path) in done.stderr.decode(), done.stderr


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not (DATA / "qwen2-tokenizer.json.gz").exists() or not (DATA / "problems.jsonl.gz").exists():
        pytest.skip("the real vocabulary and problems are not beside this checkout")
    path = tmp_path_factory.mktemp("real") / "tokenizer.json"
    path.write_bytes(gzip.decompress((DATA / "qwen2-tokenizer.json.gz").read_bytes()))
    return path, Tokenizer.from_file(str(path))


def test_real_problems(real):
    texts = []
    for line in gzip.open(DATA / "problems.jsonl.gz", "rt"):
        problem = json.loads(line)
        texts.append("\n".join([problem["statement"], *problem["steps"]]))
    assert len(texts) > 20_000
    compare(*real, texts)


def test_real_vocabulary(real):
    source = random.Random(11)
    compare(*real, NASTY + [random_text(source) for _ in range(5000)])
    compare(*real, [unicodedata.normalize("NFD", t) for t in NASTY])
