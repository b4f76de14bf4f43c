#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing: Debian packages, and a Python environment in build/venv. What is there is left alone.
# usage: tools/setup.sh [--tests] [--parity]
#   (none)     what building strata and its demo need
#   --tests    and what the tests need
#   --parity   and what tests and benchmarks compare with: torch (its CPU build), transformers and others, some 2 GB
set -euo pipefail
cd "$(dirname "$0")/.."

tests= parity=
for word in "$@"; do
  case $word in
  --tests) tests=1 ;;
  --parity) parity=1 ;;
  *) echo "usage: tools/setup.sh [--tests] [--parity]" >&2 && exit 64 ;;
  esac
done

packages=(gcc libc6-dev cmake ninja-build pkg-config libhdf5-dev libsqlite3-dev libyaml-dev libssl-dev libpcre2-dev
  libutf8proc-dev libjansson-dev zlib1g-dev python3 python3-venv)
# nvcc compiles with the help of a C++ compiler: without one the CUDA back end would be left out.
nvcc=$(PATH="$PATH:/usr/local/cuda/bin" command -v nvcc || true)
if [ -n "$nvcc" ]; then
  packages+=(g++)
fi
if [ -n "$tests" ]; then
  packages+=(g++ git libcmocka-dev libboost-context-dev clang-14 libclang-rt-14-dev clang-format-14 strace faketime
    e2fsprogs mount xfsprogs patchelf xz-utils util-linux munge slurmctld slurmd slurm-client zsh groff-base dpkg-dev file chromium)
fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  # Packages of daemons start them and have them start with the machine: what was not here before does neither. Tests start their own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
  fi
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  for daemon in munge slurmctld slurmd; do
    [[ " ${missing[*]} " != *" $daemon "* ]] || "${root[@]}" update-rc.d "$daemon" disable >/dev/null
  done
fi

# An environment is made anew when its interpreter is gone.
if ! build/venv/bin/python -c '' 2>/dev/null; then
  rm -rf build/venv
  mkdir -p build
  python3 -m venv build/venv
fi
install() { # FILE [pip's options ...]
  local stamp="build/venv/.installed-$(basename "$1")"
  if ! cmp -s "$1" "$stamp"; then
    echo "installing: $(sed -n 's/^\([a-z][a-z0-9-]*\).*/\1/p' "$1" | tr '\n' ' ')"
    # One retry: an index that a file adds to the usual one may be out of reach, and the rest does without it.
    build/venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 "${@:2}" -r "$1"
    cp "$1" "$stamp"
  fi
}
install tools/requirements.txt
if [ -n "$tests" ]; then
  install tools/requirements-tests.txt
fi
if [ -n "$parity" ]; then
  # torch first: what comes after it takes the one that is there.
  install tools/requirements-torch.txt
  install tools/requirements-parity.txt
  # Apart from the rest, and without what they would pull in: only their loaders are called.
  install tools/requirements-loaders.txt --no-deps --upgrade --target build/venv/loaders
fi

# The CUDA back end needs more than nvcc: what a bare compiler lacks comes from PyPI.
if [ -n "$nvcc" ] && ! echo '#include <cublasLt.h>' | "$nvcc" -E -x cu - >/dev/null 2>&1; then
  cuda=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
  if [ -f "tools/requirements-cuda$cuda.txt" ]; then
    install "tools/requirements-cuda$cuda.txt"
  fi
fi
