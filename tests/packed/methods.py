# SPDX-License-Identifier: MIT
"""Ways to quantise a matrix, one function a method: what a checkpoint of it stores, and the exact float32 numbers that this means.

    packed = METHODS["awq"].pack(weight, rng, group=128)     # weight: float32 [out, in]
    packed.tensors["qweight"]                                # Stored, by what follows "MODULE." in the tensor's name
    packed.weight                                            # float32 [out, in]
    METHODS["awq"].config(group=128)                         # quantization_config of config.json

What is packed is not the point: codes are the nearest, scales about those of the extremes. `weight` is computed from the stored
codes and companions in float32, every operation rounded by itself, in the order that each function shows.
"""
import json
from typing import Callable, NamedTuple

import numpy as np

from packed.numbers import E4M3, Stored, encode, round_to, store

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column of eight that each nibble of a word holds, lowest first


class Packed(NamedTuple):
    tensors: dict       # what follows "MODULE." in the name -> Stored
    weight: np.ndarray  # float32 [out, in]


class Method(NamedTuple):
    pack: Callable    # (weight, rng, **options) -> Packed
    config: Callable  # (**options) -> quantization_config; the options of pack, and further ones that only the config shows


# ---- codes ----------------------------------------------------------------------------------------------------------

def pack_words(codes, bits, order=None):
    """Codes [rows, columns] from 0 up -> int32 [rows, columns * bits / 32], low bits first; a row is filled up with zeros."""
    rows, columns = codes.shape
    each = 32 // bits
    padded = np.zeros((rows, -(-columns // each) * each), np.uint32)
    padded[:, :columns] = codes
    words = padded.reshape(rows, -1, each)[:, :, list(order or range(each))]
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(bits)
    return np.bitwise_or.reduce(words << shifts, axis=2).view(np.int32)


def unpack_words(words, bits, order=None):
    each = 32 // bits
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(bits)
    found = (words.view(np.uint32)[:, :, None] >> shifts) & np.uint32((1 << bits) - 1)
    codes = np.empty_like(found)
    codes[:, :, list(order or range(each))] = found
    return codes.reshape(len(words), -1)


def group_index(inputs, group, rng, act_order):
    """The group of each input: in order, or shuffled with groups of equal size."""
    index = np.arange(inputs) // group
    return (rng.permutation(index) if act_order else index).astype(np.int32)


def extremes(weight, index):
    """Smallest and largest number of each group of inputs, [out, groups]; zero is always between them."""
    order = np.argsort(index, kind="stable")
    groups = weight[:, order].reshape(len(weight), index.max() + 1, -1)
    return np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)


def scales_and_zeros(weight, index, rng, bits, symmetric, scale_dtype, zeros=None):
    """Scale (rounded to its type) and zero point of each group, [out, groups]; zero points lie in the range `zeros`. One scale in
    twenty is so small that it is subnormal in float16, and every other asymmetric zero point is any: a twin has not to be near
    the original, and so all codes and zero points come, the outermost too."""
    low, high = extremes(weight, index)
    levels = (1 << bits) - 1
    least, most = zeros or (0, levels)
    scale = np.maximum(-low, high) * 2 / levels if symmetric else (high - low) / levels
    scale = np.where(rng.random(scale.shape) < 0.05, scale / 1024, scale)
    scale = store(np.maximum(scale, 2.0 ** -20), scale_dtype)
    if symmetric:
        return scale, np.full(low.shape, 1 << (bits - 1))
    natural = np.clip(np.rint(-low / scale.values()), least, most)
    return scale, np.where(rng.random(low.shape) < 0.5, natural, rng.integers(least, most + 1, low.shape)).astype(np.int64)


def quantise(weight, index, scale, zero, bits):
    """Nearest codes from 0 up, [out, in]."""
    codes = np.rint(weight / scale.values()[:, index]) + zero[:, index]
    return np.clip(codes, 0, (1 << bits) - 1).astype(np.int64)


def dequantise(codes, index, scale, zero):
    """(q - z) * scale in float32: exact for scales of 16 bits."""
    return (codes - zero[:, index]).astype(np.float32) * scale.values()[:, index]


def turned(stored):
    return Stored(stored.dtype, np.ascontiguousarray(stored.array.T))


# ---- AWQ and GPTQ ---------------------------------------------------------------------------------------------------

def pack_awq(weight, rng, group=128, scales="F16", zero_point=True):
    index = group_index(weight.shape[1], weight.shape[1] if group == -1 else group, rng, False)
    scale, zero = scales_and_zeros(weight, index, rng, 4, not zero_point, scales)
    codes = quantise(weight, index, scale, zero, 4)
    return Packed({"qweight": Stored("I32", pack_words(codes.T, 4, AWQ_ORDER)),
                   "qzeros": Stored("I32", pack_words(zero.T, 4, AWQ_ORDER)),
                   "scales": turned(scale)}, dequantise(codes, index, scale, zero))


def config_awq(group=128, zero_point=True, skip=None, version="gemm", **_):
    return {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": zero_point, "version": version,
            "modules_to_not_convert": skip}


def pack_gptq(weight, rng, bits=4, group=128, symmetric=True, v2=False, act_order=False, g_idx=True, scales="F16", mislabelled=False,
              zero_bias=False):
    """v1 stores zero points less one (so an asymmetric one has none of 0 here: it would wrap), v2 as they are. Mislabelled: a
    symmetric one whose config says v1, but which stores as v2 does."""
    index = group_index(weight.shape[1], weight.shape[1] if group == -1 else group, rng, act_order)
    scale, zero = scales_and_zeros(weight, index, rng, bits, symmetric, scales, None if v2 else (1, (1 << bits) - 1))
    codes = quantise(weight, index, scale, zero, bits)
    stored_zero = zero if v2 or mislabelled else zero - 1
    tensors = {"qweight": Stored("I32", np.ascontiguousarray(pack_words(codes, bits).T)),
               "qzeros": Stored("I32", pack_words(stored_zero.T, bits)), "scales": turned(scale)}
    if g_idx:
        tensors["g_idx"] = Stored("I32", index)
    if zero_bias:
        tensors["bias"] = store(np.zeros(len(weight)), "F16")
    return Packed(tensors, dequantise(codes, index, scale, zero))


def config_gptq(bits=4, group=128, symmetric=True, v2=False, act_order=False, says_format=True, format_key="checkpoint_format", **_):
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric, "lm_head": False,
              "true_sequential": True, "damp_percent": 0.01, "static_groups": False}
    if says_format:
        config[format_key] = "gptq_v2" if v2 else "gptq"
    return config


# ---- FP8 ------------------------------------------------------------------------------------------------------------

def block_scales(weight, block):
    """The scale that takes each block's largest magnitude to 448, the largest code, [row blocks, column blocks]."""
    rows, columns = weight.shape
    padded = np.zeros((-(-rows // block[0]) * block[0], -(-columns // block[1]) * block[1]), np.float32)
    padded[:rows, :columns] = np.abs(weight)
    blocks = padded.reshape(padded.shape[0] // block[0], block[0], -1, block[1])
    return np.maximum(blocks.max(axis=(1, 3)) / 448, 2.0 ** -20).astype(np.float32)


def spread(scale, block, shape):
    """A scale for every number; the last blocks may be cut short."""
    return np.repeat(np.repeat(scale, block[0], axis=0), block[1], axis=1)[:shape[0], :shape[1]]


def pack_fp8(weight, rng, granularity="block", block=(128, 128), scales="F32", e8m0_as="U8", scale_name="weight_scale_inv",
             activation_scale=False, one_number=()):
    """scales: F32, BF16, F16 or F8_E8M0 (stored under that name or as U8). granularity: block, channel, tensor (its shape: one_number)."""
    block = {"block": block, "channel": (1, weight.shape[1]), "tensor": weight.shape}[granularity]
    scale = store(block_scales(weight, block), scales)
    each = spread(scale.values(), block, weight.shape)
    codes = encode(np.clip(weight / each, -448, 448), "F8_E4M3")
    stored = Stored(e8m0_as if scales == "F8_E8M0" else scales, scale.array.reshape(one_number) if granularity == "tensor" else scale.array)
    tensors = {"weight": Stored("F8_E4M3", codes), scale_name: stored}
    if activation_scale:
        tensors["activation_scale" if scale_name == "weight_scale_inv" else "input_scale"] = store(0.5, "F32")
    return Packed(tensors, E4M3[codes] * each)


def config_fp8(granularity="block", block=(128, 128), scales="F32", activation_scale=False, skip=None, **_):
    config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "static" if activation_scale else "dynamic"}
    if granularity == "block":
        config["weight_block_size"] = list(block)
    if scales == "F8_E8M0":
        config["scale_fmt"] = "ue8m0"
    if skip is not None:
        config["modules_to_not_convert"] = skip
    return config


# ---- bitsandbytes ---------------------------------------------------------------------------------------------------

NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
                -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], np.float32)
FP4_STEPS = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], np.float32)
FP4 = np.concatenate([FP4_STEPS, -FP4_STEPS]) / np.float32(12)
INVERSE_127 = np.float32(7.874015718698502e-3)


def dynamic_map():
    """The 256 codes of nested scales: decimal exponents from -6 to 0, the higher ones with more steps between."""
    positive, first = [], np.float32(0.1)
    for exponent in range(7):
        steps = np.arange(2 ** exponent + 1, dtype=np.float64)
        step = (1 - first) / np.float32(2 ** exponent)  # in float32, and added with one rounding from the nearer end: as torch.linspace
        bounds = np.where(steps < len(steps) // 2, first + step * steps, 1 - step * steps[::-1]).astype(np.float32)
        means = (bounds[:-1] + bounds[1:]) / np.float32(2)
        positive += (means * np.float32(10.0 ** (exponent - 6))).tolist()
    return np.array(sorted([*positive, *(-value for value in positive), 0.0, 1.0]), np.float32)


def nearest(values, codes):
    """The place of the nearest of some codes for each value."""
    order = np.argsort(codes, kind="stable")
    ranked = codes[order].astype(np.float64)
    return order[np.searchsorted((ranked[1:] + ranked[:-1]) / 2, values)].astype(np.uint8)


def blocks_of(values, size):
    """Flattened into rows of a size, the last one filled up with zeros."""
    flat = values.reshape(-1)
    padded = np.zeros(-(-flat.size // size) * size, np.float32)
    padded[:flat.size] = flat
    return padded.reshape(-1, size)


def nest(absmax):
    """Block scales in 8 bits: codes, nested scales (a block of 256 each), the offset, and the scales that this means."""
    codes = dynamic_map()
    offset = absmax.mean(dtype=np.float32)
    blocks = blocks_of(absmax - offset, 256)
    nested = np.abs(blocks).max(axis=1)
    quantised = nearest(blocks / np.maximum(nested, 2.0 ** -100)[:, None], codes)
    means = (codes[quantised] * nested[:, None]) + offset
    return quantised.reshape(-1)[:absmax.size], nested, offset, means.reshape(-1)[:absmax.size]


def pack_bnb4(weight, rng, kind="nf4", double=False, blocksize=64, storage="U8", dtype="bfloat16"):
    """Blocks run over the flattened matrix. Two codes a byte, the first in the high bits."""
    table = {"nf4": NF4, "fp4": FP4}[kind]
    blocks = blocks_of(weight, blocksize)
    absmax = np.abs(blocks).max(axis=1)
    codes = nearest(blocks / np.maximum(absmax, 2.0 ** -100)[:, None], table)
    state = {"quant_type": kind, "blocksize": blocksize, "dtype": dtype, "shape": list(weight.shape)}
    tensors = {}
    if double:
        quantised, nested, offset, absmax = nest(absmax)
        tensors.update({"weight.absmax": Stored("U8", quantised), "weight.nested_absmax": Stored("F32", nested),
                        "weight.nested_quant_map": Stored("F32", dynamic_map())})
        state.update({"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)})
    else:
        tensors["weight.absmax"] = Stored("F32", absmax)
    exact = (table[codes] * absmax[:, None]).reshape(-1)[:weight.size].reshape(weight.shape)
    flat = codes.reshape(-1)[:weight.size + weight.size % 2]
    packed = ((flat[0::2] << 4) | flat[1::2]).astype(np.uint8)
    width = {"U8": np.uint8, "BF16": np.uint16, "F16": np.float16, "F32": np.float32}[storage]
    tensors.update({"weight": Stored(storage, packed.view(width)[:, None]), "weight.quant_map": Stored("F32", table),
                    f"weight.quant_state.bitsandbytes__{kind}": Stored("U8", np.frombuffer(json.dumps(state).encode(), np.uint8))})
    return Packed(tensors, exact)


def config_bnb4(kind="nf4", double=False, storage="U8", skip=None, compute="float32", **_):
    names = {"U8": "uint8", "BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    return {"quant_method": "bitsandbytes", "_load_in_4bit": True, "_load_in_8bit": False, "load_in_4bit": True, "load_in_8bit": False,
            "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": compute,
            "bnb_4bit_quant_storage": names[storage], "llm_int8_enable_fp32_cpu_offload": False, "llm_int8_has_fp16_weight": False,
            "llm_int8_skip_modules": ["lm_head", *skip] if skip else None, "llm_int8_threshold": 6.0}


def pack_int8(weight, rng, weight_format=True):
    """w = (q * SCB) * (1/127), both products rounded to float32."""
    scale = np.maximum(np.abs(weight).max(axis=1), 2.0 ** -100).astype(np.float32)
    codes = np.clip(np.rint(weight * (127 / scale)[:, None]), -127, 127).astype(np.int8)
    tensors = {"weight": Stored("I8", codes), "SCB": Stored("F32", scale)}
    if weight_format:
        tensors["weight_format"] = Stored("U8", np.array(0, np.uint8))  # row-major
    return Packed(tensors, (codes.astype(np.float32) * scale[:, None]) * INVERSE_127)


def config_int8(skip=None, **_):
    return {**config_bnb4(skip=skip), "_load_in_4bit": False, "_load_in_8bit": True, "load_in_4bit": False, "load_in_8bit": True}


# ---- compressed-tensors ---------------------------------------------------------------------------------------------

def pack_ct_float(weight, rng, strategy="channel", block=(128, 128), scales="BF16", input_scale=False):
    """The product is rounded to the type of the scale, here and in the other two."""
    found = pack_fp8(weight, rng, granularity=strategy, block=block, scales=scales, scale_name="weight_scale", one_number=(1,))
    tensors = dict(found.tensors)
    if input_scale:
        tensors["input_scale"] = store([0.5], scales)
    return Packed(tensors, round_to(found.weight, scales))


def pack_ct_int(weight, rng, strategy="channel", symmetric=True, scales="BF16", zero_dtype="I8"):
    index = np.zeros(weight.shape[1], np.int32)
    if strategy == "tensor":
        scale, zero = scales_and_zeros(weight.reshape(1, -1), np.zeros(weight.size, np.int32), rng, 8, symmetric, scales)
        stored = Stored(scales, scale.array.reshape(1)), zero.reshape(1)
        scale, zero = Stored(scales, np.repeat(scale.array, len(weight), 0)), np.repeat(zero, len(weight), 0)
    else:
        scale, zero = scales_and_zeros(weight, index, rng, 8, symmetric, scales)
        stored = scale, zero
    codes = quantise(weight, index, scale, zero, 8)
    tensors = {"weight": Stored("I8", (codes - 128).astype(np.int8)), "weight_scale": stored[0]}
    if not symmetric:
        tensors["weight_zero_point"] = Stored(zero_dtype, (stored[1] - 128).astype(np.int8))
    return Packed(tensors, round_to(dequantise(codes, index, scale, zero), scales))


def pack_ct_packed(weight, rng, bits=4, strategy="group", group=128, symmetric=True, scales="BF16", act_order=False):
    """Codes along a row, zero points along the outputs; both as value + 2^(bits - 1)."""
    index = group_index(weight.shape[1], group if strategy == "group" else weight.shape[1], rng, act_order)
    scale, zero = scales_and_zeros(weight, index, rng, bits, symmetric, scales)
    codes = quantise(weight, index, scale, zero, bits)
    tensors = {"weight_packed": Stored("I32", pack_words(codes, bits)), "weight_scale": scale,
               "weight_shape": Stored("I64", np.array(weight.shape, np.int64))}
    if not symmetric:
        tensors["weight_zero_point"] = Stored("I32", np.ascontiguousarray(pack_words(zero.T, bits).T))
    if act_order:
        tensors["weight_g_idx"] = Stored("I32", index)
    return Packed(tensors, round_to(dequantise(codes, index, scale, zero), scales))


def config_ct(layout, kind, bits=8, strategy="channel", group=None, symmetric=True, act_order=False, block=None, input_scale=False,
              skip=None, **_):
    weights = {"num_bits": bits, "type": kind, "strategy": strategy, "group_size": group if strategy == "group" else None,
               "symmetric": symmetric, "dynamic": False, "actorder": "group" if act_order else None,
               "block_structure": list(block) if strategy == "block" else None, "observer": "minmax", "observer_kwargs": {}}
    inputs = {**weights, "strategy": "tensor", "group_size": None, "block_structure": None} if input_scale else None
    group_0 = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None, "format": layout}
    return {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed", "global_compression_ratio": None,
            "config_groups": {"group_0": group_0}, "ignore": ["lm_head", *(skip or [])], "kv_cache_scheme": None}


def config_ct_float(strategy="channel", block=(128, 128), **options):
    return config_ct("float-quantized", "float", strategy=strategy, block=block, **options)


def config_ct_int(**options):
    return config_ct("int-quantized", "int", **options)


def config_ct_packed(bits=4, strategy="group", group=128, **options):
    return config_ct("pack-quantized", "int", bits=bits, strategy=strategy, group=group, **options)


METHODS = {"awq": Method(pack_awq, config_awq), "gptq": Method(pack_gptq, config_gptq), "fp8": Method(pack_fp8, config_fp8),
           "bnb4": Method(pack_bnb4, config_bnb4), "int8": Method(pack_int8, config_int8),
           "ct-float": Method(pack_ct_float, config_ct_float), "ct-int": Method(pack_ct_int, config_ct_int),
           "ct-packed": Method(pack_ct_packed, config_ct_packed)}
