#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes a folder that holds strata, its tests of the device and every shared library that they need, and an archive of it: it runs
# wherever it is put, on any Linux of this processor's kind with glibc 2.34 or later, libgcc_s and libstdc++, and for a GPU a driver.
# Takes a build as it is: cmake --build BUILD --target bundle makes what goes in and calls this.
# usage: tools/bundle.sh [--build DIR] [--to DIR] [--glibc VERSION]
#   --build DIR       the build (default: build)
#   --to DIR          the folder to make, beside it DIR.tar.xz (default: strata-VERSION-linux-PROCESSOR in the build)
#   --glibc VERSION   the oldest glibc that it must run on (default: 2.34); what needs a later one is refused
set -Eeuo pipefail
trap 'echo "bundle: line $LINENO failed" >&2' ERR
export LC_ALL=C
umask 022
root=$(cd "$(dirname "$0")/.." && pwd)
build=build to='' glibc=2.34
most=64000000 # bytes, unpacked: the program and that of the tests have all kernels in them, for every architecture
# What is the machine's: glibc, and the run time libraries of C and C++ that come with every distribution.
system='^(ld-linux[^/]*|lib(c|m|mvec|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+))\.so\.[0-9]+$'

fail() {
  echo "bundle: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
  --build | --to | --glibc) [ $# -gt 1 ] || fail "$1 needs a value" ;;&
  --build) build=$2 && shift 2 ;;
  --to) to=$2 && shift 2 ;;
  --glibc) glibc=$2 && shift 2 ;;
  *) echo "usage: tools/bundle.sh [--build DIR] [--to DIR] [--glibc VERSION]" >&2 && exit 64 ;;
  esac
done

# ---- what goes in ----

is_there() {
  local tool missing=()
  for tool in patchelf:patchelf xz:xz-utils readelf:binutils strip:binutils; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool%:*} (Debian: ${tool#*:})")
  done
  [ ${#missing[@]} = 0 ] || fail "not found: ${missing[*]}"
  [ -x "$build/strata" ] && [ -r "$build/device_tests.txt" ] || fail "$build has no strata: build it first (cmake --build $build --target bundle)"
  # Code for this very processor would end with SIGILL on another one; what the paths need is chosen when the program runs.
  ! grep -sqE -- '-m(arch|tune|cpu)=native' "$build/compile_commands.json" || fail "$build was compiled for this processor alone (-march=native)"
  ! readelf -d "$build/strata" | grep -qE 'NEEDED.*lib(asan|tsan|ubsan)' || fail "$build is a build with sanitizers"
}

elves() { # in the bundle: programs and libraries
  find "$new/strata" "$new/tests" "$new/lib" -maxdepth 1 -type f | sort
}

needed() { # by the file $1, directly
  readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

programs() {
  local test
  mkdir "$new/tests" "$new/lib"
  cp "$build/strata" "$new/"
  while read -r test; do
    if [ -x "$build/tests/device_tests" ]; then
      [ -e "$new/tests/device_tests" ] || cp "$build/tests/device_tests" "$new/tests/"
    elif [ -x "$build/tests/$test" ]; then
      cp "$build/tests/$test" "$new/tests/"
    else
      echo "bundle: without $test, which is not built"
    fi
  done <"$build/device_tests.txt"
}

# stand_in NAME USER ...: a library NAME in which every curl function that the USERs take from it returns 0. A version of a symbol
# serves who asks for none, too.
stand_in() {
  local functions="$new/stand_in.c" versions="$new/stand_in.map"
  readelf -W --dyn-syms "${@:2}" | sed -n 's/.* UND \(curl_[a-z_]*\)@*\([A-Z0-9_.]*\).*/\1 \2/p' | sort -r | sort -u -s -k 1,1 >"$new/symbols"
  awk '{ print "void *" $1 "(void); void *" $1 "(void) { return 0; }" }' "$new/symbols" >"$functions"
  awk 'NF == 2 { names[$2] = names[$2] $1 "; " } END { for (v in names) print v " { global: " names[v] "};" }' "$new/symbols" >"$versions"
  [ -s "$versions" ] || echo '{ global: *; };' >"$versions"
  "${CC:-cc}" -shared -fPIC -O2 -nostdlib -Wl,-soname="$1" -Wl,--version-script="$versions" -Wl,--build-id=none -o "$new/lib/$1" "$functions"
  rm "$new/symbols" "$functions" "$versions"
}

# Every library that a program or another library in the bundle needs, from where the loader finds it for the build.
libraries() {
  local found name file path
  local -a queue paths=() stand_ins=()
  mapfile -t queue < <(elves)
  found=$(ldd "${queue[@]}" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u)
  while [ ${#queue[@]} -gt 0 ]; do
    file=${queue[0]}
    queue=("${queue[@]:1}")
    for name in $(needed "$file"); do
      if [[ $name =~ $system ]] || [ -e "$new/lib/$name" ]; then
        continue
      fi
      # Of HDF5 nothing but its S3 driver calls curl, and strata does not use that: curl would bring TLS, Kerberos and LDAP, 12 MB.
      if [[ $name == libcurl* && $file == */libhdf5* ]]; then
        [[ " ${stand_ins[*]} " == *" $name "* ]] || stand_ins+=("$name")
        continue
      fi
      path=$(awk -v name="$name" '$1 == name { print $2; exit }' <<<"$found")
      [ -n "$path" ] || fail "$name, which ${file##*/} needs, was not found"
      cp -L "$path" "$new/lib/$name"
      paths+=("$(readlink -f "$path")")
      queue+=("$new/lib/$name")
    done
  done
  for name in "${stand_ins[@]}"; do
    stand_in "$name" "$new"/lib/libhdf5*
  done
  chmod 644 "$new"/lib/*
  licences "${paths[@]}"
}

# The copyright files of the packages that the libraries at the given places are of.
licences() {
  local packages=() package path
  mkdir "$new/licenses"
  if command -v dpkg-query >/dev/null; then # which knows them with /usr or without
    mapfile -t packages < <(printf '%s\n' "$@" | sed 's,^/usr,,; s,^,*,' | xargs -d '\n' dpkg-query -S 2>/dev/null | sed 's/[:,].*//' | sort -u)
  fi
  for package in "${packages[@]}"; do
    [ ! -r "/usr/share/doc/$package/copyright" ] || cp -L "/usr/share/doc/$package/copyright" "$new/licenses/$package"
  done
  [ -n "$(ls "$new/licenses")" ] || echo "bundle: without the libraries' copyright files, which are found only on Debian and its kin"
}

texts() {
  local file
  mkdir "$new/tools" "$new/configs"
  cp "$root"/tools/gpu-check.sh "$root"/tools/gpu_check*.py "$root"/tools/make_{model,problems}.py "$new/tools/"
  cp -r "$root"/configs/* "$new/configs/"
  for file in README.md CONTRIBUTING.md CHANGELOG.md {checkpoints,kernels,pipeline,tests,tests/cuda_emulation}/README.md checkpoints/shard.h; do
    install -D -m 644 "$root/$file" "$new/$file" # all pages (that of configs is there already) and the header that one names
  done
  if [ -e "$new/tests/model_test_parity" ]; then
    mkdir "$new/tests/model"
    cp -r "$root/tests/model/goldens" "$new/tests/model/"
  fi
  for file in "$root"/LICENSE*; do
    [ ! -e "$file" ] || cp "$file" "$new/"
  done
}

# Without symbols, and with the folder's own libraries before all others, also before LD_LIBRARY_PATH's (RPATH, not RUNPATH).
settle() {
  local file
  while read -r file; do
    strip "$file"
    case $file in
    */tests/*) patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$file" ;;
    */lib/*) patchelf --force-rpath --set-rpath '$ORIGIN' "$file" ;;
    *) patchelf --force-rpath --set-rpath '$ORIGIN/lib' "$file" ;;
    esac
  done < <(elves)
}

# ---- what is asked of it ----

# later VERSION LIMIT: whether VERSION comes after LIMIT.
later() {
  [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]
}

# One program with all kernels in it has the names of all tests that are in it.
name_tests() {
  local test
  [ -e "$new/tests/device_tests" ] || return 0
  while read -r test; do
    ln "$new/tests/device_tests" "$new/tests/$test"
  done <"$build/device_tests.txt"
  rm "$new/tests/device_tests"
}

# What each file asks of the machine's libraries, as versions of symbols: of the C++ and GCC libraries as late as gcc 11's, which
# systems with glibc 2.34 have. DT_RELR is how glibc 2.36 can load a file.
needs_no_later() {
  local file asks kind limit version wrong=
  while read -r file; do
    asks=$(readelf -W -V "$file" | sed -n 's/ABI_DT_RELR/2.36/; s/.* Name: \([A-Z]*\)_\([A-Za-z0-9_.]*\)  Flags: .*/\1 \2/p' | sort -rV)
    while read -r kind limit; do
      version=$(sed -n "/^$kind /{s///p;q}" <<<"$asks")
      if [ -n "$version" ] && later "$version" "$limit"; then
        wrong+=" ${file#"$new"/} needs ${kind}_$version;"
      fi
    done <<<"GLIBC $glibc"$'\n'"GLIBCXX 3.4.29"$'\n'"CXXABI 1.3.13"$'\n'"GCC 11.0.0"
  done < <(elves)
  [ -z "$wrong" ] || fail "it would not run with glibc $glibc and gcc 11's libraries:$wrong make it on an older system, or give a later --glibc"
}

# All that a file needs lies in the bundle or is the machine's, for readelf and for the loader.
is_complete() {
  local file name wrong=
  while read -r file; do
    for name in $(needed "$file"); do
      [[ $name =~ $system ]] || [ -e "$new/lib/$name" ] || wrong+=" ${file#"$new"/} needs $name;"
    done
    readelf -d "$file" | grep -qF '(RPATH)' || wrong+=" ${file#"$new"/} has no RPATH;"
  done < <(elves)
  [ -z "$wrong" ] || fail "it is not whole:$wrong"
  wrong=$(find "$new/strata" "$new/tests" -maxdepth 1 -type f -exec env -i ldd {} + | awk -v bundle="$new/" \
    '/=>/ && index($0, bundle) == 0 { print $1 }' | grep -vE "$system" | sort -u || true)
  [ -z "$wrong" ] || fail "found outside of it:" $wrong
}

# The same files make the same archive: sorted, of one owner, one time and one mode, in blocks that no number of processors
# changes. xz -6 takes twice as long for 12 % less.
pack() {
  local bytes
  bytes=$(find "$new" -type f -printf '%i %s\n' | awk '!seen[$1]++ { sum += $2 } END { print sum }') # a file of several names once
  [ "$bytes" -le "$most" ] || fail "it has $bytes bytes unpacked, $most at most are allowed: build for fewer architectures (STRATA_CUDA_ARCHITECTURES)"
  rm -rf "$to"
  mv "$new" "$to"
  tar --create --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w --mtime="@${SOURCE_DATE_EPOCH:-315532800}" \
    --directory="$(dirname "$to")" "$(basename "$to")" | xz -3 -T2 >"$to.tar.xz.new"
  mv "$to.tar.xz.new" "$to.tar.xz"
  echo "$to: $((bytes / 1000)) kB, $(find "$to/lib" -name '*.so*' | wc -l) libraries; $to.tar.xz: $(($(stat -c %s "$to.tar.xz") / 1000)) kB"
}

main() {
  is_there
  build=$(cd "$build" && pwd)
  if [ -z "$to" ]; then
    to=$build/strata-$("$build/strata" --version | sed -n '1s/^strata //p')-linux-$(uname -m)
  fi
  to=$(realpath -m "$to")
  [ ! -e "$to" ] || [ -d "$to/licenses" ] || fail "$to is there and is no bundle"
  new=$to.new
  rm -rf "$new"
  trap 'rm -rf "$new" "$to.tar.xz.new"' EXIT
  mkdir -p "$new"
  programs
  libraries
  needs_no_later
  settle
  is_complete
  name_tests
  texts # not before: until here all files in tests are programs
  pack
}

main
