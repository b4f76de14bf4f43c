# SPDX-License-Identifier: MIT
"""The wheel of the build at hand (tools/wheel.sh): what it asks of a machine, and that in a new environment, with no compiler and nothing
else of this machine on PATH, it runs a job whose result the reader opens; and what a source tree installs without it."""
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support import BUILD, SOURCE

PACKAGE = SOURCE / "tools/python"
PACKAGES = [name for name in ("strata_reader", "strata_import", "strata_export") if (PACKAGE / name).exists()]
SYSTEM = re.compile(r"(ld-linux[^/]*|lib(c|m|dl|pthread|rt|gcc_s))\.so\.\d+")


def quiet(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def pip(*words):
    return quiet(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    to = tmp_path_factory.mktemp("a wheel")
    (to / "strata_latents-0.0.1-py3-none-any.whl").touch()  # an earlier one does not stay
    quiet(SOURCE / "tools/wheel.sh", to, env={**os.environ, "STRATA_BUILD": str(BUILD), "STRATA_PYTHON": sys.executable})
    made, = to.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new virtual environment with the wheel in it. What it depends on is that of this one: no index is asked."""
    folder = tmp_path_factory.mktemp("here") / "venv"
    quiet(sys.executable, "-m", "venv", "--without-pip", folder)
    packages, = folder.glob("lib/python3*/site-packages")
    (packages / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    pip("--python", folder / "bin/python", "install", "--quiet", "--no-index", "--no-deps", wheel)
    return folder


def test_the_wheel_is_for_every_python_on_a_glibc(wheel):
    name = re.fullmatch(r"strata_latents-(.*)-py3-none-manylinux_2_(\d+)_\w+\.whl", wheel.name)
    assert name, wheel.name
    version = re.search(r"^project\(strata VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text(), re.M)[1]
    assert name[1] == version
    # What this machine's glibc calls its own is the newest that it can ask for.
    assert int(name[2]) <= int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[1])
    verdict = quiet(sys.executable, "-m", "auditwheel", "show", wheel)
    assert f'manylinux_2_{name[2]}' in verdict and "libhdf5" not in verdict, verdict


def test_what_is_in_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == set(PACKAGES)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".txt", ".cmake")) and "dist-info" not in name]
    about, = tmp_path.glob("*.dist-info")
    metadata = (about / "METADATA").read_text()
    assert "License-Expression: MIT\n" in metadata and "Provides-Extra: cuda\n" in metadata and "# strata-latents" in metadata
    assert (about / "licenses/LICENSE").read_bytes() == (SOURCE / "LICENSE").read_bytes()
    if Path("/var/lib/dpkg/status").exists():  # of every library that is in the program
        assert len(list((about / "licenses").iterdir())) == 11
    program, = tmp_path.glob("*.data/scripts/strata")
    dynamic = quiet("readelf", "-W", "-d", program)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    assert needed and all(SYSTEM.fullmatch(name) for name in needed), needed
    assert "PATH)" not in dynamic  # no RPATH, no RUNPATH: nothing of this machine


def test_a_job_in_a_new_environment(environment, tmp_path):
    """The demo's, smaller. Everything that runs here is the environment's own."""
    nothing = {"PATH": str(environment / "bin"), "HOME": str(tmp_path), "OMP_WAIT_POLICY": "passive"}

    def inside(*command):
        return quiet(environment / "bin" / command[0], *command[1:], env=nothing, cwd=tmp_path)

    # The same program, if perhaps of another commit than the one that was built last.
    said = inside("strata", "--version").splitlines()
    assert said[1].startswith("commit ") and said[:1] + said[2:] == [
        line for line in quiet(BUILD / "strata", "--version").splitlines() if not line.startswith("commit ")], said
    (tmp_path / "problems.jsonl").write_text(inside("python", SOURCE / "tools/make_problems.py", "--count", "24", "--seed", "7"))
    inside("python", SOURCE / "tools/make_model.py", "--to", "model", "--family", "qwen3", "--hidden", "32", "--layers", "3", "--heads", "4",
           "--kv-heads", "2", "--head-dim", "8", "--intermediate", "64", "--vocabulary", "600", "--seed", "1", "--corpus", "problems.jsonl")
    inside("strata", "import", "problems.jsonl", "problems.db")
    (tmp_path / "job.yaml").write_text(json.dumps({
        "problems": {"database": "problems.db", "id": "problem_id", "text": "{statement}\n{steps}", "steps": {"column": "steps"}},
        "model": {"path": "model", "dtype": "float32", "device": "cpu"}, "latents": {"layers": [-2]},
        "run": {"output": "run", "threads": 1, "drift_stop": False, "disk_reserve_gb": 0}}))
    inside("strata", "run", "job.yaml")
    inside("strata", "verify", "run")
    assert (tmp_path / inside("strata", "report", "run").strip()).read_text().startswith("<!doctype html>")
    assert inside("python", "-c", "import strata_reader as r; run = r.Run('run'); print(len(run), run.hidden, run.complete, r.__file__)") == \
        f"24 32 True {next(environment.glob('lib/python3*/site-packages'))}/strata_reader/__init__.py\n"
    # The shards are those of the program that has its libraries beside it.
    shutil.move(tmp_path / "run", tmp_path / "first")
    quiet(BUILD / "strata", "run", "job.yaml", cwd=tmp_path)
    for shard in (tmp_path / "first/shards").iterdir():
        assert shard.read_bytes() == (tmp_path / "run/shards" / shard.name).read_bytes(), shard.name


def test_pages_and_completion_come_with_it(environment):
    share = environment / "share"
    assert (share / "man/man1/strata-run.1").exists() and (share / "man/man5/strata-job.5").exists()
    assert (share / "bash-completion/completions/strata").read_text() == quiet(BUILD / "strata", "help", "--completion", "bash")
    assert not (environment / "lib/systemd").exists()


def test_the_programs_beside_it(environment):
    for name in PACKAGES:
        if name != "strata_reader":
            said = quiet(environment / "bin" / name.replace("_", "-"), "--help", env={"PATH": str(environment / "bin")})
            assert "usage" in said.lower(), name
            version = re.search(r"^project\(strata VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text(), re.M)[1]
            assert quiet(environment / "bin" / name.replace("_", "-"), "--version", env={"PATH": str(environment / "bin")}).split()[1] == version


def snapshot(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_a_source_tree_gives_the_packages_and_stays_as_it_is(tmp_path):
    before = snapshot(PACKAGE)
    pip("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", tmp_path / "here", PACKAGE)
    assert snapshot(PACKAGE) == before
    assert not (tmp_path / "here/bin/strata").exists()
    assert "Tag: py3-none-any" in next((tmp_path / "here").glob("*.dist-info/WHEEL")).read_text()
    for name in PACKAGES:
        assert {path.name for path in (tmp_path / "here" / name).glob("*.py")} == {path.name for path in (PACKAGE / name).glob("*.py")}


def test_without_the_programs_sources_a_wheel_is_refused(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "python", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(["cmake", "-S", tmp_path / "python", "-B", tmp_path / "build"], capture_output=True, text=True)
    assert done.returncode != 0 and "wheels are built from strata's source tree" in " ".join(done.stderr.split()), done


def test_a_wheel_needs_its_tools_and_a_build_for_any_processor(tmp_path):
    """Said before anything is built."""
    done = subprocess.run([SOURCE / "tools/wheel.sh", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 64 and done.stderr.startswith("usage: tools/wheel.sh [TO]") and not list(tmp_path.iterdir())
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run([SOURCE / "tools/wheel.sh", tmp_path], env={**os.environ, "STRATA_PYTHON": str(python)}, capture_output=True, text=True)
    assert done.returncode == 1 and "tools/setup.sh --tests installs them" in done.stderr, done
    (tmp_path / "compile_commands.json").write_text('[{"command": "cc -O2 -march=native x.c"}]')
    done = subprocess.run([SOURCE / "tools/wheel.sh", tmp_path], capture_output=True, text=True,
                          env={**os.environ, "STRATA_BUILD": str(tmp_path), "STRATA_PYTHON": sys.executable})
    assert done.returncode == 1 and "for this processor alone" in done.stderr, done
