# SPDX-License-Identifier: MIT
"""Launches whose start waits for something that never comes: each phase is told of by name before it ends the launch, and a later launch
goes on as if nothing had been."""
import pytest

import support
from support import BUILD, DEVICE, DRIFT, Job, clean_environment, make_problems

STALL = BUILD / "tests" / "commands_preload_stall.so"
PROBLEMS = 12
FILES = {"opening the tokenizer": "tokenizer.json", "opening the model": ".safetensors"}
# The call of the driver or of cuBLASLt, or the kernel's launch, that does not come back.
DRIVER = {"opening the device": "cudaGetDeviceCount", "taking the device's memory": "cudaMalloc",
          "loading the weights": "cudaMemcpyAsync", "choosing how matmuls are computed": "cublasLtMatmul",
          "the first pass through all layers": "tiles_kernel"}
needs_stall = pytest.mark.skipif(not STALL.exists(), reason="a sanitizer's build takes no preloaded library")
needs_gpu = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def stalls(folder, phase):
    """A launch whose phase waits for ever, on its way."""
    job = Job(folder, make_problems(PROBLEMS), model={"load_timeout": 1})
    if phase in FILES:
        environment = clean_environment(LD_PRELOAD=str(STALL), STALL_WHEN=str(job.file), STALL_PATH=FILES[phase])
    else:
        job.program = support.EMULATED
        job.change(model={"device": "cuda:0"})
        environment = clean_environment(CUDA_EMULATION_HANG=DRIVER[phase])
    return job, job.start(environment=environment)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Phase -> its job, the exit code and the words of a launch. They wait beside each other."""
    there = [*(FILES if STALL.exists() else []), *(DRIVER if support.EMULATED.exists() else [])]
    launches = {phase: stalls(tmp_path_factory.mktemp("stalled"), phase) for phase in there}
    return {phase: (job, process.communicate(timeout=300)[1].decode(), process.returncode)
            for phase, (job, process) in launches.items()}


@pytest.mark.parametrize("phase", [*(pytest.param(phase, marks=needs_stall) for phase in FILES),
                                   *(pytest.param(phase, marks=needs_gpu) for phase in DRIVER)])
def test_a_phase_that_stalls_is_named(ended, phase):
    job, err, code = ended[phase]
    expected = DEVICE if phase in FILES else DRIFT
    assert code == expected, err
    assert f"{phase} has made no progress for" in err and "after 30 s it ends the launch (model.load_timeout)" in err
    assert f"strata: {phase} has made no progress" in err and "run the same command to resume" in err
    exit_code, reason = job.query("SELECT exit_code, reason FROM launch ORDER BY epoch")[-1]
    assert exit_code == expected and reason == f"{phase} made no progress before the first batch"
    job.change(model={"load_timeout": 600})
    job.run()
    job.check_finished(PROBLEMS)
