# SPDX-License-Identifier: MIT
"""Runs that compute in float16: near those in float32, with an identity of their own; what float16 cannot hold fails its problem alone."""
import json
import re
import shutil
import struct

import numpy as np
import pytest

import support
from packed.cases import case
from packed.runs import same_latents
from packed.sparse import qwen3_8b
from support import DATA, DONE, FAILED, JOB, OK, STOPPED, Job, make_problems, read_latents, strata

LIMIT = 65520.0  # from here on a number rounds to infinity


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("exact"), make_problems(20))
    job.run()
    return job


def cosines(found, exact):
    found, exact = found.astype(np.float64), exact.astype(np.float64)
    return (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)


def test_is_near_float32_and_resumes(exact, tmp_path):
    import h5py

    whole, cut = (exact.twin(tmp_path / name, model={"dtype": "float16"}) for name in ("whole", "cut"))
    whole.run()
    while cut.run("--stop-after", 2, expect=None).code == STOPPED:
        pass
    cut.check_finished(20, whole.shards())
    expected, found = read_latents(exact), read_latents(whole)
    for key, problem in found.items():
        for name in ("hs_000", "hs_002", "hs_003"):
            assert cosines(problem[name], expected[key][name]).min() >= 0.99999  # false for NaN
    assert any(problem["hs_003"].tobytes() != expected[key]["hs_003"].tobytes() for key, problem in found.items())
    with h5py.File(whole.output / "shards" / "part-000000.h5") as file:
        assert file.attrs["compute_dtype"] in ("float16", b"float16")
    whole.change(model={"dtype": "bfloat16"})
    assert "model.dtype: stored 'float16', now 'bfloat16'" in whole.run(expect=JOB).err


def test_half_the_memory(tmp_path):
    """Of the shape of Qwen3-8B, as strata check adds it up: 4 and 2 bytes a number."""
    model = qwen3_8b(tmp_path / "model", "plain")
    weights = {}
    for dtype in ("float32", "float16"):
        job = Job(tmp_path / dtype, make_problems(2), model, model={"dtype": dtype}, latents={"layers": [1]})
        plan = strata("plan", job.file)
        assert plan.code == OK and dtype in plan.out
        weights[dtype] = float(re.search(r"^  weights +([0-9.]+) GB", plan.out, re.M)[1])
    assert weights["float16"] > 1 and weights["float16"] == pytest.approx(weights["float32"] / 2, rel=0.02)


@pytest.mark.parametrize("name", ["awq-g32", "gptq-8-bit"])
def test_weights_of_float16_are_rounded_already(name, tmp_path):
    job = Job(tmp_path / "job", make_problems(4), case(name).write(tmp_path / "model"), model={"dtype": "float16"})
    rounding = job.twin(tmp_path / "rounding", model={"weights_rounding": "float16"})
    job.run()
    rounding.run()
    same_latents(rounding, job)


# ---- the checkpoint's own dtype

@pytest.mark.parametrize("checkpoint, dtype, said", [("float16", "bfloat16", True), ("float16", "float16", False),
                                                      ("float16", "float32", False), ("bfloat16", "bfloat16", False)])
def test_note_of_a_float16_checkpoint(tmp_path, checkpoint, dtype, said):
    import h5py

    job = Job(tmp_path, make_problems(4), support.make_model(dtype=checkpoint), model={"dtype": dtype})
    checked = strata("check", job.file)
    assert checked.code == OK and ("the checkpoint's own dtype is float16" in " ".join(checked.out.split())) == said, checked
    assert ("note  model" in checked.out) == said and "WARN" not in checked.out
    job.run()
    assert ("own dtype is float16" in (job.output / "run.log").read_text()) == said
    with h5py.File(job.output / "shards" / "part-000000.h5") as file:
        assert "warnings" not in file.attrs


# ---- numbers that float16 does not hold

def copy_model(folder, factor):
    """The second block's output grows with `factor`: hidden_states[2] is that of block 1."""
    shutil.copytree(support.make_model(), folder)
    support.change_tensor(folder, "model.layers.1.mlp.down_proj.weight",
                          lambda content: (np.frombuffer(content, dtype=np.float32) * np.float32(factor)).tobytes())
    return folder


def largest(job):
    return {key: float(np.abs(problem["hs_002"]).max()) for key, problem in read_latents(job).items()}


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory):
    """A float32 run of a model in which a few problems have a number that float16 does not hold, and by how much the rest stay below."""
    folder = tmp_path_factory.mktemp("overflowing")
    latents = {"layers": [2, 3], "pooling": "tokens"}
    probe = Job(folder / "probe", make_problems(20), copy_model(folder / "probed", 1000), latents=latents)
    probe.run()
    sizes = sorted(largest(probe).values())
    above = max(range(len(sizes) - 4, len(sizes)), key=lambda i: sizes[i] / sizes[i - 1])  # the widest gap near the top
    factor = 1000 * LIMIT / np.sqrt(sizes[above - 1] * sizes[above])
    job = probe.twin(folder / "exact", model={"path": str(copy_model(folder / "model", factor))})
    job.run()
    return job


def test_problems_that_overflow_fail_alone(overflowing, tmp_path):
    expected = read_latents(overflowing)
    lost = {key for key, size in largest(overflowing).items() if size >= LIMIT}
    assert 0 < len(lost) <= 4
    job = overflowing.twin(tmp_path, model={"dtype": "float16"}, problems={"max_failed": 20})
    job.run()
    job.check_finished(20)
    found = read_latents(job)
    outcomes = job.problems()
    assert {key for key, (state, _) in outcomes.items() if state == FAILED} == lost
    assert found.keys() == {key for key, (state, _) in outcomes.items() if state == DONE} == expected.keys() - lost
    for key in lost:
        reason = outcomes[key][1]
        assert reason.startswith("hidden_states[2] has ") and "float16 ends at 65504, model.dtype: bfloat16" in reason
    for key, problem in found.items():
        assert cosines(problem["hs_002"], expected[key]["hs_002"]).min() >= 0.9999
    assert json.loads(strata("status", job.output, "--json").out)["problems"]["failed"] == len(lost)
    brain = job.twin(tmp_path / "brain", model={"dtype": "bfloat16"}, problems={"max_failed": 0})  # the way out that is named
    brain.run()
    assert len(read_latents(brain)) == 20
    overflowing.twin(tmp_path / "strict", model={"dtype": "float16"}).run(expect=DATA)  # none may fail


def test_a_model_that_overflows_is_refused(tmp_path):
    job = Job(tmp_path, make_problems(4), copy_model(tmp_path / "model", 1e5), model={"dtype": "float16"})
    said = job.run(expect=DATA).last()
    assert "hidden_states[2] holds" in said and "float16 ends at 65504, model.dtype: bfloat16 holds larger numbers" in said
    job.twin(tmp_path / "brain", model={"dtype": "bfloat16"}).run()
    clean = tmp_path / "clean"
    overflown = Job(clean, make_problems(4), copy_model(clean / "model", 1e38), model={"dtype": "bfloat16"})
    assert "65504" not in overflown.run(expect=None).err  # which is not the limit there
