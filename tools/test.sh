#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds strata and runs every test: fuzz targets, unit tests under the address and undefined
# behaviour sanitizers, then everything in the release build. Ends with what was skipped, and why, and one line of counts.
# usage: tools/test.sh [--no-parity | --fast] [ctest arguments]      STRATA_FUZZ_SECONDS (30) a fuzz target; 0 leaves fuzzing out
#   --no-parity   leaves torch, transformers and the tests that compare with them out
#   --fast        while working: of the release build what tests/slow.txt does not name and needs no torch; no sanitizers, no fuzzing
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
results=build/test-results
setup=(--tests --parity)
leave_out=()
fast=
case ${1:-} in
--no-parity)
  shift
  setup=(--tests)
  leave_out=(-LE parity)
  ;;
--fast)
  shift
  fast=1
  setup=(--tests)
  slow=$(grep -v '^#' tests/slow.txt | paste -sd '|')
  leave_out=(-LE parity -E "^(${slow//./\\.})\$")
  ;;
esac

tools/setup.sh "${setup[@]}"
# Every setting that a test depends on is given here: another command may have left another one in the build folder.
settings=(-DSTRATA_TESTS=ON -DSTRATA_CUDA_EMULATION=ON -DSTRATA_PYTHON="$PWD/build/venv/bin/python")
cmake --preset release "${settings[@]}" >/dev/null
cmake --build build -j "$jobs"
failed=0
if [ -z "$fast" ]; then
  if [ "${STRATA_FUZZ_SECONDS:-30}" != 0 ]; then
    tools/fuzz.sh "${STRATA_FUZZ_SECONDS:-30}" || failed=1
  fi
  cmake --preset asan "${settings[@]}" >/dev/null
  cmake --build build/asan -j "$jobs"
fi

# suite FOLDER NAME ...: both suites run whatever fuzzing and the first one found. A suite without tests has failed, unless what was
# asked for leaves some out.
rm -rf "$results"
mkdir -p "$results"
empty=$([ $# = 0 ] && echo error || echo ignore)
suite() {
  ctest --test-dir "$1" -j "$jobs" --no-tests="$empty" --output-on-failure --test-output-size-passed 1048576 \
    --output-junit "$PWD/$results/$2.xml" "${@:3}" || failed=1
}
if [ -z "$fast" ]; then
  suite build/asan sanitizers -L unit "$@"
fi
suite build release "${leave_out[@]}" "$@"
build/venv/bin/python tools/test_report.py tests/skips.txt "$results"/*.xml || failed=1
if [ -n "$fast" ]; then
  echo "left out by --fast: sanitizers, fuzzing, the tests that compare with torch, and ${slow//|/, }"
fi
exit "$failed"
