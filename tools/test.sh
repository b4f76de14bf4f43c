#!/usr/bin/env bash
# Installs what is missing, builds strata and runs every test: fuzz targets, unit tests under the address and undefined
# behaviour sanitizers, then everything in the release build.
# usage: tools/test.sh [ctest arguments]      STRATA_FUZZ_SECONDS (30) a fuzz target; 0 leaves fuzzing out
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)

tools/setup.sh
cmake --preset release -DSTRATA_PYTHON="$PWD/build/venv/bin/python" >/dev/null
cmake --build build -j "$jobs"

if [ "${STRATA_FUZZ_SECONDS:-30}" != 0 ]; then
  tools/fuzz.sh "${STRATA_FUZZ_SECONDS:-30}"
fi

cmake --preset asan >/dev/null
cmake --build build/asan -j "$jobs"
ctest --test-dir build/asan -L unit -j "$jobs" --output-on-failure "$@"

ctest --test-dir build -j "$jobs" --output-on-failure "$@"
