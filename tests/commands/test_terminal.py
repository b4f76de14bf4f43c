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
from support import OK, STOPPED, STRATA, Job, clean_environment, make_problems


class Terminal:
    """The program on a terminal of so many columns."""

    def __init__(self, columns, *command):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen([STRATA, *command], stdin=slave, stdout=slave, stderr=slave, env=clean_environment(),
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


@pytest.mark.parametrize("columns", [0, 50, 60, 80])
def test_progress_fits(tmp_path, columns):
    job = Job(tmp_path, make_problems(300))
    terminal = Terminal(columns, "run", job.file)
    progress = [line for line in terminal.lines() if re.match("(running|loading|surveying|reading) ", line)]
    assert terminal.process.returncode == OK
    assert len(progress) >= 3 and all(len(line) < (columns or 80) for line in progress), progress
    assert any(re.match(r"running .* 100\.0 %  300/300 problems", line) for line in progress)


def test_a_stop_begins_on_a_new_line(tmp_path):
    job = Job(tmp_path, make_problems(3000, seed=4))
    terminal = Terminal(80, "run", job.file)
    while b"running " not in terminal.seen and terminal.read():
        pass
    os.write(terminal.master, b"\x03")
    lines = terminal.lines()
    assert terminal.process.returncode == STOPPED
    assert "strata: SIGINT: stopping; computed batches are kept" in lines, lines[-10:]


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("topic", [[], ["job"], ["run"], ["check"], ["log"], ["exit-codes"]])
def test_help_fits(columns, topic):
    lines = Terminal(columns, "help", *topic).lines()
    assert len(lines) > 3 and max(len(line) for line in lines) <= columns
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
    assert re.search(r"surveying +\[#+\] 100\.0 % +1500/1500 problems\n", shown.stderr), shown.stderr
