# SPDX-License-Identifier: MIT
"""Texts longer than a batch, which run in slices: the latents, bit for bit, of a run whose batches hold them whole."""
import json
import random
import re
import time

import pytest

import support
from support import OK, STOPPED, WORDS, Job, make_model, make_problems, strata

BATCH, WHOLE = 256, 4096  # batch.tokens: less than the long texts have, and more
TIMES = (1.1, 1.5, 2, 3.4, 5, 9)  # of the long texts
LONGEST = 2255  # tokens of the last one
SHORT = 30
ENV = support.clean_environment(CUDA_EMULATION_PREFER="7")
needs_gpu = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
SHAPE = {"tokens": BATCH, "problems": 0, "window": 0}


def long_problem(number, tokens, rng):
    """Of about so many tokens, in steps whose ends are anywhere in the slices."""
    words = rng.choices(WORDS, k=int(tokens / 1.15))
    steps = []
    while words:
        count = rng.randint(3, 60)
        steps, words = [*steps, " ".join(words[:count])], words[count:]
    return {"problem_id": f"long-{number}", "statement": "a long text", "steps": steps}


def problems():
    rng = random.Random(3)
    made = make_problems(SHORT, steps=3, longest=8)
    for number, times in enumerate(TIMES):
        made.insert(4 * number + 2, {**made[0], **long_problem(number, times * BATCH, rng)})
    return made


def whole(folder, made, **sections):
    return Job(folder, made, make_model(), **support.merge({"problems": {"max_tokens": WHOLE}, "batch": {**SHAPE, "tokens": WHOLE}}, sections))


@pytest.fixture(scope="module")
def made():
    return problems()


def check_same(job, other):
    """Of every problem, not of shards: other batches have other ones."""
    found, wanted = support.read_latents(job), support.read_latents(other)
    assert found.keys() == wanted.keys()
    for key, latents in wanted.items():
        for name, values in latents.items():
            same = values.tobytes() == found[key][name].tobytes() if name.startswith("hs_") else values == found[key][name]
            assert same, f"{key}: {name} differs"


def log_of(job):
    return (job.output / "run.log").read_text()


def lengths(job):
    """Tokens of every long text, and of the batch that it is in."""
    return {key: (tokens, batch, texts) for key, tokens, batch, texts in job.query(
        "SELECT p.id, p.tokens, b.tokens, b.problems FROM problem p JOIN batch b ON b.number = p.batch WHERE p.id LIKE 'long%'")}


@pytest.mark.parametrize("pooling, dtype", [("step_mean", "float32"), ("step_mean", "bfloat16"), ("mean", "float32"), ("tokens", "bfloat16"),
                                            ("last", "float16")])
def test_latents_are_those_of_whole_texts(pooling, dtype, made, tmp_path):
    """Resident, and streamed in groups that a long text fills and overfills."""
    reference = whole(tmp_path / "whole", made, model={"dtype": dtype}, latents={"layers": "all", "pooling": pooling})
    job = reference.twin(tmp_path / "slices", batch=SHAPE)
    streamed = job.twin(tmp_path / "streamed", model={"weights": "disk", "resident_blocks": 1}, batch={"group": 4})
    for one in (reference, job, streamed):
        one.run()
        one.check_finished(len(made))
    found = lengths(job)
    assert len(found) == len(TIMES) and all(tokens == batch > BATCH and texts == 1 for tokens, batch, texts in found.values())
    assert max(tokens for tokens, _, _ in found.values()) == LONGEST > 8 * BATCH
    check_same(job, reference)
    assert streamed.shards() == job.shards()


@needs_gpu
def test_on_a_gpu(tmp_path):
    """A text of two slices, which are whole tiles there; the share of them that is text is told everywhere."""
    made = [*make_problems(3, steps=2, longest=5), {**make_problems(1)[0], **long_problem(0, 3.1 * BATCH, random.Random(3))}]
    reference = whole(tmp_path / "whole", made, model={"dtype": "bfloat16", "device": "cuda:0"}, latents={"layers": [1, -2]})
    reference.program = support.EMULATED
    job = reference.twin(tmp_path / "slices", batch=SHAPE)
    streamed = job.twin(tmp_path / "streamed", model={"weights": "host", "resident_blocks": 1}, batch={"group": 2})
    for one in (reference, job, streamed):
        one.run(environment=ENV)
        one.check_finished(len(made))
    check_same(job, reference)
    check_same(streamed, reference)
    (tokens, batches), = job.query("SELECT sum(tokens), count(*) FROM batch")
    assert batches == 2 and tokens > 768
    full = f"{100 * tokens / (3 * 768):.1f} %"
    assert f"2 batches: the device will compute {3 * 768} tokens for {tokens} of texts, {full} full" in log_of(job)
    assert f"2 batches sealed: the device computed {3 * 768} tokens for {tokens} of texts, {full} full" in log_of(job)
    assert f"2 batches ({full} full)" in strata("log", job.output).out
    fill = json.loads(strata("status", job.output, "--json").out)["fill"]
    assert (fill["device_tokens"], fill["share"]) == (3 * 768, pytest.approx(tokens / (3 * 768)))
    planned = " ".join(strata("plan", job.file, "--gpu", "8GB").out.split())
    assert f"fill {full} on a GPU, which computes every batch at one shape; 2 of 3 below 90 %" in planned
    checked = strata("check", job.twin(tmp_path / "new").file, program=support.EMULATED, environment=ENV).out
    for said in (planned, " ".join(strata("plan", job.file).out.split()), " ".join(checked.split())):
        assert "runs in 2 slices" in said, said


@pytest.fixture(scope="module")
def sliced(made, tmp_path_factory):
    job = whole(tmp_path_factory.mktemp("sliced"), made, batch=SHAPE, run={"checkpoint_every": 2})
    job.run()
    job.check_finished(len(made))
    return job


def test_what_is_told(sliced, made, tmp_path):
    """Before the run and of it: how many slices, and what they take."""
    said = rf"{len(TIMES)} texts are longer than a batch: the longest, of {LONGEST} tokens, runs in {-(-LONGEST // 384)} slices, with "
    job = sliced.twin(tmp_path)
    for text in (strata("plan", job.file).out, strata("check", job.file).out, log_of(sliced)):
        assert re.search(said, " ".join(text.split())), text
    planned = strata("plan", job.file).out
    (tokens, batches), = sliced.query(f"SELECT sum(tokens), count(*) FROM batch WHERE tokens <= {BATCH}")
    assert f"\nbatches       {batches + len(TIMES)}, {100 * tokens / batches / BATCH:.1f} % of {BATCH} tokens full, " in planned
    listed = [line.split() for line in strata("log", sliced.output, "--csv").out.splitlines()]
    assert len(listed) == 1 + sliced.query("SELECT count(*) FROM batch")[0][0]
    exported = strata("export", sliced.output, "--to", tmp_path / "exported", "--format", "npy")
    assert exported.code == OK, exported


@pytest.mark.parametrize("streamed", [False, True])
def test_stops(streamed, sliced, made, tmp_path):
    """Between long batches and within groups; a part of a shard is kept."""
    job = sliced.twin(tmp_path, **({"model": {"weights": "disk", "resident_blocks": 0}, "batch": {"group": 3}} if streamed else {}))
    left = sliced.query("SELECT count(*) FROM batch")[0][0]
    for batches in (1, 2, 1, 3, 1):
        job.run("--stop-after", batches, expect=STOPPED)
        job.check_acknowledged(sliced.shards())
    assert left > 8
    job.run()
    job.check_finished(len(made), sliced.shards())
    assert job.outcomes() == sliced.outcomes()


@pytest.mark.parametrize("streamed", [False, True])
def test_kills(streamed, sliced, made, tmp_path):
    """At random moments: between two of them at least one more shard is sealed, or the run ends."""
    job = sliced.twin(tmp_path, **({"model": {"weights": "disk", "resident_blocks": 0}, "batch": {"group": 3}} if streamed else {}))
    rng = random.Random(11)
    for sealed in range(0, len(sliced.shards()), 2):
        process = job.start()
        while process.poll() is None and len(job.acknowledged()) <= sealed:
            time.sleep(rng.uniform(0.001, 0.02))
        process.kill()
        process.communicate()
        job.check_acknowledged(sliced.shards())
    job.run()
    job.check_finished(len(made), sliced.shards())
    assert job.outcomes() == sliced.outcomes()


def test_texts_that_fit_are_planned_as_ever(tmp_path):
    """A bound on texts above that on batches changes nothing of a run where no text is longer than a batch."""
    job = Job(tmp_path / "usual", make_problems(SHORT, steps=3, longest=8), batch=SHAPE)
    raised = job.twin(tmp_path / "raised", problems={"max_tokens": WHOLE})
    for one in (job, raised):
        one.run()
    check_same(raised, job)
    assert raised.outcomes() == job.outcomes()
    identity = "SELECT key, value FROM identity"
    assert set(raised.query(identity)) - set(job.query(identity)) == {("problems.max_tokens", str(WHOLE))}
    notes = [one.query("SELECT value FROM note WHERE key = 'survey.rest'") for one in (job, raised)]
    assert notes[0] == notes[1] and len(notes[0][0][0].split()) == 5


def check_on(job, tokens, free):
    """What check says of a GPU with so much memory free."""
    job.change(batch={"tokens": tokens})
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(8 << 30), CUDA_EMULATION_FREE=str(free))
    return strata("check", job.file, program=support.EMULATED, environment=room)


@needs_gpu
@pytest.mark.parametrize("free, is_sliced", [(90, True), (120, True), (130, False), (150, False)])
def test_a_refusal_advises_what_slices_allow(free, is_sliced, made, tmp_path):
    """The largest batch.tokens with which the job would be let in: it may be less than the longest text has."""
    wide = make_model(hidden=512, intermediate=2048, layers=1)
    job = whole(tmp_path, made, latents={"layers": [-1]}, model={"path": str(wide), "device": "cuda:0", "memory_reserve_gb": 0})
    free *= 1000000
    refused = check_on(job, WHOLE, free)
    advised = int(re.search(r"the largest batch\.tokens that\s+would\s+fit is (\d+)", refused.out)[1])
    assert refused.code == support.DEVICE and (advised < LONGEST) == is_sliced
    assert check_on(job, advised, free).code == OK
    assert check_on(job, advised + 256, free).code == support.DEVICE


def test_a_corrected_row_becomes_the_first_long_text(made, tmp_path):
    """Retried in slices, after a run that had none."""
    broken = [dict(one) for one in made if one["problem_id"] in ("long-5", "p-00001", "p-00002")]
    next(one for one in broken if one["problem_id"] == "long-5")["statement"] += "\0"
    job = whole(tmp_path / "broken", broken, problems={"max_failed": 1}, batch=SHAPE)
    job.run()
    job.import_problems([one for one in made if one["problem_id"] in job.problems()])
    job.run("--retry-failed")
    job.check_finished(3)
    reference = job.twin(tmp_path / "whole", batch={"tokens": WHOLE})
    reference.run()
    check_same(job, reference)
    assert {state for state, _ in job.problems().values()} == {support.DONE}
