"""A run that a program of ledger format 1 began: looked at as it is, and carried on by this one to the same bytes."""
import sqlite3

from support import OK, STOPPED, Job, make_problems, strata

PROBLEMS = 20
FIGURES = ["upload_seconds", "device_seconds", "download_seconds", "memory_used", "process_memory", "utilization", "sm_clock",
           "power", "temperature", "throttle_reasons", "pcie_received", "pcie_sent", "xid"]


def make_format_1(job):
    """On the CPU all figures are NULL, and the chain is that of format 1 (tests/checkpoints/test_ledger_device.c holds
    a ledger that such a program wrote)."""
    ledger = sqlite3.connect(job.output / "ledger.sqlite")
    for table in ("batch", "progress"):
        for name in FIGURES:
            ledger.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    for what in ("TABLE retry", "TABLE retry_source", "TABLE superseded", "INDEX problem_failed"):
        ledger.execute("DROP " + what)
    ledger.execute("PRAGMA user_version = 1")
    ledger.commit()
    ledger.close()
    csv = job.output / "throughput.csv"
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    csv.write_text("".join(",".join(words[:-len(FIGURES)]) + "\n" for words in lines))


def test_a_run_of_format_1_goes_on(tmp_path):
    reference = Job(tmp_path / "reference", make_problems(PROBLEMS))
    reference.run()
    job = reference.twin(tmp_path / "job")
    job.run("--stop-after", 4, expect=STOPPED)
    heading = strata("log", job.output).out.splitlines()[0]
    assert heading.endswith("    drift") and job.query(f"SELECT count(*) FROM batch WHERE coalesce({', '.join(FIGURES)}) > 0") == [(0,)]
    make_format_1(job)
    for words in (("status",), ("log",), ("verify",), ("show", "p-00001"), ("export", "--format", "npy", "--to", tmp_path / "out")):
        done = strata(words[0], job.output, *words[1:])
        assert done.code == OK, done
    assert job.query("PRAGMA user_version") == [(1,)]
    checked = strata("check", job.file)
    assert checked.code == OK and "resumed after 3 sealed batches" in checked.out, checked
    job.run()
    assert job.query("PRAGMA user_version") == [(3,)]
    job.check_finished(PROBLEMS, reference.shards())
    assert job.outcomes() == reference.outcomes()
    lines = (job.output / "throughput.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1 and "xid" not in lines[0]  # one heading, one kind of line
