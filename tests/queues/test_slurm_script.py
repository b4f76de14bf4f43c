# SPDX-License-Identifier: MIT
"""configs/strata.sbatch with stand-ins for Slurm and strata: what stops strata is queued again, but for scancel; what each exit code
does; and the copy of a model on a node's disk. test_slurm.py has the same script run by Slurm."""
import os
import signal
import subprocess
import sys

import pytest
from support import OK, SOURCE, STOPPED, USAGE, wait_for

# What Slurm says of a job after TERM: "scontrol show job".
PREEMPTED, CANCELLED = "PreemptTime=2026-11-29T13:22:36", "PreemptTime=None"


@pytest.mark.parametrize("names, code, shown, requeued", [
    (["SIGUSR1"], 75, CANCELLED, True), (["SIGTERM"], 75, PREEMPTED, True), (["SIGTERM"], 75, CANCELLED, False), (["SIGUSR1"], 138, CANCELLED, True),
    (["SIGUSR1", "SIGTERM"], 75, CANCELLED, True), (["SIGTERM"], 80, PREEMPTED, False), (["SIGUSR1", "SIGUSR1"], 75, CANCELLED, True)])
def test_signals(tmp_path, names, code, shown, requeued):
    write_program(tmp_path / "scontrol", f'[ "$1" = requeue ] || exec echo "Requeue=1 {shown} SuspendTime=None"\necho "$@" >> requeued')
    write_program(tmp_path / "strata", f"""exec {sys.executable} -c '
import os, signal, time
def hear(word):
    with open("heard", "a") as heard:
        heard.write(word)
def end(first, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: hear("again ") if first == signal.SIGUSR1 else None)
    hear("asked ")
    while not os.path.exists("sent"):
        time.sleep(0.01)
    time.sleep(0.3 if first == signal.SIGUSR1 else 0) # what should not come has a while to come
    os._exit({code})
signal.signal(signal.SIGUSR1, end)
signal.signal(signal.SIGTERM, end)
open("started", "w")
while True:
    time.sleep(1)'""")
    script = start_script(tmp_path, "job.yaml")
    wait_for((tmp_path / "started").exists)
    for at, name in enumerate(names):  # --signal=B:USR1 reaches the script alone, preemption every process
        if at > 0:
            wait_for((tmp_path / "heard").exists)
        if name == "SIGUSR1":
            script.send_signal(signal.SIGUSR1)
        else:
            os.killpg(script.pid, signal.SIGTERM)
    (tmp_path / "sent").touch()
    assert script.wait(timeout=60) == code
    assert (tmp_path / "heard").read_text() == "asked "
    assert (tmp_path / "requeued").exists() == requeued


@pytest.mark.parametrize("code, restarts, requeued", [
    (0, "0", False), (64, "0", False), (65, "0", False), (69, "0", False), (73, "0", False), (78, "0", False), (80, "0", False), (127, "0", False),
    (75, "9", True), (70, "", True), (70, "2", True), (70, "3", False), (137, "2", True), (137, "3", False), (139, "0", True)])
def test_exit_codes(tmp_path, code, restarts, requeued):
    write_program(tmp_path / "scontrol", 'echo "$@" >> requeued')
    write_program(tmp_path / "strata", f"echo \"$@\" > called; exit {code}")
    script = start_script(tmp_path, "job.yaml", **({"SLURM_RESTART_COUNT": restarts} if restarts else {}))
    assert script.wait(timeout=60) == code
    assert (tmp_path / "called").read_text() == "run --quiet job.yaml\n"
    assert (tmp_path / "requeued").exists() == requeued


@pytest.mark.parametrize("words, array, called", [
    (["job.yaml"], True, "run --quiet --part auto job.yaml\n"), (["job.yaml", "64"], True, "run --quiet --part 3/64 job.yaml\n"),
    (["job.yaml", "64"], False, None), ([], False, None)])
def test_arrays(tmp_path, words, array, called):
    """A task is requeued by its own name: its job ID may be that of all tasks."""
    write_program(tmp_path / "scontrol", 'echo "$@" >> requeued')
    write_program(tmp_path / "strata", 'echo "$@" > called; exit 75')
    script = start_script(tmp_path, *words, **({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"} if array else {}))
    assert script.wait(timeout=60) == (STOPPED if called else USAGE)
    assert not called or ((tmp_path / "called").read_text() == called and (tmp_path / "requeued").read_text() == "requeue 7_3\n")


def test_options(tmp_path):
    """Words apart by spaces, as in the unit of systemd; no pattern becomes the names of files."""
    write_program(tmp_path / "strata", 'printf "%s|" "$@" > called')
    (tmp_path / "x1").touch()
    task = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert start_script(tmp_path, "job.yaml", STRATA_OPTIONS=" --from-copy  --threads 4 --output x* ", **task).wait(timeout=60) == OK
    assert (tmp_path / "called").read_text() == "run|--quiet|--from-copy|--threads|4|--output|x*|--part|auto|job.yaml|"


def start_script(folder, *words, **variables):
    return subprocess.Popen(["bash", SOURCE / "configs" / "strata.sbatch", *words], cwd=folder, start_new_session=True,
                            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **variables})


def write_program(path, body):
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


# ---- the copy of a model on a node's disk

def copying(folder, model, **variables):
    write_program(folder / "strata", 'echo "$@" > "called-$SLURM_JOB_ID"')
    return start_script(folder, "job.yaml", STRATA_LOCAL_MODEL=str(model), SLURM_TMPDIR=str(folder), **variables)


def copied(folder, job="7"):
    """The copy that strata was told of; None: of none."""
    words = (folder / f"called-{job}").read_text().split()
    return words[words.index("--model-copy") + 1] if "--model-copy" in words else None


def make_folder(folder, weights=b"1" * 1000):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(weights)
    (folder / "model.safetensors").symlink_to("weights")
    (folder / "original").mkdir()
    return folder


def test_one_copy_for_all_tasks(tmp_path):
    """... which is waited for, and made anew of a model that changed."""
    model = make_folder(tmp_path / "model")
    write_program(tmp_path / "cp", f'sleep 0.2; echo cp >> {tmp_path}/copies; exec /bin/cp "$@"')
    tasks = [copying(tmp_path, model, SLURM_JOB_ID=str(job)) for job in range(4)]
    assert [task.wait(timeout=60) for task in tasks] == [OK] * 4
    copy, = {copied(tmp_path, job) for job in range(4)}
    assert (tmp_path / "copies").read_text() == "cp\n"
    assert sorted(os.listdir(copy)) == ["config.json", "model.safetensors", "weights"]
    assert not os.path.islink(copy + "/model.safetensors") and os.stat(copy + "/..").st_mode & 0o777 == 0o700
    (model / "weights").write_bytes(b"2" * 1000)
    os.utime(model / "weights", (1, 1))
    assert copying(tmp_path, model).wait(timeout=60) == OK
    assert copied(tmp_path) != copy and open(copied(tmp_path) + "/model.safetensors").read(1) == "2"


def test_a_split_gguf_file(tmp_path):
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "other.gguf"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(64 << 20)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert copying(tmp_path, tmp_path / "m-00001-of-00002.gguf").wait(timeout=60) == OK
    copy = copied(tmp_path)
    assert copy.endswith("/m-00001-of-00002.gguf")
    assert {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "tokenizer.json"} <= set(os.listdir(os.path.dirname(copy)))
    assert not os.path.exists(os.path.dirname(copy) + "/other.gguf")


def test_a_copy_that_was_broken_off(tmp_path):
    """Preempted while it copies: nothing was begun, and the next one begins again."""
    model = make_folder(tmp_path / "model")
    write_program(tmp_path / "cp", '/bin/cp "$@"; touch copying; exec sleep 600')
    write_program(tmp_path / "scontrol", '[ "$1" = requeue ] || exec echo PreemptTime=2026-11-29\necho "$@" >> requeued')
    task = copying(tmp_path, model)
    wait_for((tmp_path / "copying").exists)
    os.killpg(task.pid, signal.SIGTERM)
    assert task.wait(timeout=60) in (128 + signal.SIGTERM, STOPPED)
    assert (tmp_path / "requeued").read_text() == "requeue 7\n" and not (tmp_path / "called-7").exists()
    (tmp_path / "cp").unlink()
    assert copying(tmp_path, model).wait(timeout=60) == OK
    assert sorted(os.listdir(copied(tmp_path))) == ["config.json", "model.safetensors", "weights"]


@pytest.mark.parametrize("reason", ["disk full", "no model", "another's folder"])
def test_where_no_copy_can_be_made_the_model_is_read_where_it_is(tmp_path, reason):
    model = make_folder(tmp_path / "model")
    if reason == "disk full":
        write_program(tmp_path / "cp", "echo 'cp: No space left on device' >&2; exit 1")
    elif reason == "no model":
        model = tmp_path / "none"
    else:
        (tmp_path / "theirs").mkdir(mode=0o700)
        (tmp_path / f"strata-models-{os.getuid()}").symlink_to("theirs")
    assert copying(tmp_path, model).wait(timeout=60) == OK
    assert copied(tmp_path) is None
    assert not list(tmp_path.glob("strata-models-*/*.new")) and not list(tmp_path.glob("theirs/*"))
