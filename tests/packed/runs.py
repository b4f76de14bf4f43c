# SPDX-License-Identifier: MIT
"""Runs of a quantised checkpoint and of its twin. They have to give the same bytes, whatever they compute in: weights of bfloat16 and
float16 are the same float32 numbers rounded once."""
import pathlib
import re

import numpy as np

from support import DATA, OK, Job, make_problems, read_latents


def run_both(folder, made, problems=None, write=None, program=None, **sections):
    """Latents of the quantised one, after a comparison with its twin's. made: checkpoints.Checkpoint or gguf_model.GgufModel; write:
    options of its write(); program: in place of strata; sections: changes to the job of both."""
    folder = pathlib.Path(folder)
    twin = Job(folder / "twin", problems or make_problems(4, seed=3), made.write_twin(folder / "exact"), **sections)
    path = str(made.write(folder / "quantised", **(write or {})))
    packed = twin.twin(folder / "packed", model={"path": path})
    if program is not None:
        twin.program = packed.program = program
    twin.run()
    done = packed.run(expect=None)
    assert done.code == OK, done
    return same_latents(packed, twin)


def same_latents(packed, twin):
    """Every problem's rows and latents are those of the twin, bit for bit."""
    found, exact = read_latents(packed), read_latents(twin)
    assert found.keys() == exact.keys()
    for key, problem in exact.items():
        for name, values in problem.items():
            if isinstance(values, np.ndarray):
                assert np.isfinite(values).all(), (key, name)
                assert found[key][name].tobytes() == values.tobytes(), (key, name, np.abs(found[key][name] - values).max())
            else:
                assert found[key][name] == values, (key, name)
    return found


def run_refused(folder, made, words, **sections):
    """The run ends before it computes, as one whose model is bad, and its last line has all the words (regular expressions, in any case)."""
    folder = pathlib.Path(folder)
    job = Job(folder, make_problems(2), made.write(folder / "quantised"), **sections)
    done = job.run(expect=None)
    assert done.code == DATA, done
    said = done.last().replace(str(folder), "")  # whose name may have the words
    assert [word for word in words if not re.search(word, said, re.I)] == [], done
    return done
