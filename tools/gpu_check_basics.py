# SPDX-License-Identifier: MIT
"""Stage A of gpu_check.py, and compute-sanitizer: the program, the machine, a first product, the test programs. What fails here would
fail again in everything that comes after it."""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import gpu_check_machine as machine
import gpu_check_rates as rates
from gpu_check_process import Failed, LeftOut, complaint, how, last_line

TESTS = ["kernels_test_device", "kernels_test_rows", "kernels_test_norms", "kernels_test_activations", "kernels_test_formats",
         "kernels_test_matmul", "kernels_test_attention", "kernels_test_slices", "kernels_test_prefixes", "kernels_test_prefix_states",
         "kernels_test_keep", "kernels_test_delta_net", "kernels_test_state_space",
         "kernels_test_short_convolution", "kernels_test_route", "kernels_test_experts", "kernels_test_packed_experts",
         "kernels_test_odd_shapes", "kernels_test_batch_invariance", "kernels_test_supports", "model_test_streaming",
         "model_test_long_texts", "model_test_shared_prefixes", "model_test_parity", "model_test_family_parity"]
QUICK_TESTS = ["kernels_test_device", "kernels_test_matmul"]
SILENT = 30  # seconds without a word and without work after which a test program that has no more time counts as hung, not as slow
SANITIZED = {"memcheck": [("memcheck", "kernels_test_attention")],  # the kernel with the most of its own memory, in small shapes
             "racecheck": [("racecheck", "kernels_test_attention")],
             "sanitizer": [("memcheck", "kernels_test_rows"), ("racecheck", "kernels_test_rows"), ("memcheck", "kernels_test_odd_shapes"),
                           ("racecheck", "kernels_test_odd_shapes")]}


# ---- the program ----

def build_program(check):
    options = check.options
    if options.strata or options.build or check.bundled:
        if not check.strata.exists():
            raise Failed(f"{check.strata} is not there" + ("" if options.strata else "; --build names a bundle or a build folder"))
        return f"{check.strata} as it is"
    if shutil.which("cmake") is None:
        raise Failed("cmake was not found, so nothing can be built here: --build names a bundle made elsewhere (see --help)")
    configure = ["cmake", "--preset", "release", "-B", check.build, f"-DSTRATA_CUDA={'ON' if check.on_gpu else 'AUTO'}", "-DSTRATA_TESTS=ON",
                 "-DSTRATA_WERROR=OFF", f"-DSTRATA_PYTHON={options.python}"]
    if check.on_gpu:
        configure.append("-DSTRATA_CUDA_ARCHITECTURES=native")
    if options.packages:
        configure.append(f"-DSTRATA_PACKAGES={Path(options.packages).resolve()}")
    if shutil.which("ninja") is None:
        configure += ["-G", "Unix Makefiles"]
    targets = ["strata", *TESTS]
    code, text = check.call("configure", *configure, cwd=check.root, check=False)
    if code != 0 and "cmocka" in text:
        check.warn("built without the test programs: cmocka was not found")
        check.call("configure", *configure, "-DSTRATA_TESTS=OFF", cwd=check.root)
        targets = ["strata"]
    elif code != 0:
        raise Failed(f"configuring {how(code)}: {complaint(text)}")
    check.call("compile", "cmake", "--build", check.build, "-j", os.cpu_count() or 1, "--target", *targets, cwd=check.root)
    return f"in {check.build}"


def test_program(check, name):
    if check.emulated:
        return check.build / "tests/cuda_emulation" / f"cuda_emulated_{name.split('_', 1)[1]}"
    return check.build / "tests" / name


def test_environment(check):
    device = "" if check.options.device == "cpu" else check.options.device
    return {"STRATA_TEST_DEVICE": device, "STRATA_SOURCE": str(check.root), "STRATA_BUILD": str(check.build), "CMOCKA_MESSAGE_OUTPUT": "stdout"}


# ---- the machine ----

def look_at_gpu(check, version):
    name = machine.device_name(check.options.device, check.environment)
    gpu = machine.query_gpu(name)
    if gpu is None:
        check.warn("nvidia-smi does not answer for this GPU: who uses it, its clocks and its power are not known")
        return "no word from nvidia-smi"
    if "CUDA_VISIBLE_DEVICES" in check.environment:
        check.warn(f"CUDA_VISIBLE_DEVICES is '{check.environment['CUDA_VISIBLE_DEVICES']}': {check.options.device} counts among those")
    count, cuda = machine.query_gpus()
    others = machine.query_others(name)
    check.gpu_text = {**gpu, "others": others}
    check.versions["driver"] = gpu.get("driver_version", "")
    built = re.search(r"CUDA (\d+\.\d+)", version)
    warnings, fault = machine.gpu_words(gpu, count, cuda, others, built and built[1])
    for words in warnings:
        check.warn(words)
    if fault:
        raise Failed(fault)
    check.one_at_a_time = gpu.get("compute_mode", "").startswith("Exclusive")
    words = [gpu["name"], f"driver {gpu.get('driver_version')}", f"CUDA {cuda}" if cuda else "", gpu.get("memory.total", "")]
    clock = gpu.get("clocks.max.sm")
    words += [f"up to {clock}" if clock else "", gpu.get("power.limit", ""), f"{gpu['temperature.gpu']} C" if "temperature.gpu" in gpu else ""]
    return ", ".join(filter(None, words))


def find_cublaslt(check, version):
    """The CUDA packages' cuBLASLt is torch's as well, so the two are compared with the same; torch itself is told nothing."""
    built = re.search(r"CUDA (\d+)", version)
    if "STRATA_CUBLASLT" in check.environment:
        return
    found = machine.cublaslt_of(check.options.python, built and built[1])
    if found is not None:
        check.environment["STRATA_CUBLASLT"] = str(found)


def choose_model(check):
    """Where the model is made, and of how many layers; then the making begins, beside the parts that follow."""
    total = check.gpu_text.get("memory.total")
    free = (machine.number(total) - (machine.number(check.gpu_text.get("memory.used")) or 0)) * 2**20 if total else None
    folder, layers, words = machine.choose_place(check.shape, check.options.work, gpu_memory=free)
    check.work, check.lock = machine.make_work(folder)
    check.shape.layers = layers
    check.figures["place"] = {"folder": str(folder), "layers": layers, "words": words}
    if layers < check.whole:
        check.warn(f"the model: {words}")
    return words


def look_at_machine(check):
    version = machine.program_version(check.strata, check.environment)
    for line in version.splitlines()[:3]:  # "strata 1.2.3", "commit 3a2f5971c0de", "CUDA 13.0 for ..."
        name, _, word = line.partition(" ")
        check.versions[name] = word.split(";")[0][:80]  # which file cuBLASLt is comes after it
    missing = machine.missing_libraries(check.strata)
    if missing:
        raise Failed(f"libraries of {check.strata} are not found: {', '.join(missing)}")
    check.monitor = rates.Monitor(check)  # first: without persistence mode every question to nvidia-smi would start the driver anew
    gpu = look_at_gpu(check, version) if check.on_gpu else check.options.device
    if check.on_gpu:
        find_cublaslt(check, version)
    place = choose_model(check)
    if "torch" in check.wanted:
        check.probe = check.processes.start("torch", check.options.python, "-c", machine.TORCH_PROBE)
    if check.shape.layers >= 3 and "model" in check.wanted:
        start_model(check)
    return f"{gpu}; {os.cpu_count()} processors; {place}"


def start_model(check):
    s = check.shape
    check.making = check.processes.start(
        "make-model", check.options.python, check.root / "tools/make_model.py", "--to", check.work / "model", "--family", "qwen3", "--words",
        "--fast", "--hidden", s.hidden, "--layers", s.layers, "--heads", s.heads, "--kv-heads", s.kv_heads, "--head-dim", s.head_dim,
        "--intermediate", s.intermediate, "--vocabulary", s.vocabulary, "--shards", max(1, min(8, s.layers // 3)))


def wait_for_model(check):
    if check.making is None:
        raise LeftOut(f"no room for a model of 3 layers {check.figures['place']['words']}")
    try:
        code = check.processes.wait(check.making, check.timeout(), kill=False)
    except subprocess.TimeoutExpired:
        check.warn("the model is still being made while rates are measured")
        return f"is still being made in {check.work}: the extraction waits for it"
    return finish_model(check, code)


def finish_model(check, code):
    if code != 0:
        raise Failed(f"making the model {how(code)}: {complaint(check.making.text())}")
    size = sum(path.stat().st_size for path in (check.work / "model").glob("*.safetensors"))
    check.figures["model"] = {"layers": check.shape.layers, "bytes": size, "folder": "random weights"}
    return f"{check.shape.layers} of {check.whole} layers, {size / 1e9:.2f} GB"


def look_at_torch(check):
    """Not a failure of stage A: everything else does without torch."""
    try:
        code = check.processes.wait(check.probe, check.timeout())
    except subprocess.TimeoutExpired as fault:
        raise LeftOut(f"{check.options.python} did not import torch and transformers in {check.probe.seconds:.0f} s") from fault
    found, why = machine.torch_words(code, check.probe.text())
    if why is not None and not why.startswith("it has no ") and check.environment.get("LD_LIBRARY_PATH"):
        found, why = look_again_at_torch(check, found, why)
    if why is not None:
        raise LeftOut(f"{check.options.python}: {why}")
    check.versions.update({name: found[name] for name in ("torch", "transformers")})
    check.figures["torch"] = found
    if check.on_gpu and found.get("cuda") != "True":
        check.warn("torch sees no GPU here, so transformers is not measured")
    return ", ".join(f"{name} {word}" for name, word in found.items())


def look_again_at_torch(check, found, why):
    """Of the libraries of a toolkit in LD_LIBRARY_PATH torch may be able to use none."""
    try:
        code, text = check.call("torch", check.options.python, "-c", machine.TORCH_PROBE, env={"LD_LIBRARY_PATH": ""}, check=False)
    except subprocess.TimeoutExpired:
        return found, f"{why} (and there was no time to try without LD_LIBRARY_PATH)"
    again, still = machine.torch_words(code, text)
    if still is not None:
        return found, why
    check.warn("torch works only without LD_LIBRARY_PATH, so it is run without")
    check.torch_environment = {"LD_LIBRARY_PATH": ""}
    return again, None


# ---- a first product, and the tests ----

def smoke(check):
    """One bench of a small shape: it opens the device and cuBLASLt, tunes four products, and runs the attention."""
    report = check.work / "smoke.json"
    words = [check.strata, "bench", "--device", check.options.device, "--shape", check.shape.smoke,
             "--part", "products,attention", "--tokens", min(2048, check.shape.tokens), "--repeats", 1, "--json", report]
    code, text = check.call("smoke", *words, check=False)
    if code != 0 and "cuBLASLt" in text and check.environment.pop("STRATA_CUBLASLT", None) not in (None, os.environ.get("STRATA_CUBLASLT")):
        code, text = check.call("smoke", *words, check=False)  # as the program finds it by itself
    if code != 0:
        raise Failed(f"strata bench {how(code)}: {complaint(text)}")
    check.figures["smoke"] = json.loads(report.read_text())
    wrong = [figure["what"] for figure in check.figures["smoke"]["figures"] if not figure["value"] > 0]
    if wrong:
        raise Failed(f"no rate above 0: {', '.join(wrong)}")
    return check.figures["smoke"]["name"]


def shares(count):
    """The processors for each of so many programs: all of them with a thread for each would keep one another waiting."""
    processors = sorted(os.sched_getaffinity(0))
    return [set(processors[i::count] or processors[i % len(processors):][:1]) for i in range(count)]


def run_tests(check):
    names = [name for name in (QUICK_TESTS if check.options.quick else TESTS) if test_program(check, name).exists()]
    if not names:
        raise LeftOut(f"no test programs in {check.build}/tests")
    end = time.monotonic() + check.timeout()
    failed, missed = {}, []
    for some in [[name] for name in names] if check.one_at_a_time else [names]:
        running = [check.processes.start(name, test_program(check, name), env=test_environment(check), processors=share)
                   for name, share in zip(some, shares(len(some)))]
        for one in running:
            try:
                if check.processes.wait(one, end - time.monotonic()) != 0:
                    failed[one.name] = f"{how(one.process.returncode)}: {complaint(one.text())}"
            except subprocess.TimeoutExpired:
                if min(one.silent(), one.idle()) >= SILENT:
                    failed[one.name] = f"hung after {one.silent():.0f} s without a word: {last_line(one.text())}"
                else:
                    since = f", {one.silent():.0f} s ago, but at work" if one.silent() >= SILENT else ""
                    missed.append(f"{one.name} (at {last_line(one.text())}{since})")
    passed = len(names) - len(failed) - len(missed)
    check.figures["tests"] = {"run": names, "failed": failed, "left_out": missed}
    no_time = f"; no time for {', '.join(missed)}" if missed else ""
    if failed:
        raise Failed(f"{len(failed)} of {len(names)} programs: " + "; ".join(f"{name} {word[:200]}" for name, word in failed.items()) + no_time)
    if missed:
        raise LeftOut(f"{passed} of {len(names)} programs passed{no_time}")
    return f"{passed} programs passed"


# ---- compute-sanitizer ----

def run_sanitizer(check, part):
    tool = shutil.which("compute-sanitizer", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
    if not check.on_gpu:
        raise LeftOut("not on a GPU")
    if tool is None:
        raise LeftOut("compute-sanitizer was not found")
    passed, missed = [], []
    for kind, name in SANITIZED[part]:
        (passed if sanitize(check, tool, kind, name) else missed).append(f"{kind} {name}")
    check.figures.setdefault("sanitizer", {})[part] = {"passed": passed, "left_out": missed}
    if missed:
        raise LeftOut(f"no time for {', '.join(missed)}; {', '.join(passed) or 'none'} without a finding")
    return f"{', '.join(passed)}: no finding"


def sanitize(check, tool, kind, name):
    """Whether there was time for it. A finding is an error."""
    if not test_program(check, name).exists():
        raise LeftOut("the tests are not built")
    # What calls return is the program's to check; memcheck is asked about kernels.
    words = [tool, "--tool", kind, "--error-exitcode", "99", *(["--report-api-errors", "no"] if kind == "memcheck" else [])]
    if min(check.left(), check.part_end - time.monotonic()) < 5:
        return False
    try:
        code, text = check.call(kind, *words, test_program(check, name), env=test_environment(check), check=False)
    except subprocess.TimeoutExpired:
        return False
    said = [line for line in text.splitlines() if line.startswith("=========") and line.strip("= ")]
    unsupported = any("not supported" in line and "API call" not in line for line in said[1:])  # the device, or its driver
    if code == 99 and not unsupported:
        raise Failed(f"{kind} {name}: {' '.join(said[1:4] or said)[:300]}")
    if code != 0 and (unsupported or any("anitizer" in line for line in said[1:])):
        raise LeftOut(f"compute-sanitizer does not work here: {' '.join(said[1:3])[:300]}")
    if code != 0:
        raise Failed(f"{kind} {name} {how(code)}: {complaint(text)}")
    return True
