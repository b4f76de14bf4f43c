# SPDX-License-Identifier: MIT
"""tools/test_report.py: a skip that is not on the list fails the run, and so does a run without tests."""
import os
import subprocess
import sys

import pytest

import support

REPORT = support.SOURCE / "tools" / "test_report.py"
LIST = """# a comment
[anywhere]
kernels/.* | path amx\\w+, which
[outside CI]
rooms/mount.py | mounting needs root
"""
PYTEST = "s.\n=== short test summary ===\nSKIPPED [1] tests/rooms/mount.py:12: mounting needs root\n1 passed, 1 skipped in 0.1s"
CMOCKA = "[ RUN      ] tiles\nskipped: path amxbf16, which this processor does not have\n[       OK ] tiles"
PRAGMA = "test.cpp:4:9: note: '#pragma message: skipped: no nvml.h (PyPI: nvidia-nvml-dev)'"


def report(folder, *cases, ci=False, listed=LIST):
    folder.mkdir(exist_ok=True)
    (folder / "skips.txt").write_text(listed)
    body = "".join(f'<testcase name="{name}" status="{status}"><system-out>{text}</system-out></testcase>'
                   for name, status, text in cases)
    (folder / "results.xml").write_text(f'<?xml version="1.0"?><testsuite name="(empty)">{body}</testsuite>')
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run([sys.executable, REPORT, folder / "skips.txt", folder / "results.xml"], capture_output=True,
                          text=True, env={**environment, **({"CI": "true"} if ci else {})})


def test_listed_skips_are_told_and_pass(tmp_path):
    done = report(tmp_path, ("kernels/tiles", "run", CMOCKA), ("rooms/mount.py", "run", PYTEST), ("a/b", "run", "fine"))
    assert done.returncode == 0, done
    assert "mounting needs root\n    in rooms/mount.py" in done.stdout
    assert "path amxbf16, which this processor does not have\n    in kernels/tiles" in done.stdout
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


def test_ci_has_no_excuse_for_what_setting_up_provides(tmp_path):
    cases = [("kernels/tiles", "run", CMOCKA), ("rooms/mount.py", "run", PYTEST)]
    done = report(tmp_path, *cases, ci=True)
    assert done.returncode == 1 and "not on the list" in done.stdout
    assert "mounting needs root" in done.stdout.split("not on the list")[1]


@pytest.mark.parametrize("case, reason", [
    (("model/parity.py", "run", PYTEST.replace("mounting needs root", "torch is not installed")), "torch is not installed"),
    (("kernels/tiles", "run", "[  SKIPPED ] tiles"), "tiles"),
    (("rooms/header", "notrun", PRAGMA), "no nvml.h (PyPI: nvidia-nvml-dev)"),
    (("rooms/gone", "notrun", ""), "no reason was given"),
    (("rooms/mount.py", "notrun", "Unable to find executable"), "Unable to find executable"),
])
def test_any_other_skip_fails(tmp_path, case, reason):
    done = report(tmp_path, case, ("a/b", "run", "fine"))
    assert done.returncode == 1 and reason in done.stdout.split("not on the list")[1], done


def test_a_failure_and_a_run_without_tests_fail(tmp_path):
    done = report(tmp_path, ("a/b", "fail", "wrong"), ("a/c", "run", ""))
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    done = report(tmp_path)
    assert done.returncode == 1 and "no test was run" in done.stderr


def test_a_list_that_cannot_be_read_is_no_permission(tmp_path):
    for listed in ("kernels/.* | anything", "[elsewhere]\n", "[anywhere]\nkernels/.*\n"):
        done = report(tmp_path, ("a/b", "run", ""), listed=listed)
        assert done.returncode == 1 and "skips.txt:" in done.stderr
