#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a checkpoint folder with seeded random weights: config.json, safetensors shards with their index, tokenizer.json.

The weights are no language model; they have the shapes, dtypes and magnitudes of one, so that a whole run can be
tried, tested and timed without a download. The same arguments give the same bytes.

    make_model.py --to models/tiny --family qwen3 --hidden 64 --layers 4 --heads 4 --kv-heads 2 --head-dim 16 \
        --intermediate 192 --shards 2 --corpus problems.jsonl
"""
import argparse
import gzip
import json
import math
import os
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FILE_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CHUNK = 1 << 22  # numbers made at a time, so that an embedding table takes little memory


# ---- numbers --------------------------------------------------------------------------------------------------------

def name_seed(seed, name):
    """FNV-1a over the tensor's name, started from the seed: each tensor has a stream of its own."""
    state = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def uniform(state, first, count):
    """Numbers first .. first + count of the splitmix64 stream (base/random.h), uniform in [-1, 1), as float64."""
    with np.errstate(over="ignore"):
        z = np.uint64(state) + GOLDEN * np.arange(first + 1, first + count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * (2.0 ** -52) - 1.0


def to_bfloat16(values):
    """float32 -> the upper half of its bits as uint16, to nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def encode(values, dtype):
    values = values.astype(np.float32)
    if dtype == "F32":
        return values
    return to_bfloat16(values) if dtype == "BF16" else values.astype(np.float16)


class Stretches:
    """Encoded numbers of tensors from one stretch of random numbers a distribution, over and over from a place of the tensor's own:
    a large checkpoint is written as fast as the disk takes it. The length is odd and prime to every size of a row, so that no row
    comes twice in reach of another."""
    COUNT = (1 << 24) + 43

    def __init__(self, tensors, seed):
        self.seed = seed
        self.made = {}
        for tensor in tensors:
            if tensor.count() > self.COUNT // 64:
                self.find(tensor)

    def find(self, tensor):
        key = (tensor.mean, tensor.amplitude, tensor.gap)
        if key not in self.made:
            whole = Tensor(f"stretch {len(self.made)}", [self.COUNT], *key, self.seed)
            self.made[key] = to_bfloat16(whole.values())
        return self.made[key]

    def write(self, file, tensor):
        stretch = self.find(tensor)
        place, left = tensor.state % self.COUNT, tensor.count()
        while left > 0:
            some = min(left, self.COUNT - place)
            file.write(stretch[place:place + some].data)
            place, left = 0, left - some


class Tensor:
    """A tensor to be written: value i = mean + amplitude * u + gap * sign(u), u the i-th number of its stream."""

    def __init__(self, name, shape, mean, amplitude, gap, seed):
        self.name, self.shape, self.mean, self.amplitude, self.gap = name, list(shape), mean, amplitude, gap
        self.state = name_seed(seed, name)

    def count(self):
        return math.prod(self.shape)

    def values(self, first=0, count=None):
        u = uniform(self.state, first, self.count() if count is None else count)
        return (self.mean + self.amplitude * u + self.gap * np.where(u < 0, -1.0, 1.0)).astype(np.float32)


def matrix(name, rows, columns, gain, seed):
    """Uniform with standard deviation gain / sqrt(columns)."""
    return Tensor(name, [rows, columns], 0.0, gain * math.sqrt(3.0 / columns), 0.0, seed)


def norm(name, size, seed):
    return Tensor(name, [size], 1.0, 0.25, 0.0, seed)


def bias(name, size, seed):
    """Well off zero, so that a forgotten bias shows."""
    return Tensor(name, [size], 0.0, 0.3, 0.2, seed)


def list_tensors(config, seed, head=None):
    """All tensors of a checkpoint. Query and key projections are small enough to keep the attention from peaking,
    which would make any bfloat16 arithmetic look bad; branches of deep models are damped so that the residual
    stream stays of order 1."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    family = config["model_type"]
    attention_bias = family == "qwen2" or config.get("attention_bias", False)
    output_bias = family != "qwen2" and config.get("attention_bias", False)
    damping = min(1.0, 3.0 / math.sqrt(config["num_hidden_layers"]))
    tensors = [Tensor("model.embed_tokens.weight", [config["vocab_size"], hidden], 0.0, 1.2, 0.0, seed)]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors += [norm(at + "input_layernorm.weight", hidden, seed),
                    matrix(at + "self_attn.q_proj.weight", q, hidden, 0.65, seed),
                    matrix(at + "self_attn.k_proj.weight", kv, hidden, 0.65, seed),
                    matrix(at + "self_attn.v_proj.weight", kv, hidden, 1.0, seed),
                    matrix(at + "self_attn.o_proj.weight", hidden, q, damping, seed)]
        if attention_bias:
            tensors += [bias(at + f"self_attn.{p}_proj.bias", size, seed) for p, size in (("q", q), ("k", kv), ("v", kv))]
        if output_bias:
            tensors.append(bias(at + "self_attn.o_proj.bias", hidden, seed))
        if family == "qwen3":
            tensors += [norm(at + "self_attn.q_norm.weight", head_dim, seed),
                        norm(at + "self_attn.k_norm.weight", head_dim, seed)]
        tensors += [norm(at + "post_attention_layernorm.weight", hidden, seed),
                    matrix(at + "mlp.gate_proj.weight", inner, hidden, 1.0, seed),
                    matrix(at + "mlp.up_proj.weight", inner, hidden, 1.0, seed),
                    matrix(at + "mlp.down_proj.weight", hidden, inner, damping, seed)]
        if config.get("mlp_bias", False):
            tensors += [bias(at + f"mlp.{p}_proj.bias", size, seed)
                        for p, size in (("gate", inner), ("up", inner), ("down", hidden))]
    tensors.append(norm("model.norm.weight", hidden, seed))
    if head if head is not None else not config.get("tie_word_embeddings", False):
        tensors.append(matrix("lm_head.weight", config["vocab_size"], hidden, 1.0, seed))
    return tensors


# ---- safetensors ----------------------------------------------------------------------------------------------------

def split_shards(tensors, shards):
    """Consecutive groups of about equal size, none empty."""
    shards = min(shards, len(tensors))
    total = sum(tensor.count() for tensor in tensors)
    groups, done = [[]], 0
    for number, tensor in enumerate(tensors):
        left = len(tensors) - number
        if groups[-1] and len(groups) < shards and (done >= total * len(groups) / shards or left == shards - len(groups)):
            groups.append([])
        groups[-1].append(tensor)
        done += tensor.count()
    return groups


def write_shard(path, tensors, dtype, stretches=None):
    size = 4 if dtype == "F32" else 2
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        end = offset + tensor.count() * size
        header[tensor.name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            if stretches is not None and tensor.count() > stretches.COUNT // 64:
                stretches.write(file, tensor)
                continue
            for first in range(0, tensor.count(), CHUNK):
                count = min(CHUNK, tensor.count() - first)
                file.write(encode(tensor.values(first, count), dtype).tobytes())
    return offset


def write_weights(folder, tensors, dtype, shards, stretches=None):
    if shards == 1:
        write_shard(os.path.join(folder, "model.safetensors"), tensors, dtype, stretches)
        return
    groups = split_shards(tensors, shards)
    names = [f"model-{number:05d}-of-{len(groups):05d}.safetensors" for number in range(1, len(groups) + 1)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as writers:
        total = sum(writers.map(lambda name, group: write_shard(os.path.join(folder, name), group, dtype, stretches), names, groups))
    weight_map = {tensor.name: name for name, group in zip(names, groups) for tensor in group}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file, indent=1)


# ---- tokenizer ------------------------------------------------------------------------------------------------------

def read_texts(path):
    """Every string in every line of a JSONL file (.gz or not), at any depth."""
    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            for member in value.values() if isinstance(value, dict) else value:
                yield from strings(member)

    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield from strings(json.loads(line))


def train_tokenizer(corpus, vocabulary):
    """A byte-level BPE in the manner of Qwen2, trained on the corpus. All 256 byte symbols are in the alphabet and
    nothing else is, which keeps the training repeatable."""
    try:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    except ImportError:
        sys.exit("make_model: training a tokenizer needs the Python package tokenizers; or give --tokenizer FILE")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(SPECIAL_TOKENS), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(read_texts(corpus), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer.to_str(pretty=False)


def byte_symbols():
    """The symbols of byte-level BPE: printable bytes stand for themselves, the others for code points from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def word_tokenizer():
    """A byte-level BPE in the manner of Qwen2 that needs no training: all bytes, and merges that join the words of
    make_problems.py, with the space before them, from the left: each is one token."""
    from make_problems import word_list

    symbols = byte_symbols()
    vocabulary = {symbols[byte]: number for number, byte in enumerate(sorted(symbols))}
    merges = []
    for word in [*word_list(), "Step", "Given"]:
        for written in (symbols[32] + word,) if word.islower() else (word,):
            for end in range(2, len(written) + 1):
                if written[:end] not in vocabulary:
                    vocabulary[written[:end]] = len(vocabulary)
                    merges.append([written[:end - 1], written[end - 1]])
    added = [{"id": len(vocabulary) + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, token in enumerate(SPECIAL_TOKENS)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False}, level]},
        "post_processor": level, "decoder": {**level, "add_prefix_space": True, "trim_offsets": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": merges}},
        ensure_ascii=False)


def tokenizer_text(arguments):
    if arguments.words:
        return word_tokenizer()
    if arguments.tokenizer is None:
        return train_tokenizer(arguments.corpus, arguments.vocabulary)
    with (gzip.open if arguments.tokenizer.endswith(".gz") else open)(arguments.tokenizer, "rt", encoding="utf-8") as file:
        return file.read()


def highest_id(text):
    tokenizer = json.loads(text)
    return max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer.get("added_tokens", []))])


# ---- the folder -----------------------------------------------------------------------------------------------------

def make_config(arguments):
    config = {"architectures": [{"qwen3": "Qwen3", "qwen2": "Qwen2", "llama": "Llama", "mistral": "Mistral"}[arguments.family]
                                + "ForCausalLM"],
              "model_type": arguments.family, "hidden_size": arguments.hidden, "num_hidden_layers": arguments.layers,
              "num_attention_heads": arguments.heads, "num_key_value_heads": arguments.kv_heads,
              "head_dim": arguments.head_dim, "intermediate_size": arguments.intermediate, "hidden_act": "silu",
              "vocab_size": arguments.vocabulary, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
              "rope_theta": 1000000.0 if arguments.family.startswith("qwen") else 10000.0, "rope_scaling": None,
              "tie_word_embeddings": not arguments.untied, "torch_dtype": arguments.dtype}
    if arguments.family == "mistral":
        config["sliding_window"] = None
    if arguments.family.startswith("qwen"):
        config.update({"use_sliding_window": False, "max_window_layers": arguments.layers})
    return config


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", required=True, help="folder to make")
    parser.add_argument("--family", choices=["qwen3", "qwen2", "llama", "mistral"], default="qwen3")
    for name in ("hidden", "layers", "heads", "kv-heads", "head-dim", "intermediate"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--vocabulary", type=int, help="rows of the embedding; default: 4096 when training, else as in the file")
    parser.add_argument("--dtype", choices=sorted(FILE_DTYPES), default="bfloat16")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--untied", action="store_true", help="with an output head of its own")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", help="JSONL file whose texts train the tokenizer")
    source.add_argument("--tokenizer", help="tokenizer.json (or .gz) to copy")
    source.add_argument("--words", action="store_true", help="bytes and the words of `make_problems.py --lengths real`, a token each")
    parser.add_argument("--fast", action="store_true",
                        help="large matrices repeat one stretch of random numbers: a large model at the disk's speed (bfloat16)")
    arguments = parser.parse_args()
    if arguments.fast and arguments.dtype != "bfloat16":
        parser.error("--fast writes bfloat16")
    if arguments.vocabulary is None and arguments.corpus is not None:
        arguments.vocabulary = 4096
    return arguments


def main():
    arguments = parse_arguments()
    text = tokenizer_text(arguments)
    needed = highest_id(text) + 1
    if arguments.vocabulary is None:
        arguments.vocabulary = needed
    if needed > arguments.vocabulary:
        sys.exit(f"make_model: the tokenizer needs {needed} ids, --vocabulary is {arguments.vocabulary}")
    os.makedirs(arguments.to, exist_ok=True)
    config = make_config(arguments)
    with open(os.path.join(arguments.to, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    with open(os.path.join(arguments.to, "tokenizer.json"), "w", encoding="utf-8") as file:
        file.write(text)
    tensors = list_tensors(config, arguments.seed)
    stretches = Stretches(tensors, arguments.seed) if arguments.fast else None
    write_weights(arguments.to, tensors, FILE_DTYPES[arguments.dtype], arguments.shards, stretches)
    numbers = sum(tensor.count() for tensor in tensors)
    print(f"{arguments.to}: {numbers / 1e6:.1f} million numbers in {arguments.dtype}, vocabulary {arguments.vocabulary} ({needed} used)")


if __name__ == "__main__":
    main()
