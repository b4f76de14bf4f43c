# SPDX-License-Identifier: MIT
"""STRATA_PACKAGES: libraries that were unpacked, not installed, are found, linked, and found again when programs run, although everything
in their packages names the place where they would have been installed."""
import subprocess

import support

PROJECT = """cmake_minimum_required(VERSION 3.25)
project(user C)
include(%s/cmake/strata_packages.cmake)
find_package(PkgConfig REQUIRED)
pkg_check_modules(outer REQUIRED IMPORTED_TARGET outer)
find_library(PLAIN NAMES plain REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE PkgConfig::outer ${PLAIN})
"""
OUTER_PC = """prefix=/usr
Name: outer
Description: made for a test
Version: 1
Cflags: -I${prefix}/include/apart
Libs: -L/usr/lib/x86_64-linux-gnu -louter
"""


def library(folder, name, text, *more):
    (folder / f"{name}.c").write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,lib{name}.so.1", "-o", folder / f"lib{name}.so.1", folder / f"{name}.c", *more],
                   check=True)


def unpack(root):
    """outer (with a header apart and pkg-config's description) stands on inner; plain's link for the linker is absolute."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    (libraries / "pkgconfig").mkdir(parents=True)
    (root / "usr/include/apart").mkdir(parents=True)
    (root / "usr/include/x86_64-linux-gnu").mkdir()
    library(libraries, "inner", "int inner(void) { return 40; }")
    library(libraries, "outer", "int inner(void); int outer(void) { return inner() + 1; }", libraries / "libinner.so.1")
    library(libraries, "plain", "int plain(void) { return 1; }")
    (libraries / "libouter.so").symlink_to("libouter.so.1")
    (libraries / "libplain.so").symlink_to("/usr/lib/x86_64-linux-gnu/libplain.so.1")
    (libraries / "pkgconfig/outer.pc").write_text(OUTER_PC)
    (root / "usr/include/apart/outer.h").write_text("int outer(void);\n")
    (root / "usr/include/plain.h").write_text('#include "machine.h"\nint plain(void);\n')
    (root / "usr/include/x86_64-linux-gnu/machine.h").write_text("#define WANTED 42\n")


def configure(folder, packages):
    return subprocess.run(["cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build", f"-DSTRATA_PACKAGES={packages}"], capture_output=True, text=True)


def test_libraries_of_unpacked_packages(tmp_path):
    unpack(tmp_path / "packages")
    (tmp_path / "CMakeLists.txt").write_text(PROJECT % support.SOURCE)
    (tmp_path / "user.c").write_text("#include <outer.h>\n#include <plain.h>\nint main(void) { return outer() + plain() != WANTED; }\n")
    done = configure(tmp_path, tmp_path / "packages")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", tmp_path / "build"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert subprocess.run([tmp_path / "build/user"], env={}).returncode == 0


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(PROJECT % support.SOURCE)
    (tmp_path / "packages").mkdir()
    done = configure(tmp_path, tmp_path / "packages")
    assert done.returncode != 0 and "no packages were unpacked into" in done.stderr
    (tmp_path / "packages/usr/include").mkdir(parents=True)
    (tmp_path / "packages/usr/include/stdio.h").touch()
    done = configure(tmp_path, tmp_path / "packages")
    assert done.returncode != 0 and "must be the system's" in " ".join(done.stderr.split())
