# SPDX-License-Identifier: MIT
"""tools/gpu-check.sh in its quick mode, on the CPU and on the emulated GPU: both stages do their work, a failure in the first ends it and
one in the second stops no other part, what is known lies under --out however it ends, and the table reaches the page only from a GPU."""
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import gpu_checks
import support
from gpu_checks import RESULTS, TOOLS, fake_build, fake_tool, gone, gpu_check, parts_module, read_result, start, states_of, until

NEED_A_GPU = {"ncu", "memcheck", "racecheck", "sanitizer"}


def check_whole(folder, done, result, skipped=()):
    assert done.returncode == 0, (done.stdout, done.stderr)
    wanted = {name: "left out" if name in NEED_A_GPU else "done" for name in parts_module.NAMES}
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):  # without --parity
        wanted.update(torch="left out", transformers="left out")
    wanted = {name: state for name, state in wanted.items() if name not in skipped}
    assert states_of(result) == wanted and list(states_of(result)) == list(wanted), done.stdout
    assert result["ended"] == "done"
    figures = {row["figure"] for row in result["table"]}
    assert {"extraction, step means of hidden_states[-2]", "time lost between batches", "extraction, all layers of every token",
            "texts whose bits differ in other company", "texts whose bits differ when alone", "killed and resumed: shards",
            "products in turn, first second", "products in turn, last second", "token/s of a block's products"} <= figures
    for row in result["table"]:
        assert row["figure"] in done.stdout
        assert row["met"] is None, "tiny shapes are judged"
        assert row["value"] == row["value"] and row["value"] >= 0, row
    for part in result["parts"]:  # one line each
        assert sum(line.startswith(f"{part['stage']:<4} {part['name']:<13} ") for line in done.stdout.splitlines()) == 1
    assert result["figures"]["killed"]["equal"] and result["figures"]["killed"]["shards"] > 1
    alone, company = result["figures"]["alone"], result["figures"]["company"]
    assert alone["problems"] == 6 and company["problems"] > 6 and alone["different"] == company["different"] == []
    assert result["figures"]["extract"]["tokens"] > 0
    for name in ("extract", "every_token"):
        found = result["figures"][name]
        assert 0 < found["seconds"] < found["wall_seconds"] and found["wall_tokens_per_second"] < found["tokens_per_second"]
    if "transformers" in result["figures"]:
        assert result["figures"]["transformers"]["lowest_cosine"] > 0.999
        assert set(result["figures"]["transformers"]["rates"]) <= {"2", "8"}
    assert {path.name for path in (folder / "out").iterdir()} == RESULTS
    assert (folder / "out/log").read_text() == done.stdout
    said = (folder / "out/programs.log").read_text()
    assert "==== kernels_test_device: ended with 0" in said and "==== run-pooled: ended with 0" in said
    return figures


def test_on_the_cpu(tmp_path):
    done, result = gpu_check(tmp_path, "--device", "cpu")
    check_whole(tmp_path, done, result)
    assert result["device"]["kind"] == "cpu" and result["quick"]


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_on_the_emulated_gpu(tmp_path):
    done, result = gpu_check(tmp_path, "--strata", support.EMULATED, "--skip", "torch,transformers", CUDA_EMULATION_PREFER="7")
    figures = check_whole(tmp_path, done, result, ("torch", "transformers"))
    assert result["device"]["name"] == "Emulated GPU" and result["device"]["kind"] == "cuda"
    assert {"copies, host -> device", "copies, device -> host", "attention, 1 of 300 tokens"} <= figures
    bench = result["figures"]["rates"]["figures"]
    products = [f for f in bench if f["what"].startswith("any algorithm")]
    chosen = [f for f in bench if f["what"].startswith("matmul")]
    assert len(products) == len(chosen) == 4
    for free, figure in zip(products, chosen):  # of what cuBLAS can, not of mma.sync, which it goes beyond on newer GPUs
        assert figure["of"] == "best of any algorithm" and figure["limit"] == free["value"] >= figure["value"]
    assert {f["of"] for f in bench if f["what"].startswith("attention")} == {"peak of mma.sync"}
    assert "peak of mma.sync" in figures and "peak of this device's dtype" not in figures
    for figure in products:  # three of the emulation's nine add up alike, four give bits that depend on the place or the workspace
        assert (figure["candidates"], figure["groups"], figure["chosen_group_size"], figure["unfit"]) == (9, 3, 3, 4)


NOT_AGAIN = ("torch", "killed", "alone", "every_token", "racecheck", "sanitizer")
AS_ON_A_GPU = """
import dataclasses, runpy, sys
sys.path.insert(0, sys.argv[1])
import gpu_check_stages as stages
stages.FULL = dataclasses.replace(stages.QUICK, seconds=1)
stages.Check.patience = 10
sys.argv = [sys.argv[1] + "/gpu_check.py", *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_as_on_a_gpu(tmp_path, monkeypatch):
    """Not the quick mode, if with its model: the emulation under the names of a real build, and NVIDIA's tools played by scripts."""
    build = fake_build(tmp_path / "build")
    (build / "strata").write_text(f'#!/bin/sh\nexec {support.EMULATED} "$@"\n')
    for name in ("kernels_test_device", "kernels_test_attention"):
        (build / "tests" / name).write_text(f"#!/bin/sh\nexec {support.BUILD}/tests/cuda_emulation/cuda_emulated_{name[8:]}\n")
        (build / "tests" / name).chmod(0o755)
    (tmp_path / "made.csv").write_text(gpu_checks.NCU)
    fake_tool(monkeypatch, tmp_path / "bin", "nvidia-smi", gpu_checks.SMI)
    fake_tool(monkeypatch, tmp_path / "bin", "ncu", f"cp {tmp_path}/made.csv {tmp_path}/out/ncu.csv")
    fake_tool(monkeypatch, tmp_path / "bin", "compute-sanitizer", "exit 0")
    environment = support.clean_environment(SMI_DMON=gpu_checks.DMON, SMI_BUSY=gpu_checks.DMON.splitlines()[4], CUDA_EMULATION_PREFER="7",
                                            CUDA_EMULATION_NVML_REASONS="4")
    done = subprocess.run([sys.executable, "-B", "-c", AS_ON_A_GPU, TOOLS, "--build", build, "--out", tmp_path / "out", "--work", tmp_path / "work",
                           "--time", "1000", "--skip", ",".join(NOT_AGAIN)], capture_output=True, text=True, env=environment)
    result = read_result(tmp_path)
    wanted = dict.fromkeys(parts_module.NAMES, "done")
    for name in NOT_AGAIN:
        del wanted[name]
    assert done.returncode == 0 and states_of(result) == {**wanted, "transformers": "left out"}, (done.stdout, done.stderr)
    assert result["gpu"]["name"] == "NVIDIA H200" and result["versions"]["driver"] == "580.159.03"
    assert result["figures"]["extract"]["watched"]["power"] == 700
    rows = {row["figure"]: row for row in result["table"]}
    extraction = rows["extraction, step means of hidden_states[-2]"]
    assert extraction["target"].startswith(">= 85 % of its products when sustained (") and extraction["met"] is False  # kernels are emulated slowly
    assert rows["block of tiny, texts of 300"]["target"].startswith("attention ") and 50 < rows["fill of its batches"]["value"] <= 100
    assert rows["power while extracting (nvidia-smi)"]["value"] == 700 and rows["ncu: rms_norm_kernel"]["value"] == 1020.5
    assert rows["texts whose bits differ in other company"]["met"] is True and result["figures"]["company"]["problems"] == 64 // 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS | {"ncu.csv", "dmon.txt"}
    assert len(done.stdout) < 12000


# ---- stage A

@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_without_cublaslt_it_ends_at_once(tmp_path):
    done, result = gpu_check(tmp_path, "--strata", support.EMULATED, CUDA_EMULATION_CUBLASLT="0")
    assert done.returncode == 3 and result["ended"] == "stage A failed: smoke"
    assert states_of(result) == {"build": "done", "machine": "done", "smoke": "failed"}
    assert "cuBLASLt" in result["parts"][-1]["word"] and "failed: smoke: " in done.stdout and "cuBLASLt" in done.stdout.split("failed: smoke: ")[1]
    assert "cuBLASLt" in (tmp_path / "out/programs.log").read_text()


def test_a_failed_test_program_ends_it(tmp_path):
    build = fake_build(tmp_path / "build", bench=f'exec {support.STRATA} "$@"', kernels_test_device="echo fine", kernels_test_matmul="""
echo '[ RUN      ] test_odd'; echo '[  ERROR   ] --- 0x3 != 0x4'; echo '[   LINE   ] --- test_matmul.c:71: error: Failure!'; sleep 1; exit 1""")
    done, result = gpu_check(tmp_path, "--device", "cpu", build=build)
    assert done.returncode == 3 and list(states_of(result)) == ["build", "machine", "smoke", "tests"]
    assert list(result["figures"]["tests"]["failed"]) == ["kernels_test_matmul"]
    word = result["parts"][-1]["word"]
    assert word.startswith("1 of 2 programs: kernels_test_matmul ended with 1: [  ERROR   ] --- 0x3 != 0x4 | [   LINE   ] --- test_matmul.c:71")
    said = (tmp_path / "out/programs.log").read_text()
    assert "\nfine\n" in said and "[ RUN      ] test_odd" in said
    done, result = gpu_check(tmp_path, "--device", "cpu", "--keep-going", "--only", "tests,company", build=build)
    assert done.returncode == 1 and result["ended"] == "done" and states_of(result)["company"] == "done"


def test_parts_of_stage_b_that_fail_stop_no_other(tmp_path):
    only_smoke = f'case "$*" in *products,attention*) exec {support.STRATA} "$@" ;; esac; echo "strata: a lost device" >&2; exit 70'
    build = fake_build(tmp_path / "build", bench=only_smoke)
    done, result = gpu_check(tmp_path, "--device", "cpu", "--skip", "torch,killed,every_token", build=build)
    assert done.returncode == 1 and result["ended"] == "done"
    states = states_of(result)
    assert "torch" not in states and "killed" not in states
    assert states == {**states, "tests": "left out", "rates": "failed", "sustained": "failed", "extraction": "done", "transformers": "left out",
                      "company": "done", "alone": "done"}
    assert "failed: rates: rates ended with 70: strata: a lost device" in done.stdout


def test_without_time_parts_are_left_out(tmp_path):
    done, result = gpu_check(tmp_path, "--device", "cpu", "--time", 0)
    assert done.returncode == 0
    assert set(states_of(result).values()) == {"left out"}
    assert "left out: model: 0 s are left" in done.stdout


def test_a_model_that_cannot_be_made_costs_what_needs_it(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *make_model.py*) echo "OSError: no space left" >&2; exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done, result = gpu_check(tmp_path, "--device", "cpu", "--python", python, "--only", "smoke,sustained,company")
    assert done.returncode == 1 and result["ended"] == "done", done.stdout
    assert states_of(result) == {"build": "done", "machine": "done", "smoke": "done", "model": "failed", "sustained": "done",
                                 "extraction": "left out", "company": "left out"}
    words = {part["name"]: part["word"] for part in result["parts"]}
    assert "no space left" in words["model"] and words["extraction"] == "without model, which failed"
    assert words["company"] == "without extraction, which was left out"


def test_kept_going_without_a_machine_nothing_else_is_tried(tmp_path):
    build = fake_build(tmp_path / "build")
    (build / "strata").write_text("#!/bin/sh\nexit 1\n")
    done, result = gpu_check(tmp_path, "--device", "cpu", "--keep-going", build=build)
    assert done.returncode == 1 and result["ended"] == "done"
    states = states_of(result)
    assert states.pop("build") == "done" and states.pop("machine") == "failed" and set(states.values()) == {"left out"}


# ---- parts by name

def test_parts_by_name():
    names = [part.name for part in parts_module.choose(["company"], [])]
    assert names == ["build", "machine", "model", "extraction", "company"]
    assert [part.name for part in parts_module.choose(["company", "rates"], ["model"])] == ["build", "machine", "rates", "extraction", "company"]
    assert [part.name for part in parts_module.choose([], ["ncu"])] == [name for name in parts_module.NAMES if name != "ncu"]
    known = []
    for part in parts_module.PARTS:
        assert set(part.needs) <= set(known) and part.seconds <= part.most
        known.append(part.name)
    for stage, most in (("A", 90), ("B", 330)):
        assert sum(part.seconds for part in parts_module.PARTS if part.stage == stage) <= most


def test_only_some_parts(tmp_path):
    done, result = gpu_check(tmp_path, "--device", "cpu", "--only", "company")
    assert done.returncode == 0 and states_of(result) == dict.fromkeys(["build", "machine", "model", "extraction", "company"], "done")
    assert (tmp_path / "out/programs.log").read_text().count("==== torch") == 0


def test_help_and_wrong_usage(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')")  # --help does without
    environment = support.clean_environment(PYTHONPATH=str(tmp_path))
    help_text = subprocess.run([TOOLS / "gpu-check.sh", "--help"], capture_output=True, text=True, env=environment)
    assert help_text.returncode == 0
    places = [help_text.stdout.index(f"\n    {name} ") for name in parts_module.NAMES]
    assert places == sorted(places)
    for words in (["--only", "rates,nonsense"], ["--skip", ""], ["--device", "gpu"]):
        wrong = subprocess.run([TOOLS / "gpu-check.sh", *words], capture_output=True, text=True, env=environment)
        assert wrong.returncode == 2 and wrong.stdout == ""
    for name in ("build", "machine"):
        wrong = subprocess.run([TOOLS / "gpu-check.sh", "--skip", f"ncu,{name}"], capture_output=True, text=True, env=environment)
        assert wrong.returncode == 2 and f"--skip {name}: every other part needs it" in wrong.stderr
    assert "nonsense is no part; there are build, machine," in subprocess.run(
        [TOOLS / "gpu-check.sh", "--only", "rates,nonsense"], capture_output=True, text=True).stderr
    done = subprocess.run([TOOLS / "gpu-check.sh", "--quick", "--python", sys.executable], capture_output=True, text=True, env=environment)
    assert done.returncode == 3 and "no numpy here; name a python that has numpy by --python" in done.stderr


# ---- ends before the end

def hanging(folder, **more):
    """A check whose rates hang after their first figure, once they do."""
    build = fake_build(folder / "build", bench=f'case "$*" in *products,attention*) exec {support.STRATA} "$@" ;; esac; '
                       f'echo first figure; echo $$ >{folder}/pid; sleep 600 & echo $! >>{folder}/pid; wait')
    running = start(folder, "--device", "cpu", "--skip", "torch,tests", build=build, **more)
    until(lambda: (folder / "pid").exists() and len((folder / "pid").read_text().split()) == 2)
    return running, [int(pid) for pid in (folder / "pid").read_text().split()]


def test_killed_it_leaves_what_it_had(tmp_path):
    running, children = hanging(tmp_path)
    running.kill()
    out, _ = running.communicate()
    result = read_result(tmp_path)
    assert result["ended"] == "running" and states_of(result) == dict.fromkeys(["build", "machine", "smoke", "model"], "done")
    assert [path.read_text() for path in (tmp_path / "out/running").glob("*-rates.log")] == ["first figure\n"]
    assert (tmp_path / "out/log").read_text() == out and out.count("\n") == 4
    assert "==== smoke: ended with 0" in (tmp_path / "out/programs.log").read_text()
    assert gone(children[0])  # nothing holds the device
    os.kill(children[1], signal.SIGKILL)
    left = list((tmp_path / "work").iterdir())
    assert len(left) == 1 and any(left[0].iterdir())
    done, result = gpu_check(tmp_path, "--device", "cpu", "--only", "machine")  # removes what was left, and replaces the results
    assert done.returncode == 0 and result["ended"] == "done" and {path.name for path in (tmp_path / "out").iterdir()} == RESULTS


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_the_table(tmp_path, number, code):
    running, children = hanging(tmp_path)
    running.send_signal(number)
    out, _ = running.communicate(timeout=60)
    result = read_result(tmp_path)
    assert running.returncode == code and result["ended"] == signal.Signals(number).name
    assert states_of(result)["rates"] == "cut off" and f"ended early: {signal.Signals(number).name}" in out and " s in all" in out.splitlines()[-1]
    assert "first figure" in (tmp_path / "out/programs.log").read_text()
    assert all(map(gone, children)) and not any((tmp_path / "work").iterdir())


def test_it_ends_within_its_time(tmp_path):
    running, children = hanging(tmp_path)
    running.send_signal(signal.SIGALRM)  # as when all of its time is over, whatever hangs
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 1 and "ended early: its time is over" in out and all(map(gone, children))


OUT_OF_TIME = """
import sys, time, types
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from gpu_check_parts import Part
from gpu_check_stages import Check, run_check
options = types.SimpleNamespace(quick=True, device="cpu", build=None, strata=None, out=sys.argv[2], time=6.5, keep_going=False)
hangs = Part("build", "A", 0, 600, "what no time limit of its own ends")
check = Check(options, Path(sys.argv[1]).parent)
check.began += 1000  # there is time to begin it
sys.exit(run_check(check, [hangs], {"build": lambda check: time.sleep(600)}))
"""


def test_nothing_that_hangs_outlives_its_time(tmp_path):
    done = subprocess.run([sys.executable, "-B", "-c", OUT_OF_TIME, TOOLS, tmp_path / "out"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "ended early: its time is over" in done.stdout, (done.stdout, done.stderr)
    assert states_of(read_result(tmp_path)) == {"build": "cut off"} and read_result(tmp_path)["ended"] == "its time is over"


def test_a_reader_that_goes_away_does_not_end_it(tmp_path):
    running = start(tmp_path, "--device", "cpu", "--only", "company")
    running.stdout.close()
    assert running.wait(timeout=300) == 0, running.stderr.read()
    running.stderr.close()
    assert "killed" not in states_of(read_result(tmp_path)) and " s in all" in (tmp_path / "out/log").read_text()


# ---- elsewhere

def test_it_runs_from_a_bundle(tmp_path):
    bundle = fake_build(tmp_path / "bundle", bench=f'exec {support.STRATA} "$@"')
    (bundle / "tools").mkdir()
    for tool in [TOOLS / "gpu-check.sh", *TOOLS.glob("gpu_check*.py"), TOOLS / "make_model.py", TOOLS / "make_problems.py"]:
        shutil.copy(tool, bundle / "tools")
    done = subprocess.run([bundle / "tools/gpu-check.sh", "--quick", "--device", "cpu", "--python", sys.executable, "--work", tmp_path / "work",
                           "--only", "smoke,company"], capture_output=True, text=True, cwd=tmp_path, env=support.clean_environment())
    assert done.returncode == 0, done
    assert f"{bundle}/strata as it is" in done.stdout
    assert states_of(json.loads((bundle / "gpu-check/gpu-check.json").read_text()))["company"] == "done"
    assert not list((bundle / "tools").glob("__pycache__"))
