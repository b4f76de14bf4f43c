# SPDX-License-Identifier: MIT
"""Quantisers of weights, live against bitsandbytes on many random numbers of every dtype."""
import importlib.util
import os
import subprocess

import numpy as np
import pytest

from parity import torch

TOOL = os.path.join(os.environ["STRATA_BUILD"], "tests", "kernels_tool_quantise")
COUNT = 1 << 19
DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module")
def bnb():
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    return importlib.import_module("bitsandbytes.functional")


def run_tool(tmp_path, numbers, kind, first, second):
    """The bytes of what the tool gives."""
    numbers.astype("<f4").tofile(tmp_path / "in.f32")
    subprocess.run([TOOL, kind, str(first), str(second), str(tmp_path / "in.f32"), str(tmp_path / "out")], check=True)
    return np.fromfile(tmp_path / "out", dtype=np.uint8)


def make_weights(kind, dtype, count, seed=7):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, generator=generator) * 0.02 if kind == "normal" else torch.rand(count, generator=generator) - 0.5
    return numbers.to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("normal", "uniform"))
@pytest.mark.parametrize("block", (64, 1024))
def test_nf4_has_the_same_bytes(bnb, tmp_path, kind, dtype, block):
    numbers = make_weights(kind, dtype, COUNT + 37)
    codes, state = bnb.quantize_4bit(numbers, blocksize=block, quant_type="nf4")
    found = run_tool(tmp_path, numbers.float().numpy(), "nf4", block, 16 * block)
    expected = np.concatenate([codes.flatten().numpy(), state.absmax.numpy().view(np.uint8)])
    assert found.size == expected.size
    print(f"nf4, {kind}, {dtype}, blocks of {block}: {(found != expected).sum()} of {found.size} bytes differ")
    assert (found == expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_absmax_has_the_same_codes_away_from_ties(bnb, tmp_path, dtype):
    numbers = make_weights("normal", dtype, COUNT)
    absmax = bnb.quantize_4bit(numbers, blocksize=64, quant_type="nf4")[1].absmax.numpy()
    state = bnb.quantize_4bit(numbers, blocksize=64, quant_type="nf4", compress_statistics=True)[1]
    found = run_tool(tmp_path, absmax, "absmax", 0, 0)
    codes, (*nested, offset) = found[:absmax.size], found[absmax.size:].view(np.float32)
    # torch sums in float32; a difference of the offset is one of the absmax around it.
    assert abs(offset - state.offset.item()) <= 4 * np.spacing(np.float32(offset))
    np.testing.assert_allclose(nested, state.state2.absmax.numpy(), rtol=0, atol=4 * np.spacing(np.float32(absmax.max())))

    # Its kernel rounds the number to one of 65,536 first: its code is farther from the number than ours, by one step at most.
    expected = state.absmax.numpy()
    differ = codes != expected
    scaled = (absmax - offset).astype(np.float64) / np.repeat(nested, 256)[:absmax.size]
    values = bnb.create_dynamic_map().numpy().astype(np.float64)
    farther = np.abs(scaled - values[expected]) - np.abs(scaled - values[codes])
    print(f"absmax, {dtype}: {differ.sum()} of {absmax.size} codes differ, farther by {farther.max():.1e} at most")
    assert -1e-6 <= farther.min() and farther.max() <= 3.2e-5
    assert differ.sum() <= 0.01 * absmax.size


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_has_the_same_bytes(bnb, tmp_path, dtype):
    columns = 1000
    numbers = make_weights("normal", dtype, COUNT // columns * columns).reshape(-1, columns)
    codes, absmax, _ = bnb.int8_vectorwise_quant(numbers.to(torch.float16))
    found = run_tool(tmp_path, numbers.float().numpy(), "int8", columns, 3)
    expected = np.concatenate([codes.numpy().view(np.uint8).flatten(), absmax.numpy().view(np.uint8)])
    assert found.size == expected.size and (found == expected).all()
