# SPDX-License-Identifier: MIT
"""The Python reader on sets: the parts of a job read as the one run that they are together."""

import pickle
import shutil
import sqlite3

import numpy as np
import pytest

from commands.test_parts import Set
from strata_reader import Run, ledger
from support import Job, make_problems

COUNT, PARTS = 150, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, and the same job in parts, with a failed problem in the second of them."""
    folder = tmp_path_factory.mktemp("sets")
    problems = make_problems(COUNT, seed=6)
    problems[50]["statement"] = "a\0b"
    whole = Job(folder / "whole", problems, problems={"max_failed": 1}, latents={"pooling": "step_mean", "dtype": "float16"})
    whole.run()
    parts = Set(whole.twin(folder / "set"), PARTS)
    parts.run_all()
    return whole.output, parts


def folders(made):
    return [made.part(index).output for index in range(made.parts)]


def values_of(problem):
    """All of a problem, its arrays as bytes."""
    return {name: {key: (part.dtype, part.tobytes()) for key, part in value.items()} if name in ("rows", "latents") else value
            for name, value in problem.items()}


@pytest.fixture(params=["set", "list"])
def pair(request, made):
    whole, parts = made
    with Run(whole) as one, Run(parts.job.output if request.param == "set" else folders(parts)[::-1]) as other:
        yield one, other


def test_a_set_is_the_run_undivided(pair):
    one, other = pair
    assert (one.parts, one.missing, one.unfinished, one.complete) == (1, [], [], True)
    assert (other.parts, other.missing, other.unfinished, other.complete) == (PARTS, [], [], True)
    assert one.ids == other.ids and len(one) == len(other) == COUNT - 1
    assert one.left_out == other.left_out and [left["ordinal"] for left in one.left_out] == [50]
    assert (one.layers, one.hidden, one.attributes["pooling"]) == (other.layers, other.hidden, other.attributes["pooling"])
    assert [values_of(problem) for problem in one] == [values_of(problem) for problem in other]
    for layer in one.layers:
        for dtype in (np.float32, np.float16):
            (matrix, offset), (same, again) = one.latents(layer, dtype), other.latents(layer, dtype)
            assert matrix.dtype == same.dtype and matrix.tobytes() == same.tobytes()
            assert offset.tobytes() == again.tobytes() == other.row_offset.tobytes()
        first = one[len(one) - 1]["latents"][layer]
        assert np.array_equal(first, one.latents(layer)[0][one.row_offset[-2]:])


def test_problems_by_id_and_position(pair):
    one, other = pair
    for position, name in enumerate(one.ids):
        assert other.position(name) == one.position(name) == position and name in other
        assert values_of(other[name]) == values_of(other[position]) == values_of(one[position])
        assert other.metadata(name) == one.metadata(position)
    assert values_of(other[-1]) == values_of(one[-1])
    assert "p-00050" not in other and "p-99999" not in other
    with pytest.raises(KeyError, match="no finished problem 'p-00050'"):
        other["p-00050"]
    with pytest.raises(IndexError):
        other[COUNT - 1]


@pytest.mark.parametrize("at_once", [500, 7])
def test_many_problems_by_id(pair, monkeypatch, at_once):
    """A part is asked once for all, not for each of them."""
    one, other = pair
    asked = []
    monkeypatch.setattr(ledger, "NAMES", at_once)
    monkeypatch.setattr(ledger.Ledger, "find", lambda *_: pytest.fail("asked for one"))
    ordinals = ledger.Ledger.ordinals
    monkeypatch.setattr(ledger.Ledger, "ordinals", lambda self, names: asked.append(len(names)) or ordinals(self, names))
    names = one.ids[::-1] + one.ids[3:5]
    assert other.positions([*names, -1]).tolist() == [*range(COUNT - 2, -1, -1), 3, 4, COUNT - 2]
    assert len(asked) == PARTS and asked == sorted(asked, reverse=True)
    assert other.positions([]).tolist() == [] and other.positions([]).dtype == np.int64
    with pytest.raises(KeyError, match="no finished problem 'p-00050'"):
        other.positions(["p-00001", "p-00050"])


def test_select(pair):
    one, other = pair
    chosen = other.select(lambda meta: meta["topic"] == "algebra")
    assert chosen.dtype == np.int64 and 0 < len(chosen) < len(other)
    assert chosen.tolist() == one.select(lambda meta: meta["topic"] == "algebra").tolist() == [
        position for position, problem in enumerate(one) if problem["metadata"]["topic"] == "algebra"]
    assert len(other.select(lambda meta: False)) == 0


def test_pickled(pair):
    other = pair[1]
    other.ids
    copy = pickle.loads(pickle.dumps(other))
    assert "ids" not in vars(copy) and len(copy._open) == 0 and values_of(copy[100]) == values_of(other[100])


def test_unfinished_sets(made, tmp_path):
    """What there is of a set can be read, and what is missing has a name."""
    whole, parts = made
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(parts.job.output / "set.json", folder)
    with Run(folder) as run:
        assert (run.parts, run.missing, run.complete, len(run), run.layers, run.left_out) == (PARTS, [0, 1, 2, 3], False, 0, [], [])
        assert list(run) == [] and len(run.row_offset) == 1
    for index in (0, 2):
        shutil.copytree(parts.part(index).output, folder / parts.name(index))
    (folder / parts.name(3)).mkdir()
    (folder / parts.name(3) / "ledger.sqlite").touch()  # it is about to begin
    connection = sqlite3.connect(folder / parts.name(2) / "ledger.sqlite")
    connection.execute("DELETE FROM problem WHERE checkpoint = (SELECT max(number) FROM checkpoint)")
    connection.execute("DELETE FROM checkpoint WHERE number = (SELECT max(number) FROM checkpoint)")
    connection.commit()
    connection.close()
    with Run(folder) as run, Run(whole) as one:
        assert (run.missing, run.unfinished, run.complete) == ([1, 3], [2], False)
        assert 0 < len(run) < COUNT / 2 and run.left_out == []
        matrix, offset = run.latents(run.layers[0])
        for position, problem in enumerate(run):
            assert values_of(problem) == values_of(one[problem["id"]]) == values_of(run[position])
            assert np.array_equal(matrix[offset[position]:offset[position + 1]], problem["latents"][run.layers[0]])
    with Run([parts.part(3).output, parts.part(1).output]) as run:
        assert (run.parts, run.missing, run.unfinished, run.complete) == (PARTS, [0, 2], [], False)
        assert run.ids == Run(parts.part(1).output).ids + Run(parts.part(3).output).ids


def test_parts_without_rows(tmp_path):
    parts = Set(Job(tmp_path, make_problems(3)), 5)
    parts.run_all()
    with Run(parts.job.output) as run:
        assert run.complete and run.ids == ["p-00000", "p-00001", "p-00002"] and [problem["ordinal"] for problem in run] == [0, 1, 2]
        assert run.row_offset[-1] == len(run.latents(run.layers[0])[0])


def change(folder, sql):
    connection = sqlite3.connect(folder / "ledger.sqlite")
    connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("sql, message", [
    ("UPDATE identity SET value = 'other' WHERE key = 'latents.pooling'", "is a part of another job than .*: latents.pooling differs"),
    ("DELETE FROM identity WHERE key = 'latents.pooling'", "latents.pooling differs"),
    ("UPDATE identity SET value = '0/4' WHERE key = 'part'", "are both part 0 of 4"),
    ("UPDATE identity SET value = '1/5' WHERE key = 'part'", "is one of 5 parts, not of 4"),
    ("UPDATE identity SET value = '3 to 60' WHERE key = 'part.rows'", "has rows of the part before it"),
    ("DELETE FROM identity WHERE key = 'part'", "is no part of a set"),
    ("PRAGMA user_version = 99", "has format 99")])
def test_parts_that_do_not_belong_together(made, tmp_path, sql, message):
    parts = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders(made[1])]
    change(parts[1], sql)
    with pytest.raises(ValueError, match=message):
        Run(parts)


def test_what_is_no_set(made, tmp_path):
    whole, parts = made
    with pytest.raises(ValueError, match="is no part of a set"):
        Run([whole])
    one = parts.part(0).output
    with pytest.raises(ValueError, match="are both part 0 of 4"):
        Run([one, one])
    assert Run(one).parts == 1 and len(Run(one)) < COUNT / 2
    assert (len(Run([])), Run([]).complete) == (0, False)
    (tmp_path / "set.json").write_text('{"format": 2, "parts": 3}')
    with pytest.raises(ValueError, match="set.json has format 2"):
        Run(tmp_path)


def test_a_damaged_ledger_is_told(made, tmp_path):
    folder = shutil.copytree(made[1].part(0).output, tmp_path / "part")
    change(folder, "DELETE FROM problem WHERE ordinal = 3")
    for look in (lambda run: run.latents(0), lambda run: run[3]):
        with pytest.raises(ValueError, match="is damaged: it does not list the"):
            look(Run(folder))
