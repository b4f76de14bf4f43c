# SPDX-License-Identifier: MIT
"""How large an attack is, where it works, and what it counted.

Each script here is one attack on whole runs. ctest runs a sample of each; tools/campaign.sh runs them all in full size and
prints the counts. An attack goes on until it has its number of attempts, however fast or slow the machine is.
"""
import json
import os
import pathlib
import shutil
import tempfile

FULL = os.environ.get("STRATA_CAMPAIGN") == "full"


def attempts(sampled, full):
    return full if FULL else sampled


def record(attack, violations, **counts):
    """Prints the counts (pytest -s shows them), keeps them for tools/campaign.sh, and fails on a violation."""
    line = {"attack": attack, **counts, "violations": len(violations)}
    print(f"\n{json.dumps(line)}")
    if "STRATA_CAMPAIGN_RECORD" in os.environ:
        with open(os.environ["STRATA_CAMPAIGN_RECORD"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    assert violations == []


def memory_folder():
    """A folder in memory where there is one, taken away by the caller's with: most attacks wait for the disk otherwise."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(dir=base, prefix="strata-campaign-")


def fresh(folder):
    """The folder, empty."""
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
