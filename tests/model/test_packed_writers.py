# SPDX-License-Identifier: MIT
"""The writers of quantised checkpoints in tests/packed, which other tests take as the truth: what they store means what their
twins say, decoded here by other code, number by number where that is cheap; GGUF's blocks against gguf-py where that is installed."""
import hashlib
import importlib.util
import json
import pathlib

import numpy as np
import pytest

from packed import gguf_file
from packed.cases import CASES, GGUF, case, gguf_case
from packed.checkpoints import LINEAR
from packed.gguf_blocks import BLOCKS
from packed.gguf_model import gguf_name, permute, unpermute
from packed.methods import AWQ_ORDER, pack_words, unpack_words
from packed.numbers import E4M3, FLOATS, decode, read_folder, round_to
from packed.refusals import EITHER, REFUSALS, refusal


@pytest.mark.parametrize("bits, order", [(4, None), (4, AWQ_ORDER), (8, None)])
def test_words(bits, order):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 1 << bits, (5, 64))
    words = pack_words(codes, bits, order)
    assert words.shape == (5, 64 * bits // 32)
    assert (unpack_words(words, bits, order) == codes).all()
    first = [int(words[0, 0]) >> (bits * nibble) & ((1 << bits) - 1) for nibble in range(32 // bits)]
    assert first == [codes[0, column] for column in (order or range(32 // bits))]


# ---- each method, decoded from the file's tensors ---------------------------------------------------------------------

def decode_awq(t, shape, **_):
    codes, zeros = unpack_words(t["qweight"].array, 4, AWQ_ORDER), unpack_words(t["qzeros"].array, 4, AWQ_ORDER)
    group = np.arange(shape[1]) // (shape[1] // len(zeros))
    return ((codes.astype(np.int64) - zeros[group]).astype(np.float32) * t["scales"].values()[group]).T


def decode_gptq(t, shape, bits=4, v2=False, mislabelled=False, **_):
    codes = unpack_words(np.ascontiguousarray(t["qweight"].array.T), bits)
    zeros = unpack_words(t["qzeros"].array, bits).astype(np.int64) + (0 if v2 or mislabelled else 1)
    group = t["g_idx"].array if "g_idx" in t else np.arange(shape[1]) // (shape[1] // len(zeros))
    return (codes.astype(np.int64) - zeros[group].T).astype(np.float32) * t["scales"].values()[group].T


def decode_fp8(t, shape, block=(128, 128), granularity="block", scales="F32", scale_name="weight_scale_inv", **_):
    scale = decode(t[scale_name].array, scales)
    row, column = np.arange(shape[0]), np.arange(shape[1])
    if granularity == "tensor":
        return E4M3[t["weight"].array] * scale.reshape(())
    each = scale[:, :1] if granularity == "channel" else scale[np.ix_(row // block[0], column // block[1])]
    return E4M3[t["weight"].array] * each


def decode_bnb4(t, shape, kind="nf4", blocksize=64, double=False, **_):
    state = json.loads(t[f"weight.quant_state.bitsandbytes__{kind}"].array.tobytes())
    assert (state["shape"], state["blocksize"], state["quant_type"]) == (list(shape), blocksize, kind)
    absmax = t["weight.absmax"].array
    if double:
        nested = t["weight.nested_absmax"].array[np.arange(len(absmax)) // state["nested_blocksize"]]
        absmax = t["weight.nested_quant_map"].array[absmax] * nested + np.float32(state["nested_offset"])
    packed = t["weight"].array.view(np.uint8).reshape(-1)
    flat = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:shape[0] * shape[1]]
    assert len(absmax) == -(-len(flat) // blocksize) and absmax.dtype == np.float32
    return (t["weight.quant_map"].array[flat] * absmax[np.arange(len(flat)) // blocksize]).reshape(shape)


def decode_int8(t, shape, **_):
    return t["weight"].array.astype(np.float32) * t["SCB"].array[:, None] * np.float32(7.874015718698502e-3)


def decode_ct_float(t, shape, strategy="channel", scales="BF16", **options):
    return round_to(decode_fp8(t, shape, granularity=strategy, scales=scales, scale_name="weight_scale", **options), scales)


def decode_ct_int(t, shape, scales="BF16", **_):
    zero = t["weight_zero_point"].array.astype(np.int64) if "weight_zero_point" in t else 0
    return round_to((t["weight"].array.astype(np.int64) - zero).astype(np.float32) * t["weight_scale"].values(), scales)


def decode_ct_packed(t, shape, bits=4, scales="BF16", **_):
    assert t["weight_shape"].array.tolist() == list(shape)
    scale = t["weight_scale"].values()
    half = 1 << (bits - 1)
    codes = unpack_words(t["weight_packed"].array, bits)[:, :shape[1]].astype(np.int64) - half
    zeros = np.zeros(scale.shape, np.int64)
    if "weight_zero_point" in t:
        zeros = unpack_words(np.ascontiguousarray(t["weight_zero_point"].array.T), bits).T[:shape[0]].astype(np.int64) - half
    group = t["weight_g_idx"].array if "weight_g_idx" in t else np.arange(shape[1]) // (shape[1] // scale.shape[1])
    return round_to((codes - zeros[:, group]).astype(np.float32) * scale[:, group], scales)


DECODERS = {"awq": decode_awq, "gptq": decode_gptq, "fp8": decode_fp8, "bnb4": decode_bnb4, "int8": decode_int8,
            "ct-float": decode_ct_float, "ct-int": decode_ct_int, "ct-packed": decode_ct_packed}


@pytest.mark.parametrize("name", CASES)
def test_twin_is_what_is_stored(name, tmp_path):
    method = CASES[name][0]
    made = case(name)
    found, twin = read_folder(made.write(tmp_path / "packed", shards=2)), read_folder(made.write_twin(tmp_path / "twin"))
    packed = 0
    for tensor, exact in twin.items():
        assert exact.dtype == "F32" and np.isfinite(exact.array).all()
        if tensor in found and found[tensor].dtype in FLOATS and found[tensor].array.shape == exact.array.shape:
            assert (found[tensor].values() == exact.array).all(), tensor
            continue
        module = LINEAR.fullmatch(tensor)[1]
        companions = {key[len(module) + 1:]: value for key, value in found.items() if key.startswith(module + ".")}
        meant = DECODERS[method](companions, exact.array.shape, **made.options[module])
        assert meant.dtype == np.float32 and np.array_equal(meant, exact.array), tensor
        packed += 1
    assert packed in (13, 14)


@pytest.mark.parametrize("name", [*REFUSALS, *EITHER])
def test_what_is_refused_is_another_checkpoint(name, tmp_path):
    made, words = refusal(name)
    sound = case({**REFUSALS, **EITHER}[name].base)
    made.write(tmp_path / "refused")
    same = made.config == sound.config and made.tensors.keys() == sound.tensors.keys() and all(
        one.dtype == sound.tensors[key].dtype and one.array.shape == sound.tensors[key].array.shape
        and one.array.tobytes() == sound.tensors[key].array.tobytes() for key, one in made.tensors.items())
    assert words and not same


# ---- what gptqmodel makes of them -----------------------------------------------------------------------------------

# By tools/make_packed_gptqmodel.py: case -> matrix -> SHA-256 of its numbers, which it rounds to float16.
GPTQMODEL = json.loads((pathlib.Path(__file__).parent / "goldens" / "packed-gptqmodel.json").read_text())["cases"]


def float16_digest(values):
    return hashlib.sha256(np.ascontiguousarray(values.astype(np.float16)).tobytes()).hexdigest()


@pytest.mark.parametrize("name", GPTQMODEL)
def test_twin_in_float16_is_what_gptqmodel_computes_with(name):
    made = case(name)
    assert GPTQMODEL[name].keys() == {f"{module}.weight" for module in made.options}
    for tensor, digest in GPTQMODEL[name].items():
        assert float16_digest(made.twin[tensor].values()) == digest, tensor


@pytest.mark.parametrize("name, suffix", [(name, suffix) for name in ("awq-g32", "gptq-g32-asymmetric") for suffix in ("qweight", "qzeros")])
def test_one_other_code_is_found(name, suffix):
    made = case(name)
    module = "model.layers.1.mlp.up_proj"
    shape = made.twin[f"{module}.weight"].array.shape
    stored = {key: made.tensors[f"{module}.{key}"] for key in ("qweight", "qzeros", "scales")}
    decoded = DECODERS[CASES[name][0]]
    assert float16_digest(decoded(stored, shape, **made.options[module])) == GPTQMODEL[name][f"{module}.weight"]
    stored[suffix] = stored[suffix]._replace(array=stored[suffix].array ^ (np.arange(stored[suffix].array.size) == 7).reshape(
        stored[suffix].array.shape).astype(np.int32))
    assert float16_digest(decoded(stored, shape, **made.options[module])) != GPTQMODEL[name][f"{module}.weight"]


# ---- GGUF -------------------------------------------------------------------------------------------------------------

# Root mean square of what rounding normal numbers costs, against theirs: a little above what each block reaches.
ROUNDING = {"F32": 0, "F16": 3e-4, "BF16": 2e-3, "Q8_0": 0.006, "Q6_K": 0.021, "Q5_0": 0.046, "Q5_1": 0.042, "Q5_K": 0.042, "Q4_0": 0.095,
            "Q4_1": 0.086, "Q4_K": 0.086, "IQ4_NL": 0.087, "IQ4_XS": 0.088, "MXFP4": 0.13, "Q3_K": 0.17, "Q2_K": 0.36}


def normal_numbers(rng):
    """Rows as weights have them, some of one sign, tiny or nothing."""
    values = (rng.standard_normal((64, 512)) * 0.05).astype(np.float32)
    values[0], values[1], values[2] = 0, np.abs(values[1]), -np.abs(values[2])
    values[3] *= 1e-4
    return values


@pytest.mark.parametrize("name", BLOCKS)
def test_rounding(name):
    values = normal_numbers(np.random.default_rng(1))
    data = BLOCKS[name].quantise(values)
    assert data.shape == (64, 512 // BLOCKS[name].size * BLOCKS[name].bytes)
    back = BLOCKS[name].dequantise(data)
    assert back.dtype == np.float32 and np.isfinite(back).all() and not back[0].any()
    assert np.sqrt(np.mean((back - values)[4:] ** 2) / np.mean(values[4:] ** 2)) <= ROUNDING[name]


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_those_of_gguf_py(name):
    import gguf

    block, kind = BLOCKS[name], gguf.GGMLQuantizationType[name]
    assert (block.number, block.size, block.bytes) == (int(kind), *gguf.GGML_QUANT_SIZES[kind])
    rng = np.random.default_rng(2)
    some = [block.quantise(normal_numbers(rng)), block.random(rng, (64, 512))]
    if name not in ("F32", "F16", "BF16"):
        some.append(rng.integers(0, 256, (2000, block.bytes), np.uint8))
    for data in some:
        with np.errstate(all="ignore"):
            ours, theirs = block.dequantise(data), gguf.quants.dequantize(data, kind)
        number = ~np.isnan(theirs)  # of several NaN any will do
        assert (np.isnan(ours) == ~number).all()
        assert (ours.view(np.uint32)[number] == theirs.view(np.uint32)[number]).all()


def test_rows_of_heads():
    """Adjacent pairs of a head become its halves, and back."""
    rows = np.arange(16)[:, None]
    assert permute(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert (unpermute(permute(rows, 2), 2) == rows).all()


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
@pytest.mark.parametrize("name", GGUF)
def test_file_is_read_by_gguf_py(name, tmp_path):
    import gguf

    made = gguf_case(name)
    made.write(tmp_path)
    paths = sorted(tmp_path.glob("*.gguf"))
    assert len(paths) == made.parts
    tensors = {}
    for number, path in enumerate(paths):
        reader = gguf.GGUFReader(path)
        for tensor in reader.tensors:
            assert tensor.name not in tensors
            tensors[tensor.name] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if number == 0:
            keys = {key: reader.fields[key].contents() for key in made.metadata}
    for key, value in made.metadata.items():
        value = gguf_file.value_of(value)
        assert keys[key] == (np.float32(value.value) if value.type == gguf_file.F32 else value.value), key
    a = keys["general.architecture"]
    heads = {"q_proj": keys[f"{a}.attention.head_count"], "k_proj": keys[f"{a}.attention.head_count_kv"]} if a == "llama" else {}
    for tensor, exact in made.twin.items():
        found = tensors.pop(gguf_name(tensor))
        part = tensor.split(".")[-2]
        assert np.array_equal(unpermute(found, heads[part]) if part in heads else found, exact), tensor
    assert set(tensors) <= {"rope_freqs.weight"}
