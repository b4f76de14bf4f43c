#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes what the program says of itself into the READMEs: the commands, the keys of the job file, the exit codes.

usage: tools/readme.py [--check] [STRATA]     --check changes nothing and fails when a README is out of date"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def said(strata, *words):
    return subprocess.run([strata, "help", *words], check=True, capture_output=True, text=True).stdout


def table(heads, rows):
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)]
    return "\n".join(lines)


def commands(strata):
    """From the block `commands:` of the overview; a line that goes on is indented further than a name."""
    block = said(strata).split("commands:\n", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^  (\S+) +(.*)$", re.sub(r"\n {3,}", " ", block), re.M)
    return table(("command", "what it does"), [(f"`strata {name}`", summary) for name, summary in rows])


def job_reference(strata):
    return said(strata, "job", "--markdown").strip()


def exit_codes(strata):
    text = re.sub(r"\n {5,}", " ", said(strata, "exit-codes"))
    return table(("code", "meaning"), re.findall(r"^ +(\d+)  (.*)$", text, re.M))


PARTS = [("README.md", "commands", commands), ("configs/README.md", "job reference", job_reference),
         ("configs/README.md", "exit codes", exit_codes)]


def with_part(text, name, part):
    begin, end = f"<!-- {name}: begin (tools/readme.py writes this part) -->\n", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}{part}\n{end}{rest.split(end, 1)[1]}"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--check"]
    strata = words[0] if words else str(ROOT / "build" / "strata")
    stale = False
    for paper in sorted({part[0] for part in PARTS}):
        before = fresh = (ROOT / paper).read_text(encoding="utf-8")
        for _, name, make in (part for part in PARTS if part[0] == paper):
            fresh = with_part(fresh, name, make(strata))
        if fresh == before:
            continue
        stale = True
        if "--check" in sys.argv:
            print(f"{paper} is not what the program says: run tools/readme.py", file=sys.stderr)
        else:
            (ROOT / paper).write_text(fresh, encoding="utf-8")
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
