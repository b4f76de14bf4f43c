#!/usr/bin/env bash
# Installs what building and testing strata needs: Debian packages (when missing) and a Python environment in build/venv.
# usage: tools/setup.sh [--parity]     --parity adds what the tests compare with: torch, transformers and others
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(gcc g++ cmake ninja-build pkg-config git libhdf5-dev libsqlite3-dev libyaml-dev libssl-dev libpcre2-dev
  libutf8proc-dev libjansson-dev zlib1g-dev libcmocka-dev libboost-context-dev clang-14 libclang-rt-14-dev clang-format-14
  strace faketime python3 python3-venv)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# An environment is made anew when its interpreter is gone.
if ! build/venv/bin/python -c '' 2>/dev/null; then
  rm -rf build/venv
  mkdir -p build
  python3 -m venv build/venv
fi
install() {
  local stamp="build/venv/.installed-$(basename "$1")"
  if ! cmp -s "$1" "$stamp"; then
    build/venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
    cp "$1" "$stamp"
  fi
}
install tools/requirements.txt

# The CUDA back end needs more than nvcc: what a bare compiler lacks comes from PyPI.
nvcc=$(PATH="$PATH:/usr/local/cuda/bin" command -v nvcc || true)
if [ -n "$nvcc" ] && ! echo '#include <cublasLt.h>' | "$nvcc" -E -x cu - >/dev/null 2>&1; then
  cuda=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
  if [ -f "tools/requirements-cuda$cuda.txt" ]; then
    install "tools/requirements-cuda$cuda.txt"
  fi
fi
if [ "${1:-}" = --parity ]; then
  # torch first: the version pinned here keeps what comes after from choosing another.
  build/venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^torch' tools/requirements-parity.txt)"
  install tools/requirements-parity.txt
fi
