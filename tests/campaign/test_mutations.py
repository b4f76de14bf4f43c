# SPDX-License-Identifier: MIT
"""Finished runs with a change in one file: verify finds it, or it changes nothing that was acknowledged."""
import collections
import pathlib
import random
import shutil
import sqlite3

import pytest
from support import OK, Job, make_problems, strata

import campaign

PROBLEMS = 40
ACKNOWLEDGED = ("identity", "survey", "checkpoint", "shard", "problem", "batch")  # tables that the chain of hashes covers


@pytest.fixture(scope="module")
def reference():
    with campaign.memory_folder() as folder:
        job = Job(pathlib.Path(folder) / "reference", make_problems(PROBLEMS, steps=3), latents={"layers": [-2, -1]},
                  run={"checkpoint_every": 2})
        job.run()
        yield job


def rows(ledger):
    """All that was acknowledged, or None when SQLite cannot read it."""
    try:
        database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
        try:
            found = [database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ACKNOWLEDGED]
            beginning = found[ACKNOWLEDGED.index("checkpoint")]
            # When the run began, and by which launch, no hash covers and nothing depends on.
            beginning[0] = beginning[0][:1] + beginning[0][3:]
            return found
        finally:
            database.close()
    except (sqlite3.Error, UnicodeDecodeError, IndexError):
        return None


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path, rng):
    path.write_bytes(path.read_bytes()[:rng.randrange(path.stat().st_size)])


def zero(path, rng):
    data = bytearray(path.read_bytes())
    begin = rng.randrange(len(data))
    length = min(rng.choice((1, 16, 512, 4096)), len(data) - begin)
    data[begin:begin + length] = bytes(length)
    path.write_bytes(data)


def append(path, rng):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice((1, 8, 4096))))


def swap(path, rng):
    other = rng.choice(sorted(path.parent.glob("part-*.h5")))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def change_row(path, rng):
    """One value of one row of the ledger, as SQL would change it."""
    database = sqlite3.connect(path)
    table = rng.choice(ACKNOWLEDGED)
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    keys = [row[0] for row in database.execute(f"SELECT rowid FROM {table}")]
    column = rng.choice(columns)
    try:
        database.execute(f"UPDATE {table} SET {column} = CASE typeof({column}) WHEN 'text' THEN {column} || 'x' "
                         f"WHEN 'null' THEN 'x' ELSE {column} + 1 END WHERE rowid = ?", (rng.choice(keys),))
        database.commit()
    except sqlite3.Error:
        pass  # the ledger's own rules refused it
    database.close()


def remove_row(path, rng):
    database = sqlite3.connect(path)
    table = rng.choice(ACKNOWLEDGED)
    keys = [row[0] for row in database.execute(f"SELECT rowid FROM {table}")]
    database.execute(f"DELETE FROM {table} WHERE rowid = ?", (rng.choice(keys),))
    database.commit()
    database.close()


def same(job, reference):
    """Whether all that was acknowledged is there: rows of the ledger, bytes of the shards."""
    return rows(job.output / "ledger.sqlite") == rows(reference.output / "ledger.sqlite") and job.shards() == reference.shards()


def test_mutations(reference):
    rng, wanted = random.Random(11), campaign.attempts(70, 2000)
    assert rows(reference.output / "ledger.sqlite")  # None is equal to None
    counts, wrong = collections.Counter(), []
    for number in range(wanted):
        job = reference.twin(reference.folder.parent / f"mutated-{number}")
        shutil.copytree(reference.output, job.output)
        ledger, shards = job.output / "ledger.sqlite", sorted((job.output / "shards").glob("part-*.h5"))
        path, change = rng.choice([(rng.choice(shards), rng.choice((flip, cut, zero, append, swap))),
                                   (ledger, rng.choice((flip, cut, zero, change_row, remove_row)))])
        change(path, rng)
        harmless = same(job, reference)
        found = strata("verify", job.output)
        if found.code not in (OK, 65):
            wrong.append(f"{number}: {change.__name__} of {path.name}: {found}")
        elif found.code == OK and not harmless:
            wrong.append(f"{number}: {change.__name__} of {path.name} was not found")
        counts["found" if found.code != OK else "harmless"] += 1
        shutil.rmtree(job.folder)
    campaign.record("mutated run directories", wrong, mutations=wanted, **counts)
    assert counts["found"] > wanted // 3
