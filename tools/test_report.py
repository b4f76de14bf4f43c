#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What was skipped in the suites that ctest ran, and one line of counts; fails where a skip is not on the list.

usage: test_report.py tests/skips.txt RESULTS.xml ...      (ctest --output-junit)

A test counts as skipped when all of it was; parts that were (a test function, a code path) are listed the same. With
CI=true in the environment the list's part [outside CI] does not hold.
"""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

SECTIONS = ("anywhere", "outside CI")
# What pytest -rs, cmocka and the C tests print.
SKIPS = (re.compile(r"^SKIPPED \[\d+\] (?P<reason>.*)$", re.M),
         re.compile(r"^(?:\[\s*)?skipped:? (?P<reason>.*)$", re.M),
         re.compile(r"^\[  SKIPPED \] (?:--- \[ )?(?P<reason>\w+).*$", re.M),
         re.compile(r"#pragma message: skipped: (?P<reason>[^’\"\n]*)"))


def read_list(path, in_ci):
    """[(name, reason)], both compiled, of the sections that hold here."""
    allowed, section = [], None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
                if section not in SECTIONS:
                    sys.exit(f"{path}:{number}: there is no section {section!r}")
            elif line and not line.startswith("#"):
                if section is None or line.count(" | ") != 1:
                    sys.exit(f"{path}:{number}: not TEST | REASON under a section")
                if section == "anywhere" or not in_ci:
                    allowed.append(tuple(re.compile(part.strip()) for part in line.split(" | ")))
    return allowed


def read_results(path):
    """[(name, how it ended, reasons of skips)] of every test in a file of ctest's."""
    found = []
    for case in ElementTree.parse(path).getroot().findall("testcase"):
        text = case.findtext("system-out") or ""
        reasons = {match["reason"].strip() for pattern in SKIPS for match in pattern.finditer(text)}
        ended = {"run": "passed", "notrun": "skipped", "disabled": "skipped"}.get(case.get("status"), "failed")
        if ended == "skipped" and not reasons:
            reasons.add(text.strip() or "no reason was given")
        found.append((case.get("name"), ended, sorted(reasons)))
    return found


def main(list_path, *result_paths):
    in_ci = os.environ.get("CI") == "true"
    allowed = read_list(list_path, in_ci)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    listed, unknown = {}, {}
    for path in result_paths:
        for name, ended, reasons in read_results(path):
            counts[ended] += 1
            for reason in reasons:
                fits = any(one.fullmatch(name) and other.search(reason) for one, other in allowed)
                (listed if fits else unknown).setdefault(reason, set()).add(name)
    for title, skips in (("Skipped:", listed), (f"Skipped, and not on the list ({list_path}):", unknown)):
        if skips:
            print(f"\n{title}")
            for reason, names in sorted(skips.items()):
                print(f"  {reason}\n    in {', '.join(sorted(names))}")
    print(f"\n{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if counts["passed"] == 0:
        print("no test was run", file=sys.stderr)
    return 1 if unknown or counts["failed"] or counts["passed"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
