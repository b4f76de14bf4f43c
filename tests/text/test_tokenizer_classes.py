# SPDX-License-Identifier: MIT
"""The classes that transformers takes: where strata says nothing, AutoTokenizer gives the same ids."""
import json
import random

import pytest
from parity import transformers
from test_tokenizer_files import base_tokenizer, encode, gpt2_words, make_folder, random_files, sentencepiece_words, token, warnings

SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN3_5 = rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SEEDS = 3  # of random files for each model type and pipeline
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NFC = {"type": "NFC"}


def bytes_of(normalizer, *steps):
    return lambda tokenizer: {**tokenizer, "normalizer": normalizer, "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def gemma(tokenizer):
    made = sentencepiece_words("never")(tokenizer)
    made["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    made["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    for name in ("<bos>", "<eos>", "<pad>", "<mask>"):
        number = made["model"]["vocab"][name] = len(made["model"]["vocab"])
        made["added_tokens"].append({**token(name, special=True), "id": number})
    made["model"]["unk_token"] = "<unk>"
    return made


def with_bos(make):
    def made(tokenizer):
        tokenizer = make(tokenizer)
        first = tokenizer["added_tokens"][0]
        post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"x": {"id": "x", "ids": [first["id"]], "tokens": [first["content"]]}}}
        return {**tokenizer, "post_processor": post}
    return made


PIPELINES = {"gpt2": gpt2_words, "gpt2_bos": with_bos(gpt2_words), "neox": bytes_of(NFC, BYTES), "neox_bos": with_bos(bytes_of(NFC, BYTES)), "gemma": gemma,
             "qwen2": lambda tokenizer: tokenizer, "first": sentencepiece_words("first"), "always": with_bos(sentencepiece_words("always")),
             "qwen3_5": bytes_of(NFC, {"type": "Split", "pattern": {"Regex": QWEN3_5}, "behavior": "Isolated", "invert": False},
                                 {**BYTES, "use_regex": False}),
             "cohere": bytes_of(NFC, {"type": "Digits", "individual_digits": True}, BYTES),
             "falcon": bytes_of(None, {"type": "Punctuation", "behavior": "Contiguous"}, BYTES, {"type": "Digits", "individual_digits": False})}
TYPES = ["gpt2", "gptj", "phi", "opt", "starcoder2", "gpt_neox", "olmo", "gemma", "gemma3_text", "qwen3_5", "qwen3_next", "cohere2", "llama", "falcon",
         "mistral", "mixtral", "phi3", "olmo2", "granite", "glm4", "deepseek_v3", "llama4", "gpt_oss", "bloom", "stablelm", "nemotron", "qwen3_moe"]
CLASSES = [None, None, None, "PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizerFast", "GemmaTokenizer", "Qwen2Tokenizer",
           "CohereTokenizerFast", "CodeGenTokenizer", "BloomTokenizerFast", "TokenizersBackend", "NoSuchTokenizer", "BartTokenizer"]
NAMED = ["<|endoftext|>", "<unk>", "<s>", "<bos>", "<pad>", "<mask>", "<|padding|>", "<CLS>", "<UNK>"]


@pytest.fixture(scope="module")
def tokenizer_json():
    return base_tokenizer()


def random_texts(rng):
    parts = [*NAMED, "<think>", "<x>", "<|im_start|>", " ", "  ", "a", "The ", "\n", "12345", "e\u0301", "they're", "the, end."]
    return ["The END of  12345 they're e\u0301!", " a the", *("".join(rng.choice(parts) for _ in range(12)) for _ in range(4))]


def random_settings(rng):
    files = random_files(rng) if rng.random() < 0.5 else {"tokenizer_config": {}}
    config = files["tokenizer_config"]
    name = rng.choice(CLASSES)
    config.update({} if name is None else {"tokenizer_class": name})
    for key in ("add_prefix_space", "add_bos_token", "add_eos_token", "legacy"):
        if rng.random() < 0.15:
            config[key] = rng.random() < 0.5
    if rng.random() < 0.2:
        config.update({key: None for key in rng.sample(["bos_token", "pad_token", "unk_token", "mask_token"], 2)})
    return files


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("model_type", TYPES)
def test_silence_means_the_same_ids(tokenizer_json, tmp_path, model_type, pipeline):
    for seed in range(SEEDS):
        rng = random.Random(f"{model_type} {pipeline} {seed}")
        files = random_settings(rng) if seed > 0 else {}
        folder = make_folder(tmp_path / str(seed), PIPELINES[pipeline](json.loads(json.dumps(tokenizer_json))), model_type, **files)
        config_class = rng.choice(["", "", *CLASSES[3:-2]])
        if config_class != "":
            (folder / "config.json").write_text(json.dumps({"model_type": model_type, "tokenizer_class": config_class}))
        if warnings(folder, model_type, config_class) != "":
            continue
        texts = random_texts(rng)
        library = transformers.AutoTokenizer.from_pretrained(folder)
        assert encode(folder, texts) == [library(text)["input_ids"] for text in texts], (files, type(library).__name__)


OWN = {"gpt2": "gpt2", "gpt_neox": "neox", "gemma3_text": "gemma", "qwen3_5": "qwen3_5", "qwen3_next": "qwen2", "cohere2": "cohere", "falcon": "falcon",
       "mistral": "first", "phi3": "always", "olmo2": "qwen2", "llama": "first", "opt": "gpt2_bos"}


@pytest.mark.parametrize("model_type", OWN)
def test_published_folders_are_silent(tokenizer_json, tmp_path, model_type):
    """A family's own pipeline, with the tokens that its class would add."""
    made = PIPELINES[OWN[model_type]](tokenizer_json)
    config = {f"{key}_token": "<|endoftext|>" for key in ("bos", "eos", "unk", "pad", "cls", "sep", "mask")}
    config = {} if OWN[model_type] in ("gemma", "first", "always") else config
    folder = make_folder(tmp_path / "model", made, model_type, tokenizer_config={**config, "tokenizer_class": None})
    assert warnings(folder, model_type) == ""


def test_every_model_type(tokenizer_json, tmp_path):
    """Which class a model type leads to, told from the warning about a pipeline that no class builds."""
    names = transformers.models.auto.tokenization_auto.TOKENIZER_MAPPING_NAMES
    wrong = transformers.models.auto.tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    folder = make_folder(tmp_path / "model", PIPELINES["falcon"](tokenizer_json), "llama")
    known = ("GPT2Tokenizer", "GPTNeoXTokenizer", "GemmaTokenizer", "Qwen2Tokenizer", "Qwen3_5Tokenizer", "CohereTokenizer")
    types = [kind for kind, name in names.items() if name in known and "blip" not in kind]
    assert len(types) > 50
    for kind in [*types, *sorted(wrong), "llama", "falcon", "gpt_oss", "deepseek_v3"]:
        said = warnings(folder, kind)
        assert (f"takes the class {names.get(kind)} " in said) == (names.get(kind) in known), (kind, said)


TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
          r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@pytest.mark.parametrize("pattern, settings, word", [
    (TEKKEN, {"fix_mistral_regex": True}, ""), (QWEN3_5, {"fix_mistral_regex": True}, "fix_mistral_regex"), (QWEN3_5, {"fix_mistral_regex": False}, ""),
    (TEKKEN, {"truncation_side": "left"}, "tokenizer_config.json: truncation_side is left")])
def test_settings_are_warned_of(tokenizer_json, tmp_path, pattern, settings, word):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    made = bytes_of(None, split, {**BYTES, "use_regex": False})(tokenizer_json)
    said = warnings(make_folder(tmp_path / "model", made, "mistral", tokenizer_config=settings), "mistral")
    assert word in said and (said != "") == (word != ""), said


@pytest.mark.parametrize("model_type, warns", [("mistral3", True), ("llama", False)])
def test_another_vocabulary_is_warned_of(tokenizer_json, tmp_path, model_type, warns):
    folder = make_folder(tmp_path / "model", tokenizer_json, model_type)
    (folder / "tekken.json").write_text("{}")
    assert ("mistral-common" in warnings(folder, model_type)) == warns


@pytest.mark.parametrize("direction, side, cuts", [("Left", None, True), ("Left", "right", False), ("Right", None, False)])
def test_truncation_of_the_file(tokenizer_json, tmp_path, direction, side, cuts):
    made = {**tokenizer_json, "truncation": {"direction": direction, "max_length": 2 ** 64 - 1, "strategy": "LongestFirst", "stride": 0}}
    folder = make_folder(tmp_path / "model", made, "mistral", **({} if side is None else {"tokenizer_config": {"truncation_side": side}}))
    assert ("direction of truncation is left" in warnings(folder, "mistral")) == cuts
    library = transformers.AutoTokenizer.from_pretrained(folder)
    text = "the end of the story"
    assert encode(folder, [text]) == [library(text)["input_ids"]]
    cut = library(text, truncation=True, max_length=3)["input_ids"]
    assert (cut != encode(folder, [text])[0][:3]) == cuts
