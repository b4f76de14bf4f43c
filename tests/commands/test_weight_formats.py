"""How a job says that weights are held: quantised when they are loaded, expanded once or before each matmul, rounded as
gptqmodel does; what it says of that, and what belongs to a run's identity."""
import h5py
import numpy as np
import pytest

import support
from packed.cases import case, gguf_case
from packed.numbers import Stored
from packed.runs import run_both, same_latents
from support import JOB, OK, STOPPED, Job, make_model, make_problems

QUANTIZED = ["nf4", "nf4_double", "int8"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("plain"), make_problems(12, seed=4), make_model(dtype="bfloat16", hidden=64, intermediate=128),
               model={"dtype": "float32"}, run={"checkpoint_every": 1}, batch={"tokens": 128})


def attributes(job):
    with h5py.File(next(iter(sorted(job.output.rglob("part-*.h5"))))) as file:
        return dict(file.attrs)


@pytest.mark.parametrize("how", QUANTIZED)
def test_quantised_when_loaded(plain, tmp_path, how):
    """The same bytes stopped and resumed, and widened at load; other than unquantised, by a little."""
    job = plain.twin(tmp_path / "job", model={"quantize": how})
    job.run()
    assert job.query("SELECT value FROM identity WHERE key = 'model.quantize'") == [(how,)]
    held = {"nf4": "nf4", "nf4_double": "nf4, double", "int8": "int8"}[how]
    assert job.query("SELECT value FROM identity WHERE key = 'model.weights'") == [(held,)]
    assert attributes(job)["weights"] in (held, held.encode())
    resumed = plain.twin(tmp_path / "resumed", model={"quantize": how})
    resumed.run("--stop-after", 2, expect=STOPPED)
    resumed.run()
    assert resumed.shards() == job.shards()
    loaded = plain.twin(tmp_path / "loaded", model={"quantize": how, "expand": "load"})
    loaded.run()
    assert loaded.shards() == job.shards()  # the key is no part of the identity, the bits are equal
    if not plain.output.exists():
        plain.run()
    exact, found = support.read_latents(plain), support.read_latents(job)
    for key, problem in exact.items():
        error = np.abs(problem["hs_002"].astype(np.float32) - found[key]["hs_002"].astype(np.float32)).max()
        assert 0 < error < 0.5 * np.abs(problem["hs_002"].astype(np.float32)).max(), (how, key, error)


def test_plain_runs_say_nothing_of_it(plain):
    if not plain.output.exists():
        plain.run()
    assert plain.query("SELECT key FROM identity WHERE key IN ('model.weights', 'model.quantize', 'model.weights_rounding')") == []
    assert not {"weights", "weights_rounding"} & attributes(plain).keys()


def test_another_quantisation_on_resume_is_refused(plain, tmp_path):
    job = plain.twin(tmp_path / "job", model={"quantize": "nf4"})
    job.run("--stop-after", 1, expect=STOPPED)
    job.change(model={"quantize": "nf4_double"})
    assert "model.quantize: stored 'nf4', now 'nf4_double'" in job.run(expect=JOB).err
    job.change(model={"quantize": "nf4", "expand": "load"})
    job.run()


def test_keys_for_the_other_kind_of_checkpoint(plain, tmp_path):
    rounded = plain.twin(tmp_path / "rounded", model={"weights_rounding": "float16"})
    done = rounded.run(expect=JOB)
    assert "model.weights_rounding is for packed weights" in done.last(), done
    packed = Job(tmp_path / "packed", make_problems(2), case("awq").write(tmp_path / "awq"), model={"quantize": "nf4"})
    done = packed.run(expect=JOB)
    assert "model.quantize is for checkpoints of numbers" in done.last(), done


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
