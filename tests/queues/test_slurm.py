# SPDX-License-Identifier: MIT
"""configs/strata.sbatch run by Slurm: whatever ends a task, no computed batch is computed again, and the shards are those of a run that
nothing ended."""
import copy
import os
import pathlib
import re
import signal

import pytest
import slurm_cluster
from slurm_cluster import wait_for
from support import BUILD, OK, SOURCE, STOPPED, STRATA, Job, clean_environment, make_problems, strata

SCRIPT = SOURCE / "configs" / "strata.sbatch"
COUNT = 600
PARTS = 4
HELD_AFTER = 4  # shards: the next one is about to be sealed when a run is held


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    cluster = slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing ends."""
    job = Job(tmp_path_factory.mktemp("whole"), make_problems(COUNT, seed=4))
    job.run()
    return job


class Task:
    """A job that Slurm runs, with a gate at which strata waits in the middle of its work."""

    def __init__(self, cluster, job, *words, **variables):
        self.cluster, self.job, self.said = cluster, job, job.folder / "out.txt"
        self.gate, self.reached = job.folder / "gate", job.folder / "gate.reached"
        self.gate.touch()
        (job.folder / "bin").mkdir()
        program = job.folder / "bin" / "strata"
        program.write_text('#!/bin/sh\n[ -e "device-$SLURM_ARRAY_TASK_ID" ] || echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES" > "device-$SLURM_ARRAY_TASK_ID"\n'
                           f"exec env LD_PRELOAD={BUILD}/tests/commands_preload_gate.so {STRATA} \"$@\"\n")
        program.chmod(0o755)
        self.variables = clean_environment(GATE=str(self.gate), GATE_NAME=f"part-{HELD_AFTER:06d}.h5", PATH=f"{job.folder}/bin:{cluster.environment['PATH']}",
                                           **variables)
        self.id = self.submit(*words)

    def submit(self, *words):
        return self.cluster.submit("--mem=1G", "--cpus-per-task=1", f"--chdir={self.job.folder}", f"--output={self.said}", *words, SCRIPT,
                                   self.job.file, variables=self.variables)

    def hold(self):
        wait_for(self.reached.exists, self.describe)

    def says(self, text):
        wait_for(lambda: self.said.exists() and text in self.said.read_text(), self.describe)

    def let_go(self):
        self.gate.unlink()

    def reaches(self, *states):
        return wait_for(lambda: (state := self.cluster.state(self.id)) in states and state, self.describe)

    def describe(self):
        return (self.said.read_text() if self.said.exists() else "nothing said") + self.cluster.describe()

    def finished(self, whole):
        """... to the shards of the run that nothing ended; the launches together computed every batch once."""
        self.job.check_finished(COUNT, whole.shards())
        launches = [int(batches) for batches in re.findall(r"^this launch: (\d+) batches", self.said.read_text(), re.M)]
        assert [(sum(launches),)] == self.job.query("SELECT batches FROM survey"), self.describe()
        return len(launches)


def crowd_out(cluster, node):
    """A job of the partition that goes before wants the whole node."""
    cluster.submit("--partition=high", "--exclusive", f"--nodelist={node}", "--output=/dev/null", "--wrap=true")


def part_of(job, index, parts):
    part = copy.copy(job)
    part.output = job.output / f"part-{index:04d}-of-{parts:04d}"
    return part


def test_an_array_runs_the_parts_of_a_job(cluster, whole, tmp_path):
    """... each with a GPU of its own, from one copy of the model a node. One of them is stopped in the middle: it alone goes on later."""
    reference, job = whole.twin(tmp_path / "reference"), whole.twin(tmp_path / "job")
    for index in range(PARTS):
        reference.run("--part", f"{index}/{PARTS}")
    model = pathlib.Path(job.keys["model"]["path"])
    task = Task(cluster, job, f"--array=0-{PARTS - 1}", STRATA_LOCAL_MODEL=str(model), SLURM_TMPDIR=str(tmp_path))
    parts = [part_of(job, index, PARTS) for index in range(PARTS)]
    tasks = [f"{task.id}_{index}" for index in range(PARTS)]
    wait_for(lambda: all(len(part.acknowledged()) == HELD_AFTER for part in parts), task.describe)
    assert cluster.show(tasks[-1])["JobId"] == task.id  # which scontrol takes for all of them
    copied = sorted(path for path in tmp_path.glob("strata-models-*/*") if path.suffix != ".lock")
    assert len(copied) == 1 and {"config.json", "tokenizer.json"} <= {path.name for path in copied[0].iterdir()}
    assert all(f"--model-copy {copied[0]} " in " ".join(words) for words in strata_processes(job).values())
    cluster.ask("scancel", "--batch", "--signal=USR1", tasks[-1])
    task.says("strata: SIGUSR1: stopping")
    task.let_go()
    wait_for(lambda: {cluster.state(name) for name in tasks} == {"COMPLETED"}, task.describe)
    assert [cluster.show(name)["Restarts"] for name in tasks] == ["0"] * (PARTS - 1) + ["1"]
    ordinals = []
    for index, part in enumerate(parts):
        assert part.shards() == part.acknowledged() == part_of(reference, index, PARTS).shards()
        assert strata("verify", part.output).code == OK
        assert part.query("SELECT value FROM note WHERE key = 'model.path'") == [(str(model),)]
        ordinals += [row[0] for row in part.query("SELECT ordinal FROM problem ORDER BY ordinal")]
    assert ordinals == list(range(COUNT))
    devices = [(job.folder / f"device-{index}").read_text() for index in range(PARTS)]
    assert len(set(devices)) == PARTS, devices


@pytest.mark.parametrize("partition", ["low", "ended"])
def test_preemption(cluster, whole, tmp_path, partition):
    """In a partition that puts the job back, and in one that ends it."""
    task = Task(cluster, whole.twin(tmp_path), f"--partition={partition}", "--nodelist=n1")
    task.hold()
    crowd_out(cluster, "n1")
    task.says("strata: SIGTERM: stopping")
    task.let_go()
    task.reaches("COMPLETED")
    assert task.finished(whole) == 2 and "at once" not in task.said.read_text()
    assert cluster.show(task.id)["Restarts"] == "1"
    assert task.job.query("SELECT exit_code FROM launch ORDER BY epoch") == [(STOPPED,), (OK,)]


def test_preemption_with_a_warning(cluster, whole, tmp_path):
    """The partition gives a while of grace, and Slurm the signal that the script asks for."""
    with cluster.configured("SlurmctldParameters=preempt_send_user_signal"):
        task = Task(cluster, whole.twin(tmp_path), "--partition=warned", "--nodelist=n1")
        task.hold()
        crowd_out(cluster, "n1")
        task.says("strata: SIGUSR1: stopping")
        assert "DUE TO PREEMPTION" not in task.said.read_text()
        task.let_go()
        task.reaches("COMPLETED")
    assert task.finished(whole) == 2 and cluster.show(task.id)["Restarts"] == "1"


def test_the_time_limit(cluster, whole, tmp_path):
    task = Task(cluster, whole.twin(tmp_path), "--time=1", "--signal=B:USR1@59")
    task.hold()
    task.says("strata: SIGUSR1: stopping")
    task.let_go()
    task.reaches("COMPLETED")
    assert task.finished(whole) == 2 and cluster.show(task.id)["Restarts"] == "1"


def test_scancel(cluster, whole, tmp_path):
    """What somebody cancelled stays so; the same command goes on with it."""
    task = Task(cluster, whole.twin(tmp_path))
    task.hold()
    cluster.ask("scancel", task.id)
    task.says("strata: SIGTERM: stopping")
    task.let_go()
    task.reaches("CANCELLED")
    assert cluster.show(task.id)["Restarts"] == "0"
    task.id = task.submit()
    task.reaches("COMPLETED")
    assert task.finished(whole) == 2


def test_a_node_fails(cluster, whole, tmp_path):
    """Everything on it is gone at once: Slurm runs the job on the other node."""
    cluster.ask("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    task = Task(cluster, whole.twin(tmp_path))
    task.hold()
    acknowledged = task.job.acknowledged()
    assert acknowledged
    cluster.kill("n1")
    task.gate.unlink()
    cluster.ask("scontrol", "update", "nodename=n2", "state=resume")
    cluster.ask("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    task.reaches("COMPLETED")
    shown = cluster.show(task.id)
    assert shown["BatchHost"] == "n2" and shown["Restarts"] == "1"
    task.job.check_finished(COUNT, whole.shards())
    assert acknowledged.items() <= task.job.acknowledged().items()
    assert task.job.query("SELECT exit_code FROM launch ORDER BY epoch") == [(-1,), (OK,)]
    cluster.start_node("n1")
    wait_for(lambda: cluster.ask("sinfo", "-h", "-n", "n1", "-o", "%T").split()[:1] == ["idle"], cluster.describe)


def test_a_crash(cluster, whole, tmp_path):
    """The program dies of a signal: the same command goes on from what is sealed."""
    task = Task(cluster, whole.twin(tmp_path))
    task.hold()
    acknowledged = task.job.acknowledged()
    task.gate.unlink()
    process, = strata_processes(task.job)
    os.kill(process, signal.SIGKILL)
    task.reaches("COMPLETED")
    task.job.check_finished(COUNT, whole.shards())
    assert acknowledged.items() <= task.job.acknowledged().items() and cluster.show(task.id)["Restarts"] == "1"


def strata_processes(job):
    """Process -> its words, of those that run this job."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if words[0] == str(STRATA) and str(job.file) in words:
            found[int(folder.name)] = words
    assert found
    return found
