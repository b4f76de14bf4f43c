#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tests and measures strata on a GPU, in two stages, and prints one table of figures, ratios and targets. No network. It runs in the
# source tree, where it builds strata unless --build names a bundle or a build, and in a bundle, which it then measures.
# usage: tools/gpu-check.sh [--build DIR] [--out DIR] [--time SECONDS] [--only PART,..] [--skip PART,..] [--python PYTHON] [...]
#        --help names the parts with their seconds, and says how to run it where nothing can be installed
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# What measures needs numpy: the python that is named, else the system's, else the one of the tests.
words=("$@")
pythons=()
for ((i = 0; i < ${#words[@]}; i++)); do
  case "${words[i]}" in
  --python=*) pythons+=("${words[i]#--python=}") ;;
  --python) pythons+=("${words[i + 1]-}") ;;
  esac
done
pythons+=(python3 "$here/../build/venv/bin/python")
for python in "${pythons[@]}"; do
  if "$python" -c 'import sys, numpy; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    exec "$python" -u -B "$here/gpu_check.py" "$@"
  fi
done
command -v python3 >/dev/null || { echo "gpu-check: there is no python3: name a python (3.8 or later, with numpy) by --python" >&2 && exit 3; }
exec python3 -u -B "$here/gpu_check.py" "$@" # which says what is missing
