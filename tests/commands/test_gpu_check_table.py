# SPDX-License-Identifier: MIT
"""What tools/gpu-check.sh makes of its figures: texts of the right lengths, rates from ledgers, targets, the table at the end and in
kernels/README.md."""
import sqlite3
import statistics
import subprocess
import sys

import pytest

import support
from gpu_checks import TOOLS, made_check, parts_module
import gpu_check_runs
import gpu_check_table
import make_problems


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
    waiting = 1.75 * (batches - 1) / (2 * batches - 1.75)  # the first batch's wait, for the first window, stands for itself
    assert found["first_wait"] == 1.75 and found["waiting"] == pytest.approx(waiting) and found["lost_between_batches"] == pytest.approx(waiting)
    change_ledger(job, "UPDATE batch SET wait_seconds = 40 WHERE number = (SELECT min(number) FROM batch WHERE epoch = 2)")
    longer = ledger_of(job)
    assert longer["first_wait"] == 40 and longer["waiting"] == pytest.approx(waiting) and longer["seconds"] == pytest.approx(2 * batches + 38.25)
    change_ledger(job, "UPDATE batch SET wait_seconds = 1.75 WHERE epoch = 2")
    change_ledger(job, "UPDATE batch SET device_seconds = 0.2")  # of the 0.25 that the host saw
    assert ledger_of(job)["lost_between_batches"] == pytest.approx(1 - 0.2 * batches / (2 * batches - 1.75))
    change_ledger(job, "UPDATE batch SET device_seconds = NULL WHERE number = (SELECT max(number) FROM batch)")
    assert ledger_of(job)["lost_between_batches"] == pytest.approx(waiting), "the device's times of some batches are not all of its time"


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

def figure(part, what, value, unit, **more):
    return {"part": part, "what": what, "value": value, "unit": unit, **more}


def judged(tmp_path, rate, device="NVIDIA H200", every=10500.0, layers=36, sustained=9e6, **more):
    """A check whose products allow 10,000,000 / 35 token/s when cold, four of 1,000 x 1,000 at 80 TFLOP/s, and 9,000,000 / 35 when
    they run on."""
    products = [figure("products", f"{name}, 8192 tokens, {size}", 80000.0, "GFLOP/s", limit=80000.0, of="best of any algorithm", chosen_of_free=1.0,
                       groups=1, chosen_group_size=1, candidates=1)
                for name in ("matmul", "any algorithm") for size in ("1000 x 1000", "1000 x 1001", "1000 x 1002", "1000 x 1003")]
    copies = [figure("copies", "copies, host -> device", 50.0, "GB/s")]
    check = made_check(tmp_path)
    check.shape.layers = layers
    check.figures = {
        "rates": {"name": device, "kind": "cuda", "figures": products + copies},
        "float16": {"name": device, "kind": "cuda", "figures": [{**product, "value": 40000.0} for product in products]},
        "extract": {"tokens_per_second": rate, "lost_between_batches": 0.01, "waiting": 0.0, "first_wait": 0.28, "load_bytes_per_second": 41e9,
                    "read_bytes_per_second": 60e9, "lowest_sm_clock": 1450, "throttle_reasons": 0x24, "watched": {"power": 690.0, "seconds": 20}},
        "transformers": {"rates": {"8": 10000.0, "16": 12000.0, "32": None}, "lowest_cosine": 0.999, "worst_error": 0.01},
        "every_token": {"tokens_per_second": 1e6, "wall_tokens_per_second": every, "write_bytes_per_second": 3e9,
                        "token_bytes": 300000, "stored_bytes": 3e9, "seconds": 0.1, "wall_seconds": 2.0},
        "alone": {"problems": 3, "different": [], "same_size": True}, "killed": {"shards": 4, "equal": True}}
    if sustained:
        check.figures["sustained"] = {"name": device, "throttle_reasons": "power", "figures": [
            figure("sustained", "products in turn, first second", 80000.0, "GFLOP/s"),
            figure("sustained", "products in turn, last second", 72000.0, "GFLOP/s", limit=80000.0),
            figure("sustained", "token/s of a block's products", sustained, "tokens/s"),
            figure("sustained", "lowest SM clock", 1455, "MHz")]}
    check.figures["extract"].update(more)
    return check


def verdicts(check):
    return {row["figure"]: row["met"] for row in gpu_check_table.judge(check) if row["target"] and row["met"] is not None}


EXTRACTION = "extraction, step means of hidden_states[-2]"


def test_targets(tmp_path):
    met = verdicts(judged(tmp_path, 240000))
    assert set(met.values()) == {True} and len(met) == 8, met
    assert verdicts(judged(tmp_path, 217000))[EXTRACTION] is False  # 84 % of 257,142
    assert verdicts(judged(tmp_path, 219000))[EXTRACTION] is True   # 85.2 % of them, if 77 % of what products can while they are cold
    slow = verdicts(judged(tmp_path, 23000, lost_between_batches=0.03, load_bytes_per_second=39e9))
    assert [slow[name] for name in ("the same, in tokens/s", "strata against transformers' best", "time lost between batches",
                                    "loading the model")] == [False] * 4
    every = "extraction, all layers of every token"  # the disk takes 10,000 token/s
    assert verdicts(judged(tmp_path, 23000, every=9000))[every] is False and slow[every] is True
    assert verdicts(judged(tmp_path, 12000, every=9000))[every] is True and verdicts(judged(tmp_path, 12000, every=8300))[every] is False


def test_devices_and_layers_with_published_rates(tmp_path):
    rows = {row["figure"]: row for row in gpu_check_table.judge(judged(tmp_path, 40000))}
    assert rows["the same, in tokens/s"]["target"] == "> 27000 (published, H200)"
    assert rows["the same, against the aim"]["target"] == "aim: 47000 (H200)" and rows["the same, against the aim"]["met"] is None
    assert rows["products in turn, last second"]["ratio"] == 0.9 and rows["lowest SM clock"]["target"] == "throttled: power"
    assert rows["lowest SM clock while extracting"]["target"] == "throttled: power+thermal"
    assert rows["power while extracting (nvidia-smi)"]["value"] == 690.0
    first = rows["the first batch's wait, not among those"]
    assert first["value"] == 0.28 and first["unit"] == "s" and first["met"] is None
    names = {row["figure"] for row in gpu_check_table.judge(judged(tmp_path, 40000, device="NVIDIA H100 80GB HBM3"))}
    assert "the same, in tokens/s" in names and "the same, against the aim" not in names
    assert "the same, in tokens/s" not in verdicts(judged(tmp_path, 250000, device="NVIDIA A100"))
    fewer = {row["figure"]: row for row in gpu_check_table.judge(judged(tmp_path, 70000, layers=18))}
    assert fewer["the same, computed for 36 layers"]["value"] == 34000 and "the same, in tokens/s" not in fewer
    assert fewer[EXTRACTION]["ratio"] == 70000 * 17 / 9e6
    assert EXTRACTION not in verdicts(judged(tmp_path, 250000, sustained=None))


def test_float16_has_its_own_rows(tmp_path):
    rows = {row["figure"]: row for row in gpu_check_table.judge(judged(tmp_path, 240000))}
    assert rows["float16: matmul, 8192 tokens, 1000 x 1000"]["ratio"] == 0.5 and rows["matmul, 8192 tokens, 1000 x 1000"]["ratio"] == 1
    del (check := judged(tmp_path, 240000)).figures["float16"]
    assert not [row for row in gpu_check_table.judge(check) if row["figure"].startswith("float16")]


def test_nothing_is_judged_but_a_whole_gpu(tmp_path):
    check = judged(tmp_path, 240000)
    check.gpu_text = {"mig.mode.current": "Enabled"}
    assert verdicts(check) == {}


def test_other_bits_count_where_products_have_the_same_size(tmp_path):
    check = judged(tmp_path, 240000)
    what = "texts whose bits differ when alone"
    assert verdicts(check)[what] is True
    check.figures["alone"]["different"] = ["a"]
    assert verdicts(check)[what] is False
    check.figures["alone"]["same_size"] = False
    assert what not in verdicts(check)


# ---- what is shown at the end

def test_a_figure_of_another_form_costs_the_table_only(tmp_path):
    check = judged(tmp_path, 240000)
    del check.figures["rates"]["figures"][0]["limit"]
    check.ended = "done"
    result = check.keep()
    assert result["table"][0]["figure"] == "no table: KeyError: 'limit'" and result["figures"]["extract"]["tokens_per_second"] == 240000
    assert "no table: KeyError: 'limit'" in gpu_check_table.table_text(result)
    assert "Traceback" in (tmp_path / "out/programs.log").read_text()


def test_the_whole_table_fits_the_end_of_an_output(tmp_path):
    check = judged(tmp_path, 240000)
    check.figures["rates"]["figures"] += [figure("rows", f"a kernel with a long name, and data beyond the cache, number {i}", 3e3, "GB/s", limit=4e3,
                                                 of="rate of copies on the device, measured in this run") for i in range(24)]
    check.figures["ncu"] = {f"attention_of_some_kind_{i}_kernel": {"sm": 50.0, "memory": 60.0, "dram": 10.0, "occupancy": 20.0, "duration": 9.0}
                            for i in range(6)}
    for i in range(4):
        check.warn(f"warning {i}: " + "words " * 100)
    for part in parts_module.PARTS:
        check.parts.append({"name": part.name, "stage": part.stage, "state": "failed", "word": f"{part.name} " * 100, "seconds": 1.0})
    check.versions = {"strata": "x" * 200, "driver": "y" * 200, "torch": "z" * 300}
    text = gpu_check_table.table_text(check.result())
    assert len(text) < 12000, len(text)
    rows = gpu_check_table.judge(check)
    assert len(rows) > 55
    for row in rows:
        assert row["figure"][:29] in text
    for part in parts_module.PARTS:
        assert f"failed: {part.name}: {part.name[:8]}" in text
    check.parts = []
    assert "..." not in gpu_check_table.table_text(judged(tmp_path, 240000).result()).split("figure ", 1)[1]  # as it commonly is


# ---- the table of kernels/README.md

RESULT = {"quick": False, "ended": "done", "date": "2020-02-02", "device": {"kind": "cuda", "name": "GPU X", "asked": "cuda:0"},
          "versions": {"driver": "1.2"}, "shape": {"layers": 36, "hidden": 4096, "tokens": 8192}, "parts": [],
          "table": [gpu_check_table.at_least("extraction, step means", 12345.6, "tokens/s", 0.81, 0.8, "all"),
                    gpu_check_table.row("lost", 2.5, "%", None, "< 2 %", False)]}


def test_readme_takes_the_table_of_a_gpu(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_check_table.BEGIN}old\n{gpu_check_table.END}after\n")
    gpu_check_table.write_readme(readme, RESULT)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "GPU X, 2020-02-02; driver 1.2" in text
    assert "| extraction, step means | 12,346 tokens/s | 81.0 % | >= 80 % of all | met |" in text
    assert "| lost | 2.50 % |  | < 2 % | not met |" in text


@pytest.mark.parametrize("other", [{"quick": True}, {"device": {"kind": "cpu", "name": "CPU X"}},
                                   {"device": {"kind": "cuda", "name": "Emulated GPU"}}, {"ended": "SIGTERM"}, {"table": []}])
def test_readme_takes_no_other_table(tmp_path, other):
    readme = tmp_path / "README.md"
    readme.write_text("before")
    with pytest.raises(SystemExit):
        gpu_check_table.write_readme(readme, {**RESULT, **other})
    assert readme.read_text() == "before"


def test_readme_has_the_marks_once():
    text = (support.SOURCE / "kernels" / "README.md").read_text()
    assert text.count(gpu_check_table.BEGIN) == 1 and text.count(gpu_check_table.END) == 1
