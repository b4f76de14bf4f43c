"""strata check foretells strata run: the same exit code, and what a run that has begun will do."""
import os
import shutil

import pytest

import support
from support import DATA, JOB, OK, STOPPED, WRITE, Job, make_problems, strata


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that stopped after 4 of its batches: one shard of 3 is sealed."""
    job = Job(tmp_path_factory.mktemp("begun"), make_problems(20))
    job.run("--stop-after", 4, expect=STOPPED)
    return job


@pytest.fixture
def twin(begun, tmp_path):
    shutil.copytree(begun.output, tmp_path / "out")
    return begun.twin(tmp_path)


def check(job, *arguments, expect=OK):
    """condition -> ("PASS" or "FAIL" or "----", detail); one line each, and nothing is written."""
    before = sorted((path, path.stat().st_mtime_ns) for path in job.folder.rglob("*"))
    done = strata("check", job.file, *arguments)
    assert done.code == expect, done
    assert sorted((path, path.stat().st_mtime_ns) for path in job.folder.rglob("*")) == before
    lines = done.out.splitlines()
    assert all(line[:6] in ("PASS  ", "FAIL  ", "----  ") for line in lines), done
    return {line[6:17].strip(): (line[:4], line[18:]) for line in lines}


def gigabytes(text, word):
    return float(text.split(word)[0].split()[-2])


def test_a_new_run(tmp_path):
    job = Job(tmp_path, make_problems(5))
    table = check(job)
    assert len(table) == 12 and {verdict for verdict, _ in table.values()} == {"PASS"}
    assert table["identity"] == ("PASS", "a new run") and not job.output.exists()


def test_a_run_that_has_begun(twin):
    table = check(twin)
    assert table["identity"] == ("PASS", "that of the run, resumed after 3 sealed batches")
    while twin.run("--stop-after", 5, expect=None).code != OK:
        assert "resumed after" in check(twin)["identity"][1]
    assert check(twin)["identity"] == ("PASS", "that of the run, which is finished")


def test_another_identity(twin):
    twin.change(latents={"dtype": "float16", "pooling": "mean"})
    verdict, detail = check(twin, expect=JOB)["identity"]
    assert verdict == "FAIL" and detail.endswith(
        ": latents.pooling: stored 'step_mean', now 'mean'; latents.dtype: stored 'float32', now 'float16'")
    twin.run(expect=JOB)


def test_another_limit_or_problem_set(begun, tmp_path):
    assert "problems.limit" in check(begun, "--limit", 10, expect=JOB)["identity"][1]
    shutil.copytree(begun.output, tmp_path / "out")
    other = Job(tmp_path, make_problems(20, seed=2))
    assert "problems.sha256" in check(other, expect=JOB)["identity"][1]
    other.run(expect=JOB)


def test_another_identity_comes_before_failures(twin):
    """strata run refuses before it counts what fails."""
    twin.change(batch={"problems": 4}, problems={"max_text_bytes": 10})
    table = check(twin, expect=JOB)
    assert table["identity"][0] == table["failures"][0] == "FAIL"
    twin.run(expect=JOB)


def test_a_ledger_that_is_none(twin):
    (twin.output / "ledger.sqlite").write_bytes(b"no ledger " * 500)
    table = check(twin, expect=DATA)
    assert table["output"][0] == "FAIL" and table["identity"][0] == "----" and table["texts"][0] == "PASS"
    twin.run(expect=DATA)


def test_a_lost_ledger(twin):
    (twin.output / "ledger.sqlite").unlink()
    assert "part-000000" in check(twin, expect=DATA)["output"][1]
    twin.run(expect=DATA)


def test_a_folder_of_somebody_else(begun, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    assert "thesis.tex" in check(begun, "--output", tmp_path, expect=WRITE)["output"][1]
    begun.run("--output", tmp_path, expect=WRITE)


def test_nothing_to_compute(tmp_path):
    job = Job(tmp_path, [{**problem, "steps": []} for problem in make_problems(4)])
    verdict, detail = check(job)["texts"]
    assert verdict == "PASS" and detail.startswith("warning: nothing to compute: 0 texts") and "4 skipped" in detail
    job.run()


@pytest.mark.parametrize("allowed, code", [(3, OK), (2, DATA)])
def test_failures(tmp_path, allowed, code):
    problems = make_problems(6)
    for problem in problems[:3]:
        problem["statement"] = "a" + "\0" + "b"
    job = Job(tmp_path, problems, problems={"max_failed": allowed})
    verdict = "PASS" if code == OK else "FAIL"
    expected = verdict, f"3 of 6 problems fail; problems.max_failed allows {allowed}"
    assert check(job, expect=code)["failures"] == expected
    job.run(expect=code)
    assert check(job, expect=code)["failures"] == expected  # of the finished run


def test_disk_counts_what_is_sealed(tmp_path):
    """A row of 512 numbers for each token: figures that show in the third place of a gigabyte."""
    job = Job(tmp_path, make_problems(60, steps=6), support.make_model("wide", hidden=512, layers=2),
              latents={"layers": "all", "pooling": "tokens"})
    planned = gigabytes(check(job)["disk space"][1], " still to come")
    assert planned > 0.01
    job.run("--stop-after", 12, expect=STOPPED)
    sealed = job.query("SELECT sum(bytes) FROM shard")[0][0] * 1e-9
    detail = check(job)["disk space"][1]
    assert sealed > 0.003 and abs(gigabytes(detail.split(" of ")[0] + " left", " left") - (planned - sealed)) < 0.0011


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no proc file system")
@pytest.mark.parametrize("output", ["/proc/x", "/proc/x/y", "/sys/x"])
def test_kernel_file_systems(begun, output):
    table = check(begun, "--output", output, expect=WRITE)
    assert table["output"][0] == "FAIL" and "no run directory can be made" in table["output"][1]
    assert table["texts"][0] == "PASS" and table["disk space"][0] == "----"
    begun.run("--output", output, expect=WRITE)


def test_a_file_in_the_way(tmp_path):
    job = Job(tmp_path, make_problems(4))
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in check(job, "--output", tmp_path / "file" / "run", expect=WRITE)["output"][1]
    job.run("--output", tmp_path / "file" / "run", expect=WRITE)
