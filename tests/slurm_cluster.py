# SPDX-License-Identifier: MIT
"""A Slurm cluster of two nodes on this machine: Debian's daemons, started by hand in a folder and on ports of their own.

Every daemon is the first process of a PID namespace with a host name of its own. So a node fails as a machine does, by killing one
process: all that ran on it is gone at once. And nothing is left behind: the namespaces end with the process that runs the tests.
"""
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue")
NODES = ("n1", "n2")
CONF = """ClusterName=strata
SlurmctldHost=ctl(127.0.0.1)
SlurmctldPort={ctl}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/ctl.pid
SlurmctldLogFile={folder}/ctl.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=300
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeAddr=127.0.0.1 Port={n1} CPUs=16 RealMemory=1000000 Gres=gpu:2
NodeName=n2 NodeAddr=127.0.0.1 Port={n2} CPUs=16 RealMemory=1000000 Gres=gpu:2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=ended Nodes=ALL PriorityTier=1 PreemptMode=CANCEL
PartitionName=warned Nodes=ALL PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=2
"""
PR_SET_PDEATHSIG = 1


def contain():
    """What this process starts ends with it: no daemon is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--uts"]


def missing():
    """Why there can be no cluster here; None: there can."""
    path = os.environ["PATH"] + ":/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)})"
    if subprocess.run([*NAMESPACE, "hostname", "n1"], capture_output=True).returncode != 0:
        return "namespaces cannot be made here"
    return None


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(holds, what, seconds=120):
    """Until holds() is true; its value."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what() if callable(what) else what}"
        time.sleep(0.05)
    return value


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.daemons = {}
        (folder / "state").mkdir()
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        ports = dict(zip(("ctl", *NODES), free_ports(1 + len(NODES))))
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, **ports))
        # Two devices a node: any character devices do.
        (folder / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu Count=2 File=/dev/null,/dev/zero\n" for name in NODES))
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": os.environ["PATH"] + ":/usr/sbin"}
        for name in [name for name in self.environment if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"]:
            del self.environment[name]

    def start(self):
        self.daemon("munge", "munged", "-F", "--force", "--key-file", self.folder / "key", "--socket", self.folder / "munge", "--pid-file",
                    self.folder / "munge.pid", "--log-file", self.folder / "munge.log", "--seed-file", self.folder / "seed")
        wait_for((self.folder / "munge").exists, "munged's socket")
        self.daemon("ctl", "slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        wait_for(lambda: self.ask("sinfo", "-h", "-o", "%T %D") == f"idle {len(NODES)}", self.describe)

    def start_node(self, name):
        self.daemon(name, "slurmd", "-D")

    def daemon(self, name, *command):
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen([*NAMESPACE, "sh", "-c", f'hostname {name} && exec "$@"', name, *command],
                                                  stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment, preexec_fn=contain)

    def kill(self, name):
        """What happens to a machine whose power fails: everything on it is gone."""
        keeper = self.daemons.pop(name)
        with open(f"/proc/{keeper.pid}/task/{keeper.pid}/children") as children:
            first = children.read().split()
        for pid in first:
            os.kill(int(pid), signal.SIGKILL)
        keeper.wait()  # until the last process of the namespace has ended

    def stop(self):
        for name in reversed(list(self.daemons)):
            self.kill(name)

    def ask(self, *command, check=True, **options):
        done = subprocess.run(list(map(str, command)), env={**self.environment, **options.pop("variables", {})}, capture_output=True, text=True,
                              **options)
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    @contextlib.contextmanager
    def configured(self, line):
        """With one more line in slurm.conf."""
        conf = self.folder / "slurm.conf"
        before = conf.read_text()
        try:
            conf.write_text(before + line + "\n")
            self.ask("scontrol", "reconfigure")
            yield
        finally:
            conf.write_text(before)
            self.ask("scontrol", "reconfigure")

    def submit(self, *words, **options):
        return self.ask("sbatch", "--parsable", *words, **options)

    def show(self, job):
        """The fields of `scontrol show job`."""
        return dict(re.findall(r"(\w+)=(\S*)", self.ask("scontrol", "show", "job", "-o", job)))

    def state(self, job):
        return self.show(job)["JobState"]

    def describe(self):
        return "\n".join([self.ask("sinfo", check=False), self.ask("squeue", check=False)]
                         + [path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log")])
