# SPDX-License-Identifier: MIT
"""What an emulated GPU says of itself: figures with every batch, in status and log; and the cause of a slow-down."""
import csv
import io
import json
import re

import pytest

import support
from support import DRIFT, OK, Job, clean_environment, make_problems, strata

PROBLEMS = 14
pytestmark = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")

TIMES = ["upload_seconds", "device_seconds", "download_seconds"]
SAMPLE = {"utilization": 88, "sm_clock": 1300, "power": 222.5, "temperature": 55, "throttle_reasons": 0x24,
          "pcie_received": 5e6, "pcie_sent": 7e6, "process_memory": 3 << 30, "xid": 0}
SETTINGS = {"NVML_UTILIZATION": 88, "NVML_CLOCK": 1300, "NVML_POWER": 222500, "NVML_TEMPERATURE": 55, "NVML_REASONS": 0x24,
            "NVML_PCIE_RECEIVED": 5000, "NVML_PCIE_SENT": 7000, "NVML_PROCESS_MEMORY": 3 << 30}


def emulation(**settings):
    return clean_environment(**{f"CUDA_EMULATION_{name}": str(value) for name, value in settings.items()})


def make_job(folder, problems=PROBLEMS, **sections):
    job = Job(folder, make_problems(problems, steps=3, longest=8),
              **support.merge({"model": {"device": "cuda:0"}, "batch": {"tokens": 128}}, sections))
    job.program = support.EMULATED
    return job


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("figures"))
    job.run(environment=emulation(**SETTINGS))
    return job


def check_row(row):
    assert {name: float(row[name]) for name in SAMPLE} == SAMPLE
    assert float(row["memory_used"]) > 0 and float(row["device_seconds"]) > 0
    assert float(row["upload_seconds"]) >= 0 and float(row["download_seconds"]) >= 0


def test_every_batch_has_figures(run):
    names = [*TIMES, "memory_used", *SAMPLE]
    rows = [dict(zip(names, row)) for row in run.query(f"SELECT {', '.join(names)} FROM batch ORDER BY number")]
    assert len(rows) == run.query("SELECT batches FROM survey")[0][0] > 3
    lines = list(csv.DictReader(open(run.output / "throughput.csv")))
    listed = list(csv.DictReader(io.StringIO(strata("log", run.output, "--csv").out)))
    assert len(lines) == len(listed) == len(rows)
    for row in [*rows, *lines, *listed]:
        check_row(row)
    assert strata("verify", run.output).code == OK  # the chain covers them


def test_log_has_columns_for_what_is_known(run, tmp_path):
    heading, first = strata("log", run.output).out.splitlines()[:2]
    assert heading.endswith("    drift  upload s  device s download s  GPU GiB  own GiB busy %   MHz     W    C"
                            "   in MB/s  out MB/s  XID throttle")
    assert first.endswith("    3.00     88  1300   222   55       5.0       7.0    0 power+thermal")
    bare = make_job(tmp_path / "bare")
    bare.run(environment=emulation(NVML=0))
    heading = strata("log", bare.output).out.splitlines()[0]
    assert heading.endswith("drift  upload s  device s download s")  # the device's clock is there, its monitoring is not
    assert bare.query("SELECT count(*) FROM batch WHERE coalesce(memory_used, power, xid) IS NOT NULL") == [(0,)]
    assert "device  " not in strata("status", bare.output).out


def test_status_shows_device_and_place(run):
    text = strata("status", run.output).out
    told = json.loads(strata("status", run.output, "--json").out)
    assert "  device      88 % busy, 1300 MHz, 222 W, 55 C, throttled by power+thermal (at the last batch)\n" in text
    assert " in use, 3.0 GiB of this process (at the last batch)\n" in text
    assert "  pcie        5.0 MB/s to the device, 7.0 MB/s from it (at the last batch)\n" in text
    assert "  resident    cuda: all " in text and "; the driver counts 3.0 GiB for the process\n" in text
    check_row(told["device"])
    assert told["device"]["throttle"] == "power+thermal"
    residency = told["residency"]
    assert residency["kind"] == "cuda" and residency["taken"]["weights"] == residency["planned"]["weights"] > 0
    assert residency["process_bytes"] == 3 << 30


def test_partial_shard_keeps_figures(tmp_path):
    job = make_job(tmp_path)
    job.run("--stop-after", 1, environment=emulation(**SETTINGS), expect=support.STOPPED)
    kept = job.query("SELECT batches FROM partial")[0][0]  # the one asked for, and what was on the device
    job.run(environment=emulation(NVML=0))
    known = job.query("SELECT number, xid IS NOT NULL, device_seconds > 0 FROM batch ORDER BY number")
    assert len(known) > kept and known == [(number, int(number < kept), 1) for number in range(len(known))]


CAUSES = {
    "throttling": ({"NVML_SLOW_CLOCK": 600, "NVML_SLOW_REASONS": 0x20},
                   "the SM clock is 600 MHz, at calibration it was 1410 MHz; the device says that it is slowed by thermal"),
    "offload": ({"NVML_SLOW_PCIE_RECEIVED": 21_000_000, "NVML_SLOW_POWER": 90_000}, "21.00 GB/s come over PCIe"),
    "neighbour": ({"NVML_SLOW_FOREIGN_PROCESSES": 2}, "2 other processes compute on the device, 0 at calibration"),
    "unknown": ({}, "no figure of the device or the host shows why"),
}


# A power cap explains a part of a slow-down, and is not held against the run; here it is far less than what there is.
CAPPED = ({"NVML_SLOW_CLOCK": 1000, "NVML_SLOW_REASONS": 0x4},
          "the SM clock is 1000 MHz, at calibration it was 1410 MHz; the device says that it is slowed by power")


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """Launches of kernels up to a few batches after the calibration."""
    folder = tmp_path_factory.mktemp("launches")
    make_job(folder, problems=30).run("--stop-after", 3, expect=support.STOPPED,
                                      environment=emulation(REPORT=folder / "report.json", SEED=0, WORK_MICROSECONDS=20))
    return json.loads((folder / "report.json").read_text())["launches"]


@pytest.mark.parametrize("cause,settings,sentence", [(cause, *rest) for cause, rest in CAUSES.items()] + [("throttling", *CAPPED)])
def test_drift_names_the_cause(tmp_path, launches, cause, settings, sentence):
    """From the fourth batch on, or so, every kernel takes longer. The device's clock is made up, so that nothing else counts."""
    job = make_job(tmp_path, problems=30, run={"drift_stop": True})
    done = job.run(expect=DRIFT, environment=emulation(SLOW=f"{launches + 40}:10", SEED=0, WORK_MICROSECONDS=20, **settings))
    evidence = json.loads(job.events("drift")[-1][1])
    assert evidence["verdict"] == "stopped" and evidence["device"]["device_seconds"] > evidence["device_calibrated"]["device_seconds"]
    assert (evidence["cause"], cause in done.last()) == (cause, True), (evidence, done)
    assert sentence in evidence["cause_text"] and f"Cause: {cause}: {evidence['cause_text']}." in done.last()


def slowed(milliseconds, **settings):
    """Every kernel takes so long by the device's clock, to the microsecond: what the machine does besides does not count."""
    return emulation(SLOW=f"1:{milliseconds}", SEED=0, WORK_MICROSECONDS=20, **settings)


def settled(calibrated, folder, **settings):
    """A launch that is slower than the calibration by less than a stop needs: what it says of that."""
    job = calibrated.twin(folder, run={"profile": str(calibrated.folder / "profile.json")})
    job.run(environment=slowed(9, **settings))
    told = [(kind, json.loads(text)) for kind, text in job.query("SELECT kind, text FROM event") if '"settled"' in text]
    assert len(told) <= 1
    return (*(told or [(None, None)])[0], (job.output / "run.log").read_text())


def test_what_it_settles_at_is_told(tmp_path):
    job = make_job(tmp_path, problems=40, run={"drift_stop": False, "profile": str(tmp_path / "profile.json")})
    job.run("--stop-after", 1, environment=slowed(6), expect=support.STOPPED)
    kept = [value for value in json.loads((tmp_path / "profile.json").read_text()).values() if isinstance(value, dict)]
    assert [value["sm_clock"] for value in kept] == [1410]
    shared, found, log = settled(job, tmp_path / "shared", NVML_FOREIGN_PROCESSES=2)
    capped, explained, capped_log = settled(job, tmp_path / "capped", NVML_CLOCK=1007, NVML_REASONS=0x4)
    assert "starts slow" in log
    assert (shared, capped) == ("warn", "pace"), (shared, found, capped, explained)
    assert found["cause"] == "neighbour" and found["factor"] > 1.12 and found["factor_by_clock"] == 1
    assert "2 other processes compute on the device" in found["cause_text"]
    assert "cause" not in explained and abs(explained["factor_by_clock"] - 1410 / 1007) < 1e-9
    assert (explained["device_calibrated"]["sm_clock"], explained["device"]["sm_clock"]) == (1410, 1007)
    assert re.search(r" warn  warn: batches take \d\.\d\d times as long as calibrated, of which the power cap explains 1\.00 times "
                     r"\(SM clock 1410 MHz, at calibration 1410 MHz; slowed by: none\); neighbour: ", log), log
    assert re.search(r" info  this launch starts slow: .* \(SM clock 1007 MHz, then 1410 MHz; slowed by: power\)", capped_log), capped_log
    assert re.search(r" info  pace: batches take \d\.\d\d times as long as calibrated, of which the power cap explains 1\.40", capped_log)
