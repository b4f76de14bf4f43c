# SPDX-License-Identifier: MIT
"""Whole runs on the emulated GPU: the CPU's latents, the same bytes whatever interrupts it, batches in flight at a stop,
the algorithms of products kept by the ledger and by run.profile."""
import json
import random
import re
import signal
import time

import numpy as np
import pytest

import support
from support import DEVICE, DONE, JOB, OK, STOPPED, Job, clean_environment, make_problems, read_latents

PROBLEMS = 14
SLEEP = 20  # milliseconds of a kernel
pytestmark = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


@pytest.fixture(scope="module", autouse=True)
def one_algorithm():
    """Timings that chance decides must not: algorithm 7 is the fastest unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_EMULATION_PREFER", "7")
        yield


def emulation(**settings):
    return clean_environment(**{f"CUDA_EMULATION_{name}": str(value) for name, value in settings.items()})


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("cpu"), make_problems(PROBLEMS, steps=3, longest=8), batch={"tokens": 128})
    job.run()
    return job


def on_gpu(job, folder, **sections):
    twin = job.twin(folder, **support.merge({"model": {"device": "cuda:0"}}, sections))
    twin.program = support.EMULATED
    return twin


@pytest.fixture(scope="module")
def reference(on_cpu, tmp_path_factory):
    job = on_gpu(on_cpu, tmp_path_factory.mktemp("reference"))
    job.run()
    return job


def check_same(reference, job):
    job.check_finished(PROBLEMS, reference.shards())
    assert job.outcomes() == reference.outcomes()


def worst_error(found, expected, layer):
    worst = 0
    for key, problem in expected.items():
        assert found[key]["rows"] == problem["rows"]
        ours, theirs = found[key][layer].astype("f8"), problem[layer].astype("f8")
        assert np.isfinite(ours).all() and np.isfinite(theirs).all()
        worst = np.maximum(worst, (np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max())  # keeps a NaN
    return worst


# ---- numbers

def test_float32_latents_are_those_of_the_cpu(on_cpu, reference):
    expected, found = read_latents(on_cpu), read_latents(reference)
    assert found.keys() == expected.keys() and len(found) == PROBLEMS
    for layer in ("hs_000", "hs_002", "hs_003"):
        assert worst_error(found, expected, layer) < 1e-5, layer
    assert {state for state, _ in reference.problems().values()} == {DONE}


@pytest.mark.parametrize("dtype, bound", [("bfloat16", 0.03), ("float16", 0.00375)])
def test_latents_in_halves_are_near_those_of_the_cpu(on_cpu, tmp_path, dtype, bound):
    """float16 has three more bits."""
    found = []
    for name, place in (("cpu", lambda *a, **k: on_cpu.twin(*a, **k)), ("gpu", lambda *a, **k: on_gpu(on_cpu, *a, **k))):
        job = place(tmp_path / name, model={"dtype": dtype})
        job.run()
        found.append(read_latents(job))
    assert worst_error(found[1], found[0], "hs_000") == 0  # gathered, not computed
    assert worst_error(found[1], found[0], "hs_003") < bound


def test_batch_size_keeps_the_bits_of_each_problem(on_cpu, tmp_path):
    """Another number of rows a product, other neighbours, other places; by the same algorithms."""
    found = []
    for number, batch in enumerate(({"problems": 1, "tokens": 128, "window": 1}, {"problems": 14, "tokens": 2048})):
        job = on_gpu(on_cpu, tmp_path / str(number), batch=batch)
        job.run(environment=emulation(SEED=number + 5))
        found.append(read_latents(job))
        assert set(algorithms(job).values()) == {"7"}
    assert found[0].keys() == found[1].keys() and len(found[0]) == PROBLEMS
    for key, problem in found[0].items():
        for layer in ("hs_000", "hs_002", "hs_003"):
            assert problem[layer].tobytes() == found[1][key][layer].tobytes(), (key, layer)


# ---- the same bytes

def test_second_run_gives_the_same_bytes(reference, tmp_path):
    """Whatever order the queues, blocks and threads of the GPU take."""
    twin = reference.twin(tmp_path)
    twin.run(environment=emulation(SEED=77))
    check_same(reference, twin)


def test_stops_keep_what_is_in_flight(reference, tmp_path):
    twin = reference.twin(tmp_path)
    launches = 0
    while twin.run("--stop-after", 2, expect=None).code == STOPPED:
        launches += 1
        twin.check_acknowledged(reference.shards())
        assert launches < 20
    check_same(reference, twin)
    batches = reference.query("SELECT count(*) FROM batch")
    assert twin.query("SELECT count(*) FROM batch") == batches  # none was computed twice


def test_float16_gives_the_same_bytes_after_stops(on_cpu, tmp_path):
    job = on_gpu(on_cpu, tmp_path / "whole", model={"dtype": "float16"})
    job.run()
    twin = job.twin(tmp_path / "stopped")
    twin.run("--stop-after", 3, expect=STOPPED)
    process = twin.start(environment=emulation(SLOW=f"1:{SLEEP}", SEED=9))
    log = twin.output / "run.log"
    while log.read_text().count("surveying") < 2:
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.7)
    process.kill()
    process.communicate(timeout=60)
    twin.check_acknowledged(job.shards())
    twin.run(environment=emulation(SEED=10))
    check_same(job, twin)
    assert all("float16" in shape for shape in algorithms(twin))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals(reference, tmp_path, number):
    """Kernels that sleep make a launch longer than any moment that is waited for."""
    twin = reference.twin(tmp_path)
    rng = random.Random(number)
    log = twin.output / "run.log"
    for _ in range(3):
        before = len(log.read_text()) if log.exists() else 0
        process = twin.start(environment=emulation(SLOW=f"1:{SLEEP}"))
        while not (log.exists() and "surveying" in log.read_text()[before:]):  # from then on it hears signals
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(1.5 * rng.random())
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (STOPPED if number == signal.SIGTERM else -number), err.decode()
        twin.check_acknowledged(reference.shards())
    twin.run(environment=emulation(REPORT=tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text())["launches"] * SLEEP > 5000
    check_same(reference, twin)


def test_the_second_of_two_gpus_goes_on(reference, tmp_path):
    """Where the first stopped, with the same bytes; the first has no memory then, and nothing to do."""
    twin, report = reference.twin(tmp_path), tmp_path / "report.json"
    twin.run("--stop-after", 3, environment=emulation(DEVICES=2), expect=STOPPED)
    twin.change(model={"device": "cuda:1"})
    twin.run(environment=emulation(DEVICES=2, FREE="4000000000,0@0", REPORT=report))
    first, second = json.loads(report.read_text())["devices"]
    assert first["launches"] == 0 and second["launches"] > 0
    check_same(reference, twin)


def test_another_gpu_or_the_cpu_is_refused(reference, tmp_path):
    twin = reference.twin(tmp_path)
    twin.run("--stop-after", 3, expect=STOPPED)
    twin.change(model={"device": "cpu"})
    done = twin.run(expect=JOB)
    assert "a different identity" in done.err and "device.kind" in done.err
    twin.change(model={"device": "cuda:0"})
    done = twin.run(environment=emulation(DEVICES=0), expect=DEVICE)
    assert "device cuda:0 is not available" in done.last()
    twin.run()
    check_same(reference, twin)


# ---- algorithms

def algorithms(job):
    text = job.query("SELECT value FROM note WHERE key = 'device.algorithms'")[0][0]
    return {line.split(" id=")[0]: line.split(" id=")[1].split()[0] for line in text.splitlines()}


def test_a_resume_uses_the_algorithms_of_the_run(reference, tmp_path):
    first = algorithms(reference)
    assert len(first) == 4 and all("tokens=" in shape for shape in first)
    assert all("float32" in shape for shape in first)
    other = next(id for id in ("6", "7", "11") if id not in first.values())
    twin = reference.twin(tmp_path / "fresh")
    twin.run("--stop-after", 2, environment=emulation(PREFER=other), expect=STOPPED)
    chosen = algorithms(twin)
    twin.run(environment=emulation(PREFER=next(iter(first.values()))))
    assert algorithms(twin) == chosen
    identity = dict(twin.query("SELECT key, value FROM identity"))
    assert len(identity["device.algorithms"]) == 64


def test_profile_names_the_algorithms_of_a_fresh_run(reference, tmp_path):
    first = reference.twin(tmp_path / "first", run={"profile": str(tmp_path / "profile.json")})
    first.run()
    entries = json.loads((tmp_path / "profile.json").read_text())
    assert [key for key in entries if key.startswith("algorithms: cuda Emulated GPU")]
    second = reference.twin(tmp_path / "second", run={"profile": str(tmp_path / "profile.json")})
    second.run(environment=emulation(PREFER=11))
    assert algorithms(second) == algorithms(first)
    assert "as run.profile says" in (second.output / "run.log").read_text()
    check_same(first, second)


def test_a_profile_that_names_what_is_not_to_be_had_is_timed_anew(reference, tmp_path):
    profile = tmp_path / "profile.json"
    first = reference.twin(tmp_path / "first", run={"profile": str(profile)})
    first.run()
    kept = profile.read_text()
    broken = json.loads(kept)
    key = next(key for key in broken if key.startswith("algorithms: "))
    head, words = broken[key].split("words=", 1)
    broken[key] = head + "words=" + "0000000000000099" + words[16:]
    profile.write_text(json.dumps(broken))
    second = reference.twin(tmp_path / "second", run={"profile": str(profile)})
    second.run()
    assert "the algorithm named by run.profile is not available" in (second.output / "run.log").read_text()
    assert json.loads(profile.read_text())[key] == json.loads(kept)[key]
    check_same(first, second)


def test_runs_with_other_algorithms_share_a_profile(reference, tmp_path):
    """Two runs that time their products at once may choose algorithms of other bits: neither's canary is the other's."""
    profile = tmp_path / "profile.json"
    first = reference.twin(tmp_path / "first", run={"profile": str(profile)})
    first.run(environment=emulation(PREFER=7))
    kept = json.loads(profile.read_text())
    profile.write_text(json.dumps({key: value for key, value in kept.items() if not key.startswith("algorithms: ")}))
    second = reference.twin(tmp_path / "second", run={"profile": str(profile)})
    second.run(environment=emulation(PREFER=11))
    assert set(algorithms(first).values()) == {"7"} and set(algorithms(second).values()) == {"11"}
    assert first.shards() != second.shards()  # or nothing is tested here
    assert len(json.loads(profile.read_text())) == len(kept) + 1


# ---- what fits, and where it lies

def test_a_plan_that_does_not_fit_is_refused_with_what_would(on_cpu, tmp_path):
    job = on_gpu(on_cpu, tmp_path, model={"memory_reserve_gb": 0.01})
    tight = {"MEMORY": 64 << 20, "FREE": 42 << 20}
    for done in (support.strata("check", job.file, program=job.program, environment=emulation(**tight)),
                 job.run(environment=emulation(**tight), expect=DEVICE)):
        text = done.out + done.err
        assert done.code == DEVICE, done
        for part in ("not enough memory: weights", "activations", "scratch", "staging", "reserve 0.009 GiB", "needed", "free"):
            assert part in text, (part, text)
        assert "batch.tokens that would fit" in text or "not even a batch of one text" in text
    assert not (job.output / "shards").exists() or not job.shards()


def test_the_budget_that_would_fit_fits(tmp_path):
    """A run rounds its budget up to whole tiles: what a refusal advises is one that it does not round."""
    made = Job(tmp_path / "made", make_problems(200, steps=3, longest=8), batch={"window": 200, "problems": 200, "tokens": 8192})
    made.run()
    job = on_gpu(made, tmp_path / "refused", model={"memory_reserve_gb": 0})
    advised = None
    for free in range(40 << 20, 42 << 20, 160 << 10):
        room = emulation(MEMORY=64 << 20, FREE=free)
        done = support.strata("check", job.file, program=job.program, environment=room)
        found = re.search(r"the largest batch\.tokens that would fit is (\d+)", done.out + done.err)
        if found is not None:
            advised = int(found[1])
            smaller = on_gpu(made, tmp_path / f"advised-{free}", model={"memory_reserve_gb": 0},
                             batch={"tokens": advised})
            done = support.strata("check", smaller.file, program=job.program, environment=room)
            assert done.code == OK, (advised, done)
        elif done.code == OK:
            break
    assert advised is not None and done.code == OK


def test_everything_is_resident(reference):
    report = json.loads(reference.query("SELECT value FROM note WHERE key = 'device.residency'")[0][0])
    assert report["kind"] == "cuda" and report["planned"]["weights"] == report["taken"]["weights"] > 0
    assert report["pieces"] > 20 and report["bytes"] > 0
    assert report["process_bytes"] >= report["planned"]["weights"]
    assert "resident on cuda, Emulated GPU: all" in (reference.output / "run.log").read_text()


def test_nothing_is_allocated_after_the_start_and_nothing_is_left(reference, tmp_path):
    twin = reference.twin(tmp_path)
    report = tmp_path / "report.json"
    twin.run(environment=emulation(REPORT=report))
    counts = json.loads(report.read_text())
    batches = twin.query("SELECT count(*) FROM batch")[0][0]
    # Weights and what loads them, which are there before the shapes of batches are known, then activations and scratch; staging
    # in two parts. All before anything was launched; of each batch 3 blocks of 8 operations, and more.
    assert (counts["mallocs"], counts["host_mallocs"], counts["launches_at_last_allocation"]) == (4, 2, 0), counts
    assert counts["launches"] + counts["products"] > 24 * batches
    left = ("device_bytes", "host_bytes", "streams", "events")
    assert [counts[name] for name in left] == [0] * len(left), counts
    assert counts["pageable_copies"] == 0, counts
