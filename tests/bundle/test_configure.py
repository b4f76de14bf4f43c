# SPDX-License-Identifier: MIT
"""What cmake says and does on machines that lack something, and the options that help there."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import support

CUDA = ("-DSTRATA_CUDA=AUTO", "-DSTRATA_CUDA_ARCHITECTURES=90-real", f"-DSTRATA_PYTHON={sys.executable}")


def configure(folder, *options, environment=None):
    """CMake's exit code and all that it says, in one line."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    done = subprocess.run(["cmake", "-S", support.SOURCE, "-B", folder, *generator, "-DSTRATA_TESTS=OFF", *options], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, env={**os.environ, **(environment or {})})
    return done.returncode, " ".join(done.stdout.split())


def flags(folder):
    return [entry["command"].split() for entry in json.loads((folder / "compile_commands.json").read_text())]


def test_pkg_config_is_missing(tmp_path):
    code, said = configure(tmp_path, "-DSTRATA_CUDA=OFF", "-DPKG_CONFIG_EXECUTABLE=/nonexistent")
    assert code != 0 and "pkg-config was not found (Debian: apt-get install pkg-config)" in said


def test_all_missing_libraries_are_named_at_once(tmp_path):
    (tmp_path / "none").mkdir()
    disabled = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("OpenMP", "OpenSSL", "SQLite3", "ZLIB", "HDF5")]
    code, said = configure(tmp_path / "build", "-DSTRATA_CUDA=OFF", *disabled,
                           environment={"PKG_CONFIG_LIBDIR": str(tmp_path / "none"), "PKG_CONFIG_PATH": ""})
    assert code != 0
    assert "not found: OpenMP, OpenSSL, SQLite3, ZLIB, jansson, yaml-0.1, libpcre2-8, libutf8proc, HDF5 (Debian: apt-get install gcc " \
           "libssl-dev libsqlite3-dev zlib1g-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libhdf5-dev)" in said


def cuda_line(said):
    return re.search(r"-- CUDA: .*?(?= -- )", said)[0]


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configured")
    code, said = configure(folder, *CUDA)
    assert code == 0, said
    return folder, said


@pytest.mark.parametrize("errors", [True, False])
def test_warnings_are_errors_only_where_that_is_wanted(configured, tmp_path, errors):
    folder, said = configured
    if not errors:
        folder = tmp_path
        code, said = configure(folder, *CUDA, "-DSTRATA_WERROR=OFF")
        assert code == 0, said
    for command in flags(folder):
        assert any("-Wall" in word for word in command)
        assert any("-Werror" in word for word in command) == errors, command
    assert any("nvcc" in command[0] for command in flags(folder)) == ("stand-in" not in cuda_line(said)), said


def test_a_compiler_that_was_missing_once_is_found_later(configured, tmp_path):
    """As where nvcc was there before the C++ compiler that it needs."""
    code, said = configure(tmp_path, *CUDA, "-DCMAKE_CUDA_COMPILER=NOTFOUND")
    assert code == 0 and cuda_line(said) == cuda_line(configured[1]), said
