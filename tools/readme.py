#!/usr/bin/env python3
"""Writes the job file's reference into README.md from the key table (build/strata help job --markdown).

usage: tools/readme.py [--check] [STRATA]     --check changes nothing and fails when the README is out of date"""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- job reference: begin (tools/readme.py writes this part from the key table) -->\n"
END = "<!-- job reference: end -->"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--check"]
    strata = words[0] if words else str(ROOT / "build" / "strata")
    reference = subprocess.run([strata, "help", "job", "--markdown"], check=True, capture_output=True, text=True).stdout
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    fresh = f"{before}{BEGIN}{reference.strip()}\n{END}{after}"
    if "--check" in sys.argv:
        if fresh != text:
            print("README.md does not match the key table: run tools/readme.py", file=sys.stderr)
        return int(fresh != text)
    readme.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
