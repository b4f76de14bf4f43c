# SPDX-License-Identifier: MIT
"""Parts of tools/gpu-check.sh alone, with programs in place of nvidia-smi, ncu, compute-sanitizer, torch and the test programs: what they
say is understood, what spoils figures is said in words, and what hangs costs no more than its own time."""
import json
import os
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import support
from gpu_checks import DMON, NCU, SMI, fake_build, fake_tool, gone, made_check, parts_module, run_part, stages, time_is_over, until
import gpu_check_basics as basics
import gpu_check_machine as machine
import gpu_check_process as process_module
import gpu_check_rates as rates
import gpu_check_runs as runs
import gpu_check_table


def test_warnings_of_a_loaded_machine_are_no_complaint():
    assert process_module.WARNINGS == support.WARNINGS


# ---- programs, and their time

def test_a_part_that_hangs_costs_its_own_time(tmp_path, monkeypatch):
    check = made_check(tmp_path)
    time_is_over(monkeypatch, check, "slow", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())

    def hang(check):
        assert 1 <= check.timeout() <= 50
        check.call("slow", "sh", "-c", f"echo begun; echo $$ >{tmp_path}/pid; sleep 600 & wait")

    assert run_part(check, hang, most=50) == ("failed", "slow did not end in 0 s: begun")
    assert gone(int((tmp_path / "pid").read_text())) and "==== slow: died of SIGKILL" in (tmp_path / "out/programs.log").read_text()
    assert run_part(check, lambda check: check.call("next", "echo", "fine")) == ("done", "fine\n")


def test_test_programs_run_at_once_and_are_ended(tmp_path, monkeypatch):
    meet = f"touch {tmp_path}/$(basename $0); while [ ! -e {tmp_path}/kernels_test_device -o ! -e {tmp_path}/kernels_test_rows ]; do sleep 0.02; done"
    check = made_check(tmp_path)
    build = fake_build(tmp_path / "build", kernels_test_device=meet, kernels_test_rows=meet, kernels_test_matmul="echo begun; sleep 600")
    time_is_over(monkeypatch, check, "kernels_test_matmul", lambda: any("begun" in log.read_text() for log in check.processes.folder.glob("*matmul.log")))
    monkeypatch.setattr(process_module.Running, "silent", lambda _: 40)  # seconds
    monkeypatch.setattr(process_module.Running, "idle", lambda _: 0)
    assert run_part(check, basics.run_tests) == (
        "left out", "2 of 3 programs passed; no time for kernels_test_matmul (at begun, 40 s ago, but at work)")
    monkeypatch.setattr(process_module.Running, "silent", lambda _: 4)
    assert run_part(check, basics.run_tests)[1] == "2 of 3 programs passed; no time for kernels_test_matmul (at begun)"
    monkeypatch.setattr(process_module.Running, "silent", lambda _: 40)
    monkeypatch.setattr(process_module.Running, "idle", lambda _: 40)
    (build / "tests/kernels_test_attention").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (build / "tests/kernels_test_attention").chmod(0o755)
    assert run_part(check, basics.run_tests) == ("failed", "2 of 4 programs: kernels_test_matmul hung after 40 s without a word: begun; "
                                                 "kernels_test_attention died of SIGSEGV: no word")
    assert set(check.figures["tests"]["failed"]) == {"kernels_test_matmul", "kernels_test_attention"}
    check.one_at_a_time = True  # where only one program may use the GPU
    for name in ("kernels_test_device", "kernels_test_rows"):
        (tmp_path / name).unlink()
        (build / "tests" / name).write_text(f"#!/bin/sh\n[ ! -e {tmp_path}/busy ] && touch {tmp_path}/busy && sleep 0.2 && rm {tmp_path}/busy\n")
    for name in ("kernels_test_matmul", "kernels_test_attention"):
        (build / "tests" / name).unlink()
    assert run_part(check, basics.run_tests)[1] == "2 programs passed"


def test_a_program_that_works_is_not_idle(tmp_path, monkeypatch):
    now, cpu = [100.0], [0.0]
    monkeypatch.setattr(process_module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(process_module, "cpu_seconds", lambda _: cpu[0])
    one = process_module.Running("one", [], types.SimpleNamespace(pid=1), tmp_path)

    def go_on(seconds, work):
        for _ in range(seconds):
            now[0] += 1
            cpu[0] += work
            one.look()

    go_on(20, 0.0)
    assert one.idle() == 20
    go_on(1, 0.5)
    assert one.idle() == 0
    go_on(30, 0.01)  # a thread that only looks now and then
    assert one.idle() == 30
    monkeypatch.setattr(process_module, "cpu_seconds", lambda _: None)  # gone
    go_on(5, 1.0)
    assert one.idle() == 35


def test_processors_time_of_a_process():
    before = process_module.cpu_seconds(os.getpid())
    until(lambda: sum(range(100000)) and process_module.cpu_seconds(os.getpid()) > before)
    assert process_module.cpu_seconds(2**22 + 1) is None  # no process has that number


def test_all_are_killed_before_one_is_waited_for(tmp_path, monkeypatch):
    check = made_check(tmp_path)
    for name in ("first", "second"):
        check.processes.start(name, "sleep", "600")
    order = []
    signal_it, gone_in = process_module.Running.signal, process_module.Running.gone
    monkeypatch.setattr(process_module.Running, "signal", lambda one: (order.append(f"signal {one.name}"), signal_it(one))[1])
    monkeypatch.setattr(process_module.Running, "gone", lambda one, seconds: (order.append(f"wait {one.name}"), gone_in(one, 60))[1])
    check.end()
    assert order == ["signal first", "signal second", "wait first", "wait second"]


class Dying:
    """A process that is gone only when it is waited for again after it was killed."""
    pid, returncode, waits = 2**22 + 1, None, 0

    def poll(self):
        return self.returncode

    def wait(self, seconds):
        self.waits += 1
        if self.waits == 1:
            raise subprocess.TimeoutExpired("run", seconds)
        self.returncode = self.end
        return self.end

    def __init__(self, end):
        self.end = end


def test_a_killed_run_may_take_long_to_go(tmp_path, monkeypatch):
    check = made_check(tmp_path)
    (tmp_path / "job/run/shards").mkdir(parents=True)
    (tmp_path / "job/run/shards/part-000000.h5").touch()
    process = []
    monkeypatch.setattr(check.processes, "start", lambda *_: process_module.Running("run", [], process[0], tmp_path / "none"))
    for end, said in ((-9, True), (0, False)):
        process[:] = [Dying(end)]
        assert runs.Runner(check).run_killed(tmp_path / "job/job.yaml") is said and process[0].waits == 2
    process[:] = [Dying(70)]
    with pytest.raises(process_module.Failed, match="the run to be killed ended with 70"):
        runs.Runner(check).run_killed(tmp_path / "job/job.yaml")
    process[:] = [Dying(None)]
    with pytest.raises(process_module.Failed, match="is not gone after 20 s"):
        runs.Runner(check).run_killed(tmp_path / "job/job.yaml")


def test_programs_share_the_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    seven = basics.shares(7)
    assert set().union(*seven) == set(range(16)) and sum(map(len, seven)) == 16 and min(map(len, seven)) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 9})
    assert basics.shares(3) == [{4}, {9}, {4}] and basics.shares(1) == [{4, 9}]


def test_test_programs_are_those_of_the_build():
    listed = (support.BUILD / "device_tests.txt").read_text().split()
    assert sorted(listed) == sorted(basics.TESTS)


def test_words_of_programs():
    assert process_module.complaint("loading\nstrata: warn: slow\nstrata: cuda:0: no device\nbye") == "strata: cuda:0: no device"
    assert process_module.complaint("a\n[  FAILED  ] x\nb\nassertion failed: y") == "[  FAILED  ] x | assertion failed: y"
    assert process_module.complaint("strata bench: --part is one of these\nsee 'strata help bench'") == "strata bench: --part is one of these"
    assert process_module.complaint("Traceback (most recent call last):\n  File\nImportError: no x") == "ImportError: no x"
    assert process_module.complaint("") == "no word" and process_module.complaint("one\ntwo") == "two"
    assert process_module.how(-11) == "died of SIGSEGV" and process_module.how(3) == "ended with 3"


def test_long_output_is_kept_from_both_ends(tmp_path):
    check = made_check(tmp_path)
    run_part(check, lambda check: check.call("loud", "sh", "-c", "echo first; yes | head -c 3000000; echo last") and "")
    text = (tmp_path / "out/programs.log").read_text()
    assert "first\n" in text and text.rstrip().endswith("last") and "bytes left out" in text and len(text) < 600000


def test_sanitizer_tells_findings_from_want_of_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(basics.SANITIZED, "both", [("memcheck", "a"), ("racecheck", "b")])
    fake_build(tmp_path / "build", a="exit 0", b="exit 0")

    def run(script, most=60, over=None):
        check = made_check(tmp_path)
        if over:
            time_is_over(monkeypatch, check, "racecheck", over)
        tool = tmp_path / "compute-sanitizer"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        state, word = run_part(check, lambda check: basics.run_sanitizer(check, "both"), most)
        return state, word, check.figures.get("sanitizer", {}).get("both", {}).get("passed")

    assert run('case "$*" in "--tool memcheck --error-exitcode 99 --report-api-errors no "*a) ;; '
               '"--tool racecheck --error-exitcode 99 "*b) ;; *) exit 1 ;; esac') == (
        "done", "memcheck a, racecheck b: no finding", ["memcheck a", "racecheck b"])
    state, word, _ = run('echo "========= COMPUTE-SANITIZER"; echo "========= Invalid __global__ read"; exit 99')
    assert state == "failed" and "memcheck a: ========= Invalid __global__ read" in word
    state, word, _ = run('echo "========= COMPUTE-SANITIZER"; echo "========= Error: Device not supported"; exit 1')
    assert state == "left out" and "does not work here" in word
    state, word, _ = run('echo "========= COMPUTE-SANITIZER"; echo "========= Error: Device not supported"; exit 99')
    assert state == "left out" and "does not work here" in word
    assert run("exit 1")[0] == "failed"
    slow = f'[ "$2" = memcheck ] || {{ sleep 60 & echo $! >{tmp_path}/pid; wait; }}'
    assert run(slow, over=lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) == ("left out", "no time for racecheck b; memcheck a without a finding", ["memcheck a"])
    assert gone(int((tmp_path / "pid").read_text()))  # what it had started does not stay on the device
    assert run("exit 0", 3)[:2] == ("left out", "no time for memcheck a, racecheck b; none without a finding")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (tmp_path / "compute-sanitizer").unlink()
    if not Path("/usr/local/cuda/bin/compute-sanitizer").exists():
        assert run_part(made_check(tmp_path), lambda check: basics.run_sanitizer(check, "both")) == ("left out", "compute-sanitizer was not found")


# ---- the machine

def gpu_seen(folder, monkeypatch, version="strata 1.0\nCUDA 13.0", **environment):
    """(what is said of the GPU, warnings, failure) with nvidia-smi's answers as the environment says."""
    fake_tool(monkeypatch, folder / "bin", "nvidia-smi", SMI)
    with monkeypatch.context() as context:
        for name, value in environment.items():
            context.setenv(name, value)
        check = made_check(folder)
        try:
            return basics.look_at_gpu(check, version), check.warnings, None, check
        except process_module.Failed as fault:
            return None, check.warnings, str(fault), check


def test_what_nvidia_smi_says(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    words, warnings, fault, check = gpu_seen(tmp_path, monkeypatch)
    assert words == "NVIDIA H200, driver 580.159.03, CUDA 13.0, 143771 MiB, up to 1980 MHz, 700.00 W, 31 C" and warnings == [] and fault is None
    assert check.gpu_text["memory.total"] == "143771 MiB" and not check.one_at_a_time and check.versions["driver"] == "580.159.03"
    words, warnings, fault, _ = gpu_seen(tmp_path, monkeypatch, SMI_OLD="1")
    assert words == "NVIDIA H200, driver 470.1, CUDA 13.0, 143771 MiB" and fault is None
    _, warnings, _, _ = gpu_seen(tmp_path, monkeypatch, SMI_TWO="1", SMI_OTHERS="77, 9000 MiB, python3")
    assert "2 GPUs" in warnings[0] and warnings[1] == "other programs use this GPU, figures will be low: 77 9000 MiB python3"
    assert "9000 MiB of this GPU are in use" in gpu_seen(tmp_path, monkeypatch, SMI_USED="9000")[1][0]
    assert "97 % busy" in gpu_seen(tmp_path, monkeypatch, SMI_BUSY_SHARE="97")[1][0]
    assert "MIG is on" in gpu_seen(tmp_path, monkeypatch, SMI_MIG="Enabled")[1][0]
    _, warnings, fault, check = gpu_seen(tmp_path, monkeypatch, SMI_MODE="Exclusive_Process")
    assert check.one_at_a_time and "one after another" in warnings[0] and fault is None
    assert "Prohibited" in gpu_seen(tmp_path, monkeypatch, SMI_MODE="Prohibited")[2]
    assert gpu_seen(tmp_path, monkeypatch, SMI_CUDA="12.4")[2] == (
        "driver 580.159.03 is for CUDA 12.4, the program was built with CUDA 13.0: use a newer driver, or a build with CUDA 12")
    assert gpu_seen(tmp_path, monkeypatch, version="strata 1.0", SMI_CUDA="12.4")[2] is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_seen(tmp_path, monkeypatch)[1] == ["CUDA_VISIBLE_DEVICES is '0': cuda:0 counts among those"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,0")
    assert machine.device_name("cuda:0", os.environ) == "3" and machine.device_name("cuda:1", os.environ) == "0"
    assert gpu_seen(tmp_path, monkeypatch)[0] == "no word from nvidia-smi"


def test_nvidia_smi_while_it_extracts(tmp_path, monkeypatch):
    assert rates.read_dmon(DMON) == {"seconds": 3, "power": 695.0, "clock": 1740.0}
    assert rates.read_dmon("") == rates.read_dmon(DMON.splitlines()[0]) == {}
    fake_tool(monkeypatch, tmp_path / "bin", "nvidia-smi", SMI)
    monkeypatch.setenv("SMI_DMON", DMON)
    check = made_check(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "empty").mkdir()
    for other in (made_check(tmp_path, device="cpu"), check):
        with monkeypatch.context() as context:
            if other is check:
                context.setenv("PATH", str(tmp_path / "empty"))
            monitor = rates.Monitor(other)
            assert monitor.here() == 0 and monitor.since(0) == {} and not other.processes.started
    monitor = rates.Monitor(check)
    until(lambda: monitor.path.exists() and monitor.path.read_text().count("\n") == 6)
    assert monitor.since(0) == rates.read_dmon(DMON)
    after = DMON.index(" 12:00:02")
    assert monitor.since(after) == {"seconds": 2, "power": 700.0, "clock": 1740.0}
    check.end()
    assert monitor.path.exists() and not check.processes.started


def test_the_driver_is_kept_awake_before_it_is_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(rates, "Monitor", lambda check: asked.append("monitor"))
    monkeypatch.setattr(machine, "ask", lambda words, timeout=20: asked.append(words[0]))
    fake_build(tmp_path / "build")
    check = made_check(tmp_path)
    run_part(check, basics.look_at_machine)
    check.remove_work()
    assert asked.index("monitor") < asked.index("nvidia-smi")


GIB = 1 << 30


def place(free, available, gpu=None, wanted=None, tmp="/tmp"):
    """(folder, layers, words) with so many GiB free in /dev/shm and on the disk."""
    sizes = {"/ram": free[0] * GIB, "/disk": free[1] * GIB, "/asked": free[1] * GIB}
    return machine.choose_place(stages.FULL, wanted, "/disk", ram="/ram", available=available * GIB, gpu_memory=gpu and gpu * GIB,
                                free=lambda folder: sizes[str(folder)])


def test_where_the_model_is_made(monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    assert place((64, 50), 128) == (Path("/ram"), 36, "in /ram: /ram has 68.7 GB free, memory 137.4 GB available")
    folder, layers, words = place((8, 10), 128)  # too small a RAM disk, and no better disk
    assert (folder, layers) == (Path("/ram"), 16) and words.startswith("only 16 of 36 layers, for /ram has 8.6 GB free")
    folder, layers, words = place((0.0625, 50), 128)  # as a container has it
    assert (folder, layers) == (Path("/disk"), 36) and words.startswith("on the disk of /disk, 36 of 36 layers: /ram has 0.1 GB free")
    folder, layers, words = place((64, 10), 16)  # memory takes less than the RAM disk would
    assert (folder, layers) == (Path("/ram"), 16) and "memory 17.2 GB available" in words and "--work names" in words
    assert place((64, 50), 128, gpu=24)[:2] == (Path("/ram"), 36) and place((64, 50), 128, gpu=16)[1] == 23
    assert "the GPU's memory takes no more" in place((64, 10), 128, gpu=16)[2]
    assert place((0, 1), 128)[1] == 0
    assert place((64, 12), 128, wanted="/asked") == (Path("/asked"), 23, "in /asked (12.9 GB free), as asked")


def test_without_a_ram_disk_the_model_is_not_among_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    assert machine.choose_place(stages.FULL, None, ram=tmp_path / "nothing", available=128 * GIB, free=lambda _: 64 * GIB)[0] == tmp_path


def test_results_are_no_work_that_was_left(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(stages.tempfile, "gettempdir", lambda: str(tmp_path))
    results, _ = stages.make_out(None, tmp_path / "file/out")
    work, lock = machine.make_work(tmp_path)
    os.close(lock)
    assert results.is_dir()


def test_work_without_locks(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(machine.fcntl, "flock", no_locks)
    check = made_check(tmp_path)
    check.work, check.lock = machine.make_work(tmp_path)
    assert check.lock is None
    check.remove_work()
    assert not check.work.exists()


def test_no_room_for_a_model_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "choose_place", lambda *_, **__: (tmp_path, 0, "in a full folder"))
    check = made_check(tmp_path)
    basics.choose_model(check)
    assert run_part(check, basics.wait_for_model) == ("left out", "no room for a model of 3 layers in a full folder")
    assert check.warnings == ["the model: in a full folder"]
    check.remove_work()


def test_memory_of_a_container_counts(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 64000000 kB\nMemAvailable:   32000000 kB\n")
    seen = {"meminfo": tmp_path / "meminfo", "cgroup": tmp_path, "own": tmp_path / "own"}
    (tmp_path / "own").write_text("0::/job/step\n")
    (tmp_path / "job/step").mkdir(parents=True)
    assert machine.available_memory(**seen) == 32000000 << 10
    (tmp_path / "job/step/memory.max").write_text("max\n")
    (tmp_path / "job/memory.current").write_text("1000\n")
    assert machine.available_memory(**seen) == 32000000 << 10
    (tmp_path / "job/memory.max").write_text("5000\n")
    assert machine.available_memory(**seen) == 4000
    (tmp_path / "memory").mkdir()  # the first version of control groups
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9000\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("2000\n")
    (tmp_path / "own").write_text("7:cpu,memory:/not/there\n1:name=systemd:/\n")
    assert machine.available_memory(**seen) == 7000


def test_work_of_killed_checks_is_removed_that_of_others_stays(tmp_path):
    first, lock = machine.make_work(tmp_path)
    (first / "model").mkdir()
    second, other = machine.make_work(tmp_path)
    assert first.exists() and second.exists()
    os.close(lock)  # as its check's end does
    third, last = machine.make_work(tmp_path)
    assert not first.exists() and second.exists() and third.exists()
    os.close(other)
    os.close(last)


def test_results_go_elsewhere_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(stages.tempfile, "gettempdir", lambda: str(tmp_path))
    folder, words = stages.make_out(None, tmp_path / "file/out")
    assert folder.parent == tmp_path and folder.is_dir() and words == f"nothing can be written to {tmp_path}/file/out"
    with pytest.raises(SystemExit, match="--out .*: Not a directory"):
        stages.make_out(tmp_path / "file/out", None)


# ---- the program

def test_a_program_that_does_not_start_is_said(tmp_path, monkeypatch):
    check = made_check(tmp_path)
    build = fake_build(tmp_path / "build")
    monkeypatch.setattr(machine, "program_version", lambda *_: "strata 1.0\nCUDA 13.0 for 9.0; loads cuBLASLt 13 (/a/long/way/to/it)\n")
    assert run_part(check, basics.look_at_machine)[0] == "done"
    assert check.versions["strata"] == "1.0" and check.versions["CUDA"] == "13.0 for 9.0"
    monkeypatch.undo()
    check.remove_work()
    (build / "strata").write_text("#!/bin/sh\necho 'strata: /lib/libc.so.6: version `GLIBC_2.38` not found' >&2; exit 1\n")
    state, word = run_part(check, basics.look_at_machine)
    assert state == "failed" and "does not run here: strata: /lib/libc.so.6: version `GLIBC_2.38` not found" in word
    (build / "strata").write_text("no program")
    assert "does not start: Exec format error" in run_part(check, basics.look_at_machine)[1]
    (build / "strata").unlink()
    assert "is not there; --build names a bundle" in run_part(check, basics.build_program)[1]


def test_cublaslt_of_the_python_is_named_unless_it_fails(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "nvidia/cu13/lib").mkdir(parents=True)
    library = site / "nvidia/cu13/lib/libcublasLt.so.13"
    library.write_text("")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {site}\necho {site}\n")
    python.chmod(0o755)
    assert machine.cublaslt_of(python, "13") == library == machine.cublaslt_of(python, None) and machine.cublaslt_of(python, "12") is None
    monkeypatch.delenv("STRATA_CUBLASLT", raising=False)
    check = made_check(tmp_path, python=str(python))
    basics.find_cublaslt(check, "strata 1.0\nCUDA 13.0")
    assert check.environment["STRATA_CUBLASLT"] == str(library)
    report = json.dumps({"name": "X", "figures": []})
    fake_build(tmp_path / "build", bench='[ -z "$STRATA_CUBLASLT" ] || { echo "strata: cuBLASLt could not be loaded" >&2; exit 69; }; '
               f'for file; do :; done; echo \'{report}\' >"$file"; exit 0')
    assert run_part(check, basics.smoke) == ("done", "X") and "STRATA_CUBLASLT" not in check.environment
    monkeypatch.setenv("STRATA_CUBLASLT", "/as/the/user/says")
    check = made_check(tmp_path, python=str(python))
    basics.find_cublaslt(check, "CUDA 13.0")
    assert run_part(check, basics.smoke)[1] == "strata bench ended with 69: strata: cuBLASLt could not be loaded"


# ---- torch

def torch_seen(folder, monkeypatch, torch, **environment):
    for name, text in (("torch", torch), ("transformers", "__version__ = '5'")):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check = made_check(folder)
    check.probe = check.processes.start("torch", check.options.python, "-c", machine.TORCH_PROBE)
    return (*run_part(check, basics.look_at_torch), check)


def test_torch_is_looked_at_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    state, word, check = torch_seen(tmp_path, monkeypatch, "raise ModuleNotFoundError(\"No module named 'torch'\")")
    assert (state, word) == ("left out", f"{sys.executable}: it has no torch")
    state, word, check = torch_seen(tmp_path, monkeypatch, "raise ImportError('libcublas.so.13: undefined symbol')")
    assert state == "left out" and word.endswith("torch cannot be imported: ImportError: libcublas.so.13: undefined symbol")
    works = "import os\n__version__ = '2'\nclass cuda:\n    def is_available():\n        return False\n"
    state, word, check = torch_seen(tmp_path, monkeypatch, works)
    assert (state, word) == ("done", "torch 2, transformers 5, cuda False") and "torch sees no GPU" in check.warnings[0]
    broken = works + "if os.environ.get('LD_LIBRARY_PATH'):\n    raise ImportError('libcublas.so.13: undefined symbol')\n"
    state, word, check = torch_seen(tmp_path, monkeypatch, broken, LD_LIBRARY_PATH="/opt/toolkit/lib64")
    assert state == "done" and check.torch_environment == {"LD_LIBRARY_PATH": ""} and "without LD_LIBRARY_PATH" in check.warnings[0]


def test_torch_that_takes_too_long_is_left_out(tmp_path, monkeypatch):
    check = made_check(tmp_path)
    check.stage_a_end = time.monotonic() + 1  # all of stage A's time
    check.probe = check.processes.start("torch", "sleep", "600")
    check.part(parts_module.Part("torch", "A", 1, 3600, ""), basics.look_at_torch)
    assert check.parts[-1]["state"] == "left out" and "did not import torch and transformers in" in check.parts[-1]["word"]
    assert check.timeout() == 1


def test_torch_that_takes_too_long_the_second_time_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/toolkit/lib64")
    check = made_check(tmp_path, python=str(tmp_path / "python"))
    tries = tmp_path / "tries"

    def look(missing):
        (tmp_path / "python").write_text(f"#!/bin/sh\necho >>{tries}; [ -n \"$LD_LIBRARY_PATH\" ] || sleep 600\necho {missing}; exit 1\n")
        (tmp_path / "python").chmod(0o755)
        tries.write_text("")
        check.probe = check.processes.start("torch", tmp_path / "python")
        until(check.probe.over)
        check.stage_a_end = time.monotonic()  # the tests took all of it
        failed = not check.run([parts_module.Part("torch", "A", 1, 60, "")], {"torch": basics.look_at_torch})
        return failed, check.parts[-1]["state"], check.parts[-1]["word"]

    assert look("ImportError: libcublas.so.13: undefined symbol") == (
        False, "left out", f"{tmp_path}/python: torch cannot be imported: ImportError: libcublas.so.13: undefined symbol "
        "(and there was no time to try without LD_LIBRARY_PATH)")
    assert look("\"ModuleNotFoundError: No module named 'torch'\"") == (False, "left out", f"{tmp_path}/python: it has no torch")
    assert tries.read_text() == "\n"  # once


# ---- Nsight Compute

def test_kernels_through_nsight_compute(tmp_path, monkeypatch):
    found = rates.read_ncu(NCU)
    assert found == {"rms_norm_kernel": {"duration": 1020.5, "memory": 91.5, "sm": 22.25}, "attention_mma_kernel": {"occupancy": 18.0}}
    assert rates.read_ncu("") == rates.read_ncu("==ERROR== nothing") == {}

    def run(script):
        fake_tool(monkeypatch, tmp_path / "bin", "ncu", script)
        check = made_check(tmp_path)
        return (*run_part(check, rates.run_ncu), check)

    (tmp_path / "made.csv").write_text(NCU)
    state, word, check = run('case "$*" in "--clock-control none --section SpeedOfLight --section Occupancy '
                             f'-k regex:attention|rms_norm|rotary|swiglu -c 12 --csv --log-file {tmp_path}/out/ncu.csv "*" bench --device cuda:0 --shape qwen3-8b "*) ;; *) exit 1 ;; esac; '
                             f'cp {tmp_path}/made.csv {tmp_path}/out/ncu.csv')
    assert (state, word) == ("done", "2 kernels, all figures in ncu.csv")
    rows = {row["figure"]: row for row in gpu_check_table.judge(check)}
    assert rows["ncu: rms_norm_kernel"]["value"] == 1020.5 and rows["ncu: rms_norm_kernel"]["target"] == "SM 22 %, memory 92 %"
    state, word, _ = run("echo '==ERROR== ERR_NVGPUCTRPERM - no permission'; exit 1")
    assert state == "left out" and "counters" in word
    state, word, _ = run("echo '==ERROR== Failed to initialize the profiler: LibraryNotLoaded'; exit 1")
    assert state == "left out" and "does not work here: ==ERROR== Failed to initialize" in word
    assert run("echo '==WARNING== No kernels were profiled.'; exit 0")[0] == "failed"
    (tmp_path / "bin/ncu").unlink()
    if shutil.which("ncu", path=os.environ["PATH"] + ":/usr/local/cuda/bin") is None:
        assert run_part(made_check(tmp_path), rates.run_ncu) == ("left out", "ncu was not found")
    assert run_part(made_check(tmp_path, device="cpu"), rates.run_ncu) == ("left out", "not on a GPU")


def test_a_bench_that_is_cut_off_counts_as_far_as_it_came(tmp_path, monkeypatch):
    report = json.dumps({"name": "X", "figures": [{"part": "peaks", "what": "peak", "value": 1.0, "unit": "GFLOP/s"}]})
    fake_build(tmp_path / "build", bench=f'echo \'{report}\' >{tmp_path}/rates.json; sleep 600')
    check = made_check(tmp_path)
    time_is_over(monkeypatch, check, "rates", lambda: (tmp_path / "rates.json").exists() and (tmp_path / "rates.json").read_text().endswith("\n"))
    assert run_part(check, rates.rates)[0] == "failed" and len(rates.bench_figures(check, "peaks")) == 1
