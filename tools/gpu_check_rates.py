# SPDX-License-Identifier: MIT
"""Rates of a device for gpu_check.py: what `strata bench` measures, Nsight Compute's view of the kernels, and nvidia-smi's of a run."""
import contextlib
import csv
import io
import json
import os
import re
import shutil

from gpu_check_machine import device_name
from gpu_check_process import Failed, LeftOut, complaint, how

KERNELS = "attention|rms_norm|rotary|swiglu"  # in the names of the four kernels that are the program's own
NCU_KERNELS = 12                              # of two blocks and a bit: each of the four twice at least
NCU_FIGURES = {"Compute (SM) Throughput": "sm", "Memory Throughput": "memory", "DRAM Throughput": "dram", "Duration": "duration",
               "Achieved Occupancy": "occupancy"}
SUSTAINED, SUSTAINED_QUICK = 5, 1  # seconds
MICROSECONDS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3}


# ---- strata bench ----

def bench_words(check, parts, **more):
    shape = check.shape
    words = [check.strata, "bench", "--device", check.options.device, "--shape", shape.bench, "--tokens", shape.tokens, "--part", parts]
    return words + [word for key, value in more.items() for word in (f"--{key}", value)]


def bench(check, name, parts, **more):
    """What was measured counts, even when the program did not come to its end: it keeps its file up to date."""
    file = check.work / f"{name}.json"
    running = check.processes.start(name, *bench_words(check, parts, json=file, **more))
    try:
        code = check.processes.wait(running, check.timeout())
    finally:
        with contextlib.suppress(OSError, ValueError, KeyError):
            check.figures[name] = json.loads(file.read_text())
            add_shares(check.figures[name]["figures"], running.text())
    if code != 0:
        raise Failed(f"{name} {how(code)}: {complaint(running.text())}")


def add_shares(figures, text):
    """What the operations of a block take of its time stands in the words beside its figure."""
    for figure in figures:
        if figure["part"] == "block":
            line = next((line for line in text.splitlines() if line.startswith(figure["what"] + " ")), "")
            figure["shares"] = ", ".join(re.findall(r"[A-Za-z]+ [\d.]+ %", line.split("tokens/s")[-1])[:4])


def rates(check):
    """In one process, the part that comes next included: it loads cuBLASLt and tunes once."""
    parts = "peaks,products,rows,attention,copies,block" + (",sustained" if "sustained" in check.wanted else "")
    bench(check, "rates", parts, repeats=check.shape.repeats, seconds=SUSTAINED_QUICK if check.options.quick else SUSTAINED)
    return f"{check.figures['rates']['name']}: {len(check.figures['rates']['figures'])} figures"


def sustained(check):
    if bench_figures(check, "sustained"):
        check.figures["sustained"] = {**check.figures["rates"], "figures": bench_figures(check, "sustained")}
    else:
        bench(check, "sustained", "sustained", seconds=SUSTAINED_QUICK if check.options.quick else SUSTAINED)
    found = ", ".join(f"{figure['what']} {figure['value']:.0f} {figure['unit']}" for figure in bench_figures(check, "sustained", "sustained"))
    return f"{found}; throttled: {check.figures['sustained'].get('throttle_reasons', 'unknown')}"


def float16(check):
    bench(check, "float16", "products,attention", dtype="float16", repeats=check.shape.repeats)
    return f"{len(check.figures['float16']['figures'])} figures"


def bench_figures(check, part, name="rates"):
    return [figure for figure in check.figures.get(name, {}).get("figures", []) if figure["part"] == part]


def products_seconds(check):
    """Seconds of a block's products for one token, each by the best algorithm of any kind; 0 where they were not measured."""
    total = 0.0
    products = bench_figures(check, "products")
    for figure in products:
        parsed = re.match(rf"matmul, ({check.shape.tokens} tokens, (\d+) x (\d+))", figure["what"])
        if parsed:
            rate = max(f["value"] for f in products if re.search(rf" {parsed[1]}(?!\d)", f["what"]))
            total += 2 * int(parsed[2]) * int(parsed[3]) / (rate * 1e9)
    return total


def sustained_block_rate(check):
    """Token/s of one block's products when they run in turn for seconds; None where that was not measured."""
    for figure in bench_figures(check, "sustained", "sustained"):
        if figure["what"] == "token/s of a block's products":
            return figure["value"]
    return None


def expected_rate(check):
    """Token/s of an extraction as the block, or its products alone, promise; a careful guess without them."""
    blocks = bench_figures(check, "block")
    promised = blocks[0]["value"] if blocks else sustained_block_rate(check)
    return promised / (check.shape.layers - 1) if promised else 5000.0


# ---- Nsight Compute ----

def read_ncu(text):
    """{kernel: {"sm": %, "memory": %, "dram": %, "duration": us, "occupancy": %}} of its longest launch, from ncu's CSV, which stands
    between lines of its own talk."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    launches = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines))):
        key, figure = (row.get("ID"), row.get("Kernel Name") or ""), NCU_FIGURES.get(row.get("Metric Name"))
        value, unit = (row.get("Metric Value") or "").replace(",", ""), row.get("Metric Unit") or ""
        if figure is None or not re.fullmatch(r"\d+(\.\d+)?", value):
            continue
        if figure == "duration" and unit in MICROSECONDS:
            launches.setdefault(key, {})[figure] = float(value) * MICROSECONDS[unit]
        elif figure != "duration" and unit == "%":
            launches.setdefault(key, {})[figure] = float(value)
    kernels = {}
    for (_, name), found in launches.items():
        short = re.sub(r"^(void|static) |<unnamed>::|\(anonymous namespace\)::", "", name).split("<")[0].split("(")[0].split("::")[-1].strip()
        if found.get("duration", 0) >= kernels.get(short, {}).get("duration", 0):
            kernels[short] = found
    return kernels


def run_ncu(check):
    tool = shutil.which("ncu", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
    if not check.on_gpu:
        raise LeftOut("not on a GPU")
    if tool is None:
        raise LeftOut("ncu was not found")
    log = check.out / "ncu.csv"
    code, text = check.call("ncu", tool, "--clock-control", "none", "--section", "SpeedOfLight", "--section", "Occupancy", "-k", f"regex:{KERNELS}",
                            "-c", NCU_KERNELS, "--csv", "--log-file", log, *bench_words(check, "block", repeats=1), check=False)
    said = (log.read_text(errors="replace") if log.exists() else "") + text
    found = read_ncu(said)
    if found:
        check.figures["ncu"] = found
        return f"{len(found)} kernels, all figures in {log.name}"
    if "ERR_NVGPUCTRPERM" in said:
        raise LeftOut("this user may not read the GPU's counters (ERR_NVGPUCTRPERM: root may, or anybody with the driver's "
                      "NVreg_RestrictProfilingToAdminUsers=0)")
    if "ailed to initialize the profiler" in said or "not supported" in said:
        raise LeftOut(f"ncu does not work here: {complaint(said)}")
    raise Failed(f"ncu {how(code)} without a figure: {complaint(said)}")


# ---- nvidia-smi while something runs ----

class Monitor:
    """Clocks, power and load in every second of the check, in dmon.txt. It also keeps the driver awake: without persistence mode that
    starts anew, for seconds, with every program that finds no other one."""

    def __init__(self, check):
        self.path = check.out / "dmon.txt"
        if check.on_gpu and shutil.which("nvidia-smi"):
            name = device_name(check.options.device, check.environment)
            at_once = ["stdbuf", "-oL"] if shutil.which("stdbuf") else []  # a line when it is written, not with the next forty
            check.processes.start("dmon", *at_once, "nvidia-smi", "dmon", "-i", name, "-s", "pucm", "-d", 1, "-o", "T", to=self.path)

    def here(self):
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, place):
        """What read_dmon says of the lines after a place."""
        if not self.path.exists():
            return {}
        text = self.path.read_text(errors="replace")
        heads = [line for line in text[:place].splitlines() if line.startswith("#")]
        return read_dmon("\n".join(heads) + "\n" + text[place:])


def read_dmon(text):
    """Of the seconds in which the GPU was busy: {"seconds", "power": mean W, "clock": lowest MHz}; {} when there were none."""
    names, rows = [], []
    for line in text.splitlines():
        words = line.lstrip("#").split()
        if line.startswith("#") and "gpu" in words:
            names = words
        elif not line.startswith("#") and len(words) == len(names):
            rows.append(dict(zip(names, words)))
    busy = [row for row in rows if row.get("sm", "-").isdigit() and int(row["sm"]) >= 80]
    power = [float(row["pwr"]) for row in busy if row.get("pwr", "-").isdigit()]
    clock = [float(row["pclk"]) for row in busy if row.get("pclk", "-").isdigit()]
    found = {"seconds": len(busy)} if busy else {}
    if power:
        found["power"] = sum(power) / len(power)
    if clock:
        found["clock"] = min(clock)
    return found
