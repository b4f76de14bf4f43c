# SPDX-License-Identifier: MIT
"""What people see on a terminal: lines that fit it, and messages on lines of their own."""
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest
import support
from support import OK, STOPPED, STRATA, Job, clean_environment, make_problems


class Terminal:
    """The program on a terminal of so many columns, without colours unless they are asked for."""

    def __init__(self, columns, *command, rows=24, program=STRATA, **environment):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = clean_environment(**{"TERM": "xterm", "NO_COLOR": "1", **environment})
        self.process = subprocess.Popen([program, *map(str, command)], stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = b""

    def read(self):
        """False at the end."""
        try:
            more = os.read(self.master, 65536)
        except OSError:
            more = b""
        self.seen += more
        return more != b""

    def lines(self):
        """Each state that a line has had."""
        while self.read():
            pass
        self.process.wait(timeout=60)
        os.close(self.master)
        return [re.sub("\x1b\\[[HJ]", "", line) for line in re.split("\r\n|\r\x1b\\[K", self.seen.decode())]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("run"), make_problems(30))
    job.run()
    return job


@pytest.mark.parametrize("columns", [0, 40, 60, 80, 120])
def test_progress_fits(tmp_path, columns):
    job = Job(tmp_path, make_problems(300))
    terminal = Terminal(columns, "run", job.file)
    progress = [line for line in terminal.lines() if re.match("(running|loading|surveying|reading) ", line)]
    assert terminal.process.returncode == OK
    assert len(progress) >= 3 and all(len(line) < (columns or 80) for line in progress), progress
    wanted = r"running .* 100\.0 %  300/300 problems" if columns != 40 else r"running +100\.0 %  300/300 problems"
    assert any(re.match(wanted, line) for line in progress), progress


def test_a_stop_begins_on_a_new_line(tmp_path):
    job = Job(tmp_path, make_problems(3000, seed=4))
    terminal = Terminal(80, "run", job.file)
    while b"running " not in terminal.seen and terminal.read():
        pass
    os.write(terminal.master, b"\x03")
    lines = terminal.lines()
    assert terminal.process.returncode == STOPPED
    assert "strata: SIGINT: stopping; computed batches are kept" in lines, lines[-10:]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("topic", [[], ["job"], ["run"], ["check"], ["log"], ["exit-codes"]])
def test_help_fits(columns, topic):
    lines = Terminal(columns, "help", *topic).lines()
    assert len(lines) > 3 and all(len(line) <= columns or len(line.split()) <= 2 for line in lines), lines  # a word is never broken
    whole = subprocess.run([STRATA, "help", *topic], capture_output=True, text=True).stdout
    assert " ".join(lines).split() == whole.split()  # nothing else is said


def test_check_fits(tmp_path):
    job = Job(tmp_path, make_problems(5))
    lines = Terminal(80, "check", job.file).lines()
    for command in (["plan", job.file], ["help", "job"]):
        assert max(len(line) for line in Terminal(80, *command).lines()) <= 80
    longest_word = max(len(word) for line in lines for word in line.split())
    assert max(len(line) for line in lines) <= max(80, 18 + longest_word)
    assert [line[:4] for line in lines if line[:1] not in ("", " ")] == ["PASS"] * 12


def test_survey_says_how_many_there_are(tmp_path):
    """Off a terminal its last line has the right total."""
    job = Job(tmp_path, make_problems(1500), batch={"window": 64})
    shown = subprocess.run([STRATA, "run", job.file, "--stop-after", "1"], capture_output=True, text=True, timeout=120,
                           env=clean_environment())
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ surveying +\[#+\] 100\.0 % +1500/1500 problems\n", shown.stderr, re.M), shown.stderr


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_looking_fits(run, columns):
    """Of a run: what is said of it, with the same words as off a terminal, a table's columns aside."""
    for command in (["status", run.output], ["log", run.output], ["log", run.output, "--events"]):
        lines = Terminal(columns, *command).lines()
        longest_word = max(len(word) for line in lines for word in line.split())
        assert len(lines) > 2 and max(len(line) for line in lines) <= max(columns, longest_word + 14), lines
        whole = subprocess.run([STRATA, *map(str, command)], capture_output=True, text=True).stdout
        if "--events" in command:
            assert " ".join(lines).split() == whole.split()
    table = Terminal(columns, "log", run.output).lines()
    assert ("prepare s" in table[0]) == (columns == 120) and "tokens/s" in table[0]
    assert ("--csv has all" in " ".join(table)) == (columns < 120)


@pytest.mark.parametrize("columns, rows", [(50, 12), (80, 24), (120, 5)])
def test_a_watched_status_keeps_its_heading(run, columns, rows):
    """No more lines than the terminal has, so that none scrolls away."""
    terminal = Terminal(columns, "status", run.output, "--watch", rows=rows)
    terminal.lines()
    screen = terminal.seen.decode().split("\x1b[H\x1b[J")[-1]
    lines = screen.split("\r\n")
    assert len(lines) <= rows and max(map(len, lines)) <= max(columns, len(str(run.output)) + 13)
    assert lines[0].startswith(str(run.output))


def test_gpu_figures_where_there_is_room(tmp_path):
    if not support.EMULATED.exists():
        pytest.skip("built without the emulation of CUDA")
    settings = {"CUDA_EMULATION_NVML_UTILIZATION": "88", "CUDA_EMULATION_NVML_POWER": "222500"}
    job = Job(tmp_path, make_problems(6, steps=3, longest=8), model={"device": "cuda:0"}, batch={"tokens": 128})
    terminal = Terminal(140, "run", job.file, program=support.EMULATED, **settings)
    progress = [line for line in terminal.lines() if line.startswith("running ")]
    assert terminal.process.returncode == OK and all(len(line) < 140 for line in progress)
    assert any(re.search(r"  GPU 88 %, \d+\.\d GB, 222 W$", line) for line in progress), progress


def test_colours_only_where_they_are_seen(tmp_path):
    """On a terminal a failure is red, unless it knows no colours or nobody wants them."""
    job = Job(tmp_path, make_problems(5), problems={"id": "no_such"})
    red = "\x1b[31mFAIL\x1b[0m  problems"
    seen = {}
    for name, environment in {"colours": {"NO_COLOR": ""}, "none": {}, "dumb": {"NO_COLOR": "", "TERM": "dumb"}}.items():
        terminal = Terminal(80, "check", job.file, **environment)
        terminal.lines()
        seen[name] = terminal.seen.decode()
    assert red in seen["colours"] and seen["colours"].count("\x1b") == 2 * seen["colours"].count("FAIL")
    assert "\x1b" not in seen["none"] + seen["dumb"] and "FAIL  problems" in seen["none"]
    off = subprocess.run([STRATA, "check", job.file], capture_output=True, text=True, env=clean_environment(TERM="xterm"))
    assert "FAIL  problems" in off.stdout and "\x1b" not in off.stdout + off.stderr


def test_a_dumb_terminal_is_written_as_a_log(tmp_path):
    job = Job(tmp_path, make_problems(30))
    terminal = Terminal(80, "run", job.file, TERM="dumb")
    lines = terminal.lines()
    assert terminal.process.returncode == OK and b"\x1b" not in terminal.seen and b"\r\r" not in terminal.seen
    assert any(re.match(r"\S+Z running ", line) for line in lines), lines
