# SPDX-License-Identifier: MIT
"""Runs of GGUF files, each with its own vocabulary, give the bytes of their exact twins: checkpoints of safetensors that have the same
numbers as float32. On the CPU and on the emulated GPU."""
import numpy as np
import pytest

import support
from packed.cases import GGUF, gguf_case
from packed.gguf_blocks import BLOCKS
from packed.runs import run_both, run_refused

NAMES = list(GGUF)


@pytest.mark.parametrize("name", NAMES)
def test_equals_its_twin(name, tmp_path):
    run_both(tmp_path, gguf_case(name))


@pytest.mark.parametrize("name, dtype", [*((name, "bfloat16") for name in NAMES[::6]), *((name, "float16") for name in NAMES[3::12])])
def test_equals_its_twin_in_halves(name, dtype, tmp_path):
    run_both(tmp_path, gguf_case(name), model={"dtype": dtype})


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("name", NAMES[1::12])
def test_equals_its_twin_on_a_gpu(name, tmp_path):
    run_both(tmp_path, gguf_case(name), program=support.EMULATED, model={"device": "cuda:0"})


# ---- scales within blocks ---------------------------------------------------------------------------------------------

SCALES = {kind: list(block.halves) or [0] for kind, block in BLOCKS.items() if block.size > 1}  # where: float16, one byte in MXFP4
NONE = {1: [255], 2: [0x7C00, 0xFC00, 0x7E01]}  # an exponent of E8M0; infinities and a NaN of float16


def with_scale(made, tensor, place, number):
    """The last block of a tensor has another scale."""
    block = BLOCKS[made.tensors[tensor].type]
    data = made.tensors[tensor].data.copy()
    width = 1 if made.tensors[tensor].type == "MXFP4" else 2
    at = data.size - block.bytes + place
    data.reshape(-1)[at:at + width] = np.frombuffer(int(NONE[width][number % len(NONE[width])]).to_bytes(width, "little"), np.uint8)
    made.tensors[tensor] = made.tensors[tensor]._replace(data=data)
    return made


@pytest.mark.parametrize("kind, place, number", [(kind, place, number) for kind, places in SCALES.items()
                                                 for number, place in enumerate(places)])
def test_scale_that_is_not_finite(kind, place, number, tmp_path):
    made = with_scale(gguf_case(f"random-{kind}"), "blk.1.ffn_down.weight", place, number)
    run_refused(tmp_path, made, (r"model\.gguf: tensor '.*(blk\.1\.ffn_down|layers\.1\.mlp\.down_proj)\.weight'", "scale that is not finite"))


@pytest.mark.parametrize("tensor, name, model", [
    ("token_embd.weight", "embed", {}),                                 # a table, which is expanded at load
    ("blk.0.attn_q.weight", "q_proj", {}),                              # rows in another order
    ("blk.1.ffn_up.weight", "up_proj", {"expand": "load"}),
])
def test_scale_that_is_not_finite_of_any_matrix(tensor, name, model, tmp_path):
    run_refused(tmp_path, with_scale(gguf_case("llama-Q4_K_M"), tensor, 208 if "embd" in tensor else 2, 2),
                (f"{name}|{tensor}", "scale that is not finite"), model=model)
