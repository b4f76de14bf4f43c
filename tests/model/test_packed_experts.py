# SPDX-License-Identifier: MIT
"""Mixtures whose experts are packed each, as published checkpoints have them: they stay packed in memory, and a run gives the bytes of
their exact twins in float32, on the CPU and on the emulated GPU. gpt-oss, whose experts are packed together, is test_mxfp4.py's."""
import json

import pytest

import support
from packed.checkpoints import quantised
from packed.mixtures import EXPERTS, branches, mixture, together
from packed.runs import run_both
from support import OK, Job, make_problems, strata

CASES = {
    "awq": ("awq", {"group": 32}),
    "gptq": ("gptq", {"group": 32, "symmetric": False}),
    "gptq-act-order": ("gptq", {"group": 32, "act_order": True}),
    "gptq-unlike": ("gptq", {"group": 32, "dynamic": {r".*\.experts\.1\.down_proj": {"bits": 8}}}),  # stored as computed
    "fp8": ("fp8", {"block": (32, 32)}),
    "fp8-ragged": ("fp8", {"block": (48, 64)}),
    "compressed": ("ct-packed", {"group": 32}),
    "nf4": ("bnb4", {}),
    "nf4-double": ("bnb4", {"double": True}),
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return mixture(tmp_path_factory.mktemp("mixture") / "model")


def made_of(folder, name):
    method, options = CASES[name]
    made = quantised(folder, method, **options)
    assert f"model.layers.1.mlp.experts.{EXPERTS - 1}.down_proj" in made.options
    return made


@pytest.mark.parametrize("name", CASES)
def test_equals_its_twin(numbers, name, tmp_path):
    run_both(tmp_path, made_of(numbers, name), model={"dtype": "bfloat16"} if name == "awq" else {})


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("name", ["gptq", "fp8-ragged", "nf4-double"])
def test_equals_its_twin_on_a_gpu(numbers, name, tmp_path):
    run_both(tmp_path, made_of(numbers, name), program=support.EMULATED, model={"device": "cuda:0"})


@pytest.mark.parametrize("name", ["gptq", "fp8", "nf4"])
def test_blocks_of_one_branch(name, tmp_path):
    made = quantised(branches(tmp_path / "numbers"), CASES[name][0], **CASES[name][1])
    assert {f"backbone.layers.{at}_proj" for at in ("0.mixer.in", "1.mixer.experts.0.up", "1.mixer.fc1_latent", "1.mixer.shared_experts.down",
                                                    "2.mixer.q", "3.mixer.down")} <= set(made.options)
    run_both(tmp_path, made)


@pytest.mark.parametrize("program, weights", [(None, "disk"), (support.EMULATED, "host")])
def test_blocks_that_come_in_turn(numbers, program, weights, tmp_path):
    if program is not None and not program.exists():
        pytest.skip("built without the emulation of CUDA")
    run_both(tmp_path, made_of(numbers, "nf4-double"), program=program,
             model={"weights": weights, "resident_blocks": 1, **({"device": "cuda:0"} if program else {})})


def memory(folder, path, **model):
    """Of a plan, in bytes."""
    done = strata("plan", "--json", Job(folder, make_problems(4), path, model={"dtype": "bfloat16", **model}).file)
    assert done.code == OK, done
    return json.loads(done.out)["ways"][0]["memory"]


@pytest.mark.parametrize("name, each", [("nf4", 1 / 2 + 4 / 64), ("fp8", 1 + 4 / 32 ** 2), ("gptq-unlike", 1 / 2 + 2.5 / 32)])
def test_what_they_take(numbers, name, each, tmp_path):
    """So many bytes a number of the matrices of blocks, but where experts have a matrix in formats that are unlike."""
    made = made_of(numbers, name)
    path = made.write(tmp_path / "model")
    kept, loaded = memory(tmp_path / "kept", path), memory(tmp_path / "loaded", path, expand="load")
    packed = {module: made.twin[module + ".weight"].values() for module in made.options}
    count = sum(weight.size for weight in packed.values())
    unlike = sum(weight.size for module, weight in packed.items() if name == "gptq-unlike" and module.endswith("down_proj"))
    others = loaded["blocks"] - 2 * count
    assert kept["blocks"] == pytest.approx(others + each * (count - unlike) + 2 * unlike, rel=0.07)  # parts are padded
    assert loaded["expansion"] == 0
    assert kept["expansion"] == 2 * max(EXPERTS * weight.size * (2 if module.endswith("gate_proj") else 1)
                                        for module, weight in packed.items() if module.endswith("gate_proj"))


def test_all_experts_in_one_packed_tensor_are_refused_by_name(tmp_path):
    job = Job(tmp_path, make_problems(3), together(tmp_path / "model", "F8_E4M3"))
    done = job.run(expect=None)
    assert done.code == support.DATA and "all experts of a block are one tensor here" in done.err, done
    job = Job(tmp_path / "numbers", make_problems(3), together(tmp_path / "plain", "BF16"))
    job.run()
