# SPDX-License-Identifier: MIT
"""strata status --prometheus: the text format to the letter, the figures of --json, and the dashboard that shows them."""
import json
import re
import shutil
import sqlite3
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from commands.test_parts import Set
from export.made_run import make_run
from report.long_run import insert, lengthen
from support import OK, SOURCE, STOPPED, USAGE, Job, make_problems, strata

NAME = r"strata_[a-z][a-z0-9_]*"
LABEL = r'[a-z]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)\}} (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)")


def metrics(*folders):
    """{name: {labels: value}} of lines that are just as the format wants them: HELP, TYPE and samples, a metric at a time."""
    done = strata("status", *folders, "--prometheus")
    assert done.code == OK and done.err == "" and done.out.endswith("\n"), done
    found, kind, lines = {}, None, iter(done.out.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            name = re.fullmatch(rf"# HELP ({NAME}) \S.*\.", line)[1]
            kind = re.fullmatch(rf"# TYPE {name} (gauge|counter)", next(lines))[1]
            assert name not in found and (kind == "counter") == name.endswith("_total")
            found[name] = {}
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample and sample[1] == name and sample[2] not in found[name], line
        found[name][sample[2]] = float(sample[3])
    assert all(found.values())
    families = {family.name: family for family in text_string_to_metric_families(done.out)}
    assert set(families) == {name.removesuffix("_total") for name in found}
    promtool = shutil.which("promtool")
    if promtool:
        checked = subprocess.run([promtool, "check", "metrics"], input=done.out, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run") / 'a "run"\\of\nmine', problems=60)
    lengthen(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    made = Set(Job(tmp_path_factory.mktemp("set"), make_problems(12)), 3)
    made.run(0)
    made.run(1, "--stop-after", "1", expect=STOPPED)
    return made


def one(found, name, more=""):
    values = [value for labels, value in found[f"strata_{name}"].items() if labels.endswith(more)]
    assert len(values) == 1, (name, more, found[f"strata_{name}"])
    return values[0]


def test_figures_of_a_run(run):
    found = metrics(run)
    said = json.loads(strata("status", run, "--json").out)
    for state in ("done", "failed", "skipped", "remaining"):
        assert one(found, "problems", f'state="{state}"') == said["problems"][state]
    assert one(found, "sealed_tokens_total") == said["tokens"]["done"] == one(found, "tokens", 'state="done"')
    assert one(found, "sealed_batches_total") == said["batches"]["done"]
    assert one(found, "drift_score") == said["drift"]["score"]
    assert (one(found, "exit_code"), one(found, "launches"), one(found, "finished"), one(found, "eta_seconds")) == (0, 2, 1, 0)
    assert one(found, "device_power_watts") == 640 and one(found, "device_utilization_ratio") == 0.97
    assert one(found, "device_sm_clock_hertz") == 1.7e9 and one(found, "device_xid") == 0
    states = {labels: value for labels, value in found["strata_run_state"].items() if value}
    assert len(states) == 1 and next(iter(states)).endswith('state="ended"')
    assert all(labels.startswith(r'run="' + str(run).replace("\\", r"\\").replace('"', r'\"').replace("\n", r"\\n") + '"')
               for labels in found["strata_problems"]), found["strata_problems"]


def test_figures_of_a_set(parts):
    found = metrics(parts.job.output)
    counts = {labels.split('state="')[1][:-1]: value for labels, value in found["strata_parts"].items()}
    assert counts == {"finished": 1, "running": 0, "stopped": 1, "killed": 0, "failed": 0, "damaged": 0, "not begun": 1}
    assert one(found, "problems", 'state="remaining"') > 0 and one(found, "finished") == 0
    metrics(parts.part(0).output, parts.part(1).output)  # named one by one


def test_before_and_between(tmp_path):
    """What is not known is not said."""
    none = metrics(make_run(tmp_path / "none", shards=0, end="killed"))
    assert "strata_exit_code" not in none and "strata_checkpoint_age_seconds" not in none and "strata_device_xid" not in none
    killed = metrics(make_run(tmp_path / "killed", problems=60, shards=2, end="killed"))
    assert one(killed, "checkpoint_age_seconds") >= 0 and one(killed, "tokens_per_second") == 0


def test_a_launch_that_was_killed_counts_until_its_last_commit(tmp_path):
    folder = make_run(tmp_path / "run", problems=20)
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE checkpoint SET at = 1060 WHERE number = (SELECT max(number) FROM checkpoint WHERE epoch = 1)")
        ledger.execute("UPDATE checkpoint SET at = 1050 WHERE at <> 1060")
        ledger.execute("UPDATE launch SET started = 1000, ended = 0, exit_code = -1")
        insert(ledger, "launch", {"epoch": 2, "started": 5000, "ended": 5010, "exit_code": 0, "threads": 1, "process": 7, "host": "there"})
    assert one(metrics(folder), "elapsed_seconds") == 70


def test_times_that_are_none(tmp_path):
    """Of a ledger that somebody else wrote: their differences are beyond 64 bits."""
    folder = make_run(tmp_path / "run", problems=20)
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE launch SET started = ?, ended = ?", (-2**63, 2**63 - 1))
    assert one(metrics(folder), "elapsed_seconds") == pytest.approx(2.0**64)
    assert strata("report", folder).code == OK


def test_goes_alone(run):
    for other in ("--json", "--watch"):
        done = strata("status", run, "--prometheus", other)
        assert done.code == USAGE and other in done.err


def test_dashboard_shows_metrics_that_there_are(run, parts):
    """Each it asks for exists, and each that there is it shows, but for some of each batch's own."""
    dashboard = json.loads((SOURCE / "configs" / "grafana-dashboard.json").read_text())
    asked = set()
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            names = re.findall(NAME, target["expr"])
            assert names and target["expr"].count('{run=~"$run"') == len(names), target["expr"]
            asked |= set(names)
    there = set(metrics(run)) | set(metrics(parts.job.output)) | set(metrics(parts.part(0).output))
    assert asked - there == set()
    unseen = {name.removeprefix("strata_") for name in there - asked}
    assert unseen == {"elapsed_seconds", "shards", "device_upload_seconds", "device_compute_seconds", "device_download_seconds",
                      "device_pcie_received_bytes_per_second", "device_pcie_sent_bytes_per_second"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_documented_metrics_exist(run, parts):
    page = (SOURCE / "configs" / "README.md").read_text()
    named = set(re.findall(NAME, page)) - {"strata_reader", "strata_import", "strata_export"}
    assert {"strata_exit_code", "strata_snapshot_timestamp_seconds"} <= named
    assert named - set(metrics(run)) - set(metrics(parts.part(0).output)) == set()
