"""Runs of quantised checkpoints give the bytes of their exact twins; those that cannot be read are refused by name."""
import pytest

from packed.cases import CASES, GGUF, case, gguf_case
from packed.refusals import REFUSALS, refusal
from packed.runs import run_both, run_refused


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_equals_twin(name, dtype, tmp_path):
    run_both(tmp_path, case(name), model={"dtype": dtype})


@pytest.mark.parametrize("name", GGUF)
def test_gguf_equals_twin(name, tmp_path):
    run_both(tmp_path, gguf_case(name))


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name, tmp_path):
    run_refused(tmp_path, *refusal(name))
