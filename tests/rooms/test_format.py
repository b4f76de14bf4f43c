"""C, C++ and CUDA sources are laid out as .clang-format says."""
import shutil
import subprocess

import pytest

from support import SOURCE

FORMAT = "clang-format-14"
FOLDERS = ("checkpoints", "kernels", "pipeline", "tests")


@pytest.mark.skipif(shutil.which(FORMAT) is None, reason=f"{FORMAT} is not installed")
def test_sources_are_laid_out():
    files = [path for folder in FOLDERS for path in sorted((SOURCE / folder).rglob("*"))
             if path.suffix in (".c", ".h", ".cpp", ".cu")]
    assert len(files) > 250
    names = [str(path.relative_to(SOURCE)) for path in files]
    done = subprocess.run([FORMAT, "--dry-run", "-Werror", *names], cwd=SOURCE,
                          capture_output=True, text=True)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "[-Wclang-format-violations]" in line})
    assert (done.returncode, wrong) == (0, []), f"{FORMAT} -i {' '.join(wrong)}"
