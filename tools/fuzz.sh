#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds every fuzz target (tests/ROOM/fuzz_*.c) with libFuzzer, ASan and UBSan, and runs each for SECONDS (default 30), as many at a
# time as there are processors.
#   tools/fuzz.sh [SECONDS] [TARGET ...]      targets by name: job_fuzz_job
# Seeds come from tests/ROOM/seeds_NAME/. Found inputs and the corpus are kept in build/fuzz/. Ends non-zero on a finding.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-30}
case $seconds in '' | *[!0-9]* | 0) echo "usage: tools/fuzz.sh [SECONDS] [TARGET ...]" >&2; exit 64 ;; esac
[ $# -eq 0 ] || shift
build=${STRATA_FUZZ_BUILD:-build/fuzz}
clang=${STRATA_CLANG:-clang-14}
command -v "$clang" >/dev/null || { echo "tools/fuzz.sh: $clang was not found (Debian: apt-get install clang-14)" >&2; exit 69; }

# Warnings are the other builds' business (-w). clang has no OpenMP run-time library here and needs none: the pragmas fall
# away, and the few functions called are those of gcc's library, whose header has one attribute that clang 14 cannot read.
mkdir -p "$build/openmp"
build=$(cd "$build" && pwd)
gomp=$(gcc -print-file-name=libgomp.so)
sed 's/__malloc__ (omp_free), *//' "$(gcc -print-file-name=include/omp.h)" >"$build/openmp/omp.h"
cmake --preset debug -B "$build" -DCMAKE_C_COMPILER="$clang" -DSTRATA_TESTS=ON -DSTRATA_FUZZ=ON \
  -DCMAKE_C_FLAGS="-w -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" \
  -DCMAKE_EXE_LINKER_FLAGS="-fsanitize=address,undefined" \
  -DOpenMP_C_FLAGS="-I$build/openmp" -DOpenMP_C_LIB_NAMES=gomp -DOpenMP_gomp_LIBRARY="$gomp" >/dev/null
targets=$*
if [ -z "$targets" ]; then
  for source in tests/*/fuzz_*.c; do
    room=$(basename "$(dirname "$source")")
    targets="$targets ${room}_$(basename "$source" .c)"
  done
fi
# shellcheck disable=SC2086 # a list of names without spaces
cmake --build "$build" --target $targets

# fuzz TARGET: runs it and says its figures, or what it found.
fuzz() {
  local target=$1 room=${1%%_fuzz_*} said
  local corpus=$build/corpus/$target log=$build/$target.log
  mkdir -p "$corpus"
  # An input may take a second; its limit leaves room for a machine that has others to serve. A target that says nothing of
  # what it executed has executed nothing.
  if "$build/tests/$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$build/found-$target-" "$corpus" "tests/$room/seeds_${target#*_fuzz_}" >"$log" 2>&1 &&
    grep -q "number_of_executed_units: *[1-9]" "$log"; then
    said=$(grep -E "number_of_executed_units|peak_rss" "$log" | sed 's/^stat::/   /')
    : >"$build/$target.passed"
  else
    said=$(tail -60 "$log")
  fi
  printf '== %s, %s s\n%s\n' "$target" "$seconds" "$said" # at once: others speak, too
}

rm -f "$build"/*.passed
jobs=$(nproc)
running=0
for target in $targets; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n || true # what has not passed is found below
    running=$((running - 1))
  fi
  fuzz "$target" &
  running=$((running + 1))
done
wait

failed=
for target in $targets; do
  [ -e "$build/$target.passed" ] || failed="$failed $target"
done
if [ -n "$failed" ]; then
  echo "findings in:$failed (inputs: $build/found-*)" >&2
  exit 1
fi
