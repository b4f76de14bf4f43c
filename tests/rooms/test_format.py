"""C, C++ and CUDA sources are laid out as .clang-format says."""
import shutil
import subprocess

import pytest

from support import SOURCE

FORMAT = "clang-format-14"
FOLDERS = ("checkpoints", "kernels", "pipeline", "tests")
# Laid out by hand, most of them for comments of up to 120 columns; the list only gets shorter.
BY_HAND = set("""
checkpoints/folder_content.h checkpoints/identity.h checkpoints/recovery.h checkpoints/run_folder.h checkpoints/shard.h
checkpoints/shard_reader.h checkpoints/view.h kernels/cuda/peak.cu pipeline/base/digest.h pipeline/base/error.h
pipeline/base/file.h pipeline/base/json.h pipeline/base/log.h pipeline/base/memory.c
pipeline/base/memory.h pipeline/base/random.h pipeline/base/size.h pipeline/commands/command.h pipeline/problems/import.h
pipeline/problems/source.h pipeline/text/steps.h tests/cuda_emulation/include/cuda_emulation/language.h
tests/extract/test_queue.c""".split())


@pytest.mark.skipif(shutil.which(FORMAT) is None, reason=f"{FORMAT} is not installed")
def test_sources_are_laid_out():
    files = [path for folder in FOLDERS for path in sorted((SOURCE / folder).rglob("*"))
             if path.suffix in (".c", ".h", ".cpp", ".cu")]
    assert len(files) > 250
    assert {name for name in BY_HAND if not (SOURCE / name).exists()} == set()
    names = [str(path.relative_to(SOURCE)) for path in files]
    done = subprocess.run([FORMAT, "--dry-run", "-Werror", *(name for name in names if name not in BY_HAND)], cwd=SOURCE,
                          capture_output=True, text=True)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "[-Wclang-format-violations]" in line})
    assert (done.returncode, wrong) == (0, []), f"{FORMAT} -i {' '.join(wrong)}"
