#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The attacks of tests/campaign and the fault sweeps in full size: hours. Prints the counts as a table; build/campaign.jsonl keeps them.
# (importlib: two of the files have the same name.)
# usage: tools/campaign.sh [pytest arguments]      -k power_cuts
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh --tests
python=build/venv/bin/python
cmake --preset release -DSTRATA_TESTS=ON -DSTRATA_PYTHON="$PWD/$python" >/dev/null
cmake --build build -j "$(nproc)"
record=$PWD/build/campaign.jsonl
rm -f "$record"
failed=0
STRATA_SOURCE=$PWD STRATA_BUILD=$PWD/build PYTHONPATH=tools/python:tests:tests/campaign STRATA_CAMPAIGN=full STRATA_FULL_SWEEP=1 \
  STRATA_CAMPAIGN_RECORD=$record "$python" -m pytest -q -s --import-mode=importlib -p no:cacheprovider tests/campaign \
  tests/commands/test_faults.py tests/commands/test_memory.py tests/commands/test_retry.py tests/checkpoints/test_faults.py "$@" || failed=1
"$python" - "$record" <<'PYTHON'
import json
import os
import sys

print("\n| attack | counts | violations |\n|---|---|---|")
for line in open(sys.argv[1]) if os.path.exists(sys.argv[1]) else []:
    found = json.loads(line)
    attack, violations = found.pop("attack"), found.pop("violations")
    print(f"| {attack} | {', '.join(f'{name.replace(chr(95), chr(32))} {value:,}' for name, value in found.items())} | {violations} |")
PYTHON
exit "$failed"
