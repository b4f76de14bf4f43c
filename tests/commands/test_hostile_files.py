# SPDX-License-Identifier: MIT
"""Files that are none: pipes, devices and folders where a file is expected, links out of a run directory, shards whose numbers
lie elsewhere. Nothing hangs, nothing outside is read or written, and what is made has the documented mode."""
import contextlib
import hashlib
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess

import h5py
import numpy as np
import pytest

from export.made_run import make_run
from strata_reader import Run
from support import DATA, JOB, OK, STOPPED, STRATA, WRITE, Job, clean_environment, make_model, make_problems, strata

QUICK = 60  # seconds that no command here needs, be the machine ever so busy


def no_file(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


def refused(*words, code=DATA, saying="not a regular file"):
    done = strata(*words, timeout=QUICK)
    assert done.code == code and saying in done.out + done.err, done
    return done


# ---- what is read

@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors",
                                  "model.safetensors.index.json"])
@pytest.mark.parametrize("command", ["check", "run"])
def test_files_of_a_model(tmp_path, command, name, kind):
    model = shutil.copytree(make_model(), tmp_path / "model")
    job = Job(tmp_path / "job", make_problems(2), model)
    no_file(model / name, kind)
    refused(command, job.file)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_job_file_database_and_lines(tmp_path, kind):
    job = Job(tmp_path / "job", make_problems(2))
    no_file(tmp_path / "x", kind)
    refused("run", tmp_path / "x", code=JOB)
    refused("import", tmp_path / "x", tmp_path / "new.db")
    refused("import", job.folder / "problems.jsonl", tmp_path / "x", code=DATA)
    for beside in ("", "-journal", "-wal"):
        no_file(pathlib.Path(f"{tmp_path / 'kept'}{beside}"), kind) if beside else shutil.copy(job.database, tmp_path / "kept")
        if beside:
            job.change(problems={"database": str(tmp_path / "kept")})
            refused("run", job.file)
            path = pathlib.Path(f"{tmp_path / 'kept'}{beside}")
            path.rmdir() if kind == "folder" else path.unlink()
    no_file(job.database, kind)
    job.change(problems={"database": "problems.db"})
    refused("check", job.file)
    refused("run", job.file)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_ledger_and_shards(tmp_path, kind):
    folder = make_run(tmp_path / "run")
    no_file(folder / "shards" / "part-000001.h5", kind)
    done = strata("verify", folder, timeout=QUICK)
    assert done.code == DATA and "part-000001.h5" in done.out
    for words in (["show", folder, "plain-12"], ["export", folder, "--format", "npy", "--to", tmp_path / "out"]):
        done = strata(*words, timeout=QUICK)
        assert done.code == DATA, done
    for name in ("ledger.sqlite-journal", "ledger.sqlite"):
        no_file(folder / name, kind)
        for command in ("status", "verify", "log"):
            refused(command, folder, saying="symbolic link" if kind == "device" else "not a regular file")


def test_pipes_that_were_given_open(tmp_path):
    """What a shell's <(...) and /dev/stdin name is read to its end."""
    job = Job(tmp_path / "job", make_problems(4))
    lines = (job.folder / "problems.jsonl").read_text()
    for name in ("-", "/dev/stdin", "/proc/self/fd/0"):
        done = subprocess.run([STRATA, "import", name, tmp_path / f"{name.count('/')}.db"], input=lines, text=True,
                              capture_output=True, timeout=QUICK)
        assert done.returncode == OK and "4 rows" in done.stdout, done
    job.change(problems={"database": str(job.database)}, run={"output": str(job.output)})
    done = subprocess.run(["bash", "-c", f"{STRATA} run --quiet <(cat {job.file})"], capture_output=True, text=True,
                          timeout=QUICK, env=clean_environment())
    assert done.returncode == OK and "4 done" in done.stdout, done


# ---- a run directory that others can write to

def test_nothing_outside_is_written(tmp_path):
    victim = tmp_path / "victim"
    for name, code in (("lock", WRITE), ("run.log", WRITE), ("throughput.csv", WRITE), ("ledger.sqlite", DATA),
                       ("ledger.sqlite-journal", DATA)):
        victim.write_text("mine")
        job = Job(tmp_path / name, make_problems(2))
        job.output.mkdir()
        (job.output / name).symlink_to(victim)
        done = job.run(expect=code, timeout=QUICK)
        assert "symbolic link" in done.err, done
        assert victim.read_text() == "mine"


def test_what_is_replaced_is_a_new_file(tmp_path):
    """Names that the program writes anew: the link goes, what it points to stays."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    job = Job(tmp_path / "job", make_problems(20))
    job.run("--stop-after", 4, expect=STOPPED)
    job.output.joinpath("job.yaml").unlink()
    shards = job.output / "shards"
    for path in ("job.yaml.tmp", "job.yaml", "latents.h5.tmp", "latents.h5", "shards/part-000001.h5.tmp", "shards/part-000002.h5.tmp",
                 "shards/part-000001.h5", "shards/part-000002.h5"):
        (job.output / path).unlink(missing_ok=True)
        (job.output / path).symlink_to(victim)
    job.run()
    job.check_finished(20)
    assert victim.read_text() == "mine"
    assert [path for path in [*job.output.iterdir(), *shards.iterdir()] if path.is_symlink()] == []


def test_shards_is_a_real_folder_and_the_run_may_be_a_link(tmp_path):
    job = Job(tmp_path / "job", make_problems(6))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job.output.symlink_to(elsewhere)
    job.run()
    job.check_finished(6)
    (elsewhere / "shards").rename(tmp_path / "moved")
    (elsewhere / "shards").symlink_to(tmp_path / "moved")
    for words in (["run", job.file], ["verify", job.output], ["show", job.output, "p-00000"],
                  ["export", job.output, "--format", "npy", "--to", tmp_path / "x"]):
        refused(*words, saying="is a symbolic link")


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_modes_of_what_is_made(tmp_path, umask):
    job = Job(tmp_path / "job", make_problems(8))
    made = []
    for code, words in ((STOPPED, job.command("--stop-after", 2)), (OK, job.command()),
                        (OK, [STRATA, "import", job.folder / "problems.jsonl", tmp_path / "made.db"]),
                        *((OK, [STRATA, "export", job.output, "--format", name, "--to", tmp_path / name])
                          for name in ("npy", "safetensors", "hdf5"))):
        done = subprocess.run(list(map(str, words)), capture_output=True, preexec_fn=lambda: os.umask(umask),
                              env=clean_environment(), timeout=QUICK)
        assert done.returncode == code, done
        made += [path for path in job.output.rglob("*")]
    made += [tmp_path / "made.db", *(path for name in ("npy", "safetensors", "hdf5") for path in (tmp_path / name).rglob("*"))]
    assert {"lock", "run.log", "throughput.csv", "latents.h5", "job.yaml", "ledger.sqlite"} <= {path.name for path in made}
    for path in {path for path in made if path.exists()}:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644) & ~umask, (path, oct(mode))


# ---- a shard whose numbers lie elsewhere

SECRET = np.arange(4096, dtype=np.float32)


def outside(path, secret, kind):
    """Makes a dataset or group of a sealed shard come from another file."""
    with h5py.File(path, "r+") as file:
        name = "latents/hs_000"
        shape, dtype = file[name].shape, file[name].dtype
        attributes = dict(file[name].attrs)
        if kind == "external link":
            other = path.parent.parent / "other.h5"
            file.copy("problems", h5py.File(other, "w"))
            del file["problems"]
            file["problems"] = h5py.ExternalLink(os.path.abspath(other), "/problems")
            return
        if kind == "soft link":
            file["kept"] = file["rows"]
            del file["rows"]
            file["rows"] = h5py.SoftLink("/kept")
            return
        if kind == "external column":
            name = "problems/metadata"
            shape, dtype, attributes = file[name].shape, file[name].dtype, {}
        del file[name]
        if kind == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(secret.with_suffix(".h5"), "secret", shape)
            with h5py.File(secret.with_suffix(".h5"), "w") as other:
                other["secret"] = np.ones(shape, dtype)
            file.create_virtual_dataset(name, layout)
        elif kind == "filter":
            file.create_dataset(name, data=np.ones(shape, dtype), chunks=shape, compression="gzip")
        else:
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_external(os.fsencode(secret), 0, int(np.prod(shape)) * dtype.itemsize)
            kept = h5py.h5t.py_create(dtype)
            h5py.h5d.create(file.id, name.encode(), kept, h5py.h5s.create_simple(shape), plist)
        for key, value in attributes.items():
            file[name].attrs[key] = value


@pytest.mark.parametrize("kind", ["external", "external column", "virtual", "external link", "soft link", "filter"])
def test_shards_lie_in_their_files(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET.tobytes())
    run = make_run(tmp_path / "run", shards=1, tokens=1)
    shard = run / "shards" / "part-000000.h5"
    outside(shard, secret, kind)
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("UPDATE shard SET sha256 = ?, bytes = ?", (hashlib.sha256(shard.read_bytes()).hexdigest(), shard.stat().st_size))
    for words in (["verify", run], ["show", run, "plain-0"],
                  *(["export", run, "--format", name, "--to", tmp_path / name] for name in ("npy", "safetensors", "hdf5"))):
        done = strata(*words)
        assert done.code == DATA, done
        assert any(word in done.out + done.err for word in ("not followed", "not read", "is filtered")), done
        assert not any((tmp_path / name).exists() for name in ("npy", "safetensors", "hdf5"))
    if kind != "filter":
        with pytest.raises(ValueError, match="not followed|not read"):
            Run(run)["plain-0"]


def test_a_partial_shard_from_outside_is_computed_again(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET.tobytes())
    job = Job(tmp_path / "job", make_problems(20))
    job.run("--stop-after", 4, expect=STOPPED)
    partial = next((job.output / "shards").glob("*.partial.h5"))
    outside(partial, secret, "external")
    with contextlib.closing(sqlite3.connect(job.output / "ledger.sqlite")) as db:
        db.execute("UPDATE partial SET sha256 = ?", (hashlib.sha256(partial.read_bytes()).hexdigest(),))
        db.commit()
    done = job.run(expect=None)
    assert done.code == DATA and "not read" in done.err, done
    job.run()  # as the message says
    job.check_finished(20)
