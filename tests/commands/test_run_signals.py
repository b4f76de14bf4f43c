# SPDX-License-Identifier: MIT
"""All the ways to say stop, and no room: signals at any moment, limits on files, standard descriptors that are closed or full."""
import os
import resource
import signal
import subprocess

import pytest
from support import BUILD, OK, STOPPED, STRATA, WRITE, Job, Result, clean_environment, make_problems

AT_CALL = BUILD / "tests" / "commands_tool_at_call"
UNKNOWN_PROCESSOR = 126
COUNT = 40


def started(job, *names, **options):
    """The job in the background, signalled once its ledger is there."""
    process = job.start(**options)
    while process.poll() is None and not job.has_ledger():
        pass
    for name in names:
        process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=120)
    return Result(process.returncode, out.decode(), err.decode())


def long_job(folder):
    return Job(folder, make_problems(2000, seed=4))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return long_job(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("small"), make_problems(COUNT))
    job.run()
    return job


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGXCPU", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGHUP"])
def test_every_way_to_say_stop(base, tmp_path, name):
    job = base.twin(tmp_path)
    done = started(job, name)
    assert done.code == STOPPED, done
    assert f"strata: {name}: stopping" in done.err
    assert job.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(STOPPED,)]


def test_two_kinds_of_signal_are_one_request(base, tmp_path):
    """Slurm's preemption: SIGTERM to every process, SIGUSR1 from the script's trap."""
    job = base.twin(tmp_path)
    done = started(job, "SIGTERM", "SIGUSR1", "SIGHUP", "SIGHUP")
    assert done.code == STOPPED and "at once" not in done.err, done
    assert job.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(STOPPED,)]
    job.check_acknowledged()


def test_signals_of_the_first_moments(small, tmp_path):
    """A stop asked for before the run listens waits until it does: from the opening of the job file on, call by call."""
    if subprocess.run([AT_CALL, "--calls", "read", "/bin/true"]).returncode == UNKNOWN_PROCESSOR:
        pytest.skip("at_call does not know this processor")
    for number in [*range(1, 40, 2), 60, 80, 100]:
        job = small.twin(tmp_path / str(number))
        command = [AT_CALL, "--calls", "read,pread64,mmap,close,statfs,mkdir,flock,fsync,fcntl", "--marker", "job.yaml",
                   "--kill", f"{number}:{int(signal.SIGTERM)}", *job.command()]
        done = subprocess.run(command, capture_output=True, timeout=120, env=clean_environment())
        assert done.returncode == STOPPED, (number, done)
        assert b"stopped by SIGTERM before the first batch" in done.stderr, (number, done)
    job.run()
    job.check_finished(COUNT, small.shards())


@pytest.mark.parametrize("size", [0, 1000, 20_000, 60_000])
def test_limit_on_the_size_of_files(small, tmp_path, size):
    job = small.twin(tmp_path)
    done = subprocess.run(job.command(), capture_output=True, text=True, timeout=120, env=clean_environment(),
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    assert done.returncode == WRITE, done
    assert done.stderr.splitlines()[-1].startswith("strata run: "), done
    assert f"(files may have {size} bytes at most here: ulimit -f)" in done.stderr, done
    job.run()
    job.check_finished(COUNT, small.shards())


@pytest.mark.parametrize("command", [["import"], *(["export", "--format", name, "--layers", "0"]
                                                   for name in ("safetensors", "npy", "hdf5", "rjepa"))], ids=" ".join)
def test_limit_on_the_size_of_files_of_other_commands(small, tmp_path, command):
    operands = [small.folder / "problems.jsonl", tmp_path / "to.db"] if command == ["import"] else [
        small.output, "--to", tmp_path / "to"]
    done = subprocess.run([STRATA, *command, *operands], capture_output=True, text=True, timeout=120, env=clean_environment(),
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    assert done.returncode == WRITE and done.stderr.startswith(f"strata {command[0]}: "), done
    assert ("(files may have 1000 bytes at most here: ulimit -f)" if command == ["import"] else "File too large") in done.stderr, done


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]])
def test_closed_standard_descriptors(small, tmp_path, closed):
    job = small.twin(tmp_path)

    def close():
        for descriptor in closed:
            os.close(descriptor)

    command = [word for word in job.command() if word != "--quiet"]
    done = subprocess.run(command, preexec_fn=close, timeout=120, env=clean_environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == OK
    assert (job.output / "lock").read_text().count("\n") == 1
    assert "problems: " not in (job.output / "run.log").read_text()
    job.check_finished(COUNT, small.shards())


def test_full_output_of_a_complete_run(small, tmp_path):
    """The run's result is its folder: a summary that nobody can read does not make it a failure."""
    job = small.twin(tmp_path)
    with open("/dev/full", "w") as full:
        done = subprocess.run(job.command(), stdout=full, stderr=subprocess.PIPE, timeout=120, env=clean_environment())
    assert done.returncode == OK
    assert b"strata run: the summary could not be written: No space left on device" in done.stderr
    assert job.query("SELECT exit_code FROM launch") == [(OK,)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(job.command(), stdout=write, stderr=write, timeout=120, env=clean_environment())
    assert done.returncode == OK
    os.close(write)


def test_full_output_of_a_complete_export(small, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([STRATA, "export", small.output, "--format", "npy", "--to", tmp_path / "to"], stdout=full,
                              stderr=subprocess.PIPE, timeout=120, env=clean_environment())
    assert done.returncode == OK and (tmp_path / "to" / "export.json").exists()
    assert b"strata export: the summary could not be written: No space left on device" in done.stderr


def test_output_of_other_commands_is_their_result(small):
    """... and what did not reach its reader is no success."""
    done = subprocess.run([STRATA, "status", small.output], preexec_fn=lambda: os.close(1), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env=clean_environment())
    assert done.returncode == WRITE and b"cannot write the output" in done.stderr


def test_other_commands_end_with_a_signal(base, tmp_path):
    """Only a run holds signals back: ^C ends a watch."""
    job = base.twin(tmp_path)
    run = job.start()
    while run.poll() is None and not job.has_ledger():
        pass
    watch = subprocess.Popen([STRATA, "status", job.output, "--watch"], stdout=subprocess.PIPE, env=clean_environment())
    watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert watch.wait(timeout=60) == -signal.SIGINT
    watch.stdout.close()
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
