# SPDX-License-Identifier: MIT
"""Programs that gpu_check.py starts: each writes into a file of its own under --out while it runs, so that a check that is cut off has
what they said; each leads a process group, which ends with it, with its time, or with the check."""
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time

KEPT = 64 << 10  # bytes of a program's output that are kept from its beginning, and from its end
GOING = 2        # seconds that are given to what was killed
WORK = 0.05      # of a processor: less is none
PR_SET_PDEATHSIG = 1
COMPLAINTS = re.compile(r"error|fail|fatal|abort|assert|violation|terminate called|not found|cannot|could not|no such|illegal|invalid"
                        r"|traceback|killed|insufficient|unavailable", re.I)
WARNINGS = re.compile(r"strata: (drift: |share: |warn: |this launch starts slow: |[a-z ]+ \d+ has been computing for )")


class Stopped(BaseException):
    """The check is to end now: a signal, or all of its time is over. No part may hold it up."""


class Failed(Exception):
    """A program that ended as it should not; its words say which and why."""


class LeftOut(Exception):
    """A part that cannot run here, or has no time, with the reason."""


LIBC = ctypes.CDLL(None)


def lead_group(processors=None):
    """In the child: what gpu_check.py starts does not outlive it, be it killed."""
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if processors:
        os.sched_setaffinity(0, processors)


def how(code):
    """A program's end in words."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def last_line(text):
    return (text.strip().splitlines() or ["no word"])[-1].strip()[:300]


def complaint(text, lines=3, most=300):
    """What went wrong, from a program's output: the last word of strata and of python, else the first lines that speak of errors."""
    all_lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line for line in all_lines if re.match(r"strata( [a-z]+)?: ", line) and not WARNINGS.match(line)]
    if ours:
        return ours[-1][:most]
    if all_lines and "Traceback (most recent call last):" in all_lines:
        return all_lines[-1][:most]
    found = [line for line in all_lines if COMPLAINTS.search(line)][:lines]
    return " | ".join(found or all_lines[-1:] or ["no word"])[:most]


def cpu_seconds(process):
    """Seconds of processors that a process has had; None when it is gone."""
    try:
        with open(f"/proc/{process}/stat") as file:
            words = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")  # its own and its children's, in user's code and the kernel's


class Running:
    """A program that was started: its process, and the file with its output."""

    def __init__(self, name, words, process, path):
        self.name, self.words, self.process, self.path = name, words, process, path
        self.began = time.monotonic()
        self.seconds = None
        self.looked = self.worked = self.began  # when its processors' time was looked at, and when that last grew
        self.cpu = 0.0
        self.kept = None  # the output of one that was put into programs.log

    def text(self):
        if self.kept is not None:
            return self.kept.decode(errors="replace")
        try:
            with open(self.path, "rb") as file:
                return file.read(64 << 20).decode(errors="replace")
        except OSError:
            return ""

    def silent(self):
        """Seconds since its last word."""
        return time.time() - self.path.stat().st_mtime

    def look(self):
        """Once in a second: whether it works. Threads that only wake up now and then are no work."""
        now = time.monotonic()
        if now - self.looked < 1:
            return
        cpu = cpu_seconds(self.process.pid)
        if cpu is not None:
            if cpu - self.cpu > WORK * (now - self.looked):
                self.worked = now
            self.cpu = cpu
        self.looked = now

    def idle(self):
        """Seconds since it last worked, as far as it was looked at."""
        return time.monotonic() - self.worked

    def over(self):
        if self.process.poll() is not None and self.seconds is None:
            self.seconds = time.monotonic() - self.began
        return self.process.returncode is not None

    def signal(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def gone(self, seconds):
        """Whether it ends within so many seconds: one that waits in the driver may take long, or never end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.over()

    def kill(self):
        self.signal()
        return self.gone(GOING)


class Processes:
    def __init__(self, out, environment):
        self.out, self.environment = out, environment
        self.folder = out / "running"
        self.folder.mkdir(exist_ok=True)
        self.started = []
        self.serial = 0

    def start(self, name, *words, env=None, cwd=None, to=None, processors=None):
        """Starts a program; `to`: a file for its output that stays, instead of one that is put into programs.log; `processors`: those
        that it may use."""
        words = [str(word) for word in words]
        self.serial += 1
        path = to or self.folder / f"{self.serial:03d}-{name}.log"
        with open(path, "wb") as output:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=cwd,
                                       env={**self.environment, **(env or {})}, preexec_fn=lambda: lead_group(processors))
        running = Running(name, words, process, path)
        self.started.append(running)
        return running

    def wait(self, running, timeout, kill=True):
        """The exit code of one that was started. When time is over it is killed with all it started: subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while not running.over():
            for other in self.started:
                if not other.over():  # what ends meanwhile has its seconds
                    other.look()
            if time.monotonic() >= end:
                if kill:
                    running.kill()
                raise subprocess.TimeoutExpired(running.name, timeout, last_line(running.text()))
            time.sleep(0.01)
        return running.process.returncode

    def call(self, name, *words, timeout, check=True, **more):
        """The output of a program that was waited for; with check an exit code other than 0 is an error, else (code, output)."""
        running = self.start(name, *words, **more)
        code = self.wait(running, timeout)
        text = running.text()
        if check and code != 0:
            raise Failed(f"{name} {how(code)}: {complaint(text)}")
        return text if check else (code, text)

    def kill_all(self):
        """All at once, and then waits for all: what was killed first goes while the others are."""
        running = [one for one in self.started if not one.over()]
        for one in running:
            one.signal()
        end = time.monotonic() + GOING
        for one in running:
            one.gone(max(0, end - time.monotonic()))
        self.gather()

    def gather(self):
        """Puts the output of what has ended into programs.log, one after another."""
        ended = [running for running in self.started if running.over()]
        self.started = [running for running in self.started if running not in ended]
        with open(self.out / "programs.log", "ab") as log:
            for running in ended:
                if running.path.parent != self.folder:
                    continue
                head = f"==== {running.name}: {how(running.process.returncode)} after {running.seconds:.1f} s\n{' '.join(' '.join(running.words).split())}\n"
                running.kept = shortened(running.path)
                log.write(head.encode() + running.kept + b"\n")
                running.path.unlink()


def shortened(path):
    size = path.stat().st_size
    with open(path, "rb") as file:
        text = file.read(KEPT)
        if size > 2 * KEPT:
            text += f"\n... {size - 2 * KEPT} bytes left out ...\n".encode()
            file.seek(size - KEPT)
        return text + file.read(KEPT)
