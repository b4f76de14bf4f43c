# SPDX-License-Identifier: MIT
"""Streaming on an emulated GPU, by its clock: whether blocks come unseen while others compute, and what is lost where they cannot.

A model runs with rates of copies that make the link faster or slower than its computing. The emulation (tests/cuda_emulation) gives
each kernel and each byte a time and says when each stream did what. Of whole sweeps in the midst of the run: the seconds from one to
the next, those in which the compute stream worked and those in which the loading stream did. By the formula of strata plan a sweep
takes the longer of the two: the ratio to that says what streaming adds."""
import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COMPUTE, LOADING = 1, 3  # streams of a device, in the order in which it makes them
BLOCKS, GROUP, PROBLEMS, TOKENS = 4, 4, 40, 256
KERNEL_MICROSECONDS = 5
RATES = (100, 20, 10)  # MB/s: what an emulated GPU computes in seconds takes a real one microseconds


class Work(NamedTuple):
    stream: int
    name: str
    begin: float
    end: float


class Sweep(NamedTuple):  # seconds, the mean of several
    period: float
    computing: float
    loading: float

    def ratio(self) -> float:
        return self.period / max(self.computing, self.loading)


def make_inputs(work: Path, strata: Path) -> None:
    """Problems, a database of them, and a model of equal blocks."""
    problems, model = work / "overlap.jsonl", work / "overlap-model"
    if (model / "config.json").exists():
        return
    with open(problems, "w") as out:
        subprocess.run([sys.executable, ROOT / "tools/make_problems.py", "--count", str(PROBLEMS)], stdout=out, check=True)
    subprocess.run([strata, "import", problems, work / "overlap.db"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, ROOT / "tools/make_model.py", "--to", model, "--family", "qwen3", "--hidden", "64", "--layers", str(BLOCKS),
                    "--heads", "4", "--kv-heads", "2", "--head-dim", "16", "--intermediate", "256", "--vocabulary", "600", "--seed", "1",
                    "--corpus", problems], check=True, stdout=subprocess.DEVNULL)


def run_traced(work: Path, emulated: Path, weights: str, rate: int) -> list[Work]:
    """What the device's streams did in a run whose blocks all come for every sweep."""
    job, output, trace = work / "overlap.yaml", work / "overlap-run", work / "overlap-trace.csv"
    job.write_text(f"""problems: {{database: {work / 'overlap.db'}, id: problem_id, max_tokens: {TOKENS}}}
model: {{path: {work / 'overlap-model'}, device: cuda:0, dtype: bfloat16, weights: {weights}, resident_blocks: 0}}
latents: {{layers: [-1]}}
batch: {{tokens: {TOKENS}, group: {GROUP}}}
run: {{output: {output}, disk_reserve_gb: 0, drift_stop: false}}
""")
    subprocess.run(["rm", "-rf", output], check=True)
    environment = {**os.environ, "CUDA_EMULATION_WORK_MICROSECONDS": str(KERNEL_MICROSECONDS), "CUDA_EMULATION_COPY_RATE": str(rate),
                   "CUDA_EMULATION_SEED": "0", "CUDA_EMULATION_TRACE": str(trace)}
    done = subprocess.run([emulated, "run", "--quiet", "--threads", "1", job], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{job} failed: {done.stderr}")
    with open(trace, newline="") as rows:
        return [Work(int(row["stream"]), row["work"], float(row["begin"]), float(row["end"])) for row in csv.DictReader(rows)]


def measure(done: list[Work]) -> Sweep:
    """Attention is computed once for each block and batch, so that every BLOCKS * GROUP of them are a sweep; from the third sweep
    before the end to the one before it nothing starts up or runs out."""
    attention = [work for work in done if work.stream == COMPUTE and work.name == "tiles_kernel"]
    sweeps = 2
    begin, end = attention[-(sweeps + 1) * BLOCKS * GROUP].begin, attention[-BLOCKS * GROUP].begin

    def busy(stream: int) -> float:
        return sum(min(work.end, end) - max(work.begin, begin) for work in done
                   if work.stream == stream and work.end > begin and work.begin < end) / sweeps
    return Sweep((end - begin) / sweeps, busy(COMPUTE), busy(LOADING))


def bench_overlap(work: Path, strata: Path, emulated: Path) -> float:
    """The table; the largest ratio in it."""
    make_inputs(work, strata)
    print(f"\n## streaming on an emulated GPU, by its clock: {BLOCKS} blocks, sweeps of {GROUP} batches", flush=True)
    print(f"{'from':<6}{'link':>10}{'computing':>13}{'copies':>13}{'a sweep takes':>16}{'of the longer':>16}  by the formula", flush=True)
    largest = 0.0
    for weights in ("host", "disk"):
        for rate in RATES:
            sweep = measure(run_traced(work, emulated, weights, rate))
            hidden = "hidden" if sweep.computing >= sweep.loading else "the copies"
            print(f"{weights:<6}{rate:>5} MB/s{1e3 * sweep.computing:>10.2f} ms{1e3 * sweep.loading:>10.2f} ms{1e3 * sweep.period:>13.2f} ms"
                  f"{sweep.ratio():>15.3f}x  {hidden}", flush=True)
            largest = max(largest, sweep.ratio())
    print(f"a sweep takes at most {largest:.3f} times the longer of computing and copies", flush=True)
    return largest
