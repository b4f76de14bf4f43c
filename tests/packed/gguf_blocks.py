# SPDX-License-Identifier: MIT
"""The blocks of a GGUF file's tensors: rows of numbers into blocks of bytes (nearest codes, scales of the extremes), and blocks into
float32, every operation rounded by itself, in the order of ggml and of gguf-py.

    BLOCKS["Q4_K"].size, .bytes, .number             # numbers a block, its bytes, the type's number in a file
    BLOCKS["Q4_K"].quantise(values)                  # float32 [..., columns] -> uint8 [..., columns / size * bytes]
    BLOCKS["Q4_K"].dequantise(bytes)                 # back, exactly what the bytes mean
    BLOCKS["Q4_K"].random(rng, (rows, columns))      # any codes, and scales of both signs, zero and subnormal
"""
from typing import Callable, NamedTuple

import numpy as np

from packed.numbers import decode, encode

F32 = np.float32
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], F32)
MXFP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], F32)  # code 8 is no negative zero in ggml


# ---- parts of blocks; every function takes and gives [blocks, ...] ----------------------------------------------------

def half(values):
    return values.astype(np.float16).astype(F32)


def half_bytes(values):
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8).reshape(len(values), -1)


def read_half(part):
    return np.ascontiguousarray(part).view(np.float16).astype(F32)


def divide(values, by):
    """values / by, 0 where that is by nothing."""
    by = np.broadcast_to(by, values.shape)
    return np.divide(values, by, out=np.zeros(values.shape, F32), where=by != 0)


def rounded(values, low, high):
    return np.clip(np.rint(values), low, high).astype(np.int64)


def peak(values):
    """The number of largest magnitude along the last axis, with its sign; the axis stays."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=-1, keepdims=True), -1)


def halves(codes):
    """32 codes of 4 bits into 16 bytes: the first half into the low nibbles."""
    return (codes[:, :16] | (codes[:, 16:] << 4)).astype(np.uint8)


def read_halves(part):
    return np.concatenate([part & 15, part >> 4], axis=1).astype(np.int64)


def bits_of(codes, bit):
    """One bit of 32 codes into four bytes, lowest first."""
    return np.packbits(((codes >> bit) & 1).astype(np.uint8), axis=1, bitorder="little")


def read_bits(part):
    return np.unpackbits(part, axis=1, bitorder="little").astype(np.int64)


def nearest(values, table):
    return np.abs(values[..., None] - table).argmin(axis=-1)


def fit(values, levels):
    """Scale and smallest number (never above zero) of blocks, so that level 0 is the smallest and the last the largest."""
    low, high = np.minimum(values.min(axis=-1, keepdims=True), 0), np.maximum(values.max(axis=-1, keepdims=True), 0)
    return (high - low) / F32(levels), low


# ---- blocks of 32 -----------------------------------------------------------------------------------------------------

def quantise_q8_0(x):
    d = half(np.abs(x).max(axis=1, keepdims=True) / F32(127))
    return np.concatenate([half_bytes(d), rounded(divide(x, d), -128, 127).astype(np.int8).view(np.uint8)], axis=1)


def dequantise_q8_0(b):
    return read_half(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(F32)


def quantise_q4_0(x):
    d = half(peak(x) / F32(-8))
    return np.concatenate([half_bytes(d), halves(rounded(divide(x, d), -8, 7) + 8)], axis=1)


def dequantise_q4_0(b):
    return read_half(b[:, :2]) * (read_halves(b[:, 2:]) - 8).astype(F32)


def quantise_q4_1(x):
    d, m = map(half, fit(x, 15))
    return np.concatenate([half_bytes(d), half_bytes(m), halves(rounded(divide(x - m, d), 0, 15))], axis=1)


def dequantise_q4_1(b):
    return read_half(b[:, :2]) * read_halves(b[:, 4:]).astype(F32) + read_half(b[:, 2:4])


def quantise_q5_0(x):
    d = half(peak(x) / F32(-16))
    q = rounded(divide(x, d), -16, 15) + 16
    return np.concatenate([half_bytes(d), bits_of(q, 4), halves(q & 15)], axis=1)


def dequantise_q5_0(b):
    q = read_halves(b[:, 6:]) | (read_bits(b[:, 2:6]) << 4)
    return read_half(b[:, :2]) * (q - 16).astype(F32)


def quantise_q5_1(x):
    d, m = map(half, fit(x, 31))
    q = rounded(divide(x - m, d), 0, 31)
    return np.concatenate([half_bytes(d), half_bytes(m), bits_of(q, 4), halves(q & 15)], axis=1)


def dequantise_q5_1(b):
    q = read_halves(b[:, 8:]) | (read_bits(b[:, 4:8]) << 4)
    return read_half(b[:, :2]) * q.astype(F32) + read_half(b[:, 2:4])


def quantise_iq4_nl(x):
    d = half(peak(x) / F32(-127))
    return np.concatenate([half_bytes(d), halves(nearest(divide(x, d), IQ4))], axis=1)


def dequantise_iq4_nl(b):
    return read_half(b[:, :2]) * IQ4[read_halves(b[:, 2:])]


def mxfp4_scale(e):
    """Half of 2^(e - 127); subnormal for 0 and 1."""
    return np.ldexp(1.0, e.astype(np.int32) - 128).astype(F32)


def quantise_mxfp4(x):
    most = np.abs(x).max(axis=1, keepdims=True)
    e = np.where(most > 0, np.floor(np.log2(np.maximum(most, 1e-37))) - 2 + 127, 0).clip(0, 254).astype(np.uint8)
    return np.concatenate([e, halves(nearest(divide(x, mxfp4_scale(e)), MXFP4))], axis=1)


def dequantise_mxfp4(b):
    return mxfp4_scale(b[:, :1]) * MXFP4[read_halves(b[:, 1:])]


# ---- blocks of 256 ----------------------------------------------------------------------------------------------------

def crumbs(codes):
    """256 codes of 2 bits into 64 bytes: in each half, byte i has codes i, i + 32, i + 64 and i + 96."""
    parts = codes.reshape(-1, 2, 4, 32) << np.array([0, 2, 4, 6]).reshape(4, 1)
    return np.bitwise_or.reduce(parts, axis=2).reshape(-1, 64).astype(np.uint8)


def read_crumbs(part):
    return ((part.reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6]).reshape(4, 1)) & 3).reshape(-1, 256).astype(np.int64)


def nibbles(codes, run):
    """256 codes of 4 bits into 128 bytes: byte i of a stretch of `run` has codes i and i + run."""
    pairs = codes.reshape(-1, 128 // run, 2, run)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128).astype(np.uint8)


def read_nibbles(part, run):
    bytes_ = part.reshape(-1, 128 // run, 1, run)
    return np.concatenate([bytes_ & 15, bytes_ >> 4], axis=2).reshape(-1, 256).astype(np.int64)


def planes(codes, bit):
    """One bit of 256 codes into 32 bytes: bit g of byte i is of code 32 g + i."""
    return np.packbits(((codes >> bit) & 1).reshape(-1, 8, 32).astype(np.uint8), axis=1, bitorder="little").reshape(-1, 32)


def read_planes(part):
    return np.unpackbits(part.reshape(-1, 1, 32), axis=1, bitorder="little").reshape(-1, 256).astype(np.int64)


def spread(scales, count):
    """A scale for each of 256 numbers."""
    return np.repeat(scales, count, axis=1)


def quantise_q2_k(x):
    scale, low = (part.reshape(len(x), 16) for part in fit(x.reshape(-1, 16, 16), 3))
    d, dmin = half(scale.max(axis=1, keepdims=True) / F32(15)), half(-low.min(axis=1, keepdims=True) / F32(15))
    sc, mn = rounded(divide(scale, d), 0, 15), rounded(divide(-low, dmin), 0, 15)
    q = rounded(divide(x + spread(dmin * mn, 16), spread(d * sc, 16)), 0, 3)
    return np.concatenate([(sc | (mn << 4)).astype(np.uint8), crumbs(q), half_bytes(d), half_bytes(dmin)], axis=1)


def dequantise_q2_k(b):
    d, dmin, scales = read_half(b[:, 80:82]), read_half(b[:, 82:84]), b[:, :16]
    scale, low = d * (scales & 15).astype(F32), dmin * (scales >> 4).astype(F32)
    return spread(scale, 16) * read_crumbs(b[:, 16:80]).astype(F32) - spread(low, 16)


def signed_scales(x, count, levels, most):
    """d and the whole scales of sub-blocks of `count`, from -most up, so that the peak of each lies at code -levels."""
    scale = peak(x.reshape(len(x), -1, count))[:, :, 0] / F32(-levels)
    d = half(peak(scale) / F32(-most))
    return d, rounded(divide(scale, d), -most, most - 1)


def quantise_q3_k(x):
    d, scales = signed_scales(x, 16, 4, 32)
    q = rounded(divide(x, spread(d * scales, 16)), -4, 3) + 4
    s = scales + 32
    low = (s[:, :8] & 15) | ((s[:, 8:] & 15) << 4)
    high = np.bitwise_or.reduce((s >> 4).reshape(-1, 4, 4) << np.array([0, 2, 4, 6]).reshape(4, 1), axis=1)
    return np.concatenate([planes(q, 2), crumbs(q & 3), low.astype(np.uint8), high.astype(np.uint8), half_bytes(d)], axis=1)


def dequantise_q3_k(b):
    low, high = b[:, 96:104], b[:, 104:108]
    s = np.concatenate([low & 15, low >> 4], axis=1).astype(np.int64)
    s |= ((high.reshape(-1, 1, 4) >> np.array([0, 2, 4, 6]).reshape(4, 1)) & 3).reshape(-1, 16).astype(np.int64) << 4
    q = read_crumbs(b[:, 32:96]) - 4 * (1 - read_planes(b[:, :32]))
    return spread(read_half(b[:, 108:110]) * (s - 32).astype(F32), 16) * q.astype(F32)


def six_bits(sc, mn):
    """Eight scales and eight minima of 6 bits into 12 bytes."""
    first = sc[:, :4] | ((sc[:, 4:] >> 4) << 6)
    second = mn[:, :4] | ((mn[:, 4:] >> 4) << 6)
    return np.concatenate([first, second, (sc[:, 4:] & 15) | ((mn[:, 4:] & 15) << 4)], axis=1).astype(np.uint8)


def read_six_bits(part):
    first, second, third = (part[:, i:i + 4].astype(np.int64) for i in (0, 4, 8))
    return (np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1),
            np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1))


def quantise_with_minima(x, levels):
    """d, dmin, their 12 bytes of scales, and the codes: of Q4_K and Q5_K."""
    scale, low = (part.reshape(len(x), 8) for part in fit(x.reshape(-1, 8, 32), levels))
    d, dmin = half(scale.max(axis=1, keepdims=True) / F32(63)), half(-low.min(axis=1, keepdims=True) / F32(63))
    sc, mn = rounded(divide(scale, d), 0, 63), rounded(divide(-low, dmin), 0, 63)
    q = rounded(divide(x + spread(dmin * mn, 32), spread(d * sc, 32)), 0, levels)
    return np.concatenate([half_bytes(d), half_bytes(dmin), six_bits(sc, mn)], axis=1), q


def dequantise_with_minima(b, q):
    sc, mn = read_six_bits(b[:, 4:16])
    scale, low = read_half(b[:, :2]) * sc.astype(F32), read_half(b[:, 2:4]) * mn.astype(F32)
    return spread(scale, 32) * q.astype(F32) - spread(low, 32)


def quantise_q4_k(x):
    head, q = quantise_with_minima(x, 15)
    return np.concatenate([head, nibbles(q, 32)], axis=1)


def dequantise_q4_k(b):
    return dequantise_with_minima(b, read_nibbles(b[:, 16:], 32))


def quantise_q5_k(x):
    head, q = quantise_with_minima(x, 31)
    return np.concatenate([head, planes(q, 4), nibbles(q & 15, 32)], axis=1)


def dequantise_q5_k(b):
    return dequantise_with_minima(b, read_nibbles(b[:, 48:], 32) | (read_planes(b[:, 16:48]) << 4))


def quantise_q6_k(x):
    d, scales = signed_scales(x, 16, 32, 128)
    q = rounded(divide(x, spread(d * scales, 16)), -32, 31) + 32
    return np.concatenate([nibbles(q & 15, 64), crumbs(q >> 4), scales.astype(np.int8).view(np.uint8), half_bytes(d)], axis=1)


def dequantise_q6_k(b):
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(F32)
    q = read_nibbles(b[:, :128], 64) | (read_crumbs(b[:, 128:192]) << 4)
    return spread(read_half(b[:, 208:]) * scales, 16) * (q - 32).astype(F32)


def quantise_iq4_xs(x):
    d, scales = signed_scales(x, 32, 127, 32)
    q = nearest(divide(x, spread(d * scales, 32)), IQ4)
    s = scales + 32
    high = np.bitwise_or.reduce((s >> 4) << (2 * np.arange(8)), axis=1).astype(np.uint16)
    low = ((s[:, 0::2] & 15) | ((s[:, 1::2] & 15) << 4)).astype(np.uint8)
    return np.concatenate([half_bytes(d), high[:, None].view(np.uint8), low, nibbles(q, 16)], axis=1)


def dequantise_iq4_xs(b):
    high = np.ascontiguousarray(b[:, 2:4]).view(np.uint16).astype(np.int64)
    low = np.stack([b[:, 4:8] & 15, b[:, 4:8] >> 4], axis=2).reshape(-1, 8).astype(np.int64)
    s = low | (((high >> (2 * np.arange(8))) & 3) << 4)
    return spread(read_half(b[:, :2]) * (s - 32).astype(F32), 32) * IQ4[read_nibbles(b[:, 8:], 16)]


# ---- the table --------------------------------------------------------------------------------------------------------

class Block(NamedTuple):
    number: int            # of the type in a file
    size: int              # numbers a block
    bytes: int
    quantise_blocks: Callable
    dequantise_blocks: Callable
    halves: dict           # offset of each f16 -> what multiplies it at most

    def quantise(self, values):
        blocks = self.quantise_blocks(np.ascontiguousarray(values, F32).reshape(-1, self.size))
        assert blocks.shape[1] == self.bytes and blocks.dtype == np.uint8
        return blocks.reshape(*values.shape[:-1], -1)

    def dequantise(self, data):
        return self.dequantise_blocks(np.ascontiguousarray(data).reshape(-1, self.bytes)).reshape(*data.shape[:-1], -1)

    def random(self, rng, shape, amplitude=0.1):
        """Blocks of random bytes, their numbers at most about `amplitude`: a few f16 are zero, and many negative or subnormal."""
        blocks = rng.integers(0, 256, (int(np.prod(shape)) // self.size, self.bytes), np.uint8)
        for offset, most in self.halves.items():
            scale = rng.uniform(-amplitude, amplitude, len(blocks)) / most / len(self.halves)
            scale[rng.random(len(blocks)) < 0.05] = 0
            blocks[:, offset:offset + 2] = half_bytes(scale[:, None])
        if self.number == BLOCKS["MXFP4"].number:  # an exponent, of one block in ten so small that its numbers are subnormal
            most, count = 127 + int(np.log2(amplitude)) - 3, len(blocks)
            blocks[:, 0] = np.where(rng.random(count) < 0.1, rng.integers(0, 3, count), rng.integers(most - 4, most, count))
        return blocks.reshape(*shape[:-1], -1)


def plain(number, dtype, width):
    return Block(number, 1, width, lambda x: np.ascontiguousarray(encode(x, dtype)).view(np.uint8).reshape(len(x), width),
                 lambda b: decode(np.ascontiguousarray(b).view({"F32": F32, "F16": np.float16, "BF16": np.uint16}[dtype]), dtype), {})


BLOCKS = {
    "F32": plain(0, "F32", 4), "F16": plain(1, "F16", 2), "BF16": plain(30, "BF16", 2),
    "Q4_0": Block(2, 32, 18, quantise_q4_0, dequantise_q4_0, {0: 8}),
    "Q4_1": Block(3, 32, 20, quantise_q4_1, dequantise_q4_1, {0: 15, 2: 1}),
    "Q5_0": Block(6, 32, 22, quantise_q5_0, dequantise_q5_0, {0: 16}),
    "Q5_1": Block(7, 32, 24, quantise_q5_1, dequantise_q5_1, {0: 31, 2: 1}),
    "Q8_0": Block(8, 32, 34, quantise_q8_0, dequantise_q8_0, {0: 128}),
    "Q2_K": Block(10, 256, 84, quantise_q2_k, dequantise_q2_k, {80: 45, 82: 15}),
    "Q3_K": Block(11, 256, 110, quantise_q3_k, dequantise_q3_k, {108: 128}),
    "Q4_K": Block(12, 256, 144, quantise_q4_k, dequantise_q4_k, {0: 945, 2: 63}),
    "Q5_K": Block(13, 256, 176, quantise_q5_k, dequantise_q5_k, {0: 1953, 2: 63}),
    "Q6_K": Block(14, 256, 210, quantise_q6_k, dequantise_q6_k, {208: 4096}),
    "IQ4_NL": Block(20, 32, 18, quantise_iq4_nl, dequantise_iq4_nl, {0: 127}),
    "IQ4_XS": Block(23, 256, 136, quantise_iq4_xs, dequantise_iq4_xs, {0: 4064}),
    "MXFP4": Block(39, 32, 17, quantise_mxfp4, dequantise_mxfp4, {}),
}

# What llama-quantize takes where a row is no multiple of 256.
FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
