# SPDX-License-Identifier: MIT
"""Which cuBLASLt a command takes, and what it says when there is none (the emulation's GPU; the places themselves:
tests/cuda_emulation/test_cublaslt.c)."""
import shutil

import pytest

import support
from support import DEVICE, JOB, Job, clean_environment, make_problems

pytestmark = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def nowhere(folder):
    """An environment in which no other cuBLASLt is found: the machine may have one."""
    return clean_environment(CUDA_EMULATION_CUBLASLT="0", HOME=str(folder), VIRTUAL_ENV="", CONDA_PREFIX="", CUDA_HOME="", CUDA_PATH="",
                             STRATA_CUBLASLT="")


@pytest.fixture
def job(tmp_path):
    job = Job(tmp_path / "job", make_problems(8, steps=2, longest=8), model={"device": "cuda:0"}, batch={"tokens": 128})
    job.program = support.EMULATED
    return job


def library(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"emulated cuBLASLt {version}\n")
    return str(path)


def test_the_refusal_lists_the_places(job, tmp_path):
    done = support.strata("check", job.file, environment=nowhere(tmp_path), program=support.EMULATED)
    assert done.code == DEVICE, done
    for part in ("cuBLASLt could not be loaded", "STRATA_CUBLASLT", "libcublasLt.so.12: cannot open shared object file",
                 "not in /usr/local/cuda*/lib*;", f"{tmp_path}/.local/lib*/python3*/*-packages/nvidia/cu*/lib"):
        assert part in done.out, (part, done)


def test_a_named_file_that_is_wrong_ends_the_launch(job, tmp_path):
    good = library(tmp_path / "cuda/lib64/libcublasLt.so.12", "12.4.0")
    text = tmp_path / "text.so"
    text.write_text("not a library\n")
    other = library(tmp_path / "other.so", "13.0.2")
    for named, why in ((tmp_path / "absent", "No such file"), (text, "invalid ELF header"), (other, "is of CUDA 13"),
                       (tmp_path, "libcublasLt.so.12: cannot open")):
        environment = {**nowhere(tmp_path), "CUDA_HOME": str(tmp_path / "cuda"), "STRATA_CUBLASLT": str(named)}
        done = job.run(environment=environment, expect=DEVICE)
        assert "STRATA_CUBLASLT names it" in done.last() and why in done.last() and good not in done.err, (named, done)


def test_the_file_is_said_and_its_version_binds_the_run(job, tmp_path):
    first = library(tmp_path / "first/libcublasLt.so.12", "12.4.5")
    again = library(tmp_path / "again/lib64/libcublasLt.so.12", "12.4.5")
    newer = library(tmp_path / "newer/libcublasLt.so.12", "12.9.1")
    done = support.strata("check", job.file, environment={**nowhere(tmp_path), "STRATA_CUBLASLT": str(tmp_path / "first")}, program=support.EMULATED)
    assert f"cuBLASLt 12.4.5 of {first}" in done.out
    job.run("--stop-after", 1, environment={**nowhere(tmp_path), "STRATA_CUBLASLT": first}, expect=support.STOPPED)
    assert f"cuBLASLt 12.4.5 of {first}" in (job.output / "run.log").read_text()
    done = job.run(environment={**nowhere(tmp_path), "STRATA_CUBLASLT": newer}, expect=JOB)
    assert "cublasLt 120405" in done.err and "cublasLt 120901" in done.err
    job.run(environment={**nowhere(tmp_path), "CUDA_HOME": str(tmp_path / "again")})  # the same version elsewhere
    assert f"cuBLASLt 12.4.5 of {again}" in (job.output / "run.log").read_text()


@pytest.mark.parametrize("wheels", ["lib/python3.12/site-packages/nvidia/cu13", "lib/python3.9/site-packages/nvidia/cublas"])
def test_the_environment_that_the_program_is_installed_in(job, tmp_path, wheels):
    """`pip install strata-latents[cuda]` puts the program into an environment's bin, and cuBLASLt into its site-packages; nobody has to
    activate it. It comes before a toolkit's, and a link to the program (pipx) leads there too."""
    own = library(tmp_path / "venv" / wheels / "lib/libcublasLt.so.12", "12.4.5")
    library(tmp_path / "cuda/lib64/libcublasLt.so.12", "12.9.1")
    program = tmp_path / "venv/bin/strata"
    program.parent.mkdir()
    shutil.copy(support.EMULATED, program)
    (tmp_path / "strata").symlink_to(program)
    for started in (program, tmp_path / "strata"):
        done = support.strata("check", job.file, environment={**nowhere(tmp_path), "CUDA_HOME": str(tmp_path / "cuda")}, program=started)
        assert f"cuBLASLt 12.4.5 of {own}" in done.out, done
