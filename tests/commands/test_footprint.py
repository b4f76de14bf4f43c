# SPDX-License-Identifier: MIT
"""The memory that strata plan foretells for the shape of Qwen3-8B, packed, quantised when it is loaded and stored as computed; and
what a refusal advises where it does not fit."""
import re

import pytest

import support
from packed.sparse import GROUP, HEAD, HIDDEN, INTERMEDIATE, KV_HEADS, LAYERS, MATRICES, NORMS, VOCABULARY, qwen3_8b
from support import DEVICE, OK, Job, make_problems, strata

TOKENS = 8192
NUMBERS = LAYERS * sum(rows * columns for rows, columns in MATRICES.values())  # of matrices of blocks
OTHERS = 2 * (VOCABULARY * HIDDEN + LAYERS * sum(NORMS.values()) + HIDDEN)     # bytes of what is never packed
LARGEST = 2 * 2 * INTERMEDIATE * HIDDEN                                        # gate and up are one matrix
STATES = 2 * TOKENS * (2 * HIDDEN + 3 * INTERMEDIATE)                          # of batches, but for some small tables
KEYS_VALUES = 2 * 2 * TOKENS * KV_HEADS * HEAD
HELD = {"awq": 1 / 2 + 2.5 / GROUP, "nf4": 1 / 2 + 4 / 64, "nf4, double": 1 / 2 + (1 + 4 / 256) / 64,
        "int8": 1 + LAYERS * 4 * sum(rows for rows, _ in MATRICES.values()) / NUMBERS}  # bytes of a number
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
emulated = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def amounts(line):
    return [float(number) * UNITS[unit] for number, unit in re.findall(r"([0-9.]+) (GB|MB|kB|B)\b", line)]


def near(*exact):
    """As printed: two digits behind the point."""
    return pytest.approx(exact, rel=0.006)


def planned(job):
    """What plan says of memory: its first line, and row of the table -> bytes in its columns."""
    done = strata("plan", job.file)
    assert done.code == OK, done
    head, *lines = re.search(r"^memory  .*(?:\n  .*)*", done.out, re.M)[0].splitlines()
    return head, {re.match(r"  (.+?)(?: {2,}|:)", line)[1]: amounts(line) for line in lines}


def large(folder, method, **model):
    return Job(folder, make_problems(6), qwen3_8b(folder / "model", method), model={"dtype": "bfloat16", **model},
               latents={"layers": [-1]}, batch={"tokens": TOKENS, "problems": 64, "window": 64})


@pytest.mark.parametrize("name, method, model", [("awq", "awq", {}), ("nf4", "plain", {"quantize": "nf4"}),
                                                 ("nf4, double", "plain", {"quantize": "nf4_double"}),
                                                 ("int8", "plain", {"quantize": "int8"})])
def test_packed(name, method, model, tmp_path):
    head, rows = planned(large(tmp_path, method, **model))
    packed, computed = HELD[name] * NUMBERS, 2 * NUMBERS
    assert f"at {TOKENS} tokens a batch, bfloat16; weights {name}; " in head
    assert rows == {"packed weights": near(packed, computed), "other weights": near(OTHERS, OTHERS),
                    "room to expand into": near(LARGEST, 0), "activations": near(STATES, STATES),
                    "together": near(packed + LARGEST + OTHERS + STATES, computed + OTHERS + STATES),
                    "keys and values": near(KEYS_VALUES)}
    assert name == "int8" or rows["together"][0] < 6.5e9 < 15e9 < rows["together"][1]


@pytest.mark.parametrize("method, model", [("plain", {}), ("awq", {"expand": "load"}), ("plain", {"quantize": "nf4", "expand": "load"})])
def test_stored_as_computed(method, model, tmp_path):
    head, rows = planned(large(tmp_path, method, **model))
    assert "weights" not in head
    assert rows == {"weights": near(2 * NUMBERS + OTHERS), "activations": near(STATES),
                    "together": near(2 * NUMBERS + OTHERS + STATES), "keys and values": near(KEYS_VALUES)}


def test_up_to_the_highest_layer(tmp_path):
    """Blocks above are not loaded."""
    _, rows = planned(large(tmp_path, "awq").twin(tmp_path / "half", latents={"layers": [LAYERS // 2]}))
    assert rows["packed weights"] == near(HELD["awq"] * NUMBERS / 2, NUMBERS)


@emulated
@pytest.mark.parametrize("method", ["awq", "plain"])
def test_check_agrees(method, tmp_path):
    """What a device plans for the weights is what was foretold."""
    job = large(tmp_path, method, device="cuda:0")
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(79 << 30))
    done = strata("check", job.file, program=support.EMULATED, environment=room)
    assert done.code == OK, done
    weights = float(re.search(r"memory .* ([0-9.]+) weights", done.out)[1]) * 1e9
    _, rows = planned(job)
    assert [weights] == near(sum(rows[name][0] for name in ("packed weights", "other weights", "weights") if name in rows))


# ---- what a refusal advises

def refused(job, free):
    """What check and a launch say of the memory."""
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(int(free)))
    done = strata("check", job.file, program=support.EMULATED, environment=room)
    assert done.code == DEVICE, done
    job.program = support.EMULATED
    launched = job.run(environment=room, expect=DEVICE)
    said = *re.findall("^FAIL  memory .*", done.out, re.M), launched.last()
    assert ["not enough memory: weights" in line for line in said] == [True, True], said
    return said


@emulated
@pytest.mark.parametrize("free, advised", [(9.0, "nf4"), (5.75, "nf4_double"), (4.0, None)])
def test_a_model_of_numbers(free, advised, tmp_path):
    """With the first way to 4 bits that fits, and what its weights take; the batch is of some hundred tokens."""
    for line in refused(large(tmp_path, "plain", device="cuda:0"), free * 1e9):
        found = re.search(r"; a new run with model\.quantize: (\w+) would fit: its weights take ([0-9.]+ GB)", line)
        assert (found and found[1]) == advised, line
        if advised is not None:
            assert amounts(found[2]) == near(HELD[advised.replace("_", ", ")] * NUMBERS + OTHERS)


@emulated
@pytest.mark.parametrize("free, method, model", [(4.0, "awq", {}), (9.0, "awq", {"expand": "load"}), (9.0, "plain", {"expand": "load"}),
                                                 (4.0, "plain", {"quantize": "nf4_double"})])
def test_where_it_would_not_help(free, method, model, tmp_path):
    for line in refused(large(tmp_path, method, device="cuda:0", **model), free * 1e9):
        assert "quantize" not in line


@emulated
@pytest.mark.parametrize("free, method, model", [(9.0, "awq", {}), (4.0, "awq", {}), (9.0, "plain", {"quantize": "nf4"})])
def test_packed_weights_that_are_expanded_at_load(free, method, model, tmp_path):
    """What they need where they stay packed, in place of what they need; the batch is of some hundred tokens."""
    job = large(tmp_path, method, device="cuda:0", expand="load", **model)
    for line in refused(job, free * 1e9):
        found = re.search(r"; model\.expand: matmul needs ([0-9.]+ GB) in place of ([0-9.]+ GB)(, which would fit)?", line)
        assert amounts(found[1]) == pytest.approx([HELD[model.get("quantize", method)] * NUMBERS + OTHERS + LARGEST], rel=0.02), line
        assert amounts(found[2]) == pytest.approx([2 * NUMBERS + OTHERS], rel=0.02), line
        assert (found[3] is not None) == (free > 6), line
    job.change(model={"expand": "matmul"})
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(int(free * 1e9)))
    assert strata("check", job.file, program=support.EMULATED, environment=room).code == (OK if free > 6 else DEVICE)


@emulated
@pytest.mark.parametrize("method, model", [("awq", {}), ("plain", {"expand": "load"})])
def test_where_expansion_is_no_matter(method, model, tmp_path):
    for line in refused(large(tmp_path, method, device="cuda:0", **model), 4e9):
        assert "expand" not in line


@emulated
def test_what_is_advised_fits(tmp_path):
    job = large(tmp_path, "plain", device="cuda:0", quantize="nf4")
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(9 * 10 ** 9))
    assert strata("check", job.file, program=support.EMULATED, environment=room).code == OK


ROW = re.compile(r"^  (\S+: \S+) +([0-9.]+) +([0-9.]+ (?:s|min|h|days))  (.+)$", re.M)


@emulated
@pytest.mark.parametrize("free, rows", [(9.0, ["model.weights: host", "model.weights: disk", "model.quantize: nf4", "model.quantize: nf4_double"]),
                                        (5.75, ["model.weights: host", "model.weights: disk", "model.quantize: nf4_double"])])
def test_how_fast_the_choices_are(free, rows, tmp_path):
    """A table behind the refusal, of check and of a launch. The processor is left out: the machine may lack the memory."""
    job = large(tmp_path, "plain", device="cuda:0")
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(int(free * 1e9)))
    said = strata("check", job.file, program=support.EMULATED, environment=room).out
    job.program = support.EMULATED
    launched = job.run(environment=room, expect=DEVICE).err
    kept = strata("log", job.output, "--events").out
    assert "not enough memory: weights" in kept and "what would run" not in kept and "\\n" not in kept, kept
    for text in (said, launched):
        found = {row[1]: (float(row[2]), row[4]) for row in ROW.finditer(text)}
        assert [name for name in found if name != "model.device: cpu"] == rows, text
        assert all(rate > 0 for rate, _ in found.values())
        assert re.search(r"^  what would run +tokens/s +time  limit \(predicted\)$", text, re.M), text
        assert found["model.weights: disk"][0] <= found["model.weights: host"][0] < found[rows[-1]][0]
        assert found["model.weights: disk"][1] == "disk" and found["model.weights: host"][1] == "PCIe"
        assert found[rows[-1]][1] == "matrix rate"


def test_how_fast_the_choices_of_a_processor_are(tmp_path):
    """Its rate is measured. How much memory the process has taken before it plans differs from machine to machine."""
    job = Job(tmp_path, make_problems(40, steps=3, longest=8), support.make_model("wide", layers=6, hidden=256, intermediate=1024))
    for memory in range(115, 80, -2):
        job.change(run={"memory_gb": memory / 1000})
        done = strata("check", job.file)
        found = {row[1]: float(row[2]) for row in ROW.finditer(done.out)}
        if "model.quantize: nf4" in found:
            break
    assert done.code == DEVICE and min(found.values()) > 0 and "foretells" not in done.out, done


@emulated
def test_gpus_that_share_the_blocks(tmp_path):
    """As a choice where they have room together: the run's own by what each has free, else all that are here."""
    job = large(tmp_path, "plain", device=["cuda:0", "cuda:1"])

    def said(free, devices=2):
        room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=free, CUDA_EMULATION_DEVICES=str(devices))
        done = strata("check", job.file, program=support.EMULATED, environment=room)
        assert done.code == DEVICE, done
        return re.findall(r"^  model\.split: (\S.*?) +[0-9.]+ +[0-9.]+ (?:s|min|h|days)  matrix rate$", done.out, re.M)

    assert said("12000000000") == ["layers"] and said("12000000000,4000000000@1") == []
    job.change(run={"memory_gb": {"cuda:1": 4}})
    assert said("12000000000") == []
    job.change(run={"memory_gb": 0}, model={"device": "cuda:0"})
    assert said("12000000000") == ["layers, 2 GPUs"] and said("12000000000", 1) == [] and said("4000000000", 2) == []
    job.change(model={"device": "cuda:all", "split": "layers"})
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE="12000000000", CUDA_EMULATION_DEVICES="2")
    assert strata("check", job.file, program=support.EMULATED, environment=room).code == OK


@emulated
def test_a_processor_is_no_choice_beyond_the_limit(tmp_path):
    """Of the host's memory."""
    job = large(tmp_path, "plain", device="cuda:0")
    job.change(run={"memory_gb": 12})
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(80 << 30), CUDA_EMULATION_FREE=str(9 * 10 ** 9))
    assert "model.device: cpu" not in strata("check", job.file, program=support.EMULATED, environment=room).out
    job.change(model={"device": "cpu"})
    assert strata("check", job.file).code == DEVICE
