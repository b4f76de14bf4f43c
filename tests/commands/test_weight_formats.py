# SPDX-License-Identifier: MIT
"""What users see of weight formats: checkpoints of numbers that are quantised when they are loaded, packed matrices that are expanded
then or before each matmul, and what shards and commands say of it."""
import json
import re

import numpy as np
import pytest

import support
from packed.checkpoints import LINEAR, quantised, write_folder
from packed.methods import INVERSE_127, NF4, dynamic_map
from packed.mixtures import EXPERTS, golden_variants, mixture, written
from packed.numbers import read_folder, round_to, store
from packed.runs import same_latents
from support import JOB, OK, STOPPED, Job, make_model, make_problems, strata

SHAPE = {"hidden": 64, "intermediate": 128}
NAMES = {"nf4": "nf4", "nf4_double": "nf4, double", "int8": "int8"}
PROBLEMS = 14  # problems of a run


def numbers():
    return make_model("even", "bfloat16", **SHAPE)


def quantising(folder, way, **model):
    return Job(folder, make_problems(PROBLEMS), numbers(), model={**model, **({"quantize": way} if way else {})})


def below(values, codes):
    """The places of the midpoints of ascending codes that a value is above of: its nearest code's, the lower one's for a tie."""
    return np.searchsorted((codes[:-1] + codes[1:]) / np.float32(2), values)


def dequantised(weight, way):
    """float32 numbers that quantising leaves of a matrix, a product rounded at a time; its size is a multiple of 64."""
    if way == "int8":
        half = round_to(weight, "F16")
        largest = np.abs(half).max(axis=1, keepdims=True)
        codes = np.rint(half * (np.float32(1) / largest * np.float32(127)))
        return codes * largest * INVERSE_127
    blocks = weight.reshape(-1, 64)
    absmax = np.abs(blocks).max(axis=1)
    codes = below(blocks * (np.float32(1) / absmax)[:, None], NF4)
    if way == "nf4_double":
        mean = np.float32(np.cumsum(absmax.astype(np.float64))[-1] / absmax.size)
        centred = absmax - mean
        nested = np.repeat([np.abs(centred[i:i + 256]).max() for i in range(0, absmax.size, 256)], 256)[:absmax.size]
        absmax = dynamic_map()[below(centred * (np.float32(1) / nested), dynamic_map())] * nested + mean
    return (NF4[codes] * absmax[:, None]).reshape(weight.shape)


def exact_twin(folder, way, model):
    """The checkpoint with what quantising leaves of its matrices, as float32."""
    tensors = {name: store(dequantised(stored.values(), way) if LINEAR.fullmatch(name) else stored.values(), "F32")
               for name, stored in read_folder(model).items()}
    config = {**json.loads((model / "config.json").read_text()), "torch_dtype": "float32"}
    return write_folder(folder, (model / "tokenizer.json").read_text(encoding="utf-8"), config, tensors, 1)


def attributes(job):
    import h5py

    with h5py.File(job.output / "shards" / "part-000000.h5", "r") as file:
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}


def identity(job):
    return dict(job.query("SELECT key, value FROM identity"))


@pytest.mark.parametrize("way", NAMES)
def test_quantised_when_loaded(way, tmp_path):
    """The latents of a checkpoint that has the dequantised numbers, bit for bit."""
    name = NAMES[way]
    job = quantising(tmp_path / "job", way)
    twin = job.twin(tmp_path / "twin", model={"path": str(exact_twin(tmp_path / "exact", way, numbers())), "quantize": None})
    job.run()
    twin.run()
    same_latents(job, twin)
    assert attributes(job)["weights"] == name
    assert identity(job)["model.weights"] == name and identity(job)["model.quantize"] == way
    assert f"  weights     {name}\n" in strata("status", job.output).out
    assert json.loads(strata("status", job.output, "--json").out)["weights"] == name
    job.check_finished(PROBLEMS)


@pytest.mark.parametrize("way", NAMES)
def test_experts_are_quantised(way, tmp_path):
    """Each expert's matrices, and not their router."""
    model = mixture(tmp_path / "numbers")
    assert any(LINEAR.fullmatch(name) for name in read_folder(model) if f"experts.{EXPERTS - 1}." in name)
    job = Job(tmp_path / "job", make_problems(4), model, model={"quantize": way})
    twin = job.twin(tmp_path / "twin", model={"path": str(exact_twin(tmp_path / "exact", way, model)), "quantize": None})
    job.run()
    twin.run()
    same_latents(job, twin)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("way", NAMES)
def test_matrices_of_several_steps(way, dtype, tmp_path):
    """More numbers in a matrix than are quantised at a time, from tensors anywhere in files of several pieces."""
    model = make_model("long", dtype, layers=2, hidden=512, intermediate=2496)
    job = Job(tmp_path / "job", make_problems(3), model, model={"quantize": way})
    twin = job.twin(tmp_path / "twin", model={"path": str(exact_twin(tmp_path / "exact", way, model)), "quantize": None})
    job.run()
    twin.run()
    same_latents(job, twin)


def test_plain_models_say_nothing_new(tmp_path):
    """Runs of versions that knew no packed weights go on."""
    job = quantising(tmp_path, None)
    job.run()
    assert not {"weights", "weights_rounding"} & set(attributes(job))
    assert not {"model.weights", "model.weights_rounding", "model.quantize", "model.expand"} & set(identity(job))
    assert "  weights  " not in strata("status", job.output).out
    assert json.loads(strata("status", job.output, "--json").out)["weights"] is None


@pytest.mark.parametrize("way", NAMES)
def test_resumed_to_the_same_bytes(way, tmp_path):
    job = quantising(tmp_path / "job", way, dtype="bfloat16")
    job.run()
    twin = job.twin(tmp_path / "twin")
    for _ in range(2):
        twin.run("--stop-after", 1, expect=STOPPED)
    twin.run()
    twin.check_finished(PROBLEMS, reference=job.shards())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_expanded_once_or_each_time(dtype, tmp_path):
    """The same bytes, and part of no identity: a run may go on the other way."""
    job = quantising(tmp_path / "job", "nf4_double", dtype=dtype)
    job.run()
    once = job.twin(tmp_path / "once", model={"expand": "load"})
    once.run("--stop-after", 2, expect=STOPPED)
    once.change(model={"expand": "matmul"})
    once.run("--stop-after", 1, expect=STOPPED)
    once.change(model={"expand": "load"})
    once.run()
    once.check_finished(PROBLEMS, reference=job.shards())


@pytest.mark.parametrize("before, now", [("nf4", "int8"), ("nf4", None), (None, "nf4")])
def test_another_way_is_another_run(before, now, tmp_path):
    job = quantising(tmp_path, before)
    job.run("--stop-after", 1, expect=STOPPED)
    job.keys["model"].pop("quantize", None)
    job.change(model={"quantize": now} if now else {})
    done = job.run(expect=JOB)
    assert "model.quantize" in done.err and "different identity" in done.err, done
    checked = strata("check", job.file)
    assert checked.code == JOB and "model.quantize" in checked.out, checked


@pytest.mark.parametrize("variant, named", [("granitemoe", "layers.0.block_sparse_moe.input_linear.weight"),
                                            ("llama4-steps", "layers.1.feed_forward.experts.gate_up_proj")])
def test_experts_in_one_tensor(variant, named, tmp_path):
    """Nobody has quantised these: the first of them is named."""
    model = written(tmp_path / "model", {**golden_variants.mixture_variants(), **golden_variants.llama4_variants()}[variant][0])
    job = Job(tmp_path / "job", make_problems(2), model)
    for way in NAMES:
        job.change(model={"quantize": way})
        done = job.run(expect=JOB)
        assert f"model.quantize cannot quantise '{named}' as this family has it: leave the key out" in done.last(), done
    job.change(model={"quantize": None})
    job.run()


def test_keys_for_another_kind_of_checkpoint(tmp_path):
    packed = quantised(numbers(), "bnb4").write(tmp_path / "packed")
    job = Job(tmp_path / "job", make_problems(2), packed, model={"quantize": "nf4"})
    for changes, word in (({}, "model.quantize is for checkpoints of numbers"),
                          ({"path": str(numbers()), "quantize": None, "weights_rounding": "float16"}, "weights_rounding is for packed")):
        job.change(model=changes)
        for done in (job.run(expect=JOB), strata("plan", job.file)):
            assert done.code == JOB and word in done.err, done
        checked = strata("check", job.file)
        assert checked.code == JOB and re.search("FAIL  model .*" + word, re.sub(r"\s*\n {8,}", " ", checked.out)), checked


def test_rounded_to_float16(tmp_path):
    """Other numbers, so another identity; the shards say it."""
    packed = quantised(numbers(), "awq", group=32).write(tmp_path / "packed")
    job = Job(tmp_path / "job", make_problems(4), packed, model={"weights_rounding": "float16"})
    other = job.twin(tmp_path / "other", model={"weights_rounding": None})
    job.run()
    other.run()
    assert attributes(job)["weights_rounding"] == "float16" and "weights_rounding" not in attributes(other)
    assert identity(job)["model.weights_rounding"] == "float16" and "model.weights_rounding" not in identity(other)


def test_check_names_the_format(tmp_path):
    done = strata("check", quantising(tmp_path, "nf4").file)
    assert done.code == OK and re.search(r"PASS  model .* parameters in nf4, every tensor in place", done.out), done
