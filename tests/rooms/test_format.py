# SPDX-License-Identifier: MIT
"""C, C++ and CUDA sources are laid out as .clang-format says, and no line of theirs is longer than it allows."""
import re
import shutil
import subprocess

import pytest

from support import SOURCE

FORMAT = "clang-format-14"
FOLDERS = ("checkpoints", "kernels", "pipeline", "tests")


KINDS = (".c", ".h", ".cpp", ".cu", ".cuh", ".hpp")
LIMIT = int(re.search(r"^ColumnLimit: (\d+)$", (SOURCE / ".clang-format").read_text(), re.M)[1])


def find_sources():
    files = [path for folder in FOLDERS for path in sorted((SOURCE / folder).rglob("*")) if path.suffix in KINDS]
    assert len(files) > 250
    return files


@pytest.mark.skipif(shutil.which(FORMAT) is None, reason=f"{FORMAT} is not installed")
def test_sources_are_laid_out():
    names = [str(path.relative_to(SOURCE)) for path in find_sources()]
    done = subprocess.run([FORMAT, "--dry-run", "-Werror", *names], cwd=SOURCE,
                          capture_output=True, text=True)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "[-Wclang-format-violations]" in line})
    assert (done.returncode, wrong) == (0, []), f"{FORMAT} -i {' '.join(wrong)}"


def test_no_line_is_too_long():
    """clang-format leaves a line that it cannot break: a comment or a string of one piece. A table that is kept out of it may be wide."""
    found = []
    for path in find_sources():
        laid_out = True
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "// clang-format o" in line:
                laid_out = "// clang-format on" in line
            elif laid_out and len(line) > LIMIT:
                found.append(f"{path.relative_to(SOURCE)}:{number}")
    assert found == []
