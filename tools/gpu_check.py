#!/usr/bin/env python3
"""Tests and measures strata on a GPU: one command, no network, one table of figures, ratios and targets, and the same as JSON.

Builds the program, runs the tests of its operations on the device, measures products (as chosen and without restriction), copies and
attention, then extracts from a Qwen3-8B-shaped model with random weights made on the spot and texts as long as those of a real set,
alone, interrupted, and with every layer of every token; where python has torch and transformers, the same texts go through them too.

A part that fails does not stop the next; parts that time has run out for are left out, and both are said. Exit code 1: a part failed."""
import argparse
import dataclasses
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

try:
    import numpy as np

    import gpu_check_runs as runs
except ImportError as missing:  # --help needs neither
    if not {"-h", "--help"} & set(sys.argv):
        sys.exit(f"gpu-check: {missing}: name a python that has numpy by --python")
    np = runs = None
from gpu_check_table import judge, show, write_readme

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["kernels_test_device", "kernels_test_rows", "kernels_test_matmul", "kernels_test_attention", "kernels_test_odd_shapes",
         "kernels_test_company", "model_test_parity"]
QUICK_TESTS = ["kernels_test_device", "kernels_test_matmul"]
SANITIZED_FIRST = [("memcheck", "kernels_test_attention")]  # the kernel with the most of its own memory, in small shapes
SANITIZED_LAST = [("racecheck", "kernels_test_attention"), ("memcheck", "kernels_test_rows"), ("racecheck", "kernels_test_rows"),
                  ("memcheck", "kernels_test_odd_shapes"), ("racecheck", "kernels_test_odd_shapes")]
TEST_MOST = 60  # seconds of one program: the largest open the device some fifty times, with 56 MB of pinned memory each time


ELSEWHERE = """\
On a machine with CUDA and PyTorch, but without the libraries' packages and without a way to install them:
  - Building needs cmake (3.25 or later), pkg-config, a C and C++ compiler, nvcc, and the headers of cuBLAS (in the toolkit, or from PyPI
    for the python given by --python). Without ninja make is used.
  - The libraries may lie in a folder. Where there is a network, on the same distribution (or an older release of it), once:
      mkdir packages && cd packages
      apt-get download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \\
        libhdf5-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libssl-dev zlib1g-dev libcmocka-dev |
        grep '^lib\\|^zlib' | grep -v '^libc6\\|^libc-\\|^libgcc\\|^libcrypt\\|^libstdc' | sort -u)
      for package in *.deb; do dpkg -x $package .; done
    and here: tools/gpu-check.sh --packages packages --python PYTHON_WITH_TORCH
  - Or a whole build made elsewhere: --build DIR. CUDA's major version must be the same; cuBLASLt and libraries that do not lie where they
    lay are looked for in LD_LIBRARY_PATH."""


@dataclasses.dataclass
class Shape:
    """What is run: a model, its batches, and texts."""
    bench: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tokens: int      # of a batch
    max_tokens: int  # of a text
    longest: int     # at which made texts are cut; 0: as they are
    repeats: int
    seconds: float   # that an extraction is to take, about

    def layer_bytes(self):
        attended = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return 2 * self.hidden * (attended + 3 * self.intermediate)

    def table_bytes(self):
        return 2 * self.hidden * self.vocabulary


FULL = Shape("qwen3-8b", 4096, 36, 32, 8, 128, 12288, 151936, 8192, 2048, 0, 5, 20)
QUICK = Shape("tiny", 64, 3, 4, 2, 16, 192, 6144, 320, 128, 60, 1, 0)


class LeftOut(Exception):
    """A part that cannot run here, with the reason."""


class Check:
    def __init__(self, options):
        self.options = options
        self.shape = dataclasses.replace(QUICK if options.quick else FULL)
        self.build = Path(options.build or ROOT / "build/gpu").resolve()  # its own: built for the GPU at hand alone
        self.strata = Path(options.strata or self.build / "strata").resolve()
        self.emulated = self.strata.name == "strata_emulated"
        self.began = time.monotonic()
        self.figures = {}
        self.parts = []
        self.runner = None

    def left(self):
        return self.options.time - (time.monotonic() - self.began)

    def timeout(self):
        """Seconds that what a part starts may take: what hangs costs the other parts no more than this one's share."""
        return max(5.0, min(self.left(), self.part_end - time.monotonic()))

    def part(self, name, run, needs=5, most=120):
        """Runs one part, whatever came of those before it. Seconds: `needs`, below which it is not begun, and `most` that it may take.
        A part that was begun and had no time for all of it is left out, too: its word says what was done."""
        began = time.monotonic()
        self.part_end = began + most
        record = {"name": name, "state": "done", "word": ""}
        print(f"## {name}", flush=True)
        try:
            if self.left() < needs:
                raise LeftOut(f"{max(self.left(), 0):.0f} s are left, it needs about {needs}")
            record["word"] = run() or ""
        except LeftOut as why:
            record.update(state="left out", word=str(why))
        except subprocess.TimeoutExpired as fault:
            record.update(state="failed", word=f"{Path(str(fault.cmd[0])).name} {' '.join(map(str, fault.cmd[1:3]))[:80]} did not end in "
                                               f"{fault.timeout:.0f} s")
        except Exception as fault:  # any part may fail in any way: the others are still worth having
            said = getattr(fault, "stderr", None)
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            record.update(state="failed", word=f"{type(fault).__name__}: {fault}" + (f": {runs.last_line(said)}" if said else ""))
            if self.options.verbose:
                traceback.print_exc()
        record["seconds"] = round(time.monotonic() - began, 1)
        self.parts.append(record)
        print(f"   {record['state']} in {record['seconds']} s {record['word']}", flush=True)

    def need(self, *names):
        for name in names:
            if name not in self.figures:
                raise LeftOut(f"without {name}")

    def command(self, *words, **more):
        return runs.call(words, self.timeout(), **more)

    # ---- build and tests ----

    def build_program(self):
        if self.options.strata or self.options.build:
            if not self.strata.exists():
                raise FileNotFoundError(self.strata)
            return f"{self.strata} as it is"
        on_gpu = self.options.device != "cpu"
        configure = ["cmake", "--preset", "release", "-B", self.build, f"-DSTRATA_CUDA={'ON' if on_gpu else 'AUTO'}", "-DSTRATA_TESTS=ON",
                     f"-DSTRATA_PYTHON={self.options.python}"]
        if on_gpu:
            configure.append("-DSTRATA_CUDA_ARCHITECTURES=native")
        if self.options.packages:
            configure.append(f"-DSTRATA_PACKAGES={Path(self.options.packages).resolve()}")
        if shutil.which("ninja") is None:
            configure += ["-G", "Unix Makefiles"]
        targets = ["strata", *TESTS]
        try:
            self.command(*configure, cwd=ROOT)
        except subprocess.CalledProcessError as fault:
            if "cmocka" not in fault.stderr:
                raise
            self.command(*configure, "-DSTRATA_TESTS=OFF", cwd=ROOT)
            targets = ["strata"]
        self.command("cmake", "--build", self.build, "-j", os.cpu_count() or 1, "--target", *targets, cwd=ROOT)
        return f"in {self.build}"

    def test_program(self, name):
        if self.emulated:
            return self.build / "tests/cuda_emulation" / f"cuda_emulated_{name.split('_', 1)[1]}"
        return self.build / "tests" / name

    def test_environment(self):
        device = "" if self.options.device == "cpu" else self.options.device
        return {**os.environ, "STRATA_TEST_DEVICE": device, "STRATA_SOURCE": str(ROOT), "STRATA_BUILD": str(self.build)}

    def run_tests(self):
        names = [name for name in (QUICK_TESTS if self.options.quick else TESTS) if self.test_program(name).exists()]
        if not names:
            raise LeftOut(f"no test programs in {self.build}/tests (built without cmocka)")
        passed, failed, missed = [], [], []
        for name in names:
            most = min(TEST_MOST, self.left(), self.part_end - time.monotonic())
            try:
                if most < 2:
                    missed.append(name)
                elif (done := runs.call([self.test_program(name)], most, False, env=self.test_environment())).returncode == 0:
                    passed.append(name)
                else:
                    failed.append(f"{name} ({runs.last_line(done.stderr)})")
            except subprocess.TimeoutExpired:
                (failed if most == TEST_MOST else missed).append(f"{name} (not over in {most:.0f} s)")
        self.figures["tests"] = {"run": names, "passed": passed, "failed": failed, "left_out": missed}
        no_time = f"; no time for {', '.join(missed)}" if missed else ""
        if failed:
            raise RuntimeError(f"{', '.join(failed)} failed{no_time}")
        if missed:
            raise LeftOut(f"{len(passed)} of {len(names)} programs passed{no_time}")
        return f"{len(passed)} programs passed"

    def run_sanitizer(self, wanted):
        tool = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
        if self.emulated or self.options.device == "cpu":
            raise LeftOut("not on a GPU")
        if tool is None:
            raise LeftOut("compute-sanitizer was not found")
        found = self.figures.setdefault("sanitizer", {"passed": [], "left_out": []})
        passed, missed = [], []
        for kind, name in wanted:
            there_was_time = self.sanitize(tool, kind, name)
            (passed if there_was_time else missed).append(f"{kind} {name}")
            found["passed" if there_was_time else "left_out"].append(f"{kind} {name}")
        if missed:
            raise LeftOut(f"no time for {', '.join(missed)}; {', '.join(passed) or 'none'} without a finding")
        return f"{', '.join(passed)}: no finding"

    def sanitize(self, tool, kind, name):
        """Whether there was time for it. A finding is an error."""
        if not self.test_program(name).exists():
            raise LeftOut("the tests are not built")
        # What calls return is the program's to check; memcheck is asked about kernels.
        words = [tool, "--tool", kind, "--error-exitcode", "99", *(["--report-api-errors", "no"] if kind == "memcheck" else [])]
        most = min(self.left(), self.part_end - time.monotonic())
        if most < 5:
            return False
        try:
            done = runs.call([*words, self.test_program(name)], most, False, env=self.test_environment())
        except subprocess.TimeoutExpired:
            return False
        said = [line for line in done.stdout.splitlines() if line.startswith("=========") and line.strip("= ")]
        if done.returncode == 99:
            raise RuntimeError(f"{kind} {name}: {' '.join(said[1:4] or said)[:300]}")
        if done.returncode != 0 and any("anitizer" in line or "not supported" in line for line in said[1:]):
            raise LeftOut(f"compute-sanitizer does not work here: {' '.join(said[1:3])[:300]}")
        if done.returncode != 0:
            raise RuntimeError(f"{kind} {name} ended with {done.returncode}: {runs.last_line(done.stderr or done.stdout)}")
        return True

    # ---- rates of the device ----

    def bench(self):
        file = self.work / "bench.json"
        shape = self.shape
        words = [self.strata, "bench", "--device", self.options.device, "--shape", shape.bench, "--tokens", shape.tokens,
                 "--repeats", shape.repeats, "--json", file]
        for part in ("peaks", "products", "attention", "block", "rows", "copies"):
            shown = self.command(*words, "--part", part).stdout.splitlines()
            print("\n".join("   " + line for line in shown[1:]), flush=True)
            report = json.loads(file.read_text())
            if "bench" in self.figures:
                self.figures["bench"]["figures"] += report["figures"]
            else:
                self.figures["bench"] = report
        return self.figures["bench"]["name"]

    def bench_figures(self, part):
        return [figure for figure in self.figures["bench"]["figures"] if figure["part"] == part]

    def products_seconds(self, kind):
        """Seconds of a block's products for one token: `matmul` as chosen, `any algorithm` at the best of both."""
        total = 0.0
        products = self.bench_figures("products")
        for figure in products:
            name, tokens, size = figure["what"].split(", ")
            if name != "matmul" or int(tokens.split()[0]) != self.shape.tokens:
                continue
            rate = max(f["value"] for f in products if f["what"].endswith(f"{tokens}, {size}") and
                       (kind != "matmul" or f is figure))
            rows, columns = map(int, size.split(" x "))
            total += 2 * rows * columns / (rate * 1e9)
        return total

    # ---- the model and the texts ----

    def choose_layers(self):
        memory = min(self.figures.get("bench", {}).get("memory", 0) or 24 << 30, 1 << 40)
        room = min(0.7 * memory, 0.6 * shutil.disk_usage(self.work).free) - self.shape.table_bytes()
        if self.options.device == "cpu" or self.emulated:
            room = min(room, 0.3 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        layers = min(self.shape.layers, int(room / self.shape.layer_bytes()))
        if layers < 3:
            raise LeftOut(f"no room for a model of 3 layers in {self.work}")
        return layers

    def make_model(self):
        s = self.shape
        s.layers = self.choose_layers()
        self.command(self.options.python, ROOT / "tools/make_model.py", "--to", self.work / "model", "--family", "qwen3", "--words",
                     "--fast", "--hidden", s.hidden, "--layers", s.layers, "--heads", s.heads, "--kv-heads", s.kv_heads,
                     "--head-dim", s.head_dim, "--intermediate", s.intermediate, "--vocabulary", s.vocabulary,
                     "--shards", max(1, min(8, s.layers // 3)))
        size = sum(path.stat().st_size for path in (self.work / "model").glob("*.safetensors"))
        self.figures["model"] = {"layers": s.layers, "bytes": size, "folder": "random weights"}
        return f"{s.layers} of {(QUICK if self.options.quick else FULL).layers} layers, {size / 1e9:.2f} GB"

    def expected_rate(self):
        """Token/s of an extraction as the bench's blocks promise it; a careful guess without them."""
        blocks = self.bench_figures("block") if "bench" in self.figures else []
        return blocks[0]["value"] / (self.shape.layers - 1) if blocks else 5000.0

    def make_problems(self):
        count = 24
        if not self.options.quick:
            count = int(np.clip(self.expected_rate() * min(self.shape.seconds, self.left() / 8) / 257, 64, 21456))
        lines = self.work / "problems.jsonl"
        with open(lines, "w") as out:
            subprocess.run([self.options.python, ROOT / "tools/make_problems.py", "--count", str(count), "--lengths", "real", "--longest",
                            str(self.shape.longest)], stdout=out, check=True, timeout=self.timeout())
        self.command(self.strata, "import", lines, self.work / "problems.db")
        self.figures["problems"] = {"count": count}
        self.runner = runs.Runner(self.strata, self.options.device, self.work, self.shape, self.timeout)
        return f"{count} problems"

    # ---- extractions ----

    def extract(self):
        self.need("model", "problems")
        runs.forget(self.work / "model")
        reading = runs.read_rate(self.work / "model")
        runs.forget(self.work / "model")
        run = self.runner.run(self.runner.job("pooled", self.figures["problems"]["count"]))
        self.figures["extract"] = {**runs.ledger(run), "load_bytes_per_second": runs.load_rate(run), "read_bytes_per_second": reading}
        self.pooled = self.runner.latents(run)
        self.product_tokens = runs.product_tokens(run)
        if not all(np.isfinite(one["latents"]).all() for one in self.pooled.values()):
            raise RuntimeError("latents are not finite")
        return f"{self.figures['extract']['tokens_per_second']:.0f} token/s"

    def every_token(self):
        self.need("extract")
        room = min(0.4 * shutil.disk_usage(self.work).free, 24 << 30) if not self.options.quick else 16 << 20
        token_bytes = 2 * (self.shape.layers + 1) * self.shape.hidden
        mean = self.figures["extract"]["tokens"] / self.figures["problems"]["count"]
        fast = self.figures["extract"]["tokens_per_second"] * min(self.shape.seconds, self.left() / 8) if not self.options.quick else 1e9
        count = int(min(min(room / token_bytes, fast) / mean, self.figures["problems"]["count"]))
        if count < 4:
            raise LeftOut(f"no room for every token's layers in {self.work}")
        writing = runs.write_rate(self.work, 2 << 30 if not self.options.quick else 8 << 20)
        run = self.runner.run(self.runner.job("every", count, {"layers": "all", "pooling": "tokens", "dtype": "float16"}))
        found = runs.ledger(run)
        shutil.rmtree(run)
        self.figures["every_token"] = {**found, "write_bytes_per_second": writing, "token_bytes": token_bytes, "problems": count}
        return f"{found['wall_tokens_per_second']:.0f} token/s, {found['stored_bytes'] / found['wall_seconds'] / 1e9:.2f} GB/s stored"

    def differing(self, found):
        return [name for name, one in found.items() if one["latents"].tobytes() != self.pooled[name]["latents"].tobytes()]

    def company(self):
        """Texts packed into other batches, with products of the same size: their bits must not change."""
        self.need("extract")
        count = self.figures["problems"]["count"] // 3
        run = self.runner.run(self.runner.job("company", count, batch={"window": 150}))
        found = self.runner.latents(run)
        different = self.differing(found)
        self.figures["company"] = {"problems": len(found), "different": different, "same_size": self.same_size(run)}
        if len(found) != count or (self.figures["company"]["same_size"] and different):
            raise RuntimeError(f"{len(different)} of {len(found)} texts have other bits in other company: {', '.join(different[:5])}")
        return f"{count} texts in other company: {'the same bits' if not different else 'products of another size, other bits'}"

    def same_size(self, run):
        """Whether a run's products had the tokens of the extraction's (on a CPU they have no size of their own)."""
        return runs.product_tokens(run) == self.product_tokens

    def alone(self):
        """One text a batch. The products of a GPU are smaller then: bits may change with their algorithms, which the table tells apart."""
        self.need("extract")
        count = min(32 if not self.options.quick else 6, self.figures["problems"]["count"])
        run = self.runner.run(self.runner.job("alone", count, batch={"problems": 1}))
        found = self.runner.latents(run)
        different = self.differing(found)
        self.figures["alone"] = {"problems": len(found), "different": different, "same_size": self.same_size(run)}
        if len(found) != count or (different and self.figures["alone"]["same_size"]):
            raise RuntimeError(f"{len(different)} of {len(found)} texts have other bits alone: {', '.join(different[:5])}")
        return f"{count} texts alone: {'the same bits' if not different else 'products of another size, other bits'}"

    def killed(self):
        self.need("extract")
        count = max(self.figures["problems"]["count"] // 6, min(24, self.figures["problems"]["count"]))
        small = {"batch": {"problems": 2}} if self.options.quick else {}
        often = {"checkpoint_every": 1 if self.options.quick else 2}
        expected = runs.shard_hashes(self.runner.run(self.runner.job("whole", count, run=often, **small)))
        job = self.runner.job("killed", count, run=often, **small)
        for _ in range(3):
            interrupted = self.runner.run_killed(job)
            if interrupted:
                break
            shutil.rmtree(job.parent / "run", ignore_errors=True)
        if not interrupted:
            raise RuntimeError("every run was over before it could be killed")
        resumed = runs.shard_hashes(self.runner.run(job))
        self.figures["killed"] = {"shards": len(expected), "equal": resumed == expected}
        if resumed != expected:
            raise RuntimeError("the resumed run's shards differ from the uninterrupted one's")
        return f"{len(expected)} shards with the same hashes"

    # ---- transformers ----

    def transformers(self):
        self.need("extract")
        device = self.options.device if not self.emulated else "cpu"
        probe = "import torch, transformers; print(torch.cuda.is_available())"
        there = subprocess.run([self.options.python, "-c", probe], capture_output=True, text=True, timeout=self.timeout())
        if there.returncode != 0:
            raise LeftOut(f"{self.options.python} has no torch and transformers")
        if device.startswith("cuda") and there.stdout.strip() != "True":
            raise LeftOut("torch has no CUDA here")
        return self.compare_with_transformers(device)

    def compare_with_transformers(self, device):
        quick = self.options.quick
        with open(self.work / "problems.jsonl") as lines:
            problems = [json.loads(line) for line in lines]
        compared = problems[:4 if quick else 24]
        request = {"model": str(self.work / "model"), "device": device, "layer": -2, "max_tokens": self.shape.max_tokens,
                   "texts": ["\n".join([p["statement"], *p["steps"]]) for p in problems[:8 if quick else 512]],
                   "spans": [self.pooled[p["problem_id"]]["spans"].tolist() for p in compared],
                   "batches": [2, 8] if quick else [8, 4, 16, 32], "seconds": 0.2 if quick else min(8.0, self.left() / 20), "most": self.timeout() / 2,
                   "means": str(self.work / "means.f32")}
        asked = self.work / "request.json"
        asked.write_text(json.dumps(request))
        answer = json.loads(runs.last_line(self.command(self.options.python, ROOT / "tools/gpu_check_torch.py", asked).stdout))
        ours = np.concatenate([self.pooled[p["problem_id"]]["latents"] for p in compared]).astype("f8")
        theirs = np.fromfile(request["means"], "<f4").reshape(ours.shape).astype("f8")
        norms = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
        cosine = (ours * theirs).sum(1) / (norms[0] * norms[1])
        error = np.linalg.norm(ours - theirs, axis=1) / norms[1]
        self.figures["transformers"] = {**answer, "rows": len(ours), "lowest_cosine": float(cosine.min()),
                                        "worst_error": float(error.max())}
        if not cosine.min() > 0.99:
            raise RuntimeError(f"latents differ from transformers': cosine {cosine.min():.5f}")
        best = max(rate for rate in answer["rates"].values() if rate)
        return f"best batch {best:.0f} token/s; {len(ours)} step means, cosine at least {cosine.min():.6f}"

    # ---- all of it ----

    def choose_work(self):
        wanted = 0 if self.options.quick else 24 << 30
        base = self.options.work
        if base is None:
            ram = Path("/dev/shm")
            base = ram if ram.is_dir() and shutil.disk_usage(ram).free > wanted and os.access(ram, os.W_OK) else self.build
        Path(base).mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="strata-gpu-check-", dir=base))

    def run(self):
        full = not self.options.quick
        self.choose_work()
        try:
            self.part("build", self.build_program, most=400)
            self.part("tests on the device", self.run_tests, most=150)
            self.part("sanitizer: memcheck of attention", lambda: self.run_sanitizer(SANITIZED_FIRST), 10, most=45)
            self.part("rates of the device", self.bench)
            self.part("model", self.make_model, 30 if full else 1)
            self.part("problems", self.make_problems)
            self.part("extraction, step means", self.extract, 40 if full else 1)
            self.part("transformers", self.transformers, 45 if full else 1)
            self.part("all layers, every token", self.every_token, 30 if full else 1)
            self.part("texts in other company", self.company, 20 if full else 1)
            self.part("texts alone", self.alone, 20 if full else 1)
            self.part("killed and resumed", self.killed, 45 if full else 1)
            self.part("sanitizer: the rest", lambda: self.run_sanitizer(SANITIZED_LAST), 15)
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def versions(self):
        found = {"python": platform.python_version(), "host": platform.machine()}
        for name, words in (("driver", ["nvidia-smi", "-i", self.options.device.partition(":")[2] or "0", "--query-gpu=driver_version",
                                                 "--format=csv,noheader"]),
                            ("nvcc", ["nvcc", "--version"]), ("strata", [str(self.strata), "--version"])):
            try:
                said = subprocess.run(words, capture_output=True, text=True, timeout=20)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if said.returncode == 0:
                found[name] = runs.last_line(said.stdout)
        found.update({name: self.figures["transformers"][name] for name in ("torch", "transformers") if "transformers" in self.figures})
        return found

    def report(self):
        bench = self.figures.get("bench", {})
        result = {"schema": 1, "date": datetime.date.today().isoformat(), "quick": self.options.quick,
                  "device": {"asked": self.options.device, **{key: bench.get(key) for key in ("kind", "name", "path", "identity", "memory")}},
                  "versions": self.versions(), "seconds": round(time.monotonic() - self.began, 1), "parts": self.parts,
                  "shape": dataclasses.asdict(self.shape), "figures": self.figures}
        result["table"] = judge(self)
        return result


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=ELSEWHERE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (default: cuda:0)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: whether everything works; its figures say nothing")
    parser.add_argument("--strata", help="another program, as it is; its tests are those beside it or in --build")
    parser.add_argument("--build", help="a build folder to use as it is, made elsewhere perhaps (default: build/gpu, brought up to date)")
    parser.add_argument("--packages", metavar="DIR", help="folder that the libraries' packages were unpacked into, where they are not "
                        "installed (see below)")
    parser.add_argument("--python", default=sys.executable, help="with numpy; with torch and transformers to compare (default: this one)")
    parser.add_argument("--json", default=str(ROOT / "build/gpu-check.json"), help="(default: build/gpu-check.json)")
    parser.add_argument("--work", help="folder for model, problems and runs (default: /dev/shm where it is large enough)")
    parser.add_argument("--time", type=float, default=470, help="seconds in all (default: 470)")
    parser.add_argument("--verbose", action="store_true", help="where a part failed")
    parser.add_argument("--readme", metavar="JSON", help="only writes README.md's table from this result")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.readme:
        write_readme(ROOT / "README.md", json.loads(Path(options.readme).read_text()))
        return 0
    check = Check(options)
    check.run()
    result = check.report()
    show(result)
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return int(any(part["state"] == "failed" for part in result["parts"]))


if __name__ == "__main__":
    sys.exit(main())
