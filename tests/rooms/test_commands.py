# SPDX-License-Identifier: MIT
"""tools/test.sh and .ci/run with stand-ins for what they call: what is set up, configured and tried, and what it ends with."""
import json
import os
import shutil
import subprocess

import pytest

import support

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$0 $*" in */ctest*"$FAILS"* | */fuzz.sh*"$FAILS"*) exit 8 ;; esac
"""


@pytest.fixture
def tree(tmp_path):
    """A checkout with the scripts alone; commands write what they were asked for."""
    for name in ("tools/test.sh", ".ci/run", "tests/slow.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(support.SOURCE / name, tmp_path / name)
    for name in ("tools/setup.sh", "tools/fuzz.sh", "bin/cmake", "bin/ctest", "build/venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def call(tree, *command, fails="nothing at all"):
    """(exit code, the calls it made)"""
    calls = tree / "calls"
    calls.write_text("")
    environment = {**os.environ, "PATH": f"{tree}/bin:{os.environ['PATH']}", "CALLS": str(calls), "FAILS": fails}
    environment.pop("STRATA_FUZZ_SECONDS", None)
    done = subprocess.run([tree / command[0], *command[1:]], env=environment, capture_output=True, text=True)
    return done.returncode, calls.read_text().splitlines()


def test_everything_is_set_up_configured_and_tried(tree):
    code, calls = call(tree, "tools/test.sh")
    assert code == 0 and calls[0] == "setup.sh --tests --parity"
    configured = [line for line in calls if line.startswith("cmake --preset")]
    settings = ("-DSTRATA_TESTS=ON", "-DSTRATA_CUDA_EMULATION=ON", "-DSTRATA_PYTHON=")
    assert len(configured) == 2 and all(setting in line for setting in settings for line in configured)
    suites = [line for line in calls if line.startswith("ctest")]
    assert len(suites) == 2 and all("--no-tests=error" in line for line in suites)
    assert "-L unit" in suites[0] and " -L" not in suites[1], suites
    assert "fuzz.sh 30" in calls and calls[-1].startswith("python tools/test_report.py tests/skips.txt")


def test_continuous_integration_is_the_test_command(tree):
    assert call(tree, ".ci/run") == call(tree, "tools/test.sh")


def test_without_parity_those_tests_are_left_out_by_name(tree):
    code, calls = call(tree, "tools/test.sh", "--no-parity", "-R", "export")
    suites = [line for line in calls if line.startswith("ctest")]
    assert code == 0 and calls[0] == "setup.sh --tests"
    assert suites[1].endswith("-LE parity -R export") and all("--no-tests=ignore" in line for line in suites)


def test_fast_tries_the_quick_tests_of_the_release_build_and_says_what_it_leaves_out(tree):
    (tree / "tests" / "slow.txt").write_text("# a comment\na/test_b\na/test_c.py\n")
    code, calls = call(tree, "tools/test.sh", "--fast", "-R", "export")
    assert code == 0 and calls[0] == "setup.sh --tests"
    assert [line for line in calls if "asan" in line or "fuzz" in line] == []
    suite, = [line for line in calls if line.startswith("ctest")]
    assert "--test-dir build " in suite and suite.endswith(r"-LE parity -E ^(a/test_b|a/test_c\.py)$ -R export"), suite
    assert calls[-1].startswith("python tools/test_report.py")
    done = subprocess.run([tree / "tools/test.sh", "--fast"], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tree}/bin:{os.environ['PATH']}", "CALLS": str(tree / "calls"), "FAILS": "--test-dir build "})
    assert done.returncode == 1 and done.stdout.endswith("compare with torch, and a/test_b, a/test_c.py\n"), done


@pytest.mark.parametrize("part", ["--test-dir build/asan", "--test-dir build ", " 30"], ids=["sanitizers", "release", "fuzzing"])
def test_one_failed_part_fails_all_and_hides_no_other(tree, part):
    code, calls = call(tree, "tools/test.sh", fails=part)
    assert code == 1 and len([line for line in calls if line.startswith("ctest")]) == 2
    assert calls[-1].startswith("python tools/test_report.py")


def test_the_demo_builds_for_a_gpu_as_the_tests_do_and_says_so(tree):
    """The same setting up and the same python for cmake, which has what a bare nvcc lacks; cmake's word and the program's are shown."""
    shutil.copy(support.SOURCE / "tools/demo.sh", tree / "tools")
    (tree / "build/strata").write_text(STAND_IN)
    (tree / "build/strata").chmod(0o755)
    with open(tree / "bin/cmake", "a") as cmake:
        cmake.write("echo '-- CUDA: 13.0.88 for 90-real, cuBLASLt /somewhere'\n")
    calls = tree / "calls"
    done = subprocess.run([tree / "tools/demo.sh"], env={**os.environ, "PATH": f"{tree}/bin:{os.environ['PATH']}", "CALLS": str(calls), "FAILS": "-"},
                          capture_output=True, text=True)
    assert done.returncode == 0 and "\n  CUDA: 13.0.88 for 90-real, cuBLASLt /somewhere\n" in done.stdout, done
    said = calls.read_text().splitlines()
    assert said[0] == "setup.sh " and "strata --version" in said
    assert [line for line in said if line.startswith("cmake --preset")] == \
        [f"cmake --preset release -DSTRATA_TESTS=OFF -DSTRATA_PYTHON={tree}/build/venv/bin/python"]


def test_the_demo_is_not_stopped_by_a_busy_machine():
    """A first try, perhaps while something else is built: batches of milliseconds drift there."""
    job = (support.SOURCE / "configs/demo.yaml").read_text()
    assert "drift_stop: false" in job and "device: cpu" in job
    assert "strata run configs/demo.yaml" in (support.SOURCE / "tools/demo.sh").read_text()


def test_a_bare_nvcc_gets_what_it_lacks(tree):
    """A C++ compiler and cuBLAS's headers, for the demo too: without them cmake would leave the CUDA back end out."""
    for file in [support.SOURCE / "tools/setup.sh", *(support.SOURCE / "tools").glob("requirements*.txt")]:
        shutil.copy(file, tree / "tools")
    nothing = STAND_IN + "[ \"$1\" != -E ] || { cat >/dev/null; exit 1; }\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"
    for name in ("dpkg-query", "apt-get", "sudo", "nvcc"):
        (tree / "bin" / name).write_text(nothing)
        (tree / "bin" / name).chmod(0o755)
    code, calls = call(tree, "tools/setup.sh")
    assert code == 0, calls
    assert [line for line in calls if "install -y" in line and " g++" in line], calls
    assert [line for line in calls if line.startswith("python -m pip install") and line.endswith("tools/requirements-cuda13.txt")], calls


def test_presets_leave_nothing_of_other_settings():
    """What another command left in the cache of a build folder: fuzz targets without a replay, a sanitizer."""
    presets = json.loads((support.SOURCE / "CMakePresets.json").read_text())["configurePresets"]
    settings = {preset["name"]: preset["cacheVariables"] for preset in presets}
    for name in ("release", "debug"):
        assert settings[name]["STRATA_SANITIZER"] == "" and settings[name]["STRATA_FUZZ"] == "OFF"
    assert settings["asan"]["STRATA_SANITIZER"] == "address"


@pytest.mark.parametrize("seconds", ["0", "x", "-1"])
def test_fuzzing_without_an_end_is_refused(seconds):
    """libFuzzer takes 0 for no limit."""
    assert subprocess.run([support.SOURCE / "tools" / "fuzz.sh", seconds], capture_output=True).returncode == 64


def test_fuzzing_names_the_targets_that_found_something(tmp_path):
    """Side by side: also those that end at once, or execute nothing."""
    endings = {"good": 'echo "stat::number_of_executed_units: 5"', "bad": "echo an input was found; exit 1", "idle": "exit 0"}
    (tmp_path / "tools").mkdir()
    shutil.copy(support.SOURCE / "tools/fuzz.sh", tmp_path / "tools")
    programs = {"bin/cmake": "exit 0", "bin/clang-14": "exit 0"}
    programs |= {f"build/fuzz/tests/room_fuzz_{name}": ending for name, ending in endings.items()}
    for name, what in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{what}\n")
        (tmp_path / name).chmod(0o755)
    environment = support.clean_environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    for names, found in (list(endings), "findings in: room_fuzz_bad room_fuzz_idle ("), (["good"], ""):
        done = subprocess.run([tmp_path / "tools/fuzz.sh", "1", *(f"room_fuzz_{name}" for name in names)], capture_output=True, text=True,
                              env=environment)
        assert done.returncode == bool(found) and found in done.stderr, done
        assert ("an input was found" in done.stdout) == bool(found) and "number_of_executed_units: 5" in done.stdout, done
        assert done.stdout.count("== room_fuzz_") == len(names)
