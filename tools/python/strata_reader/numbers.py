# SPDX-License-Identifier: MIT
"""Numbers of shards as numpy's, and bfloat16, which numpy does not have."""

import h5py
import numpy as np

UNSAID = object()  # a dtype that was not asked for
BITS = object()  # asked for: bfloat16's 16 bits as they are, uint16; other numbers as they are stored
FORMS = ("float32", "ml_dtypes", "torch")


def check_form(name):
    """Of bfloat16, as Run's argument names it; what it needs is imported here, not at the first read."""
    if name not in FORMS:
        raise ValueError(f"bfloat16={name!r}: it is one of {', '.join(FORMS)}")
    as_form(np.zeros(0, np.uint16), name)
    return name


def as_form(bits, name):
    """bfloat16's bits as float32 (exact), as an array of ml_dtypes.bfloat16, or as a torch.bfloat16 tensor (both without a copy)."""
    if name == "ml_dtypes":
        import ml_dtypes

        return bits.view(ml_dtypes.bfloat16)
    if name == "torch":
        import torch

        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_latents(dataset, first, last, dtype, are_bfloat16, form="float32"):
    """Rows [first, last) of a latents dataset as `dtype`: a numpy type, None (as they are stored), UNSAID (float32), or BITS. Where
    bfloat16 is stored, None and UNSAID give it in this form.

    h5py would convert bfloat16 number by number through HDF5, slowly; here the 16 bits are read as they are.
    """
    if not are_bfloat16:
        values = dataset[first:last]
        return values if dtype is None or dtype is BITS else values.astype(np.float32 if dtype is UNSAID else dtype, copy=False)
    bits = np.empty((last - first, dataset.shape[1]), np.uint16)
    if first < last:
        source = dataset.id.get_space()
        source.select_hyperslab((first, 0), bits.shape)
        memory = h5py.h5s.create_simple(bits.shape)
        dataset.id.read(memory, source, bits, mtype=dataset.id.get_type())
    if dtype is BITS:
        return bits
    if dtype is None or dtype is UNSAID:
        return as_form(bits, form)
    return as_form(bits, "float32").astype(dtype, copy=False)
