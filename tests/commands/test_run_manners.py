# SPDX-License-Identifier: MIT
"""How a run behaves beside others: under nohup, with a profile shared by runs, called from anywhere, with paths written oddly."""
import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from support import DATA, OK, STOPPED, Job, clean_environment, make_model, make_problems, strata


def wait_for(job, process):
    """Until the run's ledger is there: signals are heard from before that moment on."""
    while process.poll() is None and not job.has_ledger():
        pass


def test_nohup_survives_a_hang_up(tmp_path):
    job = Job(tmp_path, make_problems(300, seed=4))
    process = subprocess.Popen(job.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(),
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(job, process)
    assert process.poll() is None  # it is there to hear the signal
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=300)
    assert process.returncode == OK, err
    assert b"SIGHUP" not in err


def test_stop_is_recorded_as_a_stop(tmp_path):
    job = Job(tmp_path, make_problems(2000, seed=4))
    process = job.start()
    wait_for(job, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == STOPPED
    assert job.query("SELECT exit_code FROM launch ORDER BY epoch DESC LIMIT 1") == [(STOPPED,)]
    assert "exit code 75" in strata("status", job.output).out
    job.run()


def test_model_path_may_end_in_a_slash(tmp_path):
    job = Job(tmp_path, make_problems(12))
    job.run()
    job.change(model={"path": job.keys["model"]["path"] + "//"})
    job.run()  # the same run: nothing to do, nothing refused
    link = tmp_path / "link"
    link.symlink_to(make_model())
    job.change(model={"path": str(link)})
    job.run()


def test_show_finds_the_text_from_anywhere(tmp_path):
    problems = make_problems(6)
    job = Job(tmp_path, problems)
    done = strata("run", "--quiet", "job.yaml", cwd=tmp_path)  # every path relative
    assert done.code == OK, done
    shown = strata("show", job.output, problems[2]["problem_id"], cwd="/")
    assert shown.code == OK and "text not available" not in shown.out, shown
    assert problems[2]["steps"][0][:20] in shown.out


def test_one_profile_for_many_jobs(tmp_path):
    profile = tmp_path / "profile.json"
    problems = make_problems(20)
    jobs = [Job(tmp_path / "a", problems, latents={"layers": [-2]}, run={"profile": str(profile)}),
            Job(tmp_path / "b", problems, latents={"layers": [1]}, run={"profile": str(profile)}),
            Job(tmp_path / "c", problems, latents={"layers": [-2], "dtype": "bfloat16"}, run={"profile": str(profile)})]
    for job in jobs:
        job.run()
    kept = json.loads(profile.read_text())
    assert len(kept) == len(jobs)
    jobs[0].clear()
    jobs[0].run()  # finds its own
    assert json.loads(profile.read_text()).keys() == kept.keys()


def test_runs_that_write_one_profile_at_once(tmp_path):
    profile = tmp_path / "profile.json"
    problems = make_problems(8)
    jobs = [Job(tmp_path / str(i), problems, latents={"layers": [i % 4]}, run={"profile": str(profile)}) for i in range(8)]
    processes = [job.start() for job in jobs]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == OK, err
    assert len(json.loads(profile.read_text())) == 4


def test_profile_that_cannot_be_written_is_a_warning(tmp_path):
    job = Job(tmp_path, make_problems(8), run={"profile": str(tmp_path / "missing" / "profile.json")})
    done = job.run()
    assert "run.profile was not written" in done.err


@pytest.mark.parametrize("text", ["{}", '{"k": 1}', "rubbish", "[1]"])
def test_odd_profiles_cost_the_reference_alone(tmp_path, text):
    profile = tmp_path / "profile.json"
    profile.write_text(text)
    job = Job(tmp_path, make_problems(8), run={"profile": str(profile)})
    done = job.run()
    assert ("run.profile was not read" in done.err) == (text[0] != "{")
    if text[0] == "{":
        assert len(json.loads(profile.read_text())) == len(json.loads(text)) + 1
    else:
        assert profile.read_text() == text


def test_calibration_with_impossible_times_is_not_believed(tmp_path):
    profile = tmp_path / "profile.json"
    job = Job(tmp_path, make_problems(8), run={"profile": str(profile)})
    job.run()
    kept = json.loads(profile.read_text())
    for calibration in kept.values():
        calibration["canary_seconds"] = 0
    profile.write_text(json.dumps(kept))
    job.clear()
    done = job.run()
    assert "impossible times" in done.err
    assert all(calibration["canary_seconds"] > 0 for calibration in json.loads(profile.read_text()).values())


def test_failures_are_foretold(tmp_path):
    problems = make_problems(10)
    problems[3]["statement"] = None
    job = Job(tmp_path, problems)
    done = job.run(expect=DATA)
    assert "1 of 10 problems cannot be run" in done.err


def test_progress_reader_that_goes_away(tmp_path):
    """`strata run ... | head`: the run goes on when nobody reads its progress any more."""
    job = Job(tmp_path, make_problems(60))
    read, write = os.pipe()
    command = [word for word in job.command() if word != "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=write, env=clean_environment())
    os.close(write)
    os.close(read)
    assert process.wait(timeout=120) == OK
    shutil.rmtree(job.output)


def test_load_is_shown_in_gigabytes(tmp_path):
    model = make_model("slow", hidden=256, layers=6, intermediate=768)
    job = Job(tmp_path, make_problems(3), model)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors")) / 1e9
    assert size > 0.01
    shown = strata("run", job.file).err
    assert re.search(rf"loading +\[#+\] 100\.0 % +{size:.2f}/{size:.2f} GB +\d+\.\d\d GB/s\n", shown), shown
    assert re.search(rf"weights: {size:.3f} GB read in \d+\.\d+ s, \d+\.\d\d GB/s\n", (job.output / "run.log").read_text())
