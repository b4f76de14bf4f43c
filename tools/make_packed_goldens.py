#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/model/goldens/packed-*.safetensors: packed weights as their libraries write them, each with the numbers that
its library makes of it again, under the name "expected.STEM".

bitsandbytes: packed and dequantised by bitsandbytes, in float32. fp8: packed by torch, dequantised by transformers. Needs
torch, bitsandbytes, transformers and safetensors; run it again only when a case is added.
"""
import os
import sys

import torch
from safetensors.torch import save_file

SEED = 20240608
TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model", "goldens")


def random_matrix(rows, columns, generator):
    """Rows of different sizes, so that a scale in the wrong place shows."""
    return torch.randn(rows, columns, generator=generator) * torch.logspace(-2, 1, rows).reshape(-1, 1)


# ---- bitsandbytes ----

# stem -> (shape, type, blocksize, nested, storage). Only sizes that bitsandbytes' own CPU code reads right (by_rule): with
# AVX-512 it does not where rows are not whole blocks but multiples of 16.
FOUR_BITS = {
    "nf4": ((6, 64), "nf4", 64, False, torch.uint8),
    "fp4": ((4, 128), "fp4", 64, False, torch.uint8),
    "partial": ((5, 72), "nf4", 64, False, torch.uint8),
    "odd": ((3, 7), "fp4", 64, False, torch.uint8),
    "nested": ((17, 512), "nf4", 32, True, torch.uint8),  # 272 scales: a nested block of 256 and one of 16
    "nested-partial": ((5, 72), "fp4", 64, True, torch.uint8),
    "storage-bf16": ((6, 64), "nf4", 64, False, torch.bfloat16),
    "storage-f32": ((4, 128), "nf4", 128, True, torch.float32),
}


def by_rule(packed, state):
    """What bitsandbytes' documentation says, step by step in float32. The sign of a zero is the stored table's: FP4 has a code
    for -0 that the table has as 0, and bitsandbytes' CPU code as -0."""
    count = state.shape[0] * state.shape[1]
    scales = state.absmax
    if state.nested:
        nested = state.state2.absmax.repeat_interleave(state.state2.blocksize)[:len(scales)]
        scales = state.state2.code[scales.long()] * nested + state.offset
    codes = packed.reshape(-1).view(torch.uint8)
    codes = torch.stack([codes >> 4, codes & 15], dim=1).reshape(-1)[:count].long()
    return (state.code[codes] * scales.repeat_interleave(state.blocksize)[:count]).reshape(state.shape)


def make_bitsandbytes(generator):
    import bitsandbytes.functional as functional

    tensors = {}
    for stem, (shape, kind, block, nested, storage) in FOUR_BITS.items():
        packed, state = functional.quantize_4bit(random_matrix(*shape, generator), blocksize=block, quant_type=kind,
                                                 compress_statistics=nested, quant_storage=storage)
        expected = by_rule(packed, state)
        if not torch.equal(expected, functional.dequantize_4bit(packed, state)):
            sys.exit(f"{stem}: bitsandbytes does not do what it says on this machine")
        tensors[stem + ".weight"] = packed
        for key, value in state.as_dict(packed=True).items():
            tensors[f"{stem}.weight.{key}"] = value
        tensors["expected." + stem] = expected
    codes, scales, _ = functional.int8_vectorwise_quant(random_matrix(7, 40, generator).half())
    tensors["int8.weight"], tensors["int8.SCB"] = codes, scales
    tensors["int8.weight_format"] = torch.tensor(0, dtype=torch.uint8)
    tensors["expected.int8"] = functional.int8_vectorwise_dequant(codes, scales)
    return tensors


# ---- fp8 ----

# stem -> (shape, shape of the scales, type of the scales, the ending of their name)
FLOAT8 = {
    "grid": ((8, 16), (2, 4), torch.bfloat16, "weight_scale_inv"),
    "channel": ((6, 16), (6, 1), torch.float16, "qscale_weight"),
    "tensor": ((6, 16), (1, 1), torch.float32, "weight_scale"),
    "e8m0": ((8, 16), (2, 1), torch.float8_e8m0fnu, "scale"),
    "e8m0-bytes": ((3, 64), (3, 2), torch.uint8, "weight_scale_inv"),
}


def make_fp8(generator):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, _dequantize_fp8_weight

    every = torch.arange(256, dtype=torch.uint8)
    every[every & 127 == 127] = 0  # NaN, which no weight may be
    every = every.reshape(16, 16).view(torch.float8_e4m3fn)
    tensors = {"codes.weight": every, "codes.weight_scale_inv": torch.tensor(1.0), "expected.codes": every.float()}
    # Blocks that end beyond the matrix: only with their size is it known which numbers share a scale.
    weight = (torch.randn(10, 12, generator=generator) * 40).to(torch.float8_e4m3fn)
    scales = torch.rand(3, 2, generator=generator)
    tensors["clipped.weight"], tensors["clipped.weight_scale_inv"] = weight, scales
    tensors["clipped.activation_scale"] = torch.tensor(3.0)
    tensors["expected.clipped"] = _dequantize_fp8_weight(weight, scales, [4, 8], torch.float32)
    for stem, (shape, scale_shape, scale_type, ending) in FLOAT8.items():
        weight = (torch.randn(*shape, generator=generator) * 40).to(torch.float8_e4m3fn)
        if scale_type in (torch.uint8, torch.float8_e8m0fnu):
            scales = torch.randint(118, 132, scale_shape, generator=generator, dtype=torch.uint8).view(scale_type)
        else:
            scales = torch.rand(*scale_shape, generator=generator).to(scale_type)
        tensors[stem + ".weight"], tensors[f"{stem}.{ending}"] = weight, scales
        tensors["expected." + stem] = Fp8Dequantize(None)._dequantize_one(weight, scales, torch.float32)
    return tensors


def main():
    generator = torch.Generator().manual_seed(SEED)
    for name, make in (("bitsandbytes", make_bitsandbytes), ("fp8", make_fp8)):
        tensors = make(generator)
        path = os.path.join(TARGET, f"packed-{name}.safetensors")
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
