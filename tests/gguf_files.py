# SPDX-License-Identifier: MIT
"""GGUF files written from scratch, so that tests need no package for them; pipeline/model/gguf.h says what they are.

    write("m.gguf", {"general.architecture": "llama", "llama.block_count": U32(2)}, {"token_embd.weight": array})

Values of Python types are written as text, bool, float32 (float), uint32 (int) or a list of those; Typed says another type.
Tensors are NumPy arrays of float32 or float16, or Packed. Run as a program it writes the seeds of tests/model/fuzz_gguf.c.
"""
import json
import pathlib
import struct
import sys

import numpy as np

TYPES = {"u8": (0, "<B"), "i8": (1, "<b"), "u16": (2, "<H"), "i16": (3, "<h"), "u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"),
         "bool": (7, "<?"), "text": (8, None), "list": (9, None), "u64": (10, "<Q"), "i64": (11, "<q"), "f64": (12, "<d")}
TENSOR_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
                "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16, "IQ4_NL": 20, "IQ4_XS": 23, "I32": 26, "BF16": 30, "MXFP4": 39}


class Typed:
    def __init__(self, kind, value):
        self.kind, self.value = kind, value


class Packed:
    """A tensor of any type: its shape as NumPy has it, the row last, and its bytes."""

    def __init__(self, kind, shape, content):
        self.kind, self.shape, self.content = kind, tuple(shape), content


def text(value):
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def kind_of(value):
    if isinstance(value, Typed):
        return value.kind
    return {bool: "bool", int: "u32", float: "f32", str: "text", bytes: "text", list: "list"}[type(value)]


def content_of(value):
    kind = kind_of(value)
    bare = value.value if isinstance(value, Typed) else value
    if kind == "text":
        return text(bare)
    if kind == "list":
        inner = kind_of(bare[0]) if bare else "text"
        return struct.pack("<IQ", TYPES[inner][0], len(bare)) + b"".join(map(content_of, bare))
    return struct.pack(TYPES[kind][1], bare)


def packed(tensor):
    if isinstance(tensor, Packed):
        return tensor
    kind = {"float32": "F32", "float16": "F16"}[tensor.dtype.name]
    return Packed(kind, tensor.shape, tensor.tobytes())


def file_bytes(metadata, tensors, version=3, alignment=32, pad_last=True):
    tensors = {name: packed(tensor) for name, tensor in tensors.items()}
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        header += text(key) + struct.pack("<I", TYPES[kind_of(value)][0]) + content_of(value)
    data = bytearray()
    for name, tensor in tensors.items():
        data += bytes(-len(data) % alignment)
        header += text(name) + struct.pack("<I", len(tensor.shape))
        header += b"".join(struct.pack("<Q", size) for size in reversed(tensor.shape))
        header += struct.pack("<IQ", TENSOR_TYPES[tensor.kind], len(data))
        data += tensor.content
    data += bytes(-len(data) % alignment if pad_last else 0)
    return header + bytes(-len(header) % alignment) + bytes(data)


def write(path, metadata, tensors, **options):
    pathlib.Path(path).write_bytes(file_bytes(metadata, tensors, **options))
    return pathlib.Path(path)


def write_split(path, count, metadata, tensors):
    """NAME-00001-of-0000N.gguf and its fellows, the metadata in the first; returns their paths."""
    names = list(tensors)
    paths = [pathlib.Path(f"{path}-{part + 1:05d}-of-{count:05d}.gguf") for part in range(count)]
    for part, to in enumerate(paths):
        split = {"split.no": Typed("u16", part), "split.count": Typed("u16", count),
                 "split.tensors.count": Typed("i32", len(names))}
        mine = names[len(names) * part // count:len(names) * (part + 1) // count]
        write(to, {**(metadata if part == 0 else {}), **split}, {name: tensors[name] for name in mine})
    return paths


# ---- from a folder as transformers saves it ----

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def read_safetensors(folder):
    """Packed tensors by name."""
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        for name, entry in json.loads(content[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = (8 + size + offset for offset in entry["data_offsets"])
                tensors[name] = Packed(entry["dtype"], entry["shape"], content[begin:end])
    return tensors


def file_name(name):
    stem, _, kind = name.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, number, inner = stem.split(".", 3)
    return f"blk.{number}.{NAMES[inner]}.{kind}"


def interleave(tensor, heads):
    """What llama.cpp's converter does to the rows of llama's queries and keys: the halves of a head alternate."""
    row = len(tensor.content) // tensor.shape[0]
    rows = np.frombuffer(tensor.content, np.uint8).reshape(heads, 2, tensor.shape[0] // heads // 2, row)
    return Packed(tensor.kind, tensor.shape, rows.swapaxes(1, 2).tobytes())


def from_folder(folder, **changes):
    """Metadata and tensors of the model in a folder, as a converter writes them. A change of None takes a key away."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    arch = {"mistral": "llama"}.get(config["model_type"], config["model_type"])
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    metadata = {"general.architecture": arch, "general.name": "tiny", "general.type": "model",
                f"{arch}.block_count": config["num_hidden_layers"], f"{arch}.context_length": config["max_position_embeddings"],
                f"{arch}.embedding_length": config["hidden_size"], f"{arch}.feed_forward_length": config["intermediate_size"],
                f"{arch}.attention.head_count": heads, f"{arch}.attention.head_count_kv": kv_heads,
                f"{arch}.attention.key_length": head_dim, f"{arch}.attention.value_length": head_dim,
                f"{arch}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
                f"{arch}.rope.freq_base": float(theta), f"{arch}.rope.dimension_count": head_dim,
                "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"]}
    metadata.update({key.replace("ARCH", arch): value for key, value in changes.items()})
    tensors = {}
    for name, tensor in read_safetensors(folder).items():
        if arch == "llama" and (".q_proj." in name or ".k_proj." in name):
            tensor = interleave(tensor, heads if ".q_proj." in name else kv_heads)
        tensors[file_name(name)] = tensor
    return {key: value for key, value in metadata.items() if value is not None}, tensors


def numbers(tensor):
    """Of a float tensor, as float32."""
    if tensor.kind == "BF16":
        return (np.frombuffer(tensor.content, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(tensor.content, {"F32": np.float32, "F16": np.float16}[tensor.kind]).astype(np.float32)


def retype(tensors, kind):
    """Float tensors as another type, vectors as F32, as converters write them."""
    def encode(values, to):
        if to == "BF16":
            bits = values.view(np.uint32)
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
        return values.astype({"F32": np.float32, "F16": np.float16}[to]).tobytes()

    return {name: Packed(to, tensor.shape, encode(numbers(tensor), to)) for name, tensor in tensors.items()
            for to in ["F32" if len(tensor.shape) == 1 else kind]}


def seeds():
    """Small files of every kind of value and tensor, and two that are refused."""
    every = {f"a.{kind}": Typed(kind, 1) for kind, (_, code) in TYPES.items() if code}
    lists = {"l.text": ["<s>", "", "▁a"], "l.f32": [-1.5, 0.0], "l.i32": [Typed("i32", -1)], "l.empty": []}
    small = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.ones(5, np.float16)}
    blocks = {"q": Packed("Q4_K", (1, 2, 256), bytes(288)), "r": Packed("Q8_0", (64,), bytes(68))}
    shape = {f"llama.{key}": value for key, value in (
        ("block_count", 1), ("context_length", 64), ("embedding_length", 8), ("feed_forward_length", [16]), ("attention.head_count", 4),
        ("attention.head_count_kv", Typed("i32", 2)), ("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 1e4),
        ("rope.dimension_count", 2), ("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0),
        ("rope.scaling.original_context_length", 16), ("attention.sliding_window", 8), ("attention.causal", True))}
    parts = {"token_embd.weight": np.ones((3, 8), np.float32), "blk.0.attn_q.weight": np.ones((8, 8), np.float16)}
    yield "model", file_bytes({"general.architecture": "llama", "general.type": "model", **shape}, parts)
    yield "empty", file_bytes({}, {})
    yield "every-value", file_bytes({**every, **lists, "t": "text"}, {})
    yield "alignment", file_bytes({"general.alignment": 64}, small, alignment=64)
    yield "blocks", file_bytes({"general.architecture": "llama"}, {**small, **blocks}, version=2)
    yield "not-padded", file_bytes({}, small, pad_last=False)
    yield "refused-type", file_bytes({}, {"x": Packed("IQ2_XXS", (256,), bytes(66))})
    yield "cut", file_bytes({"t": "text"}, small)[:-33]


if __name__ == "__main__":
    for seed_name, seed_content in seeds():
        (pathlib.Path(sys.argv[1]) / seed_name).write_bytes(seed_content)
