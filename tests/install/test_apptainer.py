# SPDX-License-Identifier: MIT
"""configs/strata.def, as far as it can be tried without Apptainer: its sections, its scripts, and what it takes from this tree."""
import re
import subprocess

import pytest

from support import SOURCE

SECTIONS = {"files", "post", "environment", "test", "runscript", "labels"}


@pytest.fixture(scope="module")
def recipe():
    """(header, sections) of the definition file."""
    lines = [line for line in (SOURCE / "configs/strata.def").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines)
    header, *rest = re.split(r"^%(\w+)\n", text, flags=re.M)
    return dict(re.findall(r"^(\w+): (.+)$", header, re.M)), dict(zip(rest[::2], rest[1::2]))


def test_the_recipe(recipe):
    header, sections = recipe
    assert header == {"Bootstrap": "docker", "From": "debian:12-slim"} and set(sections) == SECTIONS
    assert all(line.startswith("    ") for body in sections.values() for line in body.splitlines() if line)


@pytest.mark.parametrize("section", ["post", "environment", "test", "runscript"])
def test_its_scripts_are_read_by_a_shell(recipe, section):
    assert subprocess.run(["sh", "-n"], input=recipe[1][section], text=True, capture_output=True).stderr == ""


def test_it_takes_what_the_wheels_script_makes(recipe):
    taken, inside = recipe[1]["files"].split()
    assert 'to=${to:-$build/wheel}' in (SOURCE / "tools/wheel.sh").read_text() and taken == "build/wheel"
    assert f"{inside}/strata_latents-*.whl" in recipe[1]["post"]
