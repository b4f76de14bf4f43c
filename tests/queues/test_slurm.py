"""configs/strata.sbatch run by Slurm: whatever ends a task, no computed batch is computed again, and the shards are those of a run that
nothing ended."""
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
HELD_AT = "part-000005.h5"  # the shard that a run is about to seal when it is held


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

    def __init__(self, cluster, job, *words, part=None, **variables):
        self.cluster, self.job, self.said = cluster, job, job.folder / "out.txt"
        self.gate, self.reached = job.folder / "gate", job.folder / "gate.reached"
        self.gate.touch()
        (job.folder / "bin").mkdir()
        program = job.folder / "bin" / "strata"
        program.write_text(f"#!/bin/sh\nexec env LD_PRELOAD={BUILD}/tests/commands_preload_gate.so {STRATA} \"$@\"\n")
        program.chmod(0o755)
        self.variables = clean_environment(GATE=str(self.gate), GATE_NAME=HELD_AT, PATH=f"{job.folder}/bin:{cluster.environment['PATH']}",
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


@pytest.mark.parametrize("partition", ["low", "ended"])
def test_preemption(cluster, whole, tmp_path, partition):
    """By a partition that puts the job back, and by one that ends it."""
    task = Task(cluster, whole.twin(tmp_path), f"--partition={partition}", "--nodelist=n1")
    task.hold()
    crowd_out(cluster, "n1")
    task.says("strata: SIGTERM: stopping")
    task.let_go()
    task.reaches("COMPLETED")
    assert task.finished(whole) == 2 and "at once" not in task.said.read_text()
    assert cluster.show(task.id)["Restarts"] == "1"
    assert task.job.query("SELECT exit_code FROM launch ORDER BY epoch") == [(STOPPED,), (OK,)]


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
    os.kill(strata_process(task.job), signal.SIGKILL)
    task.reaches("COMPLETED")
    task.job.check_finished(COUNT, whole.shards())
    assert acknowledged.items() <= task.job.acknowledged().items() and cluster.show(task.id)["Restarts"] == "1"


def strata_process(job):
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if words[0] == os.fsencode(STRATA) and os.fsencode(job.file) in words:
            return int(folder.name)
    raise AssertionError("strata does not run")
