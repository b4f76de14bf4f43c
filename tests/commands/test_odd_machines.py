# SPDX-License-Identifier: MIT
"""What a device cannot compute and a machine cannot hold is refused by strata check and before the load, in words that
name the key, the value and the way out."""
import json
import shutil

import pytest

import support
from support import BUILD, DEVICE, OK, STOPPED, Job, clean_environment, make_model, make_problems, strata

PRELOAD = BUILD / "tests" / "commands_preload_machine.so"
emulated = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
preloaded = pytest.mark.skipif(not PRELOAD.exists(), reason="a sanitizer's build takes no preloaded library")


def gpu_job(folder, checkpoint, device="cuda:0", **sections):
    job = Job(folder, make_problems(6), checkpoint, **support.merge({"model": {"device": device}}, sections))
    job.program = support.EMULATED
    return job


def check(job, expect=OK, **environment):
    """condition -> (verdict, detail), and the lines that begin with note."""
    done = strata("check", job.file, program=job.program, environment=clean_environment(**environment))
    assert done.code == expect, done
    lines = done.out.splitlines()
    table = {line[6:17].strip(): (line[:4], line[18:]) for line in lines if not line.startswith("note")}
    return table, [line[18:] for line in lines if line.startswith("note")]


def refused_before_the_load(job, condition, parts, **environment):
    """By check, at that condition, and by run, which has read no weight by then, in the same words."""
    verdict, detail = check(job, expect=DEVICE, **environment)[0][condition]
    done = job.run(expect=DEVICE, environment=clean_environment(**environment))
    for part in parts:
        assert verdict == "FAIL" and part in detail, detail
        assert part in done.last(), done
    log = (job.output / "run.log").read_text()
    assert "weights: " not in log and "block 0" not in log, log  # what a load says when it is done
    assert job.outcomes() == []
    return done


# ---- shapes that a GPU has no kernels for ----

@emulated
@pytest.mark.parametrize("head_dim", [2, 12, 100, 258, 520])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heads_that_a_gpu_lacks(tmp_path, head_dim, dtype):
    job = gpu_job(tmp_path, make_model(head_dim=head_dim), model={"dtype": dtype})
    done = refused_before_the_load(job, "device", [
        "'head_dim'", f"of config.json is {head_dim}, and cuda (", "supports only multiples of 8 up to 512",
        "model.device: cpu computes it"])
    assert "loading" not in (job.output / "run.log").read_text(), done
    verdicts = {name: verdict for name, (verdict, _) in check(job, expect=DEVICE)[0].items()}
    assert verdicts["memory"] == "----" and verdicts["texts"] == "PASS"


@emulated
def test_heads_that_are_computed_instead_of(tmp_path):
    """The way out that the refusal names is one."""
    job = gpu_job(tmp_path, make_model(head_dim=12))
    job.run(expect=DEVICE)
    job.change(model={"device": "cpu"})
    job.run()
    job.check_finished(6)


@emulated
def test_heads_that_config_leaves_out(tmp_path):
    """The keys that their size comes from are named."""
    folder = shutil.copytree(make_model(family="llama", hidden=48, head_dim=8), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["head_dim"]
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2}  # heads of 12: of the same tensors
    (folder / "config.json").write_text(json.dumps(config))
    refused_before_the_load(gpu_job(tmp_path / "job", folder), "device", [
        "'hidden_size' / 'num_attention_heads' (there is no 'head_dim') of config.json is 12,"])


@emulated
def test_auto_goes_past_the_gpu(tmp_path):
    job = gpu_job(tmp_path, make_model(head_dim=12), device="auto")
    table, notes = check(job)
    said = "'head_dim' of config.json is 12, and cuda (Emulated GPU) supports only multiples of 8 up to 512"
    assert table["device"][0] == "PASS" and "auto took the CPU: " + said in table["device"][1], table
    assert any(note.startswith("model.device: auto takes the CPU, not the GPU: " + said) for note in notes), notes
    job.run("--stop-after", 1, expect=STOPPED)
    assert "auto takes the CPU, not the GPU" in (job.output / "run.log").read_text()
    assert check(job)[0]["identity"][1].startswith("that of the run, resumed")
    job.run()
    job.check_finished(6)


@emulated
def test_auto_takes_the_gpu_for_other_heads(tmp_path):
    job = gpu_job(tmp_path, make_model(head_dim=16), device="auto")
    table, notes = check(job)
    assert table["device"][1].startswith("cuda ") and notes == []


@emulated
def test_a_run_that_began_on_the_gpu(tmp_path):
    """auto means the device that the run began on; with a model of other heads it is refused as another run."""
    job = gpu_job(tmp_path, make_model(), device="auto")
    job.run("--stop-after", 1, expect=STOPPED)
    job.change(model={"path": str(make_model(head_dim=12))})
    assert check(job, expect=DEVICE)[0]["device"][0] == "FAIL"
    assert "multiples of 8 up to 512" in job.run(expect=DEVICE).last()


# ---- products that cuBLASLt has no algorithm for ----

@emulated
@pytest.mark.parametrize("shape, keys", [({"intermediate": 60}, "'intermediate_size'"), ({"hidden": 36}, "'hidden_size'")])
@pytest.mark.parametrize("family", ["qwen3", "qwen2"])  # without and with biases
def test_odd_products(tmp_path, shape, keys, family):
    job = gpu_job(tmp_path, make_model(family=family, **shape), model={"dtype": "bfloat16"})
    refused_before_the_load(job, "memory", [
        keys, "no algorithm for [", "in bfloat16", "model.device: cpu computes matmuls of any size"],
        CUDA_EMULATION_ODD_PRODUCTS="0")
    job.change(model={"dtype": "float32"})
    table, _ = check(job, CUDA_EMULATION_ODD_PRODUCTS="0")
    assert table["memory"][0] == "PASS"


@emulated
def test_odd_products_that_no_block_needs(tmp_path):
    """Embeddings alone are not multiplied by anything."""
    job = gpu_job(tmp_path, make_model(intermediate=60), model={"dtype": "bfloat16"}, latents={"layers": [0]})
    job.run(environment=clean_environment(CUDA_EMULATION_ODD_PRODUCTS="0"))
    job.check_finished(6)


# ---- small machines ----

def machine(folder, available, limit=None, used=0):
    """MACHINE_ROOT of a host with 64 GB, `available` bytes of them, and a control group of `limit` bytes."""
    root = folder / "machine"
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemTotal:       64000000 kB\nMemAvailable:   {available // 1024} kB\n")
    if limit is not None:
        group = root / "sys/fs/cgroup/job"
        group.mkdir(parents=True, exist_ok=True)
        (root / "proc/self/cgroup").write_text("0::/job\n")
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
    return {"LD_PRELOAD": str(PRELOAD), "MACHINE_ROOT": str(root)}


@preloaded
def test_a_small_container_on_a_large_host(tmp_path):
    job = Job(tmp_path / "job", make_problems(6), make_model())
    table, _ = check(job, **machine(tmp_path, 60 << 30, 8 << 30, 1 << 30))
    assert table["memory"][0] == "PASS"
    refused_before_the_load(job, "memory", [
        "not enough memory: weights ", "free 0.001 GiB of 8.000 GiB", "not even a batch of one text of ",
        "other programs use the memory, or a limit of the control group"],
        **machine(tmp_path, 60 << 30, 8 << 30, (8 << 30) - (1 << 20)))


@preloaded
def test_machines_that_say_nothing(tmp_path):
    """What there is of memory is not known: nothing is refused for it."""
    job = Job(tmp_path / "job", make_problems(6), make_model())
    (tmp_path / "nothing").mkdir()
    hidden = {"LD_PRELOAD": str(PRELOAD), "MACHINE_ROOT": str(tmp_path / "nothing")}
    assert check(job, **hidden)[0]["memory"][0] == "PASS"
    job.run(environment=clean_environment(**hidden))
    job.check_finished(6)


@preloaded
@emulated
def test_staging_beyond_the_host(tmp_path):
    job = gpu_job(tmp_path / "job", make_model(), latents={"layers": "all", "pooling": "tokens"})
    table, _ = check(job)
    assert table["memory"][1].endswith("staging (host)")
    refused_before_the_load(job, "memory", [
        " (host) | reserve ", "host memory: staging and 0.062 GiB beside it are needed, 0.008 GiB are free, which is too little",
        "staging does not fit: 4 layers of ", " rows in float32 for each of ", "Fewer latents.layers",
        "latents.dtype: float16"], **machine(tmp_path, 8 << 20))


@emulated
def test_weights_beyond_the_gpu(tmp_path):
    """Room for what the back end takes for itself (40 MiB and some), not for 15 MB of embeddings."""
    job = gpu_job(tmp_path, make_model("wide", hidden=512, vocabulary=8000), model={"memory_reserve_gb": 0}, latents={"layers": [1]})
    refused_before_the_load(job, "memory", [
        "the weights of 1 blocks alone need more than is free", "highest of latents.layers", "model.dtype: bfloat16 needs half",
        "host memory: staging and ", "not even a batch of one text"], CUDA_EMULATION_FREE=str(44 << 20))


@emulated
def test_weights_that_fit_in_four_bits(tmp_path):
    """50 MB of matrices beside what the back end takes for itself. What the refusal names is enough, and said only then."""
    model = make_model("deep", hidden=512, intermediate=2048)
    job = gpu_job(tmp_path, model, model={"memory_reserve_gb": 0}, latents={"layers": [3]})
    refused_before_the_load(job, "memory", [
        "the weights of 3 blocks alone need more than is free", "; a new run with model.quantize: nf4 would fit: its weights take "],
        CUDA_EMULATION_FREE=str(84 << 20))
    assert "model.quantize" not in job.run(expect=DEVICE, environment=clean_environment(CUDA_EMULATION_FREE=str(44 << 20))).err
    job.change(model={"quantize": "nf4"})
    assert check(job, CUDA_EMULATION_FREE=str(84 << 20))[0]["memory"][0] == "PASS"


@emulated
def test_a_gpu_that_others_fill(tmp_path):
    job = gpu_job(tmp_path, make_model())
    refused_before_the_load(job, "memory", ["not even without a model: other programs use the memory"],
                            CUDA_EMULATION_FREE=str(100 << 20))


@emulated
def test_memory_that_cannot_be_pinned(tmp_path):
    job = gpu_job(tmp_path, make_model())
    refused_in_words = job.run(expect=DEVICE, environment=clean_environment(CUDA_EMULATION_FAIL_MALLOC_HOST="1")).last()
    assert "staging in host memory, which the system would not pin (fewer latents.layers" in refused_in_words
    assert "cudaMallocHost" in refused_in_words
