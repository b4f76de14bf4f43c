# SPDX-License-Identifier: MIT
"""Jobs whose ledger lies apart from the run directory (run.ledger): for test_ledger_apart*.py."""
import json
import time

import support

STALL = support.BUILD / "tests" / "commands_preload_stall.so"


def apart(reference, folder, name="node-a", output=None):
    """The reference's job with its ledger in the folder NAME; `output`: the run directory of another machine's job."""
    job = reference.twin(folder / name, run={"ledger": str(folder / name / "local"), **({"output": str(output)} if output else {})})
    job.output = output or job.output
    job.local = folder / name / "local"
    return job


def place(job):
    return json.loads((job.output / "ledger.json").read_text())


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None
        time.sleep(0.01)
