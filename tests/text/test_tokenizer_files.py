"""The files beside tokenizer.json: ids as AutoTokenizer of transformers gives them, live, for random files."""
import json
import os
import pathlib
import random
import struct
import subprocess

import pytest
from parity import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TOOL = pathlib.Path(os.environ["STRATA_BUILD"]) / "tests" / "text_tool_encode"
CORPUS = ["The quick brown fox jumps over the lazy dog; the end of the story is the other one.", "a b c <x> think <think> | 12 34"] * 8
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTENTS = ["<think>", "</think>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "the", "he", "<x>", " y", "<s>", "é", "<think>>"]


def base_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated", invert=False),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, show_progress=False,
                                                              initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return json.loads(tokenizer.to_str())


@pytest.fixture(scope="module")
def tokenizer_json():
    return base_tokenizer()


def make_folder(folder, tokenizer, model_type, **files):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def encode(folder, texts):
    data = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    done = subprocess.run([TOOL, folder / "tokenizer.json"], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    found, at = [], 0
    for text in texts:
        (count,) = struct.unpack_from("<i", done.stdout, at)
        assert count >= 0, (text, done.stdout[at:at + 200])
        found.append(list(struct.unpack_from(f"<{count}i", done.stdout, at + 4)))
        at += 4 + 20 * count
    return found


def compare(folder, texts=("a <think>the</think> he <x>  y<pad>| the", "<|im_start|> b <|im_end|>é<s> <think>> e\u0301")):
    library = transformers.AutoTokenizer.from_pretrained(folder)
    assert encode(folder, texts) == [library(text)["input_ids"] for text in texts], (folder, library)


def token(content, rng=None, **flags):
    made = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), False)
    if rng is not None:
        made.update({key: rng.random() < 0.25 for key in made})
    return {"content": content, **made, **flags}


CASES = {
    "nothing": {},
    "token by number": {"tokenizer_config": {"added_tokens_decoder": {"900": token("<think>"), "800": token("</think>")}}},
    "other flags": {"tokenizer_config": {"added_tokens_decoder": {"301": token("<|im_start|>", lstrip=True, rstrip=True)}}},
    "word of the vocabulary": {"tokenizer_config": {"added_tokens_decoder": {"1": token("he", single_word=True)}}},
    "named tokens": {"tokenizer_config": {"pad_token": "<pad>", "bos_token": "<s>", "image_token": "<x>", "eos_token": None}},
    "extra tokens": {"tokenizer_config": {"additional_special_tokens": ["<think>", "<x>"]}},
    "extra tokens by name": {"tokenizer_config": {"extra_special_tokens": {"image_token": "<x>"}}},
    "token as an object": {"tokenizer_config": {"pad_token": {"__type": "AddedToken", **token("<pad>", lstrip=True)}}},
    "older files": {"special_tokens_map": {"pad_token": token("<pad>", rstrip=True), "additional_special_tokens": ["<x>"]},
                    "added_tokens": {"<think>": 900, "<pad>": 901, "not me": 300}},
    "older files beside a decoder": {"tokenizer_config": {"added_tokens_decoder": {}}, "special_tokens_map": {"pad_token": "<pad>"},
                                     "added_tokens": {"<think>": 900}},
    "as Python writes it": {"tokenizer_config": {"model_max_length": 10 ** 30, "x": float("nan"), "pad_token": "<pad>"}},
    "flags that transformers 5 does not follow": {"tokenizer_config": {"add_bos_token": True, "bos_token": "<s>"}},
}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen3"])
@pytest.mark.parametrize("case", CASES)
def test_as_transformers(tokenizer_json, tmp_path, case, model_type):
    files = {name: dict(content) for name, content in CASES[case].items()}
    if model_type == "qwen3":  # which takes Qwen2Tokenizer unless the file says otherwise
        files["tokenizer_config"] = {"tokenizer_class": "PreTrainedTokenizerFast", **files.get("tokenizer_config", {})}
    compare(make_folder(tmp_path / "model", tokenizer_json, model_type, **files))


def random_files(rng):
    config = {}
    if rng.random() < 0.6:
        numbers = rng.sample(range(290, 340), 6)
        config["added_tokens_decoder"] = {str(number): token(rng.choice(CONTENTS), rng) for number in numbers}
    for key in rng.sample(["bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "image_token"], rng.randrange(4)):
        config[key] = rng.choice(CONTENTS)
    if rng.random() < 0.4:
        config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = rng.sample(CONTENTS, 3)
    files = {"tokenizer_config": config}
    if rng.random() < 0.3:
        files["special_tokens_map"] = {"pad_token": rng.choice(CONTENTS), "eos_token": token(rng.choice(CONTENTS), rng, special=True)}
    if rng.random() < 0.3:
        files["added_tokens"] = dict(zip(rng.sample(CONTENTS, 3), rng.sample(range(290, 340), 3)))
    return files


def test_random_files(tokenizer_json, tmp_path):
    for seed in range(60):
        rng = random.Random(seed)
        texts = ["".join(rng.choice(CONTENTS + [" ", "  ", "a", "The ", "\n"]) for _ in range(20)) for _ in range(5)]
        compare(make_folder(tmp_path / str(seed), tokenizer_json, "llama", **random_files(rng)), texts)


@pytest.mark.parametrize("name, content, words", [
    ("tokenizer_config", {"added_tokens_decoder": {"x": token("a")}}, "'x' is not an id"),
    ("tokenizer_config", {"added_tokens_decoder": {"7": "a"}}, "entry '7' is not an object"),
    ("tokenizer_config", {"added_tokens_decoder": []}, "added_tokens_decoder is not an object"),
    ("tokenizer_config", [], "not a JSON object"),
    ("added_tokens", {"a": "7"}, "the id of 'a' is not a whole number"),
    ("special_tokens_map", 7, "'[' or '{' expected near '7'")])
def test_broken_files_are_named(tokenizer_json, tmp_path, name, content, words):
    folder = make_folder(tmp_path / "model", tokenizer_json, "llama", **{name: content})
    done = subprocess.run([TOOL, folder / "tokenizer.json"], input="", capture_output=True, text=True)
    assert done.returncode == 65 and words in done.stderr and f"{name}.json" in done.stderr, done.stderr
