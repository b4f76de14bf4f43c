"""tools/gpu_check.py in its quick mode, on the CPU and on the emulated GPU: every part does its work, a part that fails or that time has
run out for is said and stops no other, and the table reaches the README only from a GPU."""
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import support

TOOLS = support.SOURCE / "tools"
sys.path.insert(0, str(TOOLS))
import gpu_check as gpu_check_module  # noqa: E402
import gpu_check_runs  # noqa: E402
import gpu_check_table  # noqa: E402
import make_problems  # noqa: E402

ALWAYS = ["build", "rates of the device", "model", "problems", "extraction, step means", "all layers, every token",
          "texts in other company", "texts alone", "killed and resumed"]


def gpu_check(folder, *words, **more):
    done = subprocess.run([sys.executable, TOOLS / "gpu_check.py", "--quick", "--build", support.BUILD, "--work", folder, "--json",
                           folder / "result.json", "--time", "1000", *map(str, words)], capture_output=True, text=True,
                          env=support.clean_environment(**more), timeout=1200)
    return done, json.loads((folder / "result.json").read_text())


def check_whole(folder, done, result):
    states = {part["name"]: (part["state"], part["word"]) for part in result["parts"]}
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert [states[name] for name in ALWAYS if states[name][0] != "done"] == []
    assert all(state != "failed" for state, _ in states.values()), states
    figures = {row["figure"] for row in result["table"]}
    assert {"extraction, step means of hidden_states[-2]", "time lost between batches", "extraction, all layers of every token",
            "texts whose bits differ in other company", "texts whose bits differ when alone", "killed and resumed: shards"} <= figures
    for row in result["table"]:
        assert row["figure"] in done.stdout
        assert row["met"] is None, "tiny shapes are judged"
        assert row["value"] == row["value"] and row["value"] >= 0, row
    assert result["figures"]["killed"]["equal"] and result["figures"]["killed"]["shards"] > 1
    alone, company = result["figures"]["alone"], result["figures"]["company"]
    assert alone["problems"] == 6 and company["problems"] > 6 and alone["different"] == company["different"] == []
    assert result["figures"]["extract"]["tokens"] > 0
    for name in ("extract", "every_token"):
        found = result["figures"][name]
        assert 0 < found["seconds"] < found["wall_seconds"] and found["wall_tokens_per_second"] < found["tokens_per_second"]
    if "transformers" in result["figures"]:
        assert result["figures"]["transformers"]["lowest_cosine"] > 0.999
    assert [path.name for path in folder.iterdir()] == ["result.json"], "work was left behind"
    return figures


def test_on_the_cpu(tmp_path):
    done, result = gpu_check(tmp_path, "--device", "cpu")
    check_whole(tmp_path, done, result)
    assert result["device"]["kind"] == "cpu" and result["quick"]


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
def test_on_the_emulated_gpu(tmp_path):
    done, result = gpu_check(tmp_path, "--strata", support.EMULATED, CUDA_EMULATION_PREFER="7")
    figures = check_whole(tmp_path, done, result)
    assert result["device"]["name"] == "Emulated GPU" and result["device"]["kind"] == "cuda"
    assert {"copies, host -> device", "copies, device -> host", "attention, 1 of 300 tokens"} <= figures
    bench = result["figures"]["bench"]["figures"]
    products = [f for f in bench if f["what"].startswith("any algorithm")]
    chosen = [f for f in bench if f["what"].startswith("matmul")]
    assert len(products) == len(chosen) == 4
    for free, figure in zip(products, chosen):  # of what cuBLAS can, not of mma.sync, which it goes beyond on newer GPUs
        assert figure["of"] == "best of any algorithm" and figure["limit"] == free["value"] >= figure["value"]
    assert {f["of"] for f in bench if f["what"].startswith("attention")} == {"peak of mma.sync"}
    assert "peak of mma.sync" in figures and "peak of this device's dtype" not in figures
    for figure in products:  # three of the emulation's eight add up alike, three give bits that depend on the place or the workspace
        assert (figure["candidates"], figure["groups"], figure["chosen_group_size"], figure["unfit"]) == (8, 3, 3, 3)


def test_parts_that_fail_stop_no_other(tmp_path):
    done, result = gpu_check(tmp_path, "--strata", "/bin/false", "--device", "cpu")
    states = {part["name"]: part["state"] for part in result["parts"]}
    assert done.returncode == 1
    assert states["rates of the device"] == states["problems"] == "failed"
    assert states["model"] == "done" and states["extraction, step means"] == states["texts alone"] == "left out"
    assert "failed: rates of the device" in done.stdout


def test_without_time_parts_are_left_out(tmp_path):
    done, result = gpu_check(tmp_path, "--device", "cpu", "--time", 0)
    assert done.returncode == 0
    assert {part["state"] for part in result["parts"]} == {"left out"}
    assert "left out: model: 0 s are left" in done.stdout


# ---- texts and their tokens

def test_lengths_are_those_of_the_real_set():
    problems = list(make_problems.long_problems(4000, 7))
    lengths = sorted(problem["tokens"] for problem in problems)
    assert abs(statistics.mean(lengths) - 257) < 5 and abs(statistics.median(lengths) - 199) < 3
    assert lengths[3599] < 474 and lengths[3600] > 465 and 990 < lengths[3959] < 1060 and lengths[-1] == 2795
    assert problems[:20] == list(make_problems.long_problems(4000, 7))[:20]


def test_words_are_one_token_each(tmp_path):
    subprocess.run([sys.executable, TOOLS / "make_model.py", "--to", tmp_path / "model", "--words", "--fast", "--hidden", "32", "--layers",
                    "2", "--heads", "4", "--kv-heads", "2", "--head-dim", "8", "--intermediate", "64"], check=True, capture_output=True)
    problems = list(make_problems.long_problems(60, 3, longest=300))
    job = support.Job(tmp_path / "job", problems, tmp_path / "model", problems={"max_tokens": 512}, latents={"layers": [-1]},
                      batch={"tokens": 512})
    job.run()
    tokens = dict(job.query("SELECT id, tokens FROM problem"))
    for problem in problems:
        assert abs(tokens[problem["problem_id"]] - problem["tokens"]) <= max(6, problem["tokens"] // 20), problem["problem_id"]


# ---- programs, and their time

def scripts_check(folder, seconds, **scripts):
    """A check on a GPU whose test programs, and compute-sanitizer, are these shell scripts."""
    check = gpu_check_module.Check.__new__(gpu_check_module.Check)
    check.options = types.SimpleNamespace(quick=False, device="cuda:0", time=seconds, verbose=False)
    check.build, check.emulated, check.figures, check.parts, check.began = folder, False, {}, [], time.monotonic()
    (folder / "tests").mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = folder / ("compute-sanitizer" if name == "sanitizer" else f"tests/{name}")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return check


def run_part(check, run, most):
    check.part("part", run, 0, most)
    return check.parts[-1]["state"], check.parts[-1]["word"]


def test_programs_without_time_are_named(tmp_path, monkeypatch):
    check = scripts_check(tmp_path, 100, kernels_test_device="exit 0", kernels_test_rows="echo wrong >&2; exit 1", kernels_test_matmul="exit 0")
    assert run_part(check, check.run_tests, 60) == ("failed", "RuntimeError: kernels_test_rows (wrong) failed")
    assert check.figures["tests"]["passed"] == ["kernels_test_device", "kernels_test_matmul"]
    check = scripts_check(tmp_path, 100, kernels_test_rows="sleep 60")
    state, word = run_part(check, check.run_tests, 3)
    assert state == "left out"
    assert word == "1 of 3 programs passed; no time for kernels_test_rows (not over in 3 s), kernels_test_matmul"
    monkeypatch.setattr(gpu_check_module, "TEST_MOST", 2)  # a program that had all the time it may have failed
    assert run_part(check, check.run_tests, 60) == ("failed", "RuntimeError: kernels_test_rows (not over in 2 s) failed")


def gone(process):
    """Whether it ends within some seconds; a zombie that nobody waits for is gone, too."""
    for _ in range(200):
        try:
            if Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_sanitizer_tells_findings_from_want_of_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run(script, most=60):
        check = scripts_check(tmp_path, 100, a="exit 0", b="exit 0", sanitizer=script)
        state, word = run_part(check, lambda: check.run_sanitizer([("memcheck", "a"), ("racecheck", "b")]), most)
        return state, word, check.figures["sanitizer"]["passed"]

    assert run('case "$*" in "--tool memcheck --error-exitcode 99 --report-api-errors no "*a) ;; '
               '"--tool racecheck --error-exitcode 99 "*b) ;; *) exit 1 ;; esac') == (
        "done", "memcheck a, racecheck b: no finding", ["memcheck a", "racecheck b"])
    state, word, _ = run('echo "========= COMPUTE-SANITIZER"; echo "========= Invalid __global__ read"; exit 99')
    assert state == "failed" and "memcheck a: ========= Invalid __global__ read" in word
    state, word, _ = run('echo "========= COMPUTE-SANITIZER"; echo "========= Error: Device not supported"; exit 1')
    assert state == "left out" and "does not work here" in word
    assert run("exit 1")[0] == "failed"
    slow = f'[ "$2" = memcheck ] || {{ sleep 60 & echo $! >{tmp_path}/pid; wait; }}'
    assert run(slow, 12) == ("left out", "no time for racecheck b; memcheck a without a finding", ["memcheck a"])
    assert gone(int((tmp_path / "pid").read_text()))  # what it had started does not stay on the device
    assert run("exit 0", 3)[:2] == ("left out", "no time for memcheck a, racecheck b; none without a finding")


# ---- what a ledger says

def change_ledger(job, sql):
    with sqlite3.connect(job.output / "ledger.sqlite") as ledger:
        ledger.execute(sql)


def ledger_of(job, seconds=1.0, sealed=0.0):
    (job.folder / gpu_check_runs.SAID).write_text(f"this launch: 9 batches, 9 tokens in {seconds:.3f} s, 9 tokens/s; 1.0 % of the time "
                                                  f"waiting; sealed {sealed:.3f} s later; peak memory 1.00 GB\n")
    return gpu_check_runs.ledger(job.output)


def test_time_that_the_device_waits_counts(tmp_path):
    job = support.Job(tmp_path, support.make_problems(12), run={"checkpoint_every": 1})
    job.run("--stop-after", "1", expect=support.STOPPED)
    job.run()
    change_ledger(job, "UPDATE batch SET compute_seconds = 0.25, wait_seconds = 1.75, device_seconds = NULL, tokens = 100")
    change_ledger(job, "UPDATE batch SET wait_seconds = 500 WHERE epoch = 1")  # of another launch
    batches = job.query("SELECT count(*) FROM batch WHERE epoch = 2")[0][0]
    found = ledger_of(job, 2.5 * batches, 1.5 * batches)
    assert batches > 2 and found["batches"] == batches and found["tokens"] == 100 * batches
    assert found["seconds"] == 2 * batches and found["tokens_per_second"] == 50
    assert found["wall_seconds"] == 4 * batches and found["wall_tokens_per_second"] == 25
    assert found["waiting"] == found["lost_between_batches"] == 0.875
    change_ledger(job, "UPDATE batch SET device_seconds = 0.2")  # of the 0.25 that the host saw
    assert abs(ledger_of(job)["lost_between_batches"] - 0.9) < 1e-9
    change_ledger(job, "UPDATE batch SET device_seconds = NULL WHERE number = (SELECT max(number) FROM batch)")
    assert ledger_of(job)["lost_between_batches"] == 0.875, "the device's times of some batches are not all of its time"


SLOW_SYNC = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int fsync(int file) {
    struct timespec delay = {.tv_nsec = 20000000};
    nanosleep(&delay, NULL);
    return (int)syscall(SYS_fsync, file);
}
int fdatasync(int file) {
    return fsync(file);
}
"""


def test_a_slow_disk_counts(tmp_path):
    if "san.so" in subprocess.run(["ldd", support.STRATA], capture_output=True, text=True).stdout:
        pytest.skip("a sanitizer's library wants to be loaded first")
    (tmp_path / "slow.c").write_text(SLOW_SYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "slow.so", tmp_path / "slow.c"], check=True)
    job = support.Job(tmp_path / "job", support.make_problems(30), run={"checkpoint_every": 1})
    done = job.run(environment=support.clean_environment(LD_PRELOAD=str(tmp_path / "slow.so")))
    (job.folder / gpu_check_runs.SAID).write_text(done.out)
    found = gpu_check_runs.ledger(job.output)
    syncs = 3 * found["batches"]  # of a shard, its folder and the ledger, at least
    assert found["batches"] > 6 and found["wall_seconds"] > 0.02 * syncs
    assert found["wall_seconds"] > found["seconds"] + 0.06


# ---- targets

def made_check(rate, device="NVIDIA H200", every=10500.0, **more):
    """A check whose products alone allow 10,000,000 / 35 token/s: four of 1,000 x 1,000 at 80 TFLOP/s."""
    products = [figure for name in ("matmul", "any algorithm") for size in ("1000 x 1000", "1000 x 1001", "1000 x 1002", "1000 x 1003")
                for figure in [{"part": "products", "what": f"{name}, 8192 tokens, {size}", "value": 80000.0, "unit": "GFLOP/s",
                                "limit": 80000.0, "of": "best of any algorithm", "chosen_of_free": 1.0, "groups": 1, "chosen_group_size": 1, "candidates": 1}]]
    copies = [{"part": "copies", "what": "copies, host -> device", "value": 50.0, "unit": "GB/s"}]
    figures = {"bench": {"name": device, "figures": products + copies},
               "extract": {"tokens_per_second": rate, "lost_between_batches": 0.01, "waiting": 0.0, "load_bytes_per_second": 41e9,
                           "read_bytes_per_second": 60e9},
               "transformers": {"rates": {"8": 10000.0, "16": 12000.0, "32": None}, "lowest_cosine": 0.999, "worst_error": 0.01},
               "every_token": {"tokens_per_second": 1e6, "wall_tokens_per_second": every, "write_bytes_per_second": 3e9,
                               "token_bytes": 300000, "stored_bytes": 3e9, "seconds": 0.1, "wall_seconds": 2.0},
               "alone": {"problems": 3, "different": [], "same_size": True}, "killed": {"shards": 4, "equal": True}}
    figures["extract"].update(more)
    check = gpu_check_module.Check.__new__(gpu_check_module.Check)
    check.figures, check.emulated, check.shape = figures, False, gpu_check_module.FULL
    check.options = types.SimpleNamespace(quick=False, device="cuda:0")
    return check


def verdicts(check):
    return {row["figure"]: row["met"] for row in gpu_check_table.judge(check) if row["target"] and row["met"] is not None}


def test_targets():
    met = verdicts(made_check(250000))
    assert set(met.values()) == {True} and len(met) == 8, met
    assert verdicts(made_check(220000))["extraction, step means of hidden_states[-2]"] is False  # 77 % of 285,000
    slow = verdicts(made_check(23000, lost_between_batches=0.03, load_bytes_per_second=39e9))
    assert [slow[name] for name in ("the same, in tokens/s", "strata against transformers' best", "time lost between batches",
                                    "loading the model")] == [False] * 4
    every = "extraction, all layers of every token"  # the disk takes 10,000 token/s
    assert verdicts(made_check(23000, every=9000))[every] is False and slow[every] is True
    assert verdicts(made_check(12000, every=9000))[every] is True and verdicts(made_check(12000, every=8300))[every] is False
    assert "the same, in tokens/s" not in verdicts(made_check(250000, device="NVIDIA A100"))


def test_other_bits_count_where_products_have_the_same_size():
    check = made_check(250000)
    what = "texts whose bits differ when alone"
    assert verdicts(check)[what] is True
    check.figures["alone"]["different"] = ["a"]
    assert verdicts(check)[what] is False
    check.figures["alone"]["same_size"] = False
    assert what not in verdicts(check)


# ---- the README's table

RESULT = {"quick": False, "date": "2020-02-02", "device": {"kind": "cuda", "name": "GPU X", "asked": "cuda:0"},
          "versions": {"driver": "1.2"}, "shape": {"layers": 36, "hidden": 4096, "tokens": 8192}, "parts": [],
          "table": [gpu_check_table.at_least("extraction", 12345.6, "tokens/s", 0.81, 0.8, "all"),
                    gpu_check_table.row("lost", 2.5, "%", None, "< 2 %", False)]}


def test_readme_takes_the_table_of_a_gpu(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_check_table.BEGIN}old\n{gpu_check_table.END}after\n")
    gpu_check_table.write_readme(readme, RESULT)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "GPU X, 2020-02-02; driver 1.2" in text
    assert "| extraction | 12,346 tokens/s | 81.0 % | >= 80 % of all | met |" in text
    assert "| lost | 2.50 % |  | < 2 % | not met |" in text


@pytest.mark.parametrize("other", [{"quick": True}, {"device": {"kind": "cpu", "name": "CPU X"}},
                                   {"device": {"kind": "cuda", "name": "Emulated GPU"}}])
def test_readme_takes_no_other_table(tmp_path, other):
    readme = tmp_path / "README.md"
    readme.write_text("before")
    with pytest.raises(SystemExit):
        gpu_check_table.write_readme(readme, {**RESULT, **other})
    assert readme.read_text() == "before"


def test_readme_has_the_marks_once():
    text = (support.SOURCE / "README.md").read_text()
    assert text.count(gpu_check_table.BEGIN) == 1 and text.count(gpu_check_table.END) == 1
