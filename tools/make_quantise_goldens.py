#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/kernels/goldens/quantise.bin: weights and what bitsandbytes (0.50.2, on a CPU) quantises them to.

Needs torch and bitsandbytes; run it again only when a case is added. Codes of the absmax are kept only where bitsandbytes'
kernel and the midpoints of its map agree: near ties it does not keep to its own formula (kernels/quantise.h).
"""
import os
import sys

import bitsandbytes.functional as bnb
import numpy as np
import torch

SEED = 20261128
TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "kernels", "goldens", "quantise.bin")
NF4, NESTED, INT8 = 0, 1, 2


def weights(rows, columns, dtype, scale=0.02, zeros=(), generator=None):
    numbers = (torch.randn(rows * columns, generator=generator) * scale).to(dtype)
    for start, end in zeros:
        numbers[start:end] = 0
    return numbers.reshape(rows, columns)


def quantise_nf4(numbers, block):
    codes, state = bnb.quantize_4bit(numbers, blocksize=block, quant_type="nf4")
    return codes.flatten().numpy(), state.absmax.numpy()


def quantise_nested(numbers, block):
    """codes, nested codes, nested absmax, offset; as the library gives them."""
    codes, state = bnb.quantize_4bit(numbers, blocksize=block, quant_type="nf4", compress_statistics=True)
    return codes.flatten().numpy(), state.absmax.numpy(), state.state2.absmax.numpy(), state.offset.numpy().reshape(1)


def midpoint_codes(absmax, offset):
    """Codes of the absmax by the midpoints of the map, whatever the library's kernel."""
    code = bnb.create_dynamic_map()
    bounds = (code[:-1] + code[1:]) / 2
    found = []
    for block in torch.from_numpy(absmax - offset).split(256):
        largest = block.abs().max()
        found.append(torch.bucketize(block * (1 / largest), bounds) if largest > 0 else torch.zeros_like(block, dtype=torch.int64))
    return torch.cat(found).to(torch.uint8).numpy()


def quantise_int8(numbers):
    codes, absmax, _ = bnb.int8_vectorwise_quant(numbers.to(torch.float16))
    return codes.flatten().numpy(), absmax.numpy()


def untied(make, block):
    """The first weights that `make` gives whose absmax the library codes by its own formula, and whose mean it sums exactly."""
    for _ in range(50):
        numbers = make()
        absmax = quantise_nf4(numbers, block)[1]
        _, codes, _, offset = quantise_nested(numbers, block)
        if offset[0] == np.float32(absmax.astype(np.float64).mean()) and (codes == midpoint_codes(absmax, offset)).all():
            return numbers
    sys.exit("every one of 50 matrices has a near tie")


def cases():
    """(kind, block, weights)"""
    generator = torch.Generator().manual_seed(SEED)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        yield NF4, 64, weights(6, 64, dtype, generator=generator)
        yield NF4, 64, weights(7, 45, dtype, generator=generator)  # odd, a partial last block
        yield NF4, 128, weights(5, 96, dtype, zeros=[(128, 256)], generator=generator)
        # 258 blocks, of which the last is partial
        yield NESTED, 32, untied(lambda: weights(73, 113, dtype, generator=generator), 32)
        yield INT8, 0, weights(5, 77, dtype, zeros=[(77, 154)], generator=generator)
    yield NF4, 32, weights(1, 1, torch.float32, generator=generator)
    yield NF4, 64, weights(1, 100, torch.float32, zeros=[(64, 100)], generator=generator)  # a partial block of zeros
    yield NF4, 64, weights(3, 50, torch.float32, scale=1e-39, generator=generator)  # subnormal
    yield NF4, 64, weights(3, 50, torch.float32, scale=1e-44, generator=generator)
    yield NF4, 64, weights(2, 64, torch.float32, scale=1e37, generator=generator)
    yield NF4, 4096, weights(2, 3000, torch.bfloat16, generator=generator)
    yield NESTED, 64, torch.ones(4, 64)  # every absmax is the offset
    yield INT8, 0, weights(3, 40, torch.float32, scale=1e-7, generator=generator)  # subnormal in float16


def main():
    with open(TARGET, "wb") as file:
        for kind, block, numbers in cases():
            rows, columns = numbers.shape
            if kind == NF4:
                outputs = quantise_nf4(numbers, block)
            elif kind == INT8:
                outputs = quantise_int8(numbers)
            else:
                outputs = quantise_nested(numbers, block)
            np.array([kind, rows, columns, block], dtype="<u4").tofile(file)
            numbers.float().numpy().astype("<f4").tofile(file)
            for output in outputs:
                output.tofile(file)
        bnb.create_dynamic_map().numpy().tofile(file)
        bnb.get_4bit_type("nf4", device="cpu").numpy().tofile(file)
        bnb.get_4bit_type("fp4", device="cpu").numpy().tofile(file)


if __name__ == "__main__":
    main()
