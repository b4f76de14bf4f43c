#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What nvcc makes of the CUDA kernels: registers, spills, and counts of the instructions that matter, as a table.

usage: tools/sass.py [--arch N] [--nvcc PATH] [--nvdisasm PATH] [SOURCE.cu ...]
  --arch N          compute capability, 90 when not given
  --nvcc, --nvdisasm  where they are; nvdisasm is looked for beside nvcc, on the PATH and in PyPI's nvidia-cuda-nvdisasm
  SOURCE.cu         all of kernels/cuda when none is given

Instructions: HMMA multiply matrices, LDSM load them from shared memory, LDGSTS copy to it; F2F converts one number (slow), F2FP two;
STG are the widths in bits of stores to global memory, each with its count.
"""
import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels" / "cuda"
# As cmake/strata_cuda.cmake has them.
FLAGS = ("-std=c++17", "-O3", "-fmad=false", "-Xptxas=-v")

PROPERTIES = re.compile(r"Function properties for (?P<name>\S+)\n\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
                        r"(?P<loads>\d+) bytes spill loads\n.*?Used (?P<registers>\d+) registers")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")

Kernel = collections.namedtuple("Kernel", "name registers spilled stack counts stores")


def find_nvcc():
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def release(nvcc):
    """"13.0", for example."""
    return re.search(r"release ([0-9.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout)[1]


def find_nvdisasm(nvcc):
    places = [str(pathlib.Path(nvcc).parent)] if nvcc else []
    places += os.environ.get("PATH", "").split(os.pathsep)
    places += map(str, sorted(pathlib.Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin"), reverse=True))
    return shutil.which("nvdisasm", path=os.pathsep.join(places))


def plain(names):
    """C++ names without the types of their arguments; as they are where c++filt is not."""
    if not shutil.which("c++filt"):
        return names
    lines = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    return [re.sub(r"\((?:int|bool|product_kind)\)|\(.*|^void ", "", line) for line in lines]


def width(store):
    """Bits of an STG: its last number, if it has one."""
    last = store.split(".")[-1]
    return int(last) if last.isdigit() else int(last[1:]) if re.fullmatch(r"[US]\d+", last) else 32


def count(sass):
    """{mangled name: (instructions by opcode, stores by width)} of what nvdisasm printed."""
    found, counts, stores = {}, None, None
    for line in sass.splitlines():
        if match := re.match(r"\.text\.(\S+):", line):
            counts, stores = found.setdefault(match[1], (collections.Counter(), collections.Counter()))
        elif counts is not None and (match := INSTRUCTION.search(line)):
            opcode = match[1].split(".")[0]
            counts[opcode] += 1
            if opcode == "STG":
                stores[width(match[1])] += 1
    return found


def kernels_of(source, arch, nvcc, nvdisasm):
    """A Kernel for each kernel of a source."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "kernels").symlink_to(ROOT / "kernels")
        (pathlib.Path(folder) / "base").symlink_to(ROOT / "pipeline" / "base")
        cubin = pathlib.Path(folder) / "kernels.cubin"
        built = subprocess.run([nvcc, "-cubin", f"-arch=sm_{arch}", *FLAGS, f"-I{folder}", "-o", cubin, source], capture_output=True, text=True)
        if built.returncode != 0:
            sys.exit(f"{source}: {built.stderr.strip()}")
        counted = count(subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=True).stdout)
    properties = {match["name"]: match for match in PROPERTIES.finditer(built.stderr)}
    names = sorted(properties)
    return [Kernel(name, int(p["registers"]), int(p["stores"]) + int(p["loads"]), int(p["stack"]), *counted[mangled])
            for mangled, name, p in zip(names, plain(names) if names else [], map(properties.get, names))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True)
    parser.add_argument("--arch", default="90")
    parser.add_argument("--nvcc", default=find_nvcc())
    parser.add_argument("--nvdisasm")
    parser.add_argument("sources", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    nvdisasm = options.nvdisasm or find_nvdisasm(options.nvcc)
    if not options.nvcc or not nvdisasm:
        sys.exit("nvcc was not found" if not options.nvcc else "nvdisasm was not found (PyPI: nvidia-cuda-nvdisasm)")
    columns = ("HMMA", "LDSM", "LDGSTS", "MUFU", "F2FP", "F2F")
    print(f"{'kernel, sm_' + options.arch:48}{'regs':>6}{'spill':>6}{'stack':>6}{'all':>6}" + "".join(f"{name:>7}" for name in columns) + "  STG")
    for source in options.sources or sorted(KERNELS.glob("*.cu")):
        for kernel in kernels_of(source, options.arch, options.nvcc, nvdisasm):
            stores = ", ".join(f"{number} x {bits}" for bits, number in sorted(kernel.stores.items()))
            print(f"{kernel.name:48}{kernel.registers:6}{kernel.spilled:6}{kernel.stack:6}{sum(kernel.counts.values()):6}"
                  + "".join(f"{kernel.counts[name]:7}" for name in columns) + f"  {stores}")


if __name__ == "__main__":
    main()
