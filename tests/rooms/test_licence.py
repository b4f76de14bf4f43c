# SPDX-License-Identifier: MIT
"""Every source file begins with the SPDX line of the licence, in the form of REUSE, behind a #! line at most."""
from support import SOURCE

LINE = "SPDX-License-Identifier: MIT"
MARKS = {".c": "//", ".h": "//", ".cu": "//", ".cuh": "//", ".cpp": "//", ".hpp": "//", ".py": "#", ".sh": "#", ".cmake": "#"}
FOLDERS = (".ci", "checkpoints", "cmake", "kernels", "pipeline", "tests", "tools")


def find_sources():
    files = [path for folder in FOLDERS for path in sorted((SOURCE / folder).rglob("*")) if path.is_file() and not path.is_symlink()]
    files.append(SOURCE / "CMakeLists.txt")
    for path in files:
        if path.suffix in MARKS:
            yield path, MARKS[path.suffix]
        elif path.name == "CMakeLists.txt" or (not path.suffix and path.open("rb").read(2) == b"#!"):
            yield path, "#"


def test_every_source_file_names_the_licence():
    wrong, seen = [], 0
    for path, mark in find_sources():
        lines = path.read_text(encoding="utf-8").splitlines()[:2]
        seen += 1
        if f"{mark} {LINE}" not in (lines[1:] if lines and lines[0].startswith("#!") else lines[:1]):
            wrong.append(str(path.relative_to(SOURCE)))
    assert seen > 1000 and wrong == []


def test_the_licence_is_that_one():
    assert (SOURCE / "LICENSE").read_text().startswith("MIT License\n")
    assert '\nlicense = "MIT"\n' in (SOURCE / "tools/python/pyproject.toml").read_text()
