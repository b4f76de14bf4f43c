# SPDX-License-Identifier: MIT
"""What `strata --version` says of the commit: of a repository, of its archives, and of a folder that is neither."""
import os
import re
import shutil
import subprocess
import tarfile

from support import SOURCE, clean_environment

SCRIPT = SOURCE / "cmake/strata_commit.cmake"
NOBODY = clean_environment(GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b",
                           GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)


def git(folder, *words):
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, env=NOBODY)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


def written(folder, script=None):
    out = folder.parent / "commit.c"
    subprocess.run(["cmake", f"-DSOURCE={folder}", f"-DOUTPUT={out}", "-P", script or SCRIPT], check=True, env=NOBODY)
    return re.search(r'"(.*)";\n$', out.read_text())[1]


def repository(folder):
    (folder / "cmake").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "cmake")
    shutil.copy(SOURCE / ".gitattributes", folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_repository(tmp_path):
    folder = repository(tmp_path / "tree")
    head = git(folder, "rev-parse", "HEAD")
    assert written(folder) == head[:12]
    made = (tmp_path / "commit.c").stat()
    assert written(folder) == head[:12] and (tmp_path / "commit.c").stat().st_mtime_ns == made.st_mtime_ns  # nothing to compile
    git(folder, "tag", "v0.1.0")
    assert written(folder) == "v0.1.0"
    (folder / ".gitattributes").write_text("# changed\n")
    assert written(folder) == "v0.1.0-dirty"


def test_an_archive_of_it(tmp_path):
    folder = repository(tmp_path / "tree")
    git(folder, "archive", "-o", tmp_path / "tree.tar", "HEAD")
    with tarfile.open(tmp_path / "tree.tar") as archive:
        archive.extractall(tmp_path / "unpacked")
    said = written(tmp_path / "unpacked", tmp_path / "unpacked/cmake/strata_commit.cmake")
    assert len(said) >= 7 and git(folder, "rev-parse", "HEAD").startswith(said)


def test_neither(tmp_path):
    """A copy within another project's repository has not that one's commit."""
    outer = repository(tmp_path / "outer")
    (outer / "copy").mkdir()
    assert written(outer / "copy") == "unknown" and written(tmp_path) == "unknown"
    (tmp_path / "broken/.git").mkdir(parents=True)
    assert written(tmp_path / "broken") == "unknown"
