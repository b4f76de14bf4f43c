# SPDX-License-Identifier: MIT
"""Run directories that a former program left behind: read, gone on with, and computed afresh to the same bits."""
import json
import re
import shutil
import sys
import tarfile

import pytest

from support import BUILD, FAILED, JOB, OK, SOURCE, Job, clean_environment, file_hash, read_latents, strata

FORMER = SOURCE / "tests" / "commands" / "former_runs"
sys.path.insert(0, str(FORMER))
import make  # noqa: E402: the same look at a run as when they were made

EXPECTED = json.loads((FORMER / "expected.json").read_text())
PROBLEMS = 24
PRELOAD = BUILD / "tests" / "commands_preload_libraries.so"


def open_job(folder):
    """The job that lies in FOLDER as it was written."""
    job = Job.__new__(Job)
    job.folder, job.output, job.file = folder, folder / "out", folder / "job.yaml"
    job.keys = json.loads(job.file.read_text())
    return job


@pytest.fixture
def former(tmp_path):
    """Both runs, the model and the problems, in a folder of the test's own."""
    with tarfile.open(FORMER / "runs.tar.xz") as archive:
        archive.extractall(tmp_path)
    return {name: open_job(tmp_path / name) for name in ("finished", "stopped")}


@pytest.fixture
def fresh(former):
    """The same job, computed by today's program on this machine."""
    job = former["finished"]
    folder = job.folder.with_name("fresh")
    folder.mkdir()
    shutil.copy(job.file, folder)
    fresh = open_job(folder)
    fresh.run()
    return fresh


def libraries(job):
    return dict(job.query("SELECT key, value FROM identity WHERE key LIKE 'library.%'"))


def as_with(versions):
    """An environment in which the program's libraries say that they are of these versions, as an identity names them."""
    names = re.fullmatch(r"pcre2 (.*), Unicode (.*); utf8proc (.*), Unicode (.*)", versions["library.tokenizer"]).groups()
    keys = ("LIBRARY_PCRE2", "LIBRARY_PCRE2_UNICODE", "LIBRARY_UTF8PROC", "LIBRARY_UTF8PROC_UNICODE")
    return clean_environment(LD_PRELOAD=str(PRELOAD), LIBRARY_HDF5=versions["library.hdf5"], **dict(zip(keys, names)))


def refused_keys(job, **options):
    """The keys that a refused launch names."""
    done = job.run(expect=JOB, **options)
    assert "holds a run with a different identity" in done.err, done
    return {line.split(":")[0].strip() for line in done.err.splitlines() if ": stored '" in line}


def environment_for(job, fresh):
    """What lets a former run go on here. Where the libraries are others, a launch is refused for exactly them; the bits of
    the latents must not depend on that, so it then goes on as if they were those of the run."""
    here, then = libraries(fresh), libraries(job)
    if here == then:
        return None
    assert refused_keys(job) == {key for key in then if then[key] != here[key]}
    return as_with(then)


def without_reasons(outcomes):
    """Reasons are words; what they are about is the state."""
    return [tuple(row[:3] + row[4:]) for row in outcomes]


def check_same(job, finished, same_libraries):
    job.check_finished(PROBLEMS, EXPECTED["finished"]["shards"] if same_libraries else None)
    assert without_reasons(job.outcomes()) == without_reasons(EXPECTED["uninterrupted"])
    assert json.loads(json.dumps(job.query(make.BATCHES))) == EXPECTED["finished"]["batches"]
    expected, found = read_latents(finished), read_latents(job)
    assert found.keys() == expected.keys() and len(found) == PROBLEMS - 1
    for key, problem in found.items():
        for name, value in problem.items():
            if name.startswith("hs_"):
                assert value.tobytes() == expected[key][name].tobytes(), (key, name)
            else:
                assert value == expected[key][name], (key, name)


def hash_folder(folder):
    return {path.relative_to(folder): file_hash(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_a_former_run_is_read(former, name, tmp_path):
    job = former[name]
    before = hash_folder(job.output)
    for words in (["status"], ["log"], ["log", "--events"], ["verify"], ["show", make.SHOWN[1]]):
        done = strata(words[0], job.output, *words[1:])
        assert done.code == OK, done
    found = json.loads(json.dumps(make.look(job, tmp_path / "exported")))
    for key, value in EXPECTED[name].items():
        assert found[key] == value, key
    assert found.keys() == EXPECTED[name].keys() and len(found["exports"]) > 15
    assert hash_folder(job.output) == before


def test_events_of_a_former_run_are_told(former):
    assert former["finished"].events("retry") != []
    told = strata("log", former["finished"].output, "--events").out
    assert former["finished"].events("retry")[0][1] in told
    assert [state for state, _ in former["finished"].problems().values()].count(FAILED) == 1


def test_a_stopped_former_run_goes_on(former, fresh, tmp_path):
    job = former["stopped"]
    environment = environment_for(job, fresh)
    job.run(environment=environment)
    check_same(job, former["finished"], environment is None)
    assert make.hash_exports(job.output, tmp_path / "exported") == EXPECTED["finished"]["exports"]
    assert job.query("SELECT count(*) FROM launch") == [(3 if environment is None else 4,)]  # with the refused one


def test_a_finished_former_run_is_left_alone(former, fresh):
    job = former["finished"]
    before = {path: file_hash(path) for path in (job.output / "shards").iterdir()}
    job.run(environment=environment_for(job, fresh))
    assert {path: file_hash(path) for path in (job.output / "shards").iterdir()} == before
    assert job.query("SELECT count(*) FROM batch") == [(len(EXPECTED["finished"]["batches"]),)]


def test_the_same_job_computes_the_same_bits_today(former, fresh):
    check_same(fresh, former["finished"], libraries(fresh) == libraries(former["finished"]))


@pytest.mark.parametrize("key, value", [("library.hdf5", "9.8.7"),
                                        ("library.tokenizer", "pcre2 99.1 2099-01-01, Unicode 98.0; utf8proc 97.0, Unicode 96.0")])
def test_other_libraries_are_refused_by_name_alone(former, key, value):
    """Nothing is lost by it: with the libraries as they were the run goes on."""
    job = former["stopped"]
    then = libraries(job)
    before = hash_folder(job.output / "shards")
    assert refused_keys(job, environment=as_with({**then, key: value})) == {key}
    assert hash_folder(job.output / "shards") == before
    job.run(environment=as_with(then))
    check_same(job, former["finished"], False)
