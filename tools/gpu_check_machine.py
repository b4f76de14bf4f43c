# SPDX-License-Identifier: MIT
"""What gpu_check.py finds out about a machine before it measures: the GPU and who else uses it, memory, room for a model, the program's
libraries. Everything that would spoil figures is said in words; what makes them impossible is an error."""
import csv
import fcntl
import io
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from gpu_check_process import Failed, complaint, last_line

FIELDS = ("name", "driver_version", "memory.total", "memory.used", "utilization.gpu", "compute_mode", "mig.mode.current",
          "clocks.sm", "clocks.max.sm", "power.limit", "temperature.gpu")
FIRST_FIELDS = FIELDS[:4]  # every driver knows these
BUSY_MEMORY = 2 << 30      # bytes in use of a GPU that is not quite idle
BUSY_SHARE = 10            # % of its time
LEFTOVER = "strata-gpu-check-"


# ---- the GPU ----

def ask(words, timeout=20):
    """What a small program prints, None where it is not there or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def device_name(device, environment):
    """The GPU of cuda:N as nvidia-smi names it: CUDA_VISIBLE_DEVICES counts, of numbers and of names."""
    number = int(device.partition(":")[2] or 0)
    visible = [one.strip() for one in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return visible[number] if number < len(visible) else str(number)


def read_table(text):
    return [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text)) if line]


def number(text):
    found = re.match(r"\s*(-?\d+(?:\.\d+)?)", text or "")
    return float(found[1]) if found else None


def query_gpu(name):
    """{field: text} of nvidia-smi; fields that it does not know here are missing. None: no nvidia-smi, or no such GPU."""
    for fields in (FIELDS, FIRST_FIELDS):
        said = ask(["nvidia-smi", "-i", name, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
        rows = read_table(said or "")
        if rows and len(rows[0]) == len(fields):
            return {field: text for field, text in zip(fields, rows[0]) if not text.startswith("[")}
    return None


def query_gpus():
    """Number of GPUs, and the CUDA version that the driver is for; None where nvidia-smi does not say."""
    names = [line for line in (ask(["nvidia-smi", "-L"]) or "").splitlines() if line.startswith("GPU ")]
    version = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", ask(["nvidia-smi"]) or "")
    return len(names) or None, version[1] if version else None


def query_others(name):
    """[(process, memory)] of the programs that use the GPU now."""
    said = ask(["nvidia-smi", "-i", name, "--query-compute-apps=pid,used_memory,process_name", "--format=csv,noheader"])
    return [" ".join(row)[:80] for row in read_table(said or "") if row and row[0].isdigit()]


def gpu_words(gpu, count, cuda, others, needed_cuda):
    """(warnings, error or None) of what nvidia-smi says."""
    warnings = []
    if count and count > 1:
        warnings.append(f"{count} GPUs: one is measured, --device names it (cuda:N in the order of nvidia-smi)")
    if others:
        warnings.append(f"other programs use this GPU, figures will be low: {'; '.join(others[:3])}")
    elif gpu.get("memory.used") and (number(gpu["memory.used"]) or 0) * 2**20 > BUSY_MEMORY:
        warnings.append(f"{gpu['memory.used']} of this GPU are in use by somebody, figures may be low")
    if (number(gpu.get("utilization.gpu")) or 0) > BUSY_SHARE:  # programs of another container are not listed
        warnings.append(f"this GPU is {gpu['utilization.gpu']} busy before anything is started, figures will be low")
    if gpu.get("mig.mode.current") == "Enabled":
        warnings.append("MIG is on: figures are those of a part of the GPU, and not judged (CUDA_VISIBLE_DEVICES names the part)")
    mode = gpu.get("compute_mode", "Default")
    if mode.startswith("Exclusive"):
        warnings.append(f"compute mode {mode}: one program at a time, so the tests run one after another")
    if mode == "Prohibited":
        return warnings, "the GPU's compute mode is Prohibited: no program may use it (nvidia-smi -c 0, as root)"
    if cuda and needed_cuda and int(cuda.split(".")[0]) < int(needed_cuda.split(".")[0]):
        return warnings, (f"driver {gpu.get('driver_version')} is for CUDA {cuda}, the program was built with CUDA {needed_cuda}: "
                          f"use a newer driver, or a build with CUDA {cuda.split('.')[0]}")
    return warnings, None


# ---- the program ----

def missing_libraries(program):
    said = ask(["ldd", str(program)]) or ""
    return [line.split("=>")[0].strip() for line in said.splitlines() if "not found" in line]


def program_version(program, environment):
    """What `strata --version` prints. A program that cannot start here says why."""
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, errors="replace", timeout=20, env=environment,
                              stdin=subprocess.DEVNULL)
    except OSError as fault:
        raise Failed(f"{program} does not start: {fault.strerror}") from fault
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"{program} --version did not end in 20 s") from fault
    if done.returncode != 0:
        missing = missing_libraries(program)
        raise Failed(f"{program} does not run here: {complaint(done.stderr)}" + (f"; missing: {', '.join(missing)}" if missing else ""))
    return done.stdout


def cublaslt_of(python, major):
    """cuBLASLt of the CUDA packages beside a python, for this major version of CUDA (any, where it is not known)."""
    said = ask([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))"])
    for site in dict.fromkeys((said or "").split("\n")):
        for folder in (f"nvidia/cu{major or '*'}/lib", "nvidia/cublas/lib"):
            for found in sorted(Path(site).glob(f"{folder}/libcublasLt.so.{major or '*'}")) if site else ():
                return found
    return None


# ---- memory ----

def read_number(path):
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # "max"
        return None


def cgroup_room(root="/sys/fs/cgroup", own="/proc/self/cgroup"):
    """Bytes that this control group, and those above it, may still take; None without a limit."""
    rooms = []
    for line in Path(own).read_text().splitlines() if Path(own).exists() else ["0::/"]:
        _, kinds, path = line.split(":", 2)
        names = {"": ("", "memory.max", "memory.current"), "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")}
        for kind, (place, limit, used) in names.items():
            if kind not in kinds.split(","):
                continue
            top = Path(root, place)
            for folder in (top / path.strip("/"), *(top / path.strip("/")).parents):  # a container sees its own group at the top
                most, now = read_number(folder / limit), read_number(folder / used)
                if most is not None and now is not None and most < 1 << 60:
                    rooms.append(max(most - now, 0))
                if folder == top:
                    break
    return min(rooms) if rooms else None


def available_memory(meminfo="/proc/meminfo", cgroup="/sys/fs/cgroup", own="/proc/self/cgroup"):
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path(meminfo).read_text(), re.M)
    room = cgroup_room(cgroup, own)
    available = int(found[1]) << 10 if found else 1 << 30
    return available if room is None else min(available, room)


# ---- room for the model ----

def free_of(folder):
    """Bytes free where a folder is, or is to be made; 0 where nothing can be written."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def fitting_layers(shape, room, gpu_memory):
    """Layers of a model that fit into so many bytes of a folder, and into 0.6 of the device's memory; at most the shape's own."""
    most = min(room, 0.6 * gpu_memory) if gpu_memory else room
    return max(0, min(shape.layers, int((most - shape.table_bytes()) // shape.layer_bytes())))


def gigabytes(size):
    return f"{size / 1e9:.1f} GB"


def choose_place(shape, wanted, fallback=None, ram="/dev/shm", available=None, gpu_memory=None, free=free_of):
    """(folder, layers, words): where the model is made and of how many layers. A RAM disk takes it, as long as memory holds it twice:
    transformers loads it into the host's memory first. Else fewer layers do, unless a disk takes more than twice as many: that of other
    temporary files, for what a killed check leaves must not lie among its results."""
    fallback = fallback or tempfile.gettempdir()
    available = available_memory() if available is None else available
    if wanted is not None:
        room = min(0.8 * free(wanted), 0.9 * available)
        return Path(wanted), fitting_layers(shape, room, gpu_memory), f"in {wanted} ({gigabytes(free(wanted))} free), as asked"
    room = min(0.9 * free(ram), 0.45 * available) if Path(ram).is_dir() else 0
    layers = fitting_layers(shape, room, gpu_memory)
    seen = f"{ram} has {gigabytes(free(ram))} free, memory {gigabytes(available)} available"
    if layers == shape.layers:
        return Path(ram), layers, f"in {ram}: {seen}"
    on_disk = fitting_layers(shape, min(0.6 * free(fallback), 0.9 * available), gpu_memory)
    if layers >= 3 and on_disk <= 2 * layers:
        why = "" if fitting_layers(shape, room, None) == layers else ", and the GPU's memory takes no more"
        return Path(ram), layers, (f"only {layers} of {shape.layers} layers, for {seen}{why}; --work names a folder with more room")
    return Path(fallback), on_disk, f"on the disk of {fallback}, {on_disk} of {shape.layers} layers: {seen}; --work names another folder"


def make_work(base):
    """A folder of this check's own, locked as long as it lives; those of checks that were killed are removed first."""
    base.mkdir(parents=True, exist_ok=True)
    for old in base.glob(f"{LEFTOVER}*"):
        if old.stat().st_uid == os.getuid() and (lock := take_lock(old)) is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    work = Path(tempfile.mkdtemp(prefix=LEFTOVER, dir=base))
    return work, take_lock(work)


def take_lock(folder):
    """A descriptor that holds the folder; None where somebody else has it."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


# ---- the python that is compared with ----

TORCH_PROBE = """
import torch
print("torch", torch.__version__, flush=True)
import transformers
print("transformers", transformers.__version__, flush=True)
print("cuda", torch.cuda.is_available(), flush=True)
"""


def torch_words(code, text):
    """({"torch": .., "transformers": .., "cuda": "True"}, reason why it cannot be compared with or None)."""
    found = dict(line.split(" ", 1) for line in text.splitlines() if line.split(" ")[0] in ("torch", "transformers", "cuda") and " " in line)
    if code != 0:
        missing = "torch" if "torch" not in found else "transformers"
        why = last_line(text)
        if "No module named" in why and missing in why:
            return found, f"it has no {missing}"
        return found, f"{missing} cannot be imported: {why}"
    return found, None
