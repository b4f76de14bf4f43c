# SPDX-License-Identifier: MIT
"""Numbers as a file of safetensors stores them: what numpy has no type for lies in unsigned integers of its width."""
import json
import math
import struct
from typing import NamedTuple

import numpy as np

WIDTHS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F8_E4M3": np.uint8, "F8_E8M0": np.uint8,
          "U8": np.uint8, "I8": np.int8, "I32": np.int32, "I64": np.int64}
FLOATS = ("F32", "F16", "BF16")


class Stored(NamedTuple):
    """A tensor of a file: the safetensors name of its type, and an array of WIDTHS[dtype] with its bits."""
    dtype: str
    array: np.ndarray

    def values(self):
        """As float32, exactly."""
        return decode(self.array, self.dtype)


def store(values, dtype):
    """float32 values rounded to a type."""
    return Stored(dtype, encode(np.asarray(values, np.float32), dtype))


def encode(values, dtype):
    """float32 -> the bits of a type; to nearest, ties to even."""
    if dtype == "F32":
        return values
    if dtype == "F16":
        return values.astype(np.float16)
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    if dtype == "F8_E8M0":  # the power of two just above
        return np.clip(np.ceil(np.log2(np.maximum(values, 2.0 ** -127))) + 127, 0, 254).astype(np.uint8)
    assert dtype == "F8_E4M3", dtype
    return encode_e4m3(values)


def decode(bits, dtype):
    if dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F8_E4M3":
        return E4M3[bits]
    if dtype == "F8_E8M0":
        return np.ldexp(np.float32(1), bits.astype(np.int32) - 127).astype(np.float32)
    assert dtype in ("F32", "F16"), dtype
    return bits.astype(np.float32)


def round_to(values, dtype):
    """float32 values rounded to a type, as float32."""
    return decode(encode(np.asarray(values, np.float32), dtype), dtype)


def e4m3_table():
    """Sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity, and only all ones is not a number."""
    codes = np.arange(128)
    exponent, mantissa = codes >> 3, codes & 7
    positive = np.where(exponent == 0, mantissa * 2.0 ** -9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    positive[127] = np.nan
    return np.concatenate([positive, -positive]).astype(np.float32)


E4M3 = e4m3_table()


def encode_e4m3(values):
    """Nearest of the finite codes; of two as near the even one."""
    magnitude = np.abs(values)
    above = np.clip(np.searchsorted(E4M3[:127], magnitude), 0, 126)
    below = np.maximum(above - 1, 0)
    up, down = E4M3[above] - magnitude, magnitude - E4M3[below]
    chosen = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return (chosen | np.where(np.signbit(values), 128, 0)).astype(np.uint8)


# ---- safetensors ----------------------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    """Name -> Stored into one file, in the order given."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        assert tensor.array.dtype == WIDTHS[tensor.dtype], (name, tensor.dtype, tensor.array.dtype)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.array.shape), "data_offsets": [offset, offset + tensor.array.nbytes]}
        offset += tensor.array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor.array).tobytes())


def read_safetensors(path):
    """Name -> Stored of one file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            array = np.frombuffer(data, WIDTHS[entry["dtype"]], math.prod(entry["shape"]), 8 + size + entry["data_offsets"][0])
            found[name] = Stored(entry["dtype"], array.reshape(entry["shape"]))
    return found


def read_folder(folder):
    """Name -> Stored of all shards of a checkpoint."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in read_safetensors(path).items()}
