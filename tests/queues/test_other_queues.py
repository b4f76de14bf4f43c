# SPDX-License-Identifier: MIT
"""configs/kubernetes-job.yaml and configs/strata@.service say what the program has: its command, its options, its exit codes.

There is no cluster here. The fields of the Job are those of batch/v1 as Kubernetes's own Python client (37.0) has them, checked by hand when
the file was written; here they are compared with the names that were used then, and with what the API demands of their values.
"""
import os
import re
import shutil
import subprocess

import pytest
import yaml
from support import OK, SOURCE, STOPPED, STRATA, USAGE, clean_environment, strata

JOB = SOURCE / "configs" / "kubernetes-job.yaml"
UNIT = SOURCE / "configs" / "strata@.service"
NEVER_AGAIN = {64, 65, 73, 78, 80}  # somebody has to look; 69, a device that is missing, is another node's chance
FIELDS = {
    "": "apiVersion kind metadata spec",
    "spec": "completionMode completions parallelism backoffLimitPerIndex podReplacementPolicy podFailurePolicy template",
    "spec.podFailurePolicy": "rules",
    "spec.podFailurePolicy.rules": "action onPodConditions onExitCodes",
    "spec.podFailurePolicy.rules.onPodConditions": "type status",
    "spec.podFailurePolicy.rules.onExitCodes": "containerName operator values",
    "spec.template": "spec",
    "spec.template.spec": "restartPolicy terminationGracePeriodSeconds containers volumes",
    "spec.template.spec.containers": "name image command env resources volumeMounts",
    "spec.template.spec.containers.env": "name value",
    "spec.template.spec.containers.resources": "requests limits",
    "spec.template.spec.containers.volumeMounts": "name mountPath readOnly",
    "spec.template.spec.volumes": "name configMap persistentVolumeClaim",
}
FREE = {"metadata": str, "spec.template.spec.containers.resources.requests": str, "spec.template.spec.containers.resources.limits": str,
        "spec.template.spec.volumes.configMap": str, "spec.template.spec.volumes.persistentVolumeClaim": str}


def exit_codes():
    """Those of the program but success."""
    return {int(code) for code in re.findall(r"^ +(\d+)  ", strata("help", "exit-codes").out, re.M)} - {OK}


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load(JOB.read_text())


def check_fields(value, path=""):
    if isinstance(value, list):
        for one in value:
            check_fields(one, path)
    elif isinstance(value, dict) and path in FREE:
        assert all(isinstance(one, FREE[path]) for one in value.values()), path
    elif isinstance(value, dict):
        assert set(value) <= set(FIELDS[path].split()), path
        for key, one in value.items():
            check_fields(one, f"{path}.{key}".lstrip("."))


def test_kubernetes_fields(job):
    check_fields(job)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    pod = spec["template"]["spec"]
    container, = pod["containers"]
    assert spec["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"  # what backoffLimitPerIndex and the policy want
    assert spec["podReplacementPolicy"] == "Failed"  # the one that a policy of failures allows
    assert 1 <= spec["parallelism"] <= spec["completions"] and spec["backoffLimitPerIndex"] >= 1
    assert container["env"] == [{"name": "JOB_COMPLETIONS", "value": str(spec["completions"])}]
    assert pod["terminationGracePeriodSeconds"] >= 30
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("Ignore", "FailIndex", "FailJob", "Count") and ("onExitCodes" in rule) != ("onPodConditions" in rule)
        codes = rule.get("onExitCodes", {"operator": "In", "containerName": container["name"], "values": [1]})
        assert codes["operator"] == "In" and codes["containerName"] == container["name"]
        assert codes["values"] == sorted(set(codes["values"])) and 0 not in codes["values"]


def test_kubernetes_exit_codes(job):
    """A disruption is looked at first; every code of the program is tried again, or is not, as its meaning is."""
    first, *rules = job["spec"]["podFailurePolicy"]["rules"]
    assert first["action"] == "Ignore" and first["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    actions = {code: rule["action"] for rule in rules for code in rule["onExitCodes"]["values"]}
    assert actions == {STOPPED: "Ignore", **dict.fromkeys(NEVER_AGAIN, "FailIndex")}
    assert exit_codes() - set(actions) == {69, 70}


def test_kubernetes_command(job):
    """The command is one that the program takes: it gets as far as the job file that is not here."""
    name, *words = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert name == STRATA.name
    without = strata(*words)
    assert without.code == USAGE and "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set" in without.err, without
    done = strata(*words, environment=clean_environment(JOB_COMPLETION_INDEX="3", JOB_COMPLETIONS="64"))
    assert done.code not in (OK, USAGE) and "/job/job.yaml" in done.err, done


def test_systemd_exit_codes():
    prevent = re.search(r"^RestartPreventExitStatus=(.*)$", UNIT.read_text(), re.M)[1]
    assert {int(code) for code in prevent.split()} == exit_codes() - {70, STOPPED}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_knows_every_line(tmp_path):
    unit = tmp_path / UNIT.name.replace("@", "@job")
    text = UNIT.read_text()
    assert "ExecStart=/usr/local/bin/strata run " in text
    unit.write_text(text.replace("/usr/local/bin/strata", str(STRATA)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert [line for line in done.stderr.splitlines() if unit.name in line] == [] and done.returncode == 0, done
