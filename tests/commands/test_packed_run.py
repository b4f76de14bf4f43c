"""Runs of packed checkpoints give the bytes of their exact twins, which have the same numbers as float32, on the CPU and on the
emulated GPU; those that cannot be read are refused by name."""
import pytest

import support
from packed.cases import CASES, case
from packed.refusals import REFUSALS, refusal
from packed.runs import run_both, run_refused

NAMES = list(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_equals_its_twin(name, tmp_path):
    run_both(tmp_path, case(name))


@pytest.mark.parametrize("name, dtype", [*((name, "bfloat16") for name in NAMES[::6]), *((name, "float16") for name in NAMES[2::6])])
def test_equals_its_twin_in_halves(name, dtype, tmp_path):
    run_both(tmp_path, case(name), model={"dtype": dtype})


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("name", NAMES[1::16])
def test_equals_its_twin_on_a_gpu(name, tmp_path):
    run_both(tmp_path, case(name), program=support.EMULATED, model={"device": "cuda:0"})


@pytest.mark.parametrize("name", REFUSALS)
def test_is_refused(name, tmp_path):
    run_refused(tmp_path, *refusal(name))
