# SPDX-License-Identifier: MIT
"""StrataStream: every finished problem once, over workers and processes, while the run goes on, and behind a saved state."""

import json
import os
import shutil
import sqlite3
import threading

import numpy as np
import pytest

from commands.test_parts import Set
from export.made_run import done, latents, make_run, problem_id
from parity import torch
from strata_reader import Run, StrataDataset, StrataStream
from support import Job, make_problems, wait_for


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", problems=150, tokens=1)


@pytest.fixture
def growing(tmp_path):
    """A run that has sealed two shards."""
    return make_run(tmp_path / "run", problems=150, tokens=1, shards=2)


def grow(folder, whole):
    """What the run seals next: shards first, then the ledger with them."""
    for path in (whole / "shards").iterdir():
        shutil.copy(path, folder / "shards")
    shutil.copy(whole / "ledger.sqlite", folder / "ledger.new")
    os.replace(folder / "ledger.new", folder / "ledger.sqlite")


def names(stream):
    return [item["id"] for item in stream]


def test_every_problem_once(whole):
    wanted = [problem_id(o) for o in done(150)]
    plain = list(StrataStream(whole, layer=2))
    assert sorted(item["id"] for item in plain) == sorted(wanted)
    by_id = StrataDataset(whole, layer=2, ids=[item["id"] for item in plain])
    assert all(torch.equal(item["latents"], by_id[i]["latents"]) and item["metadata"] == by_id[i]["metadata"]
               for i, item in enumerate(plain))
    first, second, again = (names(StrataStream(whole, shuffle=20, seed=seed)) for seed in (1, 2, 1))
    assert sorted(first) == sorted(wanted) and first == again and first != second and first != names(plain)
    stream = StrataStream(whole, shuffle=200, seed=1)
    epochs = [names(stream), names(stream)]
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1])
    stream.set_epoch(0)
    assert names(stream) == epochs[0]
    chosen = names(StrataStream(whole, where=lambda meta: meta["split"] == "train", shuffle=5))
    assert sorted(chosen) == sorted(problem_id(o) for o in done(150) if o % 4 < 2)


@pytest.mark.parametrize("start, workers, ranks", [("fork", 2, 2), ("spawn", 1, 1)])
def test_workers_and_ranks(whole, start, workers, ranks, monkeypatch):
    monkeypatch.chdir(whole.parent)
    streams = [StrataStream(whole.name, layer=[0, 4], shuffle=8, rank=rank, world_size=ranks) for rank in range(ranks)]
    monkeypatch.chdir("/")  # workers open their files from here
    seen = []
    for stream in streams:
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers, multiprocessing_context=start)
        seen += [item["id"] for item in loader]
    assert sorted(seen) == sorted(problem_id(o) for o in done(150))


def test_a_growing_run_is_followed(growing, whole):
    stream = StrataStream(growing, layer=4, follow=True, poll=0.01)
    items = iter(stream)
    before = Run(growing)
    seen = [next(items)["id"] for _ in range(len(before))]
    assert set(seen) == set(before.ids)
    timer = threading.Timer(0.05, grow, (growing, whole))
    timer.start()
    seen += [item["id"] for item in items]  # ends with the run
    assert sorted(seen) == sorted(problem_id(o) for o in done(150))
    there = len(before)
    assert before.refresh() == len(done(150)) - there and before.refresh() == 0
    assert before.ids == Run(whole).ids and before.complete
    matrix = before.latents(4)[0]
    assert np.array_equal(matrix, np.concatenate([latents(o, 4) for o in done(150)]))


def test_nothing_comes(growing, whole):
    assert len(names(StrataStream(growing))) == len(Run(growing))  # without `follow`: what is there
    with pytest.raises(TimeoutError, match="no new shard"):
        names(StrataStream(growing, follow=True, poll=0, patience=0))
    with pytest.raises(TimeoutError):
        names(StrataStream(whole, follow=True, stay=True, poll=0, patience=0))
    # A buffer that is not full gives nothing while the run goes on.
    with pytest.raises(TimeoutError):
        next(iter(StrataStream(growing, follow=True, poll=0, patience=0, shuffle=1000)))
    grow(growing, whole)
    assert len(names(StrataStream(growing, follow=True, poll=0, patience=0, shuffle=1000))) == len(done(150))


@pytest.mark.parametrize("shuffle", [0, 1, 13, 1000])
def test_a_state_goes_on(growing, whole, shuffle):
    make = lambda **more: StrataStream(growing, layer=2, shuffle=shuffle, seed=3, **more)  # noqa: E731
    first = make()
    items = iter(first)
    seen = [next(items)["id"] for _ in range(9)]
    state = json.loads(json.dumps(first.state_dict()))
    rest = [item["id"] for item in items]
    second = make()
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert names(second) == rest  # draw for draw
    grow(growing, whole)
    third = make(follow=True)
    third.load_state_dict(state)
    seen += names(third)
    assert sorted(seen) == sorted(problem_id(o) for o in done(150))


def test_states_of_others_are_refused(growing):
    stream = StrataStream(growing)
    next(iter(stream))
    state = stream.state_dict()
    for other, what in ((StrataStream(growing, rank=1, world_size=2), "consumer"), (StrataStream(growing, seed=1), "seed"),
                        (StrataStream(growing, shuffle=5), "shuffle")):
        other.load_state_dict(state)
        with pytest.raises(ValueError, match=what):
            iter(other)
    with pytest.raises(ValueError, match="format"):
        stream.load_state_dict({"format": 7})
    with pytest.raises(KeyError, match="no hidden_states"):
        StrataStream(growing, layer=3)
    with pytest.raises(KeyError, match="no pre_norm"):
        StrataStream(growing, layer="pre_norm")
    with pytest.raises(ValueError, match="rank"):
        StrataStream(growing, rank=2, world_size=2)


def test_a_set_is_followed_from_its_first_part(tmp_path):
    job = Job(tmp_path, make_problems(40), batch={"problems": 2})
    parts = Set(job, 3)
    parts.run(1)
    stream = StrataStream(job.output, layer=0, follow=True, poll=0.02, shuffle=4)
    items = iter(stream)
    seen = [next(items)["id"]]
    state = json.loads(json.dumps(stream.state_dict()))
    worker = threading.Thread(target=lambda: [parts.run(part) for part in (0, 2)])
    worker.start()
    seen += [item["id"] for item in items]
    worker.join()
    assert sorted(seen) == [f"p-{number:05d}" for number in range(40)]
    one = names(StrataStream([parts.part(1).output], follow=True, patience=60))
    assert one == names(StrataStream([parts.part(1).output])) and 0 < len(one) < 40
    again = StrataStream(job.output, layer=0, shuffle=4)
    again.load_state_dict(state)
    assert sorted([seen[0], *names(again)]) == sorted(seen)
    other = Job(tmp_path / "other", make_problems(12))
    other.run()
    stranger = StrataStream(other.output, layer=0, shuffle=4)
    stranger.load_state_dict(state)
    with pytest.raises(ValueError, match="job"):
        iter(stranger)


@pytest.mark.parametrize("apart", [False, True], ids=["in the run directory", "ledger apart"])
def test_a_run_is_followed_from_its_start(tmp_path, apart):
    """Killed in between and started again; with run.ledger the ledger moves when a launch ends."""
    local = {"ledger": str(tmp_path / "local")} if apart else {}
    job = Job(tmp_path / "job", make_problems(60), batch={"problems": 2}, run={"checkpoint_every": 1, **local})
    job.output.mkdir()
    runner = job.start()
    try:
        wait_for(job.has_ledger)
        items = []
        for item in StrataStream(job.output, layer=3, follow=True, poll=0.01):
            items.append(item)
            if len(items) == 4:  # maybe the run is complete by now: then this changes nothing
                runner.kill()
                runner.communicate()
                runner = job.start()
    finally:
        runner.communicate()
    assert sorted(item["id"] for item in items) == [f"p-{number:05d}" for number in range(60)]
    whole = StrataDataset(job.output, layer=3, ids=[item["id"] for item in items])
    assert all(torch.equal(item["latents"], whole[i]["latents"]) for i, item in enumerate(items))


def test_a_run_whose_ledger_was_just_made(tmp_path, whole):
    (tmp_path / "run" / "shards").mkdir(parents=True)
    (tmp_path / "run" / "ledger.sqlite").touch()
    run = Run(tmp_path / "run")
    assert len(run) == 0 and run.sealed() == run.layers == run.ids == run.left_out == [] and not run.complete
    items = iter(StrataStream(tmp_path / "run", layer=2, follow=True, poll=0.01))
    timer = threading.Timer(0.05, grow, (tmp_path / "run", whole))
    timer.start()
    assert sorted(item["id"] for item in items) == sorted(problem_id(o) for o in done(150))
    assert run.refresh() == len(done(150)) and run.complete
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE recipes (name)")
    other.close()
    os.replace(tmp_path / "other.db", tmp_path / "run" / "ledger.sqlite")
    with pytest.raises(ValueError, match="format 0"):
        Run(tmp_path / "run")


def test_workers_follow_a_run(tmp_path):
    job = Job(tmp_path, make_problems(40), batch={"problems": 2}, run={"checkpoint_every": 1})
    runner = job.start()
    try:
        wait_for(job.has_ledger)
        loader = torch.utils.data.DataLoader(StrataStream(job.output, layer=3, follow=True, poll=0.02), batch_size=None, num_workers=2)
        seen = [item["id"] for item in loader]
    finally:
        runner.communicate()
    assert sorted(seen) == [f"p-{number:05d}" for number in range(40)]
