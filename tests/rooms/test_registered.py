# SPDX-License-Identifier: MIT
"""Every file of tests is a test that ctest runs, with a label to choose it by and a limit of time: one that lies where nobody
looks, or that needs what was not found, would otherwise be missed by nobody."""
import json
import re
import subprocess

import pytest

from support import BUILD, SOURCE

TESTS = SOURCE / "tests"


def name_of(path):
    """The name in ctest of the test in a file, None where tests/CMakeLists.txt looks for none."""
    room, *deeper = path.relative_to(TESTS).parts[:-1]
    if deeper:
        return None
    if path.suffix == ".py":
        return f"{room}/{path.name}"
    if path.suffix in (".cu", ".cpp"):
        return f"{room}/{path.stem}" if room == "cuda_emulation" else None
    if path.stem.startswith("test_cuda_"):
        return f"cuda_emulated/{path.stem}" if room in ("kernels", "model") else None
    return f"{room}/{path.stem}"


@pytest.fixture(scope="module")
def properties():
    """Name in ctest -> the properties of the test."""
    shown = subprocess.run(["ctest", "--test-dir", BUILD, "--show-only=json-v1"], capture_output=True, text=True, check=True)
    return {test["name"]: {one["name"]: one["value"] for one in test["properties"]} for test in json.loads(shown.stdout)["tests"]}


def test_every_file_is_run(properties):
    files = [path for pattern in ("test_*.c", "test_*.cu", "test_*.cpp", "test_*.py", "fuzz_*.c")
             for path in TESTS.rglob(pattern) if path.parent != TESTS]
    assert len(files) > 80
    assert [str(path) for path in files if name_of(path) not in properties] == []
    assert {name for name, found in properties.items() if not 0 < found.get("TIMEOUT", 0) <= 1500} == set()
    assert {name for name, found in properties.items() if not {"unit", "python"} & set(found.get("LABELS", ()))} == set()


def test_slow_tests_are_named_as_they_are(properties):
    """A name that is none leaves nothing out of tools/test.sh --fast, unseen."""
    slow = [line for line in (TESTS / "slow.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(slow) > 20 and slow == sorted(set(slow))
    rooms = {name.split("/")[0] for name in properties}  # without a C++ compiler there is no cuda_emulated
    assert [name for name in slow if name.split("/")[0] in rooms and name not in properties] == []


def test_torch_is_asked_for_in_one_place():
    """A script that asks by itself has not the label that leaves it out where torch is not installed: there it would fail, or
    be skipped without a word where it must not be."""
    asks = re.compile(r"^\s*(import|from) (torch|transformers|pyarrow)\b|importorskip", re.M)
    assert [str(path) for path in sorted(TESTS.rglob("*.py")) if path != TESTS / "parity.py" and path.name != "test_registered.py"
            and asks.search(path.read_text())] == []
