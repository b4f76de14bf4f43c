#!/usr/bin/env bash
# Builds strata, tests and measures it on a GPU and prints one table of figures, ratios and targets. No network.
# usage: tools/gpu-check.sh [--device cuda:N] [--python PYTHON] [--packages DIR] [--work DIR] [--time SECONDS] [...]
#        --help says more, also how to run it where the libraries' packages cannot be installed
set -euo pipefail
# What measures needs numpy: the system's python, the one for transformers, or the one of the tests.
words=("$@")
pythons=(python3)
for ((i = 0; i < ${#words[@]}; i++)); do
  case "${words[i]}" in
  --python=*) pythons+=("${words[i]#--python=}") ;;
  --python) pythons+=("${words[i + 1]-}") ;;
  esac
done
pythons+=("$(dirname "$0")/../build/venv/bin/python")
for python in "${pythons[@]}"; do
  if "$python" -c 'import numpy' 2>/dev/null; then
    exec "$python" "$(dirname "$0")/gpu_check.py" "$@"
  fi
done
exec python3 "$(dirname "$0")/gpu_check.py" "$@"
