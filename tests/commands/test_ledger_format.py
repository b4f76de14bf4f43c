# SPDX-License-Identifier: MIT
"""A run that a program of an older ledger format began: looked at as it is, and carried on by this one to the same bytes."""
import json
import sqlite3

import pytest

from support import OK, STOPPED, Job, make_problems, strata

PROBLEMS = 20
FIGURES = ["upload_seconds", "device_seconds", "download_seconds", "memory_used", "process_memory", "utilization", "sm_clock",
           "power", "temperature", "throttle_reasons", "pcie_received", "pcie_sent", "xid"]


def make_format(job, number):
    """On the CPU all figures are NULL, and the chain is that of format 1 (tests/checkpoints/test_ledger_device.c holds
    a ledger that such a program wrote)."""
    ledger = sqlite3.connect(job.output / "ledger.sqlite")
    ledger.executescript("DROP TABLE total; DROP TABLE start; ALTER TABLE launch DROP COLUMN worked;"
                         "ALTER TABLE batch DROP COLUMN device; DROP TABLE retry; DROP TABLE retry_source; DROP TABLE superseded; DROP INDEX problem_failed")
    ledger.execute(f"PRAGMA user_version = {number}")
    ledger.commit()
    if number > 1:
        return
    for table in ("batch", "progress"):
        for name in FIGURES:
            ledger.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    ledger.commit()
    ledger.close()
    csv = job.output / "throughput.csv"
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    csv.write_text("".join(",".join(words[:-len(FIGURES)]) + "\n" for words in lines))


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_of_an_older_format_goes_on(tmp_path, number):
    reference = Job(tmp_path / "reference", make_problems(PROBLEMS))
    reference.run()
    job = reference.twin(tmp_path / "job")
    job.run("--stop-after", 4, expect=STOPPED)
    heading = strata("log", job.output).out.splitlines()[0]
    assert heading.endswith("    drift") and job.query(f"SELECT count(*) FROM batch WHERE coalesce({', '.join(FIGURES)}) > 0") == [(0,)]
    before = strata("status", job.output, "--json")
    make_format(job, number)
    older = strata("status", job.output, "--json")
    assert json.loads(older.out)["problems"] == json.loads(before.out)["problems"]  # counted, without kept sums
    for words in (("status",), ("log",), ("verify",), ("show", "p-00001"), ("export", "--format", "npy", "--to", tmp_path / "out")):
        done = strata(words[0], job.output, *words[1:])
        assert done.code == OK, done
    assert job.query("PRAGMA user_version") == [(number,)]
    checked = strata("check", job.file)
    assert checked.code == OK and "resumed after 3 sealed batches" in checked.out, checked
    job.run()
    assert job.query("PRAGMA user_version") == [(4,)]
    job.check_finished(PROBLEMS, reference.shards())
    assert job.outcomes() == reference.outcomes()
    lines = (job.output / "throughput.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1 and ("xid" in lines[0]) == (number > 1)  # one heading, one kind of line
