# SPDX-License-Identifier: MIT
"""Packed checkpoints expanded once when they are loaded, and rounded as gptqmodel does."""
import h5py
import numpy as np
import pytest

from packed.cases import case, gguf_case
from packed.numbers import Stored
from packed.runs import run_both, same_latents
from support import OK, Job, make_problems


def attributes(job):
    with h5py.File(next(iter(sorted(job.output.rglob("part-*.h5"))))) as file:
        return dict(file.attrs)


@pytest.mark.parametrize("name", ["awq-g32", "gptq-act-order"])
def test_rounded_as_gptqmodel_does(tmp_path, name):
    """Its twin has the exact numbers rounded to float16, which is what it multiplies by."""
    made = case(name)
    for key, stored in made.twin.items():
        if key.endswith("_proj.weight"):
            made.twin[key] = Stored("F32", stored.values().astype(np.float16).astype(np.float32))
    twin = Job(tmp_path / "twin", make_problems(4, seed=3), made.write_twin(tmp_path / "exact"), model={"dtype": "float32"})
    packed = twin.twin(tmp_path / "packed", model={"path": str(made.write(tmp_path / "quantised")), "weights_rounding": "float16"})
    twin.run()
    packed.run()
    same_latents(packed, twin)
    assert attributes(packed)["weights_rounding"] in ("float16", b"float16")
    assert packed.query("SELECT value FROM identity WHERE key = 'model.weights_rounding'") == [("float16",)]


@pytest.mark.parametrize("name", ["awq", "gptq-act-order", "nf4-double", "ct-packed", "fp8"])
def test_expanded_once(tmp_path, name):
    made = case(name)
    job = Job(tmp_path / "job", make_problems(4, seed=3), made.write(tmp_path / "model"), model={"dtype": "bfloat16"})
    loaded = job.twin(tmp_path / "loaded", model={"expand": "load"})
    assert job.run().code == OK
    assert loaded.run().code == OK
    assert loaded.shards() == job.shards()


def test_gguf_expanded_once(tmp_path):
    run_both(tmp_path, gguf_case("llama-Q4_K_M"), model={"expand": "load"})
