# SPDX-License-Identifier: MIT
"""Runs that keep their ledger on a local disk apart from the run directory (run.ledger): what is where at every moment, and other
machines. Another machine is another local folder, where the first one's may be gone. Faults of the file server are in
test_ledger_apart_faults.py.
"""
import errno
import json
import re
import shutil
import signal

import pytest

import support
import test_faults as faults
from apart import STALL, apart, place, wait_for
from support import DATA, JOB, OK, STOPPED, WRITE, strata
from test_faults import PROBLEMS, reference  # noqa: F401 (a fixture)


def kill_in_second_shard(job, *arguments):
    """A launch that is killed when it has acknowledged one more shard than its resume would find in a copy."""
    done, _ = faults.traced(job, "rename", "--only", "out/shards/part-000001.h5.tmp", "--kill", "1", arguments=arguments)
    assert done.code == 128 + signal.SIGKILL
    assert not place(job)["copied"]
    assert len(job.acknowledged()) == 1


def killed_after_a_stop(reference, folder):
    """One launch ended and the next one began with a copy that has no shard; then it acknowledged one, and was killed."""
    job = apart(reference, folder)
    job.run("--stop-after", 1, expect=STOPPED)
    kill_in_second_shard(job)
    return job


def test_a_finished_run_is_complete_in_the_run_directory(reference, tmp_path):
    job = apart(reference, tmp_path)
    job.run()
    assert sorted(path.name for path in job.local.iterdir()) == ["ledger.json", "ledger.sqlite", "lock", "shards"]
    assert list((job.local / "shards").iterdir()) == []
    assert place(job)["copied"] and place(job)["path"] == str(job.local)
    shutil.rmtree(job.local)
    job.check_finished(PROBLEMS, reference.shards())
    assert job.outcomes() == reference.outcomes()
    assert strata("status", job.output).code == OK
    assert strata("show", job.output, "p-00000").code == OK
    assert strata("export", job.output, "--format", "npy", "--to", tmp_path / "export").code == OK
    from strata_reader import Run
    assert len(Run(job.output)) == PROBLEMS
    assert "ledger" not in " ".join(path.name for path in reference.output.glob("*.json"))
    again = job.run()  # with nothing to do, from the copy
    assert "12 done" in again.out
    job.check_finished(PROBLEMS, reference.shards())


def test_a_stopped_run_goes_on_on_another_machine(reference, tmp_path):
    first = apart(reference, tmp_path)
    first.run("--stop-after", 3, expect=STOPPED)
    assert (first.output / "shards" / "part-000001.partial.h5").exists()
    other = apart(reference, tmp_path, "node-b", first.output)
    done = other.run()
    assert "this launch: 1 batches" in done.out  # three are kept
    other.check_finished(PROBLEMS, reference.shards())
    assert other.outcomes() == reference.outcomes()
    # Back on the first one, whose ledger is older than the copy.
    assert "12 done" in first.run().out
    assert first.query("SELECT max(epoch) FROM launch") == [(3,)]


def test_the_ledger_may_come_home_and_leave_again(reference, tmp_path):
    home = reference.twin(tmp_path)
    home.run("--stop-after", 1, expect=STOPPED)
    away = apart(reference, tmp_path, "node-a", home.output)
    away.run("--stop-after", 1, expect=STOPPED)
    assert place(away)["copied"]
    home.run("--stop-after", 1, expect=STOPPED)
    assert not (home.output / "ledger.json").exists()
    away.run()  # its own ledger is older than the run directory's
    away.check_finished(PROBLEMS, reference.shards())
    assert away.query("SELECT count(*) FROM launch") == [(4,)]


def test_readers_find_the_ledger_of_a_launch_that_was_killed(reference, tmp_path):
    from strata_reader import Run

    job = killed_after_a_stop(reference, tmp_path)
    status = json.loads(strata("status", job.output, "--json").out)
    assert (status["state"], status["shards"]["count"], status["elsewhere"]) == ("killed", 1, None)
    assert len(Run(job.output)) == 6
    assert strata("verify", job.output).code == OK
    job.local.rename(tmp_path / "gone")  # as another machine sees it
    status = json.loads(strata("status", job.output, "--json").out)
    assert status["shards"]["count"] == 0
    words = rf"launch 2 works on \S+ with the ledger in {re.escape(str(job.local))}"
    assert re.fullmatch(words, status["elsewhere"])
    assert re.search(rf"elsewhere   {words}", strata("status", job.output).out)
    assert len(Run(job.output)) == 0
    verified = strata("verify", job.output)
    assert verified.code == OK and re.search(rf"NOTE  {words}", verified.out), verified
    (tmp_path / "gone").rename(job.local)
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def killed_before_its_copy(reference, folder):
    """A first launch that was killed when it had announced itself and made no copy."""
    job = apart(reference, folder)
    done, _ = faults.traced(job, "openat", "--only", "out/ledger.sqlite.tmp", "--kill", "1")
    assert done.code == 128 + 9 and not place(job)["copied"] and not (job.output / "ledger.sqlite").exists()
    return job


def test_without_any_copy(reference, tmp_path):
    from strata_reader import Run

    job = killed_before_its_copy(reference, tmp_path)
    job.local.rename(tmp_path / "gone")
    for command in ("status", "verify"):
        done = strata(command, job.output)
        assert done.code == DATA and "has no copy of its ledger" in done.last() and str(job.local) in done.last(), done
    with pytest.raises(FileNotFoundError, match="no copy of its ledger"):
        Run(job.output)
    refused = apart(reference, tmp_path, "node-b", job.output).run(expect=WRITE).last()
    assert "there is no copy of it yet" in refused and str(job.local) in refused and "--from-copy starts anew" in refused
    (tmp_path / "gone").rename(job.local)
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def test_a_run_without_any_copy_may_start_anew(reference, tmp_path):
    """Nothing was acknowledged; the ledger of the launch that was left behind does not come back."""
    first = killed_before_its_copy(reference, tmp_path)
    other = apart(reference, tmp_path, "node-b", first.output)
    fail_to_announce(other, "--from-copy")
    other.run("--from-copy", "--stop-after", 3, expect=STOPPED)
    assert "left behind" in (first.output / "run.log").read_text()
    assert len(other.acknowledged()) == 1 and other.query("SELECT max(epoch) FROM launch") == [(2,)]
    first.run()
    first.check_finished(PROBLEMS, reference.shards())


def test_a_start_that_was_left_behind_before_its_copy_ends(reference, tmp_path):
    """It was not dead: it reads its model, and finds out when it makes its first copy."""
    first = apart(reference, tmp_path)
    waits = tmp_path / "waits"
    waits.touch()
    started = first.start(environment=support.clean_environment(LD_PRELOAD=str(STALL), STALL_PATH="out/ledger.sqlite.tmp",
                                                                STALL_WHEN=str(waits)))
    try:
        wait_for(lambda: list(first.output.glob("ledger.sqlite*.tmp")), started)
        (first.output / "lock").unlink()
        other = apart(reference, tmp_path, "node-b", first.output)
        other.run("--from-copy")
        copy = support.file_hash(other.output / "ledger.sqlite")
    finally:
        waits.unlink()
    _, said = started.communicate(timeout=60)
    assert started.returncode == WRITE and b"this runner is superseded" in said, said
    assert support.file_hash(other.output / "ledger.sqlite") == copy
    other.check_finished(PROBLEMS, reference.shards())


def test_a_place_that_was_removed_under_a_runner(reference, tmp_path):
    job = apart(reference, tmp_path)
    waits = tmp_path / "waits"  # from the first shard on
    waits.symlink_to(job.output / "shards" / "part-000000.h5")
    started = job.start(environment=support.clean_environment(LD_PRELOAD=str(STALL), STALL_PATH="out/ledger.sqlite.tmp",
                                                              STALL_WHEN=str(waits)))
    try:
        wait_for(lambda: waits.exists() and list(job.output.glob("ledger.sqlite*.tmp")), started)
        (job.output / "ledger.json").unlink()
    finally:
        waits.unlink()
    _, said = started.communicate(timeout=60)
    assert started.returncode == WRITE and b"has no ledger.json any more" in said, said
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def test_shards_without_any_copy_are_not_removed(reference, tmp_path):
    """Somebody has removed the copy: what the shards are worth, the ledger alone knows."""
    job = killed_after_a_stop(reference, tmp_path)
    (job.output / "ledger.sqlite").unlink()
    kept = job.shards()
    job.local.rename(tmp_path / "gone")
    refused = apart(reference, tmp_path, "node-b", job.output).run("--from-copy", expect=DATA).last()
    assert "restore the copy" in refused and str(job.local) in refused
    assert job.shards() == kept
    (tmp_path / "gone").rename(job.local)
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def test_a_copy_that_was_removed(reference, tmp_path):
    """The ledger it was made of is still there, on one machine."""
    from strata_reader import Run

    job = apart(reference, tmp_path)
    job.run("--stop-after", 3, expect=STOPPED)
    (job.output / "ledger.sqlite").unlink()
    assert strata("verify", job.output).code == OK and len(Run(job.output)) == 6
    job.local.rename(tmp_path / "gone")
    words = f"launch 1 ended on {place(job)['host']} with the ledger in {job.local}; look from there"
    assert words in strata("verify", job.output).last()
    refused = apart(reference, tmp_path, "node-b", job.output).run("--from-copy", expect=DATA).last()
    assert "restore it, or run the same command on " in refused and str(job.local) in refused
    (tmp_path / "gone").rename(job.local)
    fail_to_announce(job)  # which leaves the ledger with another token
    job.run()
    job.check_finished(PROBLEMS, reference.shards())
    assert (job.output / "ledger.sqlite").exists()


def test_a_run_directory_that_was_removed(reference, tmp_path):
    """The refused launch leaves a copy of the ledger there: to start anew both have to go."""
    job = apart(reference, tmp_path)
    job.run("--stop-after", 3, expect=STOPPED)
    shutil.rmtree(job.output)
    assert f"to start anew, remove {job.output} and {job.local}" in job.run(expect=DATA).last()
    shutil.rmtree(job.output)
    shutil.rmtree(job.local)
    job.run()
    job.check_finished(PROBLEMS, reference.shards())


def test_a_first_launch_that_was_killed_leaves_a_copy(reference, tmp_path):
    """Another machine may go on from it, though no launch has ever ended."""
    first = apart(reference, tmp_path)
    kill_in_second_shard(first)
    other = apart(reference, tmp_path, "node-b", first.output)
    other.run("--from-copy")
    other.check_finished(PROBLEMS, reference.shards())
    assert other.outcomes() == reference.outcomes()


def test_parts_have_ledgers_of_their_own(reference, tmp_path):
    job = apart(reference, tmp_path)
    for part in ("0/2", "1/2"):
        job.run("--part", part)
    assert sorted(path.name for path in job.local.iterdir()) == ["part-0000-of-0002", "part-0001-of-0002"]
    shutil.rmtree(job.local)
    for part in job.output.glob("part-*"):
        assert json.loads((part / "ledger.json").read_text())["copied"]
    verified = strata("verify", job.output)
    assert verified.code == OK and "complete: all 12 problems" in verified.out, verified


def test_a_part_that_is_computed_elsewhere(reference, tmp_path):
    """The state of a set, seen from a machine that runs none of it: the copies, and before there is one nothing."""
    job = apart(reference, tmp_path)
    job.run("--part", "0/2")
    part = job.output / "part-0001-of-0002"
    for when, words in ((1, "1 finished"), (2, "1 finished, 1 running|1 running, 1 finished")):
        faults.traced(job, "rename", "--only", f"{part.name}/ledger.sqlite.tmp", "--kill", str(when), arguments=("--part", "1/2"))
        assert not json.loads((part / "ledger.json").read_text())["copied"]
        job.local.rename(tmp_path / "gone")
        seen = strata("status", job.output)
        assert seen.code == OK and re.search(words, seen.out), seen
        (tmp_path / "gone").rename(job.local)
    job.run("--part", "1/2")
    assert strata("verify", job.output).code == OK


def test_another_machine_is_refused_and_may_go_on_from_the_copy(reference, tmp_path):
    first = killed_after_a_stop(reference, tmp_path)
    other = apart(reference, tmp_path, "node-b", first.output)
    before = support.file_hash(first.output / "ledger.json")
    for command in (other.command(), [str(support.STRATA), "check", str(other.file)]):
        refused = strata(*command[1:])
        text = refused.err + refused.out
        assert refused.code == WRITE and "--from-copy" in text and str(first.local) in text and place(first)["host"] in text
    home = reference.twin(tmp_path / "home", run={"output": str(first.output)})
    assert "run the job there with run.ledger" in home.run(expect=WRITE).last()
    assert support.file_hash(first.output / "ledger.json") == before
    assert len(first.acknowledged()) == 1
    other.run("--from-copy")
    events = other.events("ledger")
    assert len(events) == 1 and "at most 1 shards that it sealed are computed again" in events[0][1]
    assert other.query("SELECT max(epoch) FROM launch") == [(3,)]
    other.check_finished(PROBLEMS, reference.shards())
    assert other.outcomes() == reference.outcomes()
    # The first machine's ledger has a shard that nobody counts on any more.
    assert "12 done" in first.run().out
    first.check_finished(PROBLEMS, reference.shards())


def test_a_launch_that_was_left_behind_does_not_come_back(reference, tmp_path):
    """The copy has fewer checkpoints than the ledger that was left behind, and yet it counts."""
    first = killed_after_a_stop(reference, tmp_path)
    other = apart(reference, tmp_path, "node-b", first.output)
    other.run("--from-copy", "--stop-after", 1, expect=STOPPED)
    assert other.acknowledged() == {}
    first.run()
    first.check_finished(PROBLEMS, reference.shards())
    assert first.query("SELECT max(epoch) FROM launch") == [(4,)]


def identities(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("hangs", ["local/shards/part-000000.h5.tmp", "out/shards/part-000000.h5.tmp"], ids=["before-copying", "read-back"])
def test_a_runner_that_was_superseded_ends(reference, tmp_path, hangs):
    """Without locks between machines: what the run directory says of its ledger keeps the first one out, which touches nothing
    that the other one has acknowledged."""
    first = apart(reference, tmp_path)
    first.run("--stop-after", 1, expect=STOPPED)
    waits = tmp_path / "waits"
    waits.touch()
    started = first.start(environment=support.clean_environment(LD_PRELOAD=str(STALL), STALL_PATH=hangs, STALL_WHEN=str(waits)))
    try:
        full = first.local if hangs.startswith("local") else first.output
        wait_for(lambda: list(full.glob("shards/part-000000.h5*.tmp")), started)
        other = apart(reference, tmp_path, "node-b", first.output)
        refused = other.run("--from-copy", expect=WRITE)
        assert "another runner is active" in refused.last()
        (first.output / "lock").unlink()
        other.run("--from-copy")
        copy = support.file_hash(other.output / "ledger.sqlite")
        shards = identities(other.output / "shards")
    finally:
        waits.unlink()
    _, said = started.communicate(timeout=60)
    assert started.returncode == WRITE, said
    assert identities(other.output / "shards") == shards
    assert support.file_hash(other.output / "ledger.sqlite") == copy
    other.check_finished(PROBLEMS, reference.shards())


@pytest.mark.parametrize("hangs", ["ledger.sqlite", "ledger.json"])
def test_the_end_of_a_runner_that_was_superseded(reference, tmp_path, hangs):
    """It hangs while it makes its last copies, and has nothing to say any more: what the other one has acknowledged stays."""
    first = apart(reference, tmp_path)
    waits = tmp_path / "waits"  # from the first shard on
    waits.symlink_to(first.output / "shards" / "part-000000.h5")
    started = first.start("--stop-after", "3", environment=support.clean_environment(
        LD_PRELOAD=str(STALL), STALL_PATH=f"out/{hangs}.tmp", STALL_WHEN=str(waits)))
    try:
        wait_for(lambda: waits.exists() and list(first.output.glob(f"{hangs}*.tmp")), started)
        (first.output / "lock").unlink()
        other = apart(reference, tmp_path, "node-b", first.output)
        other.run("--from-copy")
        said_there = place(other)
        copy = support.file_hash(other.output / "ledger.sqlite")
    finally:
        waits.unlink()
    _, said = started.communicate(timeout=60)
    assert started.returncode == WRITE and b"this runner is superseded" in said, said
    assert place(other) == said_there and said_there["copied"]
    assert support.file_hash(other.output / "ledger.sqlite") == copy
    assert list(first.output.glob("*.tmp")) == []
    assert "12 done" in apart(reference, tmp_path, "node-c", first.output).run().out
    other.check_finished(PROBLEMS, reference.shards())


def test_refusals(reference, tmp_path):
    job = apart(reference, tmp_path)
    job.run()
    stranger = reference.twin(tmp_path / "stranger", run={"ledger": str(job.local)})
    refused = stranger.run(expect=WRITE)
    assert "has the ledger of another run" in refused.last()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(".")
    for name in ("out", "out/shards", "out/new/folder", "link/out/shards", "out/part-0000-of-0002"):
        inside = reference.twin(tmp_path / "inside", run={"ledger": name})
        for words in (("run",), ("run", "--part", "1/2"), ("check",)):
            refused = strata(words[0], inside.file, *words[1:])
            assert refused.code == JOB and "it is a folder of its own" in refused.err + refused.out, refused
        assert not inside.output.exists()
    reference.twin(tmp_path / "beside", run={"ledger": "out-ledger"}).run()
    for text in ('{"format": 1}', "{"):
        (job.output / "ledger.json").write_text(text)
        for words in (("status", job.output), ("verify", job.output), ("run", job.file)):
            refused = strata(*words)
            assert refused.code == DATA and "ledger.json" in refused.last() and "restore it" in refused.last()
    shutil.copy(job.local / "ledger.json", job.output)
    assert "12 done" in job.run().out


def test_a_folder_that_a_killed_start_left_is_taken(reference, tmp_path):
    """A copy was put into the local folder, and nothing more."""
    job = apart(reference, tmp_path)
    job.run("--stop-after", 1, expect=STOPPED)
    other = apart(reference, tmp_path, "node-b", job.output)
    for number in range(1, 12):
        faults.traced(other, "rename,unlink,fsync", "--kill", str(number))
    other.run()
    other.check_finished(PROBLEMS, reference.shards())


def fail_to_announce(job, *arguments):
    """A start that the server does not let say, in the run directory, that the ledger is here now."""
    done, _ = faults.traced(job, "rename", "--only", "out/ledger.json.tmp", "--fail", f"1:{errno.ENOSPC}", arguments=arguments)
    assert done.code == WRITE and "make room" in done.last(), done


def finish_elsewhere(reference, first, other):
    """The last run of `other`, which must not remove what `first` has acknowledged."""
    kept = first.shards()
    other.run("--stop-after", 1, expect=STOPPED)
    assert {name: other.shards().get(name) for name in kept} == kept
    other.run()
    other.check_finished(PROBLEMS, reference.shards())
    assert other.outcomes() == reference.outcomes()


def fall_behind(reference, first, other):
    """Starts of `other` count up in its ledger alone, while `first` seals a shard; then `other` goes on with that."""
    for _ in range(3):
        fail_to_announce(other)
    first.run("--stop-after", 2, expect=STOPPED)
    assert len(first.acknowledged()) == 1
    finish_elsewhere(reference, first, other)


def test_starts_that_were_never_announced_count_for_nothing(reference, tmp_path):
    """Each counts its launch in the local ledger; then another machine goes on, with fewer launches and more shards."""
    first = apart(reference, tmp_path)
    first.run("--stop-after", 1, expect=STOPPED)
    other = apart(reference, tmp_path, "node-b", first.output)
    fall_behind(reference, first, other)


def test_a_start_that_was_never_announced_knows_no_partial_shard(reference, tmp_path):
    """Launch and checkpoint are those of the copy, which has a partial shard of more batches."""
    reference = reference.twin(tmp_path / "reference", run={"checkpoint_every": 50})
    reference.run()
    first = apart(reference, tmp_path)
    first.run("--stop-after", 1, expect=STOPPED)
    other = apart(reference, tmp_path, "node-b", first.output)
    fail_to_announce(other)
    first.run("--stop-after", 1, expect=STOPPED)
    assert "this launch: 2 batches" in other.run().out
    other.check_finished(PROBLEMS, reference.shards())


def test_starts_that_were_never_announced_while_the_ledger_was_at_home(reference, tmp_path):
    home = reference.twin(tmp_path)
    home.run("--stop-after", 1, expect=STOPPED)
    away = apart(reference, tmp_path, "node-a", home.output)
    fall_behind(reference, home, away)


def test_permission_to_leave_a_ledger_behind_is_for_one_start(reference, tmp_path):
    """The start failed; the machine that was to be left behind has the newest ledger still."""
    first = killed_after_a_stop(reference, tmp_path)
    other = apart(reference, tmp_path, "node-b", first.output)
    fail_to_announce(other, "--from-copy")
    assert "--from-copy" in other.run(expect=WRITE).last()
    assert len(first.acknowledged()) == 1
    first.run()
    first.check_finished(PROBLEMS, reference.shards())
    assert "12 done" in other.run().out
