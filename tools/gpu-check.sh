#!/usr/bin/env bash
# Builds strata, tests and measures it on a GPU and prints one table of figures, ratios and targets. No network.
# usage: tools/gpu-check.sh [--device cuda:N] [--python PYTHON] [--packages DIR] [--work DIR] [--time SECONDS] [...]
#        --help says more, also how to run it where the libraries' packages cannot be installed
set -euo pipefail
python=python3
own="$(dirname "$0")/../build/venv/bin/python"
if ! python3 -c 'import numpy' 2>/dev/null && [ -x "$own" ]; then
  python=$own
fi
exec "$python" "$(dirname "$0")/gpu_check.py" "$@"
