#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests and measures strata on a GPU: one command, no network, one table of figures, ratios and targets, and the same as JSON.

Stage A looks at the machine, tries a first product and runs the tests of the device; a failure there ends the check at once, but for a
model that could not be made: then the parts that need one are left out. Stage B measures rates, then extracts from a Qwen3-8B-shaped
model with random weights made on the spot and texts as long as those of a real set, and sends the same texts through transformers where
python has torch; then come proofs. A part that fails does not stop the next one of stage B; parts that time has run out for are left
out, and both are said.

Under --out lie, as they are made: gpu-check.json (replaced after every part), log (what is printed), programs.log (what every program
said), ncu.csv and dmon.txt (nvidia-smi during the extraction).
Exit code 1: a part failed; 3: one of stage A did, and nothing came after it; 2: wrong usage."""
import argparse
import json
import sys
from pathlib import Path

from gpu_check_parts import ALWAYS, NAMES, choose, default_time, help_text

ROOT = Path(__file__).resolve().parent.parent

ELSEWHERE = """\
On a machine without the libraries' packages, and without a way to install them: make a bundle where there are some (cmake --build build
--target bundle; no GPU is needed), carry the folder, and run its own tools/gpu-check.sh there, or this one with --build FOLDER.
Building there needs cmake (3.25 or later), pkg-config, a C and C++ compiler, nvcc, and the headers of cuBLAS (in the toolkit, or from
PyPI for the python given by --python); without ninja make is used. The libraries may lie in a folder, for --packages. Where there is a
network, on the same distribution (or an older release of it), once:
  mkdir packages && cd packages
  apt-get download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \\
    libhdf5-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libssl-dev zlib1g-dev libcmocka-dev |
    grep '^lib\\|^zlib' | grep -v '^libc6\\|^libc-\\|^libgcc\\|^libcrypt\\|^libstdc' | sort -u)
  for package in *.deb; do dpkg -x $package .; done
  rm -r *.deb usr/share/{doc,man,locale}; find . -name '*.a' -delete"""


def part_names(text):
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is no part; there are {', '.join(NAMES)}")
    return names


def parse_arguments():
    parser = argparse.ArgumentParser(prog="gpu-check.sh", description=__doc__, epilog=f"{help_text()}\n\n{ELSEWHERE}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (default: cuda:0)")
    parser.add_argument("--build", metavar="DIR", help="a bundle or a build folder to use as it is, made elsewhere perhaps (default: the "
                        "bundle that this script lies in; else build/gpu, brought up to date)")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: build/gpu-check; gpu-check in a bundle)")
    parser.add_argument("--time", type=float, metavar="SECONDS", help="in all (default: 420; with --all 600)")
    parser.add_argument("--only", type=part_names, default=[], metavar="PART,..", help="these parts, and those that they need")
    parser.add_argument("--skip", type=part_names, default=[], metavar="PART,..", help="not these parts (build and machine are never skipped)")
    parser.add_argument("--all", action="store_true", help="time for all parts")
    parser.add_argument("--keep-going", action="store_true", help="on with stage B after a failure in stage A")
    parser.add_argument("--python", default=sys.executable, help="with numpy; with torch and transformers to compare (default: this one)")
    parser.add_argument("--work", metavar="DIR", help="folder for model, problems and runs (default: /dev/shm where memory allows)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: whether everything works; its figures say nothing")
    parser.add_argument("--strata", metavar="FILE", help="another program, as it is; its tests are those in --build")
    parser.add_argument("--packages", metavar="DIR", help="folder that the libraries' packages were unpacked into, for building where "
                        "they are not installed (see below)")
    parser.add_argument("--readme", metavar="JSON", help="only writes the table in kernels/README.md from this result")
    options = parser.parse_args()
    if options.time is None:
        options.time = default_time(options.all)
    if not (options.device == "cpu" or (options.device.startswith("cuda:") and options.device[5:].isdigit())):
        parser.error(f"--device is cuda:N or cpu, not {options.device}")
    if kept := [name for name in options.skip if name in ALWAYS]:
        parser.error(f"--skip {', '.join(kept)}: every other part needs it")
    return options


def main():
    options = parse_arguments()
    if options.readme:
        from gpu_check_table import write_readme
        write_readme(ROOT / "kernels" / "README.md", json.loads(Path(options.readme).read_text()))
        return 0
    try:
        import numpy  # noqa: F401
    except ImportError as missing:
        print(f"gpu-check: {sys.executable}: {missing}; name a python that has numpy by --python", file=sys.stderr)
        return 3
    import gpu_check_basics as basics
    import gpu_check_extract as extract
    import gpu_check_rates as rates
    from gpu_check_stages import Check, run_check
    functions = {
        "build": basics.build_program, "machine": basics.look_at_machine, "smoke": basics.smoke, "tests": basics.run_tests,
        "torch": basics.look_at_torch, "model": basics.wait_for_model, "rates": rates.rates, "sustained": rates.sustained,
        "extraction": extract.extract, "transformers": extract.transformers, "ncu": rates.run_ncu, "company": extract.company,
        "killed": extract.killed, "memcheck": lambda check: basics.run_sanitizer(check, "memcheck"), "float16": rates.float16,
        "alone": extract.alone, "every_token": extract.every_token, "racecheck": lambda check: basics.run_sanitizer(check, "racecheck"),
        "sanitizer": lambda check: basics.run_sanitizer(check, "sanitizer")}
    parts = choose(options.only, options.skip)
    check = Check(options, ROOT)
    check.wanted = {part.name for part in parts}
    return run_check(check, parts, functions)


if __name__ == "__main__":
    sys.exit(main())
