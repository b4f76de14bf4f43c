# SPDX-License-Identifier: MIT
"""Writes GGUF files, version 3: metadata and tensors as given, in one file or in parts."""
import struct
from typing import NamedTuple

import numpy as np

from packed.gguf_blocks import BLOCKS

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
LAYOUTS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


class Value(NamedTuple):
    """A value of the metadata: its type, and the type of its elements if it is an array."""
    type: int
    value: object
    element: int | None = None


class Tensor(NamedTuple):
    type: str         # a key of BLOCKS
    shape: tuple      # as numpy has it: the rows' length last
    data: np.ndarray  # bytes


def value_of(value):
    """The type that converters give a value of Python."""
    if isinstance(value, Value):
        return value
    if isinstance(value, bool):
        return Value(BOOL, value)
    if isinstance(value, int):
        return Value(U32, value)
    if isinstance(value, float):
        return Value(F32, value)
    if isinstance(value, str):
        return Value(STRING, value)
    first = value_of(value[0]).type if value else STRING
    return Value(ARRAY, value, I32 if first == U32 else first)


def string_bytes(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value_bytes(kind, value, element=None):
    if kind == STRING:
        return string_bytes(value)
    if kind == ARRAY:
        return struct.pack("<IQ", element, len(value)) + b"".join(value_bytes(element, one) for one in value)
    return struct.pack("<" + LAYOUTS[kind], value)


def file_bytes(metadata, tensors, version=3):
    """The bytes of one file: metadata is key -> value, tensors name -> Tensor. general.alignment is heeded."""
    alignment = value_of(metadata.get("general.alignment", 32)).value
    parts = [struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))]
    for key, value in metadata.items():
        value = value_of(value)
        parts.append(string_bytes(key) + struct.pack("<I", value.type) + value_bytes(*value))
    offset = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        parts.append(string_bytes(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, BLOCKS[tensor.type].number, offset))
        offset += -(-tensor.data.nbytes // alignment) * alignment
    head = b"".join(parts)
    parts = [head, b"\0" * (-len(head) % alignment)]
    for tensor in tensors.values():
        parts += [tensor.data.tobytes(), b"\0" * (-tensor.data.nbytes % alignment)]
    return b"".join(parts)


def split(metadata, tensors, count):
    """(metadata, tensors) of each part; the first has all the metadata, all have the keys split.*."""
    names = list(tensors)
    for number in range(count):
        keys = {"split.no": Value(U16, number), "split.count": Value(U16, count), "split.tensors.count": Value(I32, len(tensors))}
        some = names[len(names) * number // count:len(names) * (number + 1) // count]
        yield {**(metadata if number == 0 else {}), **keys}, {name: tensors[name] for name in some}


def write(folder, stem, metadata, tensors, parts=1):
    """Returns the path of the file, or of the first part."""
    folder.mkdir(parents=True, exist_ok=True)
    if parts == 1:
        path = folder / f"{stem}.gguf"
        path.write_bytes(file_bytes(metadata, tensors))
        return path
    paths = [folder / f"{stem}-{number:05d}-of-{parts:05d}.gguf" for number in range(1, parts + 1)]
    for path, part in zip(paths, split(metadata, tensors, parts)):
        path.write_bytes(file_bytes(*part))
    return paths[0]
