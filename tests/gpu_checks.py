# SPDX-License-Identifier: MIT
"""What the tests of tools/gpu-check.sh share: checks that are started, checks that are made up, and programs in place of real ones."""
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import support

TOOLS = support.SOURCE / "tools"
sys.path.insert(0, str(TOOLS))
import gpu_check_parts as parts_module  # noqa: E402
import gpu_check_stages as stages  # noqa: E402

RESULTS = {"gpu-check.json", "log", "programs.log"}


# ---- checks that run

def start(folder, *words, build=support.BUILD, **environment):
    """A check in its quick mode, with its work in folder/work and its results in folder/out."""
    (folder / "work").mkdir(exist_ok=True)
    return subprocess.Popen([TOOLS / "gpu-check.sh", "--quick", "--python", sys.executable, "--build", build, "--work", folder / "work", "--out",
                             folder / "out", "--time", "1000", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=support.clean_environment(**environment))


def read_result(folder):
    return json.loads((folder / "out/gpu-check.json").read_text())


def gpu_check(folder, *words, **more):
    """(process, its output, the result) of a check that was waited for."""
    with start(folder, *words, **more) as running:
        out, err = running.communicate(timeout=1200)
    done = types.SimpleNamespace(returncode=running.returncode, stdout=out, stderr=err)
    assert not any((folder / "work").iterdir()), "work was left behind"
    return done, read_result(folder)


def states_of(result):
    return {part["name"]: part["state"] for part in result["parts"]}


# ---- programs in place of real ones

def fake_build(folder, bench="exit 0", **tests):
    """A build folder whose strata is the real one but for `bench`, with these scripts as test programs."""
    folder.mkdir()
    (folder / "tests").mkdir()
    strata = f'#!/bin/sh\nif [ "$1" = bench ]; then {bench}\nfi\nexec {support.STRATA} "$@"\n'
    for path, script in ((folder / "strata", strata), *((folder / "tests" / name, f"#!/bin/sh\n{script}\n") for name, script in tests.items())):
        path.write_text(script)
        path.chmod(0o755)
    return folder


def fake_tool(monkeypatch, folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


SMI = """
case "$*" in
"-i 0 --query-gpu=name,driver_version,memory.total,memory.used,utilization.gpu"*)
  [ -z "$SMI_OLD" ] || { echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2; }
  echo "NVIDIA H200, 580.159.03, 143771 MiB, ${SMI_USED:-0} MiB, ${SMI_BUSY_SHARE:-0} %, ${SMI_MODE:-Default}, ${SMI_MIG:-Disabled}, 345 MHz, 1980 MHz, 700.00 W, 31" ;;
"-i 0 --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader") echo "NVIDIA H200, 470.1, 143771 MiB, 0 MiB" ;;
"-i 0 --query-compute-apps"*) [ -z "$SMI_OTHERS" ] || echo "$SMI_OTHERS" ;;
"-L") echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"; [ -z "$SMI_TWO" ] || echo "GPU 1: NVIDIA H200 (UUID: GPU-2)" ;;
"") echo "| NVIDIA-SMI 580.159.03   Driver Version: 580.159.03   CUDA Version: ${SMI_CUDA:-13.0} |" ;;
dmon*) printf '%s\\n' "$SMI_DMON"; while sleep 0.2; do [ -z "$SMI_BUSY" ] || echo "$SMI_BUSY"; done ;;
*) exit 6 ;;
esac
"""
DMON = """#Time        gpu    pwr  gtemp  mtemp     sm    mem    enc    dec    jpg    ofa   mclk   pclk     fb   bar1   ccpm
#HH:MM:SS    Idx      W      C      C      %      %      %      %      %      %    MHz    MHz     MB     MB     MB
 12:00:00      0    120     40     50      3      0      0      0      0      0   3201   1980   9000      1      0
 12:00:01      0    690     60     70     99     50      0      0      0      0   3201   1755   9000      1      0
 12:00:02      0    700     61     70    100     50      0      0      0      0   3201   1740   9000      1      0
 12:00:03      0      -     61     70    100     50      0      0      0      0   3201      -   9000      1      0"""

NCU = '''==PROF== Connected to process 7
==PROF== Profiling "rms_norm_kernel" - 0: 0%....100% - 9 passes
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Duration","us","1,020.50"
"0","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Memory Throughput","%","91.5"
"0","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Memory Throughput","Gbyte/s","3,000"
"0","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Compute (SM) Throughput","%","22.25"
"1","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Duration","ns","900"
"1","7","void rms_norm_kernel<__nv_bfloat16>(T1 *, const T1 *)","GPU Speed Of Light Throughput","Memory Throughput","%","10"
"2","7","void <unnamed>::attention_mma_kernel<bf16, (int)128, (int)1>(int)","Occupancy","Achieved Occupancy","%","18.0"
"2","7","void <unnamed>::attention_mma_kernel<bf16, (int)128, (int)1>(int)","Occupancy","Registers","","n/a"
==PROF== Disconnected'''


# ---- parts alone

def made_check(folder, **options):
    """A check on a GPU whose build is folder/build."""
    folder.mkdir(exist_ok=True)
    given = {"quick": False, "device": "cuda:0", "build": str(folder / "build"), "strata": None, "out": str(folder / "out"), "time": 100.0,
             "python": sys.executable, "work": None, "keep_going": False, "packages": None, **options}
    check = stages.Check(types.SimpleNamespace(**given), support.SOURCE)
    check.work = folder
    return check


def run_part(check, run, most=60):
    check.part(parts_module.Part("part", "B", 1, most, ""), run)
    return check.parts[-1]["state"], check.parts[-1]["word"]


def time_is_over(monkeypatch, check, name, ready):
    """The time of what is started as `name` is over as soon as `ready` says so, however fast the machine is."""
    wait = check.processes.wait

    def wait_until_ready(running, timeout, kill=True):
        if running.name == name:
            until(ready)
            timeout = 0
        return wait(running, timeout, kill)

    monkeypatch.setattr(check.processes, "wait", wait_until_ready)


# ---- waiting

def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


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
