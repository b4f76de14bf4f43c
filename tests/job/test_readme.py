"""The README's reference of the job file is what the key table prints."""
import os
import subprocess
import sys


def test_job_reference_is_current():
    script = os.path.join(os.environ["STRATA_SOURCE"], "tools", "readme.py")
    strata = os.path.join(os.environ["STRATA_BUILD"], "strata")
    done = subprocess.run([sys.executable, script, "--check", strata], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
