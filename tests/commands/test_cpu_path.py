# SPDX-License-Identifier: MIT
"""A run keeps to the CPU path it began on; another is taken only where the job allows it, at the border of two shards,
and then said wherever the run is looked at."""
import json
import shutil

import h5py
import pytest

import support
from commands.test_faults import CHANGING, traced
from support import DEVICE, JOB, OK, STOPPED, Job, make_problems, read_latents, strata

PROBLEMS = 20
ALLOWED = {"allow_cpu_path_change": True}


def chosen_path(job):
    """What a new run would take on this processor."""
    done = strata("check", job.file)
    return done.out.split(", path ")[1].split(",")[0]


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """A whole run on the portable path."""
    job = Job(tmp_path_factory.mktemp("portable"), make_problems(PROBLEMS), model={"cpu_path": "portable"})
    if chosen_path(job.twin(job.folder / "look", model={"cpu_path": None})) == "portable":
        pytest.skip("this processor has no path but the portable one")
    job.run()
    return job


@pytest.fixture(scope="module")
def best(portable, tmp_path_factory):
    """The same on the path that this processor would choose."""
    job = portable.twin(tmp_path_factory.mktemp("best"), model={"cpu_path": None})
    job.run()
    return job


@pytest.fixture(scope="module")
def begun(portable, tmp_path_factory):
    """Stopped after 5 of its batches on the portable path: one shard of 3 is sealed, two batches are a partial one."""
    job = portable.twin(tmp_path_factory.mktemp("begun"))
    job.run("--stop-after", 5, expect=STOPPED)
    assert len(job.shards()) == 1 and job.query("SELECT batches FROM partial") == [(2,)]
    return job


def copy_of(begun, folder, **sections):
    twin = begun.twin(folder, **support.merge({"model": {"cpu_path": None}}, sections))
    shutil.copytree(begun.output, twin.output)
    return twin


@pytest.fixture(scope="module")
def changed(begun, best, tmp_path_factory):
    """Gone on with, and to the end, on the best path."""
    job = copy_of(begun, tmp_path_factory.mktemp("changed"), model={"cpu_path": chosen_path(best)}, run=ALLOWED)
    job.run()
    return job


def identities(job):
    found = []
    for path in sorted((job.output / "shards").glob("part-??????.h5")):
        with h5py.File(path) as shard:
            found.append(shard.attrs["identity"])
    return found


def check_line(job, condition, expect=OK):
    done = strata("check", job.file)
    assert done.code == expect, done
    return next(line for line in done.out.splitlines() if line[6:].startswith(condition))


# ---- keeping it

def test_a_resume_keeps_the_path_of_the_run(portable, begun, best, tmp_path):
    assert portable.shards() != best.shards()  # or nothing is tested here
    job = copy_of(begun, tmp_path)
    device = check_line(job, "device")
    assert device.startswith("PASS") and ", path portable," in device
    assert f"the run computes on portable; a new run would choose {chosen_path(best)} here" in device
    job.run()
    job.check_finished(PROBLEMS, portable.shards())
    assert job.query("SELECT value FROM note WHERE key = 'device.path'") == [("portable",)]
    assert "a new run would choose" in (job.output / "run.log").read_text()
    assert "cpu paths" not in strata("status", job.output).out


def test_permission_alone_changes_nothing(portable, begun, tmp_path):
    job = copy_of(begun, tmp_path, run=ALLOWED)
    job.run()
    job.check_finished(PROBLEMS, portable.shards())


def test_another_path_by_name_is_refused(portable, begun, best, tmp_path):
    job = copy_of(begun, tmp_path, model={"cpu_path": chosen_path(best)})
    refused = check_line(job, "device", expect=JOB)
    assert refused.startswith("FAIL")
    for line in (refused, job.run(expect=JOB).last()):
        assert "computes on the CPU path portable and model.cpu_path asks for" in line
        assert "run.allow_cpu_path_change: true" in line
    job.change(model={"cpu_path": None})
    job.run()
    job.check_finished(PROBLEMS, portable.shards())


def lose_path(job):
    """Lets the ledger say that the run went on, on a path that no processor has."""
    import sqlite3
    with sqlite3.connect(job.output / "ledger.sqlite") as ledger:
        kernels = ledger.execute("SELECT value FROM identity WHERE key = 'device.identity'").fetchone()[0].split("kernels=")[1]
        ledger.execute("INSERT INTO note VALUES('device.changes', ?)", (f"3 cpu path=abacus kernels={kernels}\n",))
    ledger.close()


def test_a_path_that_is_not_there_is_refused(begun, best, tmp_path):
    job = copy_of(begun, tmp_path)
    lose_path(job)
    for line in (check_line(job, "device", expect=DEVICE), job.run(expect=DEVICE).last()):
        assert "computes on the CPU path abacus, which this machine does not support (model.device: unknown CPU path 'abacus': " in line
        assert f"; a new run would choose {chosen_path(best)})" in line and "run.allow_cpu_path_change: true" in line
    assert job.query("SELECT batches FROM partial") == [(2,)]  # nothing is lost by a refusal
    job.change(run=ALLOWED)
    identity = check_line(job, "identity")
    assert "resumed after 3 sealed batches; the run computed on abacus; run.allow_cpu_path_change lets it resume" in identity
    job.run()
    job.check_finished(PROBLEMS)


def test_a_finished_run_needs_no_path(portable, tmp_path):
    job = copy_of(portable, tmp_path)
    lose_path(job)
    done = job.run()
    job.check_finished(PROBLEMS, portable.shards())
    assert "abacus" not in done.err


# ---- changing it

def test_a_change_is_told(begun, changed, best, tmp_path):
    changed.check_finished(PROBLEMS)
    event = changed.events("device")[-1][1]
    assert event.startswith(f"the CPU path changes from portable to {chosen_path(best)} with batch 3: latents from there on "
                            "may differ in bits") and "the partial shard is dropped" in event
    paths = f"portable, {chosen_path(best)} from batch 3"
    assert f"  cpu paths   {paths}: latents may differ in bits between them\n" in strata("status", changed.output).out
    assert json.loads(strata("status", changed.output, "--json").out)["cpu_paths"] == paths
    for batch, path in ((0, "portable"), (3, chosen_path(best))):
        name = changed.query("SELECT id FROM problem WHERE batch = ?", batch)[0][0]
        assert f"  cpu path    {path}; the run used others" in strata("show", changed.output, name).out
    strata("export", changed.output, "--format", "npy", "--to", tmp_path / "exported")
    exported = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert exported["identity"]["device.paths"] == paths


def test_every_shard_is_of_one_path(portable, best, begun, changed):
    names = sorted(changed.shards())
    assert changed.shards()[names[0]] == portable.shards()[names[0]] == begun.shards()[names[0]]
    found, on_portable, on_best = read_latents(changed), read_latents(portable), read_latents(best)
    for key, shard in changed.query("SELECT id, shard FROM problem WHERE state = 0"):
        expected = on_portable if shard == 0 else on_best
        for layer in ("hs_000", "hs_002", "hs_003"):
            assert found[key][layer].tobytes() == expected[key][layer].tobytes(), (key, shard)
    # Shards of the other path belong to another identity than those before.
    first, *later = identities(changed)
    assert first == identities(portable)[0] and len(set(later)) == 1 and later[0] != first


def test_a_changed_run_keeps_to_its_last_path(begun, best, changed, tmp_path):
    job = copy_of(begun, tmp_path, model={"cpu_path": chosen_path(best)}, run=ALLOWED)
    job.run("--stop-after", 4, expect=STOPPED)
    job.change(model={"cpu_path": None}, run={"allow_cpu_path_change": False})
    job.run()
    job.check_finished(PROBLEMS, changed.shards())


def test_a_change_of_which_nothing_was_sealed_leaves_no_trace(portable, begun, best, tmp_path):
    job = copy_of(begun, tmp_path, model={"cpu_path": chosen_path(best)}, run=ALLOWED)
    job.run("--stop-after", 1, expect=STOPPED)
    assert job.query("SELECT batches FROM partial") == [(1,)]
    job.change(model={"cpu_path": "portable"})
    job.run()
    job.check_finished(PROBLEMS, portable.shards())
    assert "cpu paths" not in strata("status", job.output).out


def test_killed_while_it_changes(begun, best, changed, tmp_path):
    """Whenever the launch that changes dies, the next comes to the same shards: none holds batches of both paths."""
    def fresh(name):
        return copy_of(begun, tmp_path / name, model={"cpu_path": chosen_path(best)}, run=ALLOWED)

    _, lines = traced(fresh("count"), CHANGING)
    if not lines:
        pytest.skip("at_call does not know this processor")
    kills = 0
    for number in range(1, len(lines) + 1, max(1, len(lines) // 30)):
        job = fresh(str(number))
        kills += traced(job, CHANGING, "--kill", str(number))[0].code == 128 + 9
        job.run()
        job.check_finished(PROBLEMS, changed.shards())
        shutil.rmtree(job.folder)
    assert kills > 20
