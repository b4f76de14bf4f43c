# SPDX-License-Identifier: MIT
"""Runs whose blocks come from their files, or from host memory, for every sweep: the latents of a resident run, byte for byte."""
import json
import shutil

import pytest

import support
from packed.cases import case, gguf_case
from packed.checkpoints import write_folder
from packed.numbers import read_folder
from support import Job, make_model, make_problems

PROBLEMS = 40
ENV = support.clean_environment(CUDA_EMULATION_PREFER="7")
needs_gpu = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def deep():
    return make_model("deep", layers=6)


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("resident"), make_problems(PROBLEMS, steps=3, longest=8), deep())
    job.run()
    return job


def streamed(job, folder, weights="disk", blocks=0, group=0, **sections):
    return job.twin(folder, **support.merge({"model": {"weights": weights, "resident_blocks": blocks},
                                             "batch": {"group": group}}, sections))


def residency(job):
    return json.loads(support.strata("status", job.output, "--json", program=job.program).out)["residency"]


def on_gpu(job):
    job.program = support.EMULATED
    job.change(model={"device": "cuda:0"})
    return job


def both(folder, model=None, /, problems=PROBLEMS, made=None, blocks=0, group=3, gpu=False, weights="disk", **sections):
    """A resident run and a streamed one of the same job."""
    job = Job(folder / "resident", made or make_problems(problems, steps=3, longest=8), model, **sections)
    twin = streamed(job, folder / "streamed", weights, blocks, group)
    for one in (job, twin):
        if gpu:
            on_gpu(one)
        one.run(environment=ENV)
    count = len(made) if made else problems
    job.check_finished(count)
    twin.check_finished(count, job.shards())
    return twin


@pytest.mark.parametrize("blocks, group", [(0, 1), (0, 4), (3, 5), (6, 256), (5, 0), (4, 2)])
def test_bytes(resident, tmp_path, blocks, group):
    job = streamed(resident, tmp_path, blocks=blocks, group=group)
    job.run()
    job.check_finished(PROBLEMS, resident.shards())
    told = residency(job).get("streaming")
    if blocks == 6:
        assert told is None
    else:
        assert (told["streamed"], told["blocks"], told["host"]) == (6 - blocks, 6, False)


def test_identity_is_that_of_a_resident_run(resident, tmp_path):
    job = streamed(resident, tmp_path, group=4)
    job.run()
    assert job.query("SELECT * FROM identity ORDER BY key") == resident.query("SELECT * FROM identity ORDER BY key")
    assert job.outcomes() == resident.outcomes()


@pytest.mark.parametrize("layers", [[0], [-1], [1], [0, 3, -2], "all"])
def test_layers(tmp_path, layers):
    """Embeddings alone have nothing to stream."""
    twin = both(tmp_path, deep(), latents={"layers": list(range(7)) if layers == "all" else layers})
    if layers == [0]:
        assert "streaming" not in residency(twin)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("pooling", ["tokens", "last", "mean"])
def test_pooling_and_dtype(tmp_path, dtype, pooling):
    both(tmp_path, deep(), model={"dtype": dtype}, latents={"layers": [2, -1], "pooling": pooling, "dtype": "float16"})


@pytest.mark.parametrize("batch", [
    {"problems": 1, "window": 1},  # a batch a window: fewer windows than the group has batches
    {"problems": 1, "window": 2},
    {"problems": 2, "window": 3},
    {"problems": 3, "window": 40},
])
def test_small_windows(tmp_path, batch):
    """A group is larger than all windows together: it goes on with what there is."""
    both(tmp_path, deep(), group=32, batch=batch)


def test_a_group_larger_than_fences(tmp_path):
    """A sweep may have as many batches as batch.group allows."""
    twin = both(tmp_path, make_model("deep", layers=2), problems=270, group=256,
                batch={"problems": 1, "tokens": 128, "window": 270}, latents={"layers": [-1]})
    assert residency(twin)["streaming"]["batches"] == 256


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_few_blocks(tmp_path, layers, gpu):
    both(tmp_path, make_model("few", layers=layers), gpu=gpu)


def changed(folder, model, **config):
    shutil.copytree(model, folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return folder


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}


@pytest.mark.parametrize("family, config", [
    ("llama", {"max_position_embeddings": 24, "rope_scaling": DYNAMIC}),
    ("mistral", {"sliding_window": 5}),
    ("qwen2", {}),
])
@pytest.mark.parametrize("gpu", [False, pytest.param(True, marks=needs_gpu)])
def test_families(tmp_path, family, config, gpu):
    """Texts longer than the positions bring rotary rows of their own, each batch of a group its own."""
    model = changed(tmp_path / "model", make_model("deep", layers=4, family=family), **config)
    both(tmp_path, model, made=make_problems(24, steps=4, longest=25, seed=5), gpu=gpu, blocks=1)


def files_of(folder, model, count):
    """The model's tensors anew by name, in so many files that are cut anywhere: within blocks, and in no order of their use."""
    tensors = read_folder(model)
    return write_folder(folder, (model / "tokenizer.json").read_text(encoding="utf-8"), json.loads((model / "config.json").read_text()),
                        {name: tensors[name] for name in sorted(tensors)}, count)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_blocks_across_files(resident, tmp_path, count):
    model = files_of(tmp_path / "model", deep(), count)
    both(tmp_path, model, blocks=1)


def test_blocks_larger_than_a_piece(tmp_path):
    """4 MiB are hashed at a time; blocks begin and end within one."""
    model = make_model("pieces", hidden=512, layers=3, intermediate=1536)
    both(tmp_path, model, problems=8, model={"dtype": "bfloat16"}, latents={"layers": [-1]})


PACKED = ["awq", "gptq-act-order", "nf4-double", "nf4-odd", "fp8", "int8", "ct-packed-act-order"]


@pytest.mark.parametrize("expand", ["matmul", "load"])
@pytest.mark.parametrize("name", PACKED)
def test_packed(tmp_path, name, expand):
    both(tmp_path, case(name).write(tmp_path / "model"), problems=12, model={"dtype": "bfloat16", "expand": expand})


@pytest.mark.parametrize("name", ["llama-Q4_K_M", "mistral-Q4_K_M-falls-back", "llama-UD", "llama-F32-parts", "llama-parts"])
@pytest.mark.parametrize("expand", ["matmul", "load"])
def test_gguf(tmp_path, name, expand):
    """Blocks of different sizes share a slot."""
    both(tmp_path, gguf_case(name).write(tmp_path / "model"), problems=12, model={"expand": expand})


@needs_gpu
@pytest.mark.parametrize("name, weights", [("awq", "host"), ("nf4-double", "disk"), ("mistral-Q4_K_M-falls-back", "host")])
def test_packed_on_a_gpu(tmp_path, name, weights):
    made = gguf_case(name) if "Q4" in name else case(name)
    both(tmp_path, made.write(tmp_path / "model"), problems=12, weights=weights, gpu=True)


@pytest.mark.parametrize("quantize", ["nf4", "nf4_double", "int8"])
@pytest.mark.parametrize("expand", ["matmul", "load"])
def test_quantised_on_the_way(tmp_path, quantize, expand):
    both(tmp_path, make_model("deep", layers=3, hidden=64), model={"quantize": quantize, "dtype": "bfloat16", "expand": expand})


# ---- a GPU

@pytest.fixture(scope="module")
def gpu_resident(resident, tmp_path_factory):
    job = on_gpu(resident.twin(tmp_path_factory.mktemp("gpu")))
    job.run(environment=ENV)
    return job


@needs_gpu
@pytest.mark.parametrize("weights, blocks, group", [("disk", 0, 1), ("host", 0, 4), ("disk", 3, 3), ("host", 1, 1), ("disk", 5, 7)])
def test_gpu(gpu_resident, tmp_path, weights, blocks, group):
    job = streamed(gpu_resident, tmp_path, weights, blocks, group)
    job.run(environment=ENV)
    job.check_finished(PROBLEMS, gpu_resident.shards())


@needs_gpu
@pytest.mark.parametrize("weights, seed", [("disk", 3), ("host", 77)])
def test_any_order_of_the_queues(gpu_resident, tmp_path, weights, seed):
    """What the device may do in another order it does."""
    job = streamed(gpu_resident, tmp_path, weights, 1, 3)
    job.run(environment=support.clean_environment(CUDA_EMULATION_PREFER="7", CUDA_EMULATION_SEED=str(seed)))
    job.check_finished(PROBLEMS, gpu_resident.shards())


def planned(job):
    bytes_of = residency(job)["planned"]
    return sum(bytes_of[purpose] for purpose in ("weights", "activations", "scratch"))


@needs_gpu
@pytest.mark.parametrize("weights", ["disk", "host"])
def test_as_many_blocks_stay_as_fit(gpu_resident, tmp_path, weights):
    """Everything where everything fits; then fewer and fewer, and no more batches a sweep than the job says."""
    reserve = 1 << 20
    room = {"memory_reserve_gb": reserve / 1e9}
    whole = planned(gpu_resident) + reserve
    streams = []
    for less in (0, 1, 3 << 14):
        job = streamed(gpu_resident, tmp_path / str(less), weights, 1000, 1, model=room)
        job.run(environment={**ENV, "CUDA_EMULATION_FREE": str(whole - less)})
        assert job.shards() == gpu_resident.shards()
        streams.append(residency(job).get("streaming", {"streamed": 0})["streamed"])
        assert planned(job) <= whole - less - reserve
    assert streams[0] == 0 and 0 < streams[1] <= streams[2], streams
