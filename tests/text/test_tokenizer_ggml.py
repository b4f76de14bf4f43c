# SPDX-License-Identifier: MIT
"""The vocabulary of a GGUF file against the `tokenizers` library with the tokenizer.json that the file's model would have."""
import gzip
import json
import random
import subprocess

import pytest
from test_tokenizer import DATA, NASTY, TOOL, byte_level, compare, llama3, mistral, pairs, qwen2, random_text, sentencepiece, smollm
from test_tokenizer_families import DEEPSEEK_V2, DEEPSEEK_V3, QWEN3_5, bytes_only, isolated, sequence, split, tekken
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
RANDOM_TEXTS = 1500  # of each kind


def gpt2():
    return byte_level()


def deepseek_coder():
    tokenizer = byte_level()
    splits = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(split), "isolated") for split in splits),
                                                       pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


BYTE_LEVEL = {"gpt-2": gpt2, "llama-bpe": llama3, "llama3": llama3, "llama-v3": llama3, "qwen2": qwen2, "deepseek-r1-qwen": qwen2,
              "tekken": tekken, "smollm": smollm, "starcoder": smollm, "refact": smollm, "deepseek-coder": deepseek_coder,
              "deepseek-llm": sequence("deepseek_llm", *isolated(DEEPSEEK_V2), pre_tokenizers.Digits(individual_digits=True), bytes_only()),
              "deepseek-v3": sequence("deepseek_v3", *isolated(DEEPSEEK_V3), bytes_only()),
              "qwen35": split("qwen3_5", QWEN3_5, normalizers.NFC())}


def byte_level_arrays(made, pre):
    """What a converter writes for this tokenizer.json; ids that no token has become unused ones."""
    ids = {**{token["content"]: token["id"] for token in made["added_tokens"]}, **made["model"]["vocab"]}
    types = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in made["added_tokens"]}
    texts = {number: text for text, number in ids.items()}
    tokens = [texts.get(number, f"[PAD{number}]") for number in range(max(texts) + 4)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in made["model"]["merges"]]
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges,
            "token_type": [types.get(text, NORMAL) if number in texts else UNUSED for number, text in enumerate(tokens)]}


def write(folder, arrays):
    path = folder / "model.ggml"
    path.write_text(json.dumps(arrays))
    return path


def texts_of(seed):
    source = random.Random(seed)
    return NASTY + [random_text(source) for _ in range(RANDOM_TEXTS)]


@pytest.mark.parametrize("paired", [False, True], ids=["words", "pairs"])
@pytest.mark.parametrize("pre", BYTE_LEVEL)
def test_byte_level(tmp_path, pre, paired):
    library = (pairs(BYTE_LEVEL[pre]) if paired else BYTE_LEVEL[pre])()
    made = json.loads(library.to_str())
    arrays = byte_level_arrays(made, pre)
    bos = library.encode("").ids
    arrays["add_bos_token"] = bos != []
    if bos:
        (arrays["bos_token_id"],) = bos
    path = write(tmp_path, arrays)
    if made["normalizer"] is not None:  # the same without it, and with it for texts that it leaves alone
        compare(path, library, [library.normalizer.normalize_str(text) for text in texts_of(1)])
        made["normalizer"] = None
        library = Tokenizer.from_str(json.dumps(made))
    compare(path, library, texts_of(2))
    compare(path, library, NASTY, special=False)


def derived_merges(scores, tokens):
    """In the order of transformers' generate_merges."""
    found = [(scores[number], cut, len(text) - cut, -number, text[:cut], text[cut:]) for number, text in enumerate(tokens)
             for cut in range(1, len(text)) if text[:cut] in tokens and text[cut:] in tokens]
    return [[merge[4], merge[5]] for merge in sorted(found, key=lambda merge: merge[:4], reverse=True)]


def trained_scores(made, tokens):
    """The later a merge, the lower the score of what it makes; single characters come last."""
    rank = {}
    for number, (left, right) in enumerate(made["model"]["merges"]):
        rank.setdefault(left + right, number)
    return [float(-rank.get(text, len(rank) + number)) for number, text in enumerate(tokens)]


def shuffled_scores(made, tokens):
    source = random.Random(3)
    return [float(-source.randrange(len(tokens))) for _ in tokens]


def sentencepiece_files(made, score):
    """The arrays, and the tokenizer.json with the merges that follow from the scores."""
    vocab = made["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    assert [vocab[text] for text in tokens] == list(range(len(tokens)))
    scores = score(made, tokens)
    special = {token["content"] for token in made["added_tokens"]}
    types = [UNKNOWN if text == "<unk>" else CONTROL if text in special else BYTE if text.startswith("<0x") else NORMAL for text in tokens]
    made["model"]["merges"] = derived_merges(scores, {text: number for number, text in enumerate(tokens)})
    assert len(made["model"]["merges"]) > 200
    arrays = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": types, "unknown_token_id": vocab["<unk>"],
              "bos_token_id": vocab["<s>"], "eos_token_id": vocab["</s>"], "add_bos_token": True, "add_eos_token": True}
    return arrays, Tokenizer.from_str(json.dumps(made))


def raw_added_tokens(made):
    for token in made["added_tokens"]:
        token["normalized"] = False
    return made


@pytest.mark.parametrize("scheme, prefix", [("first", None), ("first", True), ("never", False)])
@pytest.mark.parametrize("score", [trained_scores, shuffled_scores])
def test_sentencepiece(tmp_path, score, scheme, prefix):
    arrays, library = sentencepiece_files(raw_added_tokens(json.loads(sentencepiece(scheme).to_str())), score)
    if prefix is not None:
        arrays["add_space_prefix"] = prefix
    compare(write(tmp_path, arrays), library, texts_of(4))
    compare(write(tmp_path, arrays), library, NASTY, special=False)


def test_sentencepiece_with_merges(tmp_path):
    """Where a file has them all the same, they count."""
    made = raw_added_tokens(json.loads(mistral().to_str()))
    merges = made["model"]["merges"]
    arrays, _ = sentencepiece_files(json.loads(json.dumps(made)), trained_scores)
    arrays.update(merges=[" ".join(merge) for merge in merges], scores=[-1000.0] * len(arrays["tokens"]))
    compare(write(tmp_path, arrays), Tokenizer.from_str(json.dumps(made)), texts_of(5))


@pytest.mark.parametrize("gone", [range(0xE3, 0xF0), range(256)], ids=["some", "all"])
def test_sentencepiece_without_bytes(tmp_path, gone):
    """Characters without a token become the unknown one, which its type tells where no key does."""
    made = raw_added_tokens(json.loads(sentencepiece("first").to_str()))
    vocab = made["model"]["vocab"]
    for byte in gone:
        vocab[f"gone{byte}"] = vocab.pop(f"<0x{byte:02X}>")
    made["model"]["byte_fallback"] = len(gone) < 256
    arrays, library = sentencepiece_files(made, trained_scores)
    del arrays["unknown_token_id"]
    compare(write(tmp_path, arrays), library, texts_of(6))


def test_user_defined_tokens(tmp_path):
    made = raw_added_tokens(json.loads(sentencepiece("first").to_str()))
    arrays, library = sentencepiece_files(made, trained_scores)
    library.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "   ")])
    arrays["tokens"] += ["<think>", "   "]
    arrays["token_type"] += [USER_DEFINED] * 2
    arrays["scores"] += [-1000.0] * 2
    compare(write(tmp_path, arrays), library, texts_of(7))


def small(**changes):
    arrays = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab", "<s>", "\u0120"], "token_type": [1, 1, 1, 3, 1], "merges": ["a b"],
              "bos_token_id": 3, "eos_token_id": 3}
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def spaced(**changes):
    arrays = {"model": "llama", "tokens": ["<unk>", "<s>", "<0x41>", "a", "b", "ab", "ba"], "token_type": [2, 3, 6, 1, 1, 1, 1],
              "scores": [0, 0, 0, -3, -4, -1, -2], "bos_token_id": 1}
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def run(folder, arrays, *options):
    return subprocess.run([TOOL, *options[:1], write(folder, arrays), *options[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.mark.parametrize("arrays, words", [
    (small(model=None), "tokenizer.ggml.model is missing; put the model's tokenizer.json beside the file"),
    (small(model="bert"), "tokenizer.ggml.model 'bert' is not supported; put"),
    (small(model="t5"), "'t5'"), (small(model="rwkv"), "'rwkv'"), (small(model="none"), "'none'"),
    (small(pre=None), "tokenizer.ggml.pre is missing; put"),
    (small(pre="default"), "tokenizer.ggml.pre 'default' is not supported; put"),
    (small(pre="falcon"), "'falcon'"),
    (small(tokens=None), "tokens is missing"), (small(tokens=[], token_type=[]), "tokens is missing"),
    (small(token_type=None), "token_type is missing, so that special tokens are not known; put"),
    (small(token_type=[1] * 4), "token_type has 4 values, and there are 5 tokens"),
    (small(token_type=[1] * 6), "token_type has 6 values"),
    (small(token_type=[1, 1, 7, 3, 1]), "token_type: number 2 is 7, which is no type"),
    (small(token_type=[1, 0, 1, 3, 1]), "token_type: number 1 is 0"),
    (small(scores=[1.0]), "scores has 1 values, and there are 5 tokens"),
    (small(merges=None), "merges is missing"),
    (small(merges=["ab"]), "merges: number 0 is not two texts"), (small(merges=["a b", "a  b"]), "merges: number 1 is not two texts"),
    (small(merges=["a b", ""]), "merges: number 1 is not two texts"), (small(merges=[" b"]), "merges: number 0 is not two texts"),
    (small(merges=["b a"]), "merges: number 0 ('ba') has a part that is not in vocab"),
    (small(tokens=["a", "b", "", "<s>", "c"]), "tokens: number 2: it is empty"),
    (small(tokens=["a", "b", "a", "<s>", "c"]), "tokens: number 2: token 'a' is there twice"),
    (small(tokens=["a", "b", "a" * 5000, "<s>", "c"]), "tokens: number 2: it is longer than 2048 bytes"),
    (small(bos_token_id=5), "bos_token_id is 5, and there are 5 tokens"), (small(eos_token_id=2 ** 32 - 1), "eos_token_id is 4294967295"),
    (small(unknown_token_id=-7), "unknown_token_id is -7"),
    (small(bos_token_id=None, add_bos_token=True), "bos_token_id is missing, and tokenizer.ggml.add_bos_token is not false"),
    (small(eos_token_id=None, add_eos_token=True), "eos_token_id is missing, and tokenizer.ggml.add_eos_token is not false"),
    (spaced(scores=None, merges=[]), "scores is missing, and there are no merges"),
    (spaced(scores=None), "scores is missing, and there are no merges; put"),
    (spaced(scores=[-1000.0] * 7), "scores are all -1000, so that the order of merges is not known; put"),
    (spaced(scores=[0, 0, 0, 0, 0, 1e39, 0]), "scores: number 5 is not finite"),
    (spaced(token_type=[2, 3, 1, 1, 1, 1, 6]), "tokens: number 6 has the type of a byte, and its text is not <0xNN>"),
    (spaced(bos_token_id=None), "add_bos_token is not false"),  # as it is where the file does not say
    (spaced(tokens=["<s>", *("a" * (1 + n) for n in range(200))], token_type=[3] + [1] * 200, scores=[float(-n) for n in range(201)]),
     "more than 6432 pairs of tokens make a third"),
])
def test_refused(tmp_path, arrays, words):
    done = run(tmp_path, arrays)
    assert done.returncode == 65 and words in done.stderr and "model.ggml: " in done.stderr, done.stderr


@pytest.mark.parametrize("arrays, words", [(small(), None), (small(pre="qwen2"), "not in NFC"), (small(pre="llama-bpe"), None),
                                           (spaced(), "begins with a space"), (spaced(add_space_prefix=False), None)])
def test_what_a_file_leaves_open_is_warned_of(tmp_path, arrays, words):
    done = run(tmp_path, arrays, "--warnings", "llama", "GPT2Tokenizer")
    assert done.returncode == 0 and (done.stdout == "" if words is None else words in done.stdout and done.stdout.count("\n") == 1)


def test_real_vocabulary(tmp_path):
    if not (DATA / "qwen2-tokenizer.json.gz").exists() or not (DATA / "problems.jsonl.gz").exists():
        pytest.skip("the real vocabulary and problems are not beside this checkout")
    made = json.loads(gzip.decompress((DATA / "qwen2-tokenizer.json.gz").read_bytes()))
    path = write(tmp_path, byte_level_arrays(made, "qwen2"))
    library = Tokenizer.from_str(json.dumps(made))
    problems = [json.loads(line) for line in gzip.open(DATA / "problems.jsonl.gz", "rt")][::5]
    texts = ["\n".join([problem["statement"], *problem["steps"]]) for problem in problems]
    assert len(texts) > 4_000
    compare(path, library, [library.normalizer.normalize_str(text) for text in texts + texts_of(8)])
