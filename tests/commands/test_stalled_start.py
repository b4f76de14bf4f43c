"""Launches whose start waits for something that never comes: each phase is told of by name before it ends the launch, and a later launch
goes on as if nothing had been."""
import pytest

from support import BUILD, DEVICE, Job, clean_environment, make_problems

STALL = BUILD / "tests" / "commands_preload_stall.so"
PROBLEMS = 12
FILES = {"opening the tokenizer": "tokenizer.json", "opening the model": ".safetensors"}

pytestmark = pytest.mark.skipif(not STALL.exists(), reason="a sanitizer's build takes no preloaded library")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Phase -> its job, the exit code and the words of a launch. They wait beside each other."""
    processes = {}
    for phase, path in FILES.items():
        job = Job(tmp_path_factory.mktemp("stalled"), make_problems(PROBLEMS), model={"load_timeout": 1})
        environment = clean_environment(LD_PRELOAD=str(STALL), STALL_WHEN=str(job.file), STALL_PATH=path)
        processes[phase] = job, job.start(environment=environment)
    return {phase: (job, process.communicate(timeout=100)[1].decode(), process.returncode)
            for phase, (job, process) in processes.items()}


@pytest.mark.parametrize("phase", FILES)
def test_a_phase_that_stalls_is_named(ended, phase):
    job, err, code = ended[phase]
    assert code == DEVICE, err
    assert f"{phase} has made no progress for" in err and "after 1 s it ends the launch (model.load_timeout)" in err
    assert f"strata: {phase} has made no progress" in err and "run the same command to resume" in err
    [(exit_code, reason)] = job.query("SELECT exit_code, reason FROM launch")
    assert exit_code == DEVICE and reason == f"{phase} made no progress before the first batch"
    job.run()
    job.check_finished(PROBLEMS)
