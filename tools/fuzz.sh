#!/bin/sh
# Builds every fuzz target (tests/ROOM/fuzz_*.c) with libFuzzer, ASan and UBSan, and runs each for SECONDS (default 30).
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

failed=
for target in $targets; do
  room=${target%%_fuzz_*}
  seeds=tests/$room/seeds_${target#*_fuzz_}
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  echo "== $target, $seconds s"
  # An input may take a second; its limit leaves room for a machine that has others to serve. A target that says nothing of
  # what it executed has executed nothing.
  if "$build/tests/$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
      -artifact_prefix="$build/found-$target-" "$corpus" "$seeds" >"$build/$target.log" 2>&1 &&
      grep -q "number_of_executed_units: *[1-9]" "$build/$target.log"; then
    grep -E "number_of_executed_units|peak_rss" "$build/$target.log" | sed 's/^stat::/   /'
  else
    failed="$failed $target"
    tail -60 "$build/$target.log"
  fi
done
if [ -n "$failed" ]; then
  echo "findings in:$failed (inputs: $build/found-*)" >&2
  exit 1
fi
