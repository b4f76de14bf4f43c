"""Runs of GGUF files, each with its own vocabulary, give the bytes of their exact twins: checkpoints of safetensors that have the same
numbers as float32. On the CPU and on the emulated GPU."""
import pytest

import support
from packed.cases import GGUF, gguf_case
from packed.runs import run_both

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
