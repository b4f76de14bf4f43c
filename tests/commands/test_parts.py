# SPDX-License-Identifier: MIT
"""strata run --part: the parts of a job are one run's latents, whatever their number, however often they are interrupted."""
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import subprocess

import pytest
from support import (DATA, EMULATED, JOB, OK, STOPPED, STRATA, USAGE, WRITE, Job, clean_environment, make_problems, read_latents,
                     strata, wait_for)

COUNT = 150


class Set:
    """A job that runs in parts; `twins` are jobs as tests see a run directory."""

    def __init__(self, job, parts, program=STRATA):
        self.job, self.parts, self.program = job, parts, program

    def name(self, index):
        return f"part-{index:04d}-of-{self.parts:04d}"

    def part(self, index):
        part = Job.__new__(Job)
        part.__dict__.update(self.job.__dict__)
        part.output = self.job.output / self.name(index)
        return part

    def run(self, index, *arguments, expect=OK, **options):
        done = strata("run", self.job.file, "--part", f"{index}/{self.parts}", "--quiet", *arguments, program=self.program, **options)
        assert expect is None or done.code == expect, done
        return done

    def run_all(self):
        for index in range(self.parts):
            self.run(index)

    def latents(self):
        """Of all parts together, which must not overlap; and the ordinals of all problems, in the order of the parts."""
        found, ordinals = {}, []
        for index in range(self.parts):
            part = self.part(index)
            verified = strata("verify", part.output)
            assert verified.code == OK, verified
            rows = read_latents(part) if part.acknowledged() else {}
            assert not found.keys() & rows.keys()
            found.update(rows)
            ordinals += [row[0] for row in part.query("SELECT ordinal FROM problem ORDER BY ordinal")]
        return found, ordinals


def check_same(found, whole):
    assert found.keys() == whole.keys()
    for key, problem in whole.items():
        assert found[key]["rows"] == problem["rows"], key
        for name, values in problem.items():
            if name.startswith("hs_"):
                assert found[key][name].tobytes() == values.tobytes(), (key, name)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("base"), make_problems(COUNT, seed=3))
    job.run()
    job.whole = read_latents(job)
    return job


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_parts_are_the_whole(base, tmp_path, parts):
    made = Set(base.twin(tmp_path), parts)
    made.run_all()
    found, ordinals = made.latents()
    assert ordinals == list(range(COUNT))
    check_same(found, base.whole)
    tokens = [made.part(index).query("SELECT tokens FROM survey")[0][0] for index in range(parts)]
    assert max(tokens) < 1.3 * sum(tokens) / parts
    assert base.query("SELECT value FROM identity WHERE key = 'problems.sha256'") == survey(made, "problems_sha256")


def survey(made, column):
    connection = sqlite3.connect(made.job.output / "survey.sqlite")
    try:
        return connection.execute(f"SELECT {column} FROM survey").fetchall()
    finally:
        connection.close()


def test_killed_parts(base, tmp_path):
    """SIGKILL at any moment, two parts at a time."""
    rng = random.Random(7)
    made = Set(base.twin(tmp_path), 3)
    for round in range(8):
        running = [subprocess.Popen([STRATA, "run", made.job.file, "--part", f"{index}/3", "--quiet"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, env=clean_environment()) for index in rng.sample(range(3), 2)]
        for process in running:
            try:
                process.wait(timeout=rng.random() * 0.2)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            assert process.returncode in (OK, -signal.SIGKILL)
    made.run_all()
    check_same(made.latents()[0], base.whole)


def test_all_start_at_once(base, tmp_path):
    """One makes the survey, the others wait for it; each shard is that of a part alone."""
    made, alone = Set(base.twin(tmp_path / "together"), 5), Set(base.twin(tmp_path / "alone"), 5)
    running = [subprocess.Popen([STRATA, "run", made.job.file, "--part", f"{index}/5", "--quiet"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, env=clean_environment()) for index in range(5)]
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == OK
    alone.run_all()
    for index in range(5):
        made.part(index).check_acknowledged()
        assert made.part(index).acknowledged() == alone.part(index).acknowledged()
    logs = [(made.part(index).output / "run.log").read_text() for index in range(5)]
    assert all("entered by rowid" in log for log in logs)
    assert sorted(path.name for path in made.job.output.iterdir() if path.is_file()) == [
        "identity.json", "latents.h5", "set.json", "survey.lock", "survey.sqlite"]


def test_more_parts_than_problems(tmp_path):
    job = Job(tmp_path, make_problems(3))
    made = Set(job, 5)
    made.run_all()
    assert made.latents()[1] == [0, 1, 2]
    assert sum(made.part(index).query("SELECT value FROM identity WHERE key = 'part.rows'") == [("none",)] for index in range(5)) == 2


def change(job, sql):
    with sqlite3.connect(job.database) as connection:
        connection.execute(sql)
    connection.close()


CHANGES = {"a row": "UPDATE problems SET statement = 'other' WHERE rowid = 70",
           "a row less": "DELETE FROM problems WHERE rowid = 70",
           "a column": "ALTER TABLE problems RENAME COLUMN topic TO subject"}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_that_changed_since_the_survey(base, tmp_path, name):
    """Only the part that has them reads them: it refuses, and the others need not look. A column's name is in all rows."""
    job = base.twin(tmp_path)
    job.database = shutil.copy(base.database, tmp_path / "problems.db")
    job.change(problems={"database": str(job.database)})
    made = Set(job, 3)
    assert strata("survey", job.file, "--quiet").code == OK
    change(job, CHANGES[name])
    done = made.run(1, expect=DATA)
    assert "the survey of the parts found" in done.last() or "that the survey of the parts did not find" in done.last(), done
    made.run(0, expect=DATA if name == "a column" else OK)


@pytest.mark.parametrize("sql", ["INSERT INTO problems SELECT * FROM extra", "UPDATE problems SET rowid = 100000 WHERE rowid = 150"])
def test_rows_behind_the_last(base, tmp_path, sql):
    job = base.twin(tmp_path)
    job.database = shutil.copy(base.database, tmp_path / "problems.db")
    job.change(problems={"database": str(job.database)})
    change(job, "CREATE TABLE extra AS SELECT * FROM problems WHERE rowid = 5")
    change(job, "UPDATE extra SET problem_id = 'new'")
    assert strata("survey", job.file, "--quiet").code == OK
    change(job, sql)
    made = Set(job, 2)
    if sql.startswith("INSERT"):
        assert "behind row 150" in made.run(1, expect=DATA).last()
    else:
        made.run(1)  # the same rows in the same order
    made.run(0)


@pytest.mark.parametrize("query, enters", [
    ("SELECT * FROM problems", True),
    ("SELECT problem_id, statement, steps FROM problems WHERE difficulty < 0.5", True),
    ("SELECT * FROM problems ORDER BY problem_id DESC", False),
    ("SELECT * FROM problems ORDER BY rowid DESC", False),
    ("SELECT * FROM problems WHERE difficulty < 0.5 order  by\n rowid ; ", True),
    ("SELECT * FROM problems LIMIT 60 OFFSET 20", False),
    ("SELECT * FROM problems LIMIT 60", False),
    ("SELECT * FROM main.problems", False),
    ("SELECT DISTINCT statement, steps, problem_id FROM problems GROUP BY problem_id", False),
    ("WITH few AS (SELECT * FROM problems WHERE difficulty > 0.5) SELECT * FROM few", True),
    ("WITH few AS (SELECT * FROM problems WHERE rowid > 50) SELECT * FROM few", False),
    ("SELECT rowid AS place, * FROM problems", False),
    ("SELECT a.* FROM problems AS a JOIN problems AS b USING (problem_id)", False),
    ("SELECT *, row_number() OVER () AS place FROM problems", False),
    ("SELECT * FROM problems UNION ALL SELECT * FROM problems WHERE 0", False)])
def test_any_query(base, tmp_path, query, enters):
    """Those that cannot be entered by rowid are read from their beginning."""
    job = base.twin(tmp_path, problems={"query": query})
    made, whole = Set(job, 3), base.twin(tmp_path / "whole", problems={"query": query})
    whole.run()
    made.run_all()
    assert survey(made, "enters") == [(int(enters),)]
    check_same(made.latents()[0], read_latents(whole))


def test_table_without_rowids(base, tmp_path):
    job = base.twin(tmp_path)
    job.database = shutil.copy(base.database, tmp_path / "problems.db")
    job.change(problems={"database": str(job.database)})
    change(job, "CREATE TABLE keyed (problem_id TEXT PRIMARY KEY, statement TEXT, steps TEXT) WITHOUT ROWID")
    change(job, "INSERT INTO keyed SELECT problem_id, statement, steps FROM problems")
    job.change(problems={"query": "SELECT * FROM keyed"})
    made = Set(job, 2)
    made.run_all()
    assert survey(made, "enters") == [(0,)]
    check_same(made.latents()[0], base.whole)


def test_what_is_refused(base, tmp_path):
    made = Set(base.twin(tmp_path), 3)
    for word in ("3/3", "0/0", "-1/3", "1", "1/3x", "0/2000000", ""):
        assert strata("run", made.job.file, "--part", word).code == USAGE
    made.run(0)
    assert "is divided into 3 parts, not 4" in strata("run", made.job.file, "--part", "0/4").last()
    assert "run each with --part I/3" in made.job.run(expect=JOB).last()
    other = base.twin(tmp_path / "other")
    other.output = made.job.output
    other.change(run={"output": str(made.job.output)}, latents={"pooling": "mean"})
    done = strata("run", other.file, "--part", "1/3")
    assert done.code == JOB and "latents.pooling: stored 'step_mean', now 'mean'" in done.err, done
    assert strata("survey", other.file).code == OK  # the survey is of the query alone
    other.change(problems={"query": "SELECT * FROM problems LIMIT 5"})
    for command in (["survey", other.file], ["run", other.file, "--part", "1/3"]):
        done = strata(*command)
        assert done.code == JOB and "problems.query: stored 'SELECT * FROM problems', now 'SELECT * FROM problems LIMIT 5'" in done.err, done
    whole = base.twin(tmp_path / "whole")
    whole.run()
    assert "not divided into parts" in strata("run", whole.file, "--part", "1/3").last()
    strange = base.twin(tmp_path / "strange")
    strange.output.mkdir()
    (strange.output / "notes.txt").touch()
    for command in (["run", strange.file, "--part", "1/3"], ["survey", strange.file]):
        done = strata(*command)
        assert done.code == WRITE and "holds notes.txt and no set.json" in done.last(), done
        assert [path.name for path in strange.output.iterdir()] == ["notes.txt"]
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")  # not UTF-8
    shutil.copy(base.file, odd)
    done = strata("run", odd, "--output", tmp_path / "odd", "--part", "0/2")
    assert done.code == WRITE and "it has to be UTF-8" in done.last(), done
    (made.job.output / "survey.sqlite").write_bytes(b"no survey")
    assert made.run(0, expect=DATA).last().endswith("file is not a database")


def test_a_number_of_parts_that_was_lost(base, tmp_path):
    made = Set(base.twin(tmp_path), 3)
    made.run(0)
    named = made.job.output / "set.json"
    named.unlink()
    assert strata("status", made.job.output).code == OK
    made.run(1)
    assert named.exists()
    for text in ('{"format": 1, "parts": 4}', "", "{"):
        named.write_text(text)
        for command in (["status", made.job.output], ["verify", made.job.output], ["run", made.job.file, "--part", "0/4"]):
            done = strata(*command)
            assert done.code == DATA and ("part-000" in done.last() or "set.json" in done.last()), done
    named.unlink()
    made.run(2)
    check_same(made.latents()[0], base.whole)


def test_a_survey_that_was_lost(base, tmp_path):
    """It is made again as it was, and otherwise not at all."""
    job = base.twin(tmp_path)
    job.database = shutil.copy(base.database, tmp_path / "problems.db")
    job.change(problems={"database": str(job.database)})
    made = Set(job, 2)
    made.run(0)
    (made.job.output / "survey.sqlite").unlink()
    change(job, "UPDATE problems SET steps = json_insert(steps, '$[#]', 'more') WHERE rowid = 150")
    assert "not those of the parts" in made.run(1, expect=JOB).last()
    assert "not those of the parts" in strata("survey", job.file).last()
    assert not (made.job.output / "survey.sqlite").exists()
    shutil.copy(base.database, job.database)
    made.run(1)
    check_same(made.latents()[0], base.whole)


def test_one_instruction_set_for_all(base, tmp_path):
    """The first part settles it; a part that asks for another one is refused, one that leaves it open follows."""
    made = Set(base.twin(tmp_path, model={"cpu_path": "portable"}), 2)
    made.run(0)
    made.job.change(model={"cpu_path": None})
    made.run(1)
    paths = [made.part(index).query("SELECT value FROM note WHERE key = 'device.path'") for index in range(2)]
    assert paths == [[("portable",)]] * 2
    checked = strata("check", made.job.file)
    assert checked.code == OK and "is divided into 2 parts" in checked.out and "that of the parts" in checked.out, checked
    made.job.change(latents={"pooling": "mean"})
    checked = strata("check", made.job.file)
    assert checked.code == JOB and "latents.pooling: stored 'step_mean', now 'mean'" in checked.out, checked


def environment(**more):
    kept = {name: value for name, value in clean_environment().items() if not name.startswith(("SLURM_", "JOB_COMPLETION"))}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def array(number, least, most, count, step=None):
    names = {"ID": number, "MIN": least, "MAX": most, "COUNT": count, **({"STEP": step} if step else {})}
    return {f"SLURM_ARRAY_TASK_{name}": value for name, value in names.items()}


@pytest.mark.parametrize("variables, part", [
    (array(1, 0, 2, 3), 1), (array(3, 1, 3, 3, step=1), 2), (array(20, 10, 20, 3, step=5), 2),
    ({"JOB_COMPLETION_INDEX": 0, "JOB_COMPLETIONS": 3}, 0),
    ({}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
    (array(9, 0, 2, 3), "Slurm says part 9 of 3"), (array("x", 0, 2, 3), "is 'x', which is no whole number"),
    (array(12, 10, 20, 3, step=5), "none of the"),
    (array(0, 0, 63, 61), "the array has 61 numbers from 0 to 63"), (array(3, 3, 7, 2), "the array has 2 numbers from 3 to 7"),
    ({"JOB_COMPLETION_INDEX": 0}, "JOB_COMPLETIONS is not set")])
def test_parts_of_a_batch_system(base, tmp_path, variables, part):
    made = Set(base.twin(tmp_path), 3)
    done = strata("run", made.job.file, "--part", "auto", "--quiet", environment=environment(**variables))
    if isinstance(part, int):
        assert done.code == OK and (made.job.output / made.name(part) / "ledger.sqlite").exists(), done
    else:
        assert done.code == USAGE and part in done.err, done


def test_stops_while_another_part_surveys(base, tmp_path):
    """The lock of a survey that does not end is waited for, until a stop is asked for."""
    made = Set(base.twin(tmp_path), 2)
    made.job.output.mkdir()
    with open(made.job.output / "survey.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen([STRATA, "run", made.job.file, "--part", "0/2", "--quiet"], stderr=subprocess.PIPE,
                                   env=clean_environment())
        wait_for((made.job.output / "set.json").exists)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == STOPPED and b"stopped by SIGTERM" in err
    made.run(0)


def test_a_survey_that_cannot_be_written(base, tmp_path):
    made = Set(base.twin(tmp_path), 2)
    done = subprocess.run(["bash", "-c", 'ulimit -f 2; exec "$@"', "-", STRATA, "run", made.job.file, "--part", "0/2", "--quiet"],
                          capture_output=True, text=True, env=clean_environment())
    assert done.returncode == WRITE, done
    assert not list(made.job.output.glob("survey.sqlite*"))
    made.run_all()
    check_same(made.latents()[0], base.whole)


def test_retry_of_a_part(base, tmp_path):
    """Rows of failed problems may be mended in a part as in a run."""
    problems = make_problems(40, seed=5)
    problems[30]["statement"], problems[30]["steps"] = "a\0b", ["c"]
    job = Job(tmp_path, problems)
    job.change(problems={"max_failed": 1})
    made = Set(job, 2)
    made.run_all()
    assert made.part(1).problems()["p-00030"][0] == 1
    change(job, "UPDATE problems SET statement = 'mended' WHERE problem_id = 'p-00030'")
    assert "--retry-failed" in made.run(1, expect=JOB).err
    made.run(1, "--retry-failed", "--stop-after", 1, expect=None)
    made.run(1)  # the retry is part of the run
    assert made.part(1).problems()["p-00030"] == (0, None)
    made.run(1)
    made.run(0)


def test_parts_on_emulated_gpus(tmp_path):
    """The algorithms of matmuls are the first part's, and the shape is that of all parts."""
    job = Job(tmp_path, make_problems(60, seed=8))
    job.change(model={"device": "cuda:0"})
    whole, made = job.twin(tmp_path / "whole"), Set(job.twin(tmp_path / "set"), 3, program=EMULATED)
    whole.program = EMULATED
    whole.run()
    made.run_all()
    check_same(made.latents()[0], read_latents(whole))
    shared = {made.part(index).query("SELECT value FROM note WHERE key = 'device.algorithms'")[0] for index in range(3)}
    assert len(shared) == 1


def test_show_of_a_part(base, tmp_path):
    made = Set(base.twin(tmp_path), 3)
    made.run(2)
    assert os.path.exists(made.part(2).output / "latents.h5")
    shown = strata("show", made.part(2).output, "p-00149")
    assert shown.code == OK and "row 0: step 0" in shown.out, shown
