# SPDX-License-Identifier: MIT
"""The READMEs are true: what the program says of itself, links, the numbers of invariants and the functions named beside them."""
import os
import re
import subprocess
import sys

import pytest

import support

PAGES = sorted(page for pattern in ("*.md", "*/*.md", "configs/guides/*.md", "tests/*/README.md") for page in support.SOURCE.glob(pattern))
ROOMS = ("checkpoints", "pipeline", "kernels")


def anchors(page):
    heads = re.findall(r"^#+ (.*)$", support.prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def code(*suffixes):
    return "\n".join(path.read_text(encoding="utf-8") for room in ROOMS for path in sorted((support.SOURCE / room).rglob("*"))
                     if path.suffix in suffixes)


def test_what_the_program_says_is_current():
    script = support.SOURCE / "tools" / "readme.py"
    strata = os.path.join(os.environ["STRATA_BUILD"], "strata")
    done = subprocess.run([sys.executable, script, "--check", strata], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_is_for_newcomers():
    assert len((support.SOURCE / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(support.SOURCE)))
def test_links_lead_somewhere(page):
    for target, anchor in support.links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), (target, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(support.SOURCE)))
def test_rows_of_a_table_have_its_columns(page):
    """A bar within code would end a cell, too."""
    for rows in re.findall(r"(?:^\|.*\n)+", support.prose(page), re.M):
        lines = rows.splitlines()
        assert {line.count("|") for line in lines} == {lines[0].count("|")}, lines[0]


def test_every_page_is_found_from_readme():
    found, fresh = set(), {(support.SOURCE / "README.md").resolve()}
    while fresh:
        found |= fresh
        linked = {target.resolve() for page in fresh for target, _ in support.links(page)}
        fresh = {page for page in linked if page.name.endswith(".md")} - found
    assert found == {page.resolve() for page in PAGES}


def test_invariants():
    """Each is kept somewhere, and the code names no other; every function that the page names is there."""
    page = support.SOURCE / "checkpoints" / "README.md"
    life = page.read_text(encoding="utf-8").split("## The life of a shard\n")[1].split("## The ledger\n")[0]
    numbers = re.findall(r"^(\d+)\. \*\*", life, re.M)
    assert numbers == [str(i + 1) for i in range(len(numbers))] and len(numbers) > 5
    assert set(re.findall(r"\(invariant (\d+)\)", code(".c", ".h"))) == set(numbers)
    functions = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", life))
    defined = set(re.findall(r"^(?:int|void|bool) (\w+)\(", code(".c"), re.M))
    assert len(functions) > 12 and functions <= defined, functions - defined
