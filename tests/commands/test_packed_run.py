# SPDX-License-Identifier: MIT
"""Runs of packed checkpoints give the bytes of their exact twins, which have the same numbers as float32, on the CPU and on the
emulated GPU; those that cannot be read are refused by name."""
import json

import pytest

import support
from packed.cases import CASES, case
from packed.numbers import round_to, store
from packed.refusals import REFUSALS, refusal
from packed.runs import run_both, run_refused, same_latents
from support import Job, make_problems

NAMES = list(CASES)
GPTQMODEL = json.loads((support.SOURCE / "tests/model/goldens/packed-gptqmodel.json").read_text())["cases"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_its_twin(name, tmp_path):
    run_both(tmp_path, case(name))


@pytest.mark.parametrize("name, dtype", [*((name, "bfloat16") for name in NAMES[::6]), *((name, "float16") for name in NAMES[2::6])])
def test_equals_its_twin_in_halves(name, dtype, tmp_path):
    run_both(tmp_path, case(name), model={"dtype": dtype})


@pytest.mark.parametrize("name", GPTQMODEL)
def test_rounded_as_gptqmodel_does(name, tmp_path):
    """Of a twin in float16, which tests/model/test_packed_writers.py compares with what gptqmodel computes with."""
    made = case(name)
    for tensor in GPTQMODEL[name]:
        made.twin[tensor] = store(round_to(made.twin[tensor].values(), "F16"), "F32")
    twin = Job(tmp_path / "twin", make_problems(4, seed=3), made.write_twin(tmp_path / "exact"))
    packed = twin.twin(tmp_path / "packed", model={"path": str(made.write(tmp_path / "quantised")), "weights_rounding": "float16"})
    for job in (twin, packed):
        job.run()
    same_latents(packed, twin)


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("name", NAMES[1::16])
def test_equals_its_twin_on_a_gpu(name, tmp_path):
    run_both(tmp_path, case(name), program=support.EMULATED, model={"device": "cuda:0"})


@pytest.mark.parametrize("name", REFUSALS)
def test_is_refused(name, tmp_path):
    run_refused(tmp_path, *refusal(name))
