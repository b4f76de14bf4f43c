# SPDX-License-Identifier: MIT
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
    "extra tokens by name, with flags": {"tokenizer_config": {"extra_special_tokens": {
        "image_token": {"__type": "AddedToken", **token("<x>", lstrip=True)}}}},
    "another token with flags": {"tokenizer_config": {"image_token": {"__type": "AddedToken", **token("<x>", rstrip=True)}}},
    "model's own tokens": {"tokenizer_config": {"model_specific_special_tokens": {"image_token": "<x>"}}},
    "model's own tokens before extra ones": {"tokenizer_config": {"extra_special_tokens": ["<x>"], "pad_token": "<pad>",
                                                                  "model_specific_special_tokens": {"image_token": "<think>"}}},
    "model's own tokens that others replace": {"tokenizer_config": {"model_specific_special_tokens": {"image_token": "<x>"},
                                                                    "extra_special_tokens": {"b_token": "<think>"}}},
    "model's own tokens that replace others": {"tokenizer_config": {
        "image_token": {"__type": "AddedToken", **token("<x>", rstrip=True)},
        "model_specific_special_tokens": {"image_token": "<think>", "pad_token": "<pad>"}, "pad_token": "<s>"}},
    "model's own tokens beside the older file's": {
        "tokenizer_config": {"model_specific_special_tokens": {"b": "<think>"}},
        "special_tokens_map": {"audio_token": "<pad>", "extra_special_tokens": {"image_token": "<x>"}}},
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
        if rng.random() < 0.5:
            files["special_tokens_map"]["extra_special_tokens"] = rng.sample(CONTENTS, 2)
    if rng.random() < 0.3:
        files["added_tokens"] = dict(zip(rng.sample(CONTENTS, 3), rng.sample(range(290, 340), 3)))
    return files


def test_random_files(tokenizer_json, tmp_path):
    for seed in range(25):
        rng = random.Random(seed)
        texts = ["".join(rng.choice(CONTENTS + [" ", "  ", "a", "The ", "\n"]) for _ in range(20)) for _ in range(5)]
        compare(make_folder(tmp_path / str(seed), tokenizer_json, "llama", **random_files(rng)), texts)


def warnings(folder, model_type, config_class=""):
    done = subprocess.run([TOOL, "--warnings", folder / "tokenizer.json", model_type, config_class], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def same_ids(folder, texts):
    library = transformers.AutoTokenizer.from_pretrained(folder)
    return encode(folder, texts) == [library(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("config", [{"add_prefix_space": True},
                                    {"pad_token": {"__type": "AddedToken", **token("<pad>", lstrip=True)}},
                                    {"additional_special_tokens": [{"__type": "AddedToken", **token("<x>", rstrip=True)}]}])
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_settings_of_qwen2_are_warned_of(tokenizer_json, tmp_path, model_type, config):
    folder = make_folder(tmp_path / "model", tokenizer_json, model_type, tokenizer_config=config)
    assert not same_ids(folder, ["a <pad> b <x>  the"])
    assert "Qwen2Tokenizer" in warnings(folder, model_type)


def test_random_files_of_qwen2(tokenizer_json, tmp_path):
    silent = 0
    for seed in range(25):
        rng = random.Random(seed)
        texts = ["".join(rng.choice(CONTENTS + [" ", "  ", "a", "The ", "\n"]) for _ in range(20)) for _ in range(5)]
        files = random_files(rng)
        folder = make_folder(tmp_path / str(seed), tokenizer_json, "qwen2", **files)
        said = warnings(folder, "qwen2")
        assert said or same_ids(folder, texts), files
        silent += said == ""
    assert silent > 3


@pytest.mark.parametrize("listed, there, word", [(["tokenizer.4.0.0.json"], "tokenizer.4.0.0.json", "names tokenizer.4.0.0.json"),
                                                 (["tokenizer.json", "tokenizer.4.0.0.json"], "tokenizer.5.json", ""),
                                                 (["tokenizer.json"], "tokenizer.4.0.0.json", "")])
def test_another_file_for_other_versions(tokenizer_json, tmp_path, listed, there, word):
    folder = make_folder(tmp_path / "model", tokenizer_json, "llama", tokenizer_config={"fast_tokenizer_files": listed})
    (folder / there).write_text(json.dumps(gpt2_words(tokenizer_json)))
    said = warnings(folder, "llama")
    assert word in said and (said != "") == (word != "")


def gpt2_words(tokenizer):
    return {**tokenizer, "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                                               "use_regex": True}}


def sentencepiece_words(scheme):
    def change(tokenizer):
        vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
        for text in ["\u2581", *"abcdefghijklmnopqrstuvwxyz|<>_/ ", "th", "the", "\u2581the", "he", "\u2581a", "\u2581\u2581"]:
            vocab.setdefault(text, len(vocab))
        merges = [["t", "h"], ["th", "e"], ["\u2581", "the"], ["h", "e"], ["\u2581", "a"], ["\u2581", "\u2581"]]
        made = {**tokenizer, "normalizer": None, "post_processor": None, "decoder": None,
                "added_tokens": [{**token(text, special=True), "id": vocab[text]} for text in ("<unk>", "<s>", "</s>")],
                "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False},
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                          "vocab": vocab, "merges": merges}}
        if scheme is None:  # as Llama 2's file has it
            made["pre_tokenizer"] = None
            made["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                                                      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
        return made
    return change


WORDS = {"qwen2": lambda tokenizer: tokenizer, "gpt2": gpt2_words, "first": sentencepiece_words("first"),
         "always": sentencepiece_words("always"), "never": sentencepiece_words("never"), "prepend": sentencepiece_words(None)}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_other_ids_are_warned_of(tokenizer_json, tmp_path, words, model_type):
    """Whatever class transformers takes: the ids agree, or there is a warning."""
    texts = ["The END of  12345 they're", " a the", "  the</s> the", "the<s>the he\u0301"]
    agreed = []
    names = ("PreTrainedTokenizerFast", "Qwen2TokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "GPT2Tokenizer")
    settings = [None, *({"tokenizer_class": name} for name in names),
                {"tokenizer_class": "LlamaTokenizer", "legacy": True}, {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}]
    for number, setting in enumerate(settings):
        config = {} if setting is None else {"tokenizer_config": setting}
        folder = make_folder(tmp_path / str(number), WORDS[words](tokenizer_json), model_type, **config)
        done = subprocess.run([TOOL, "--warnings", folder / "tokenizer.json", model_type, ""], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        library = transformers.AutoTokenizer.from_pretrained(folder)
        same = encode(folder, texts) == [library(text)["input_ids"] for text in texts]
        assert same or "transformers 5 takes the class" in done.stdout, (setting, library)
        agreed.append(same and done.stdout == "")
    assert any(agreed) or model_type == "qwen2" or words == "gpt2"


@pytest.mark.parametrize("name, content, words", [
    ("tokenizer_config", {"added_tokens_decoder": {"x": token("a")}}, "'x' is not an id"),
    ("tokenizer_config", {"added_tokens_decoder": {"7": "a"}}, "entry '7' is not an object"),
    ("tokenizer_config", {"added_tokens_decoder": []}, "added_tokens_decoder is not an object"),
    ("tokenizer_config", [], "not a JSON object"),
    ("tokenizer_config", {"added_tokens_decoder": {"7": token("a\0b")}}, "NUL character"),
    ("tokenizer_config", {"pad_token": "\ud800"}, "half of a surrogate pair"),
    ("added_tokens", {"a": "7"}, "the id of 'a' is not a whole number"),
    ("special_tokens_map", 7, "'[' or '{' expected near '7'")])
def test_broken_files_are_named(tokenizer_json, tmp_path, name, content, words):
    folder = make_folder(tmp_path / "model", tokenizer_json, "llama", **{name: content})
    done = subprocess.run([TOOL, folder / "tokenizer.json"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 65 and words in done.stderr and f"{name}.json" in done.stderr, done.stderr
