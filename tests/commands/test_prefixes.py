# SPDX-License-Identifier: MIT
"""Tokens that texts begin with alike, computed once: the latents, bit for bit, of a run that computes each text whole,
and what is planned, recorded and said of it."""
import json
import random
import re
import shutil
import sqlite3
import struct
import sys
import time

import pytest

import support
from support import DATA, JOB, OK, STOPPED, WORDS, Job, make_model, make_problems, strata
from test_parts import Set

sys.path.insert(0, str(support.SOURCE / "tools"))
import make_goldens  # noqa: E402: of any family

HEAD = " ".join(random.Random(8).choices(WORDS, k=70)) + "\n"  # of more than 64 tokens
STATEMENTS, SOLUTIONS = 5, 4
BATCH = {"problems": 0, "tokens": 640, "window": 0, "prefix": {"min_tokens": 24}}
ENV = support.clean_environment(CUDA_EMULATION_PREFER="7", CUDA_EMULATION_DEVICES="3")
needs_gpu = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def grouped():
    """Several solutions to each of some statements, in no order."""
    rng = random.Random(5)
    made = make_problems(STATEMENTS * SOLUTIONS, seed=5, steps=3, longest=8)
    statements = [" ".join(rng.choices(WORDS, k=30)) for _ in range(STATEMENTS)]
    for number, problem in enumerate(made):
        problem["statement"] = statements[number % STATEMENTS]
    made[7] = {**made[2], "problem_id": "twin"}  # the same text again
    return made


def make(folder, head, groups, count=None, **sections):
    made = grouped() if groups else make_problems(16, seed=5, steps=3, longest=8)
    return Job(folder, made[:count], make_model(), **support.merge(
        {"problems": {"text": (HEAD if head else "") + "{statement}\n{steps}", "max_tokens": 512},
         "latents": {"layers": "all"}, "batch": BATCH, "run": {"checkpoint_every": 2}}, sections))


def whole(job, folder):
    """The same texts, each computed whole."""
    return job.twin(folder, batch={"prefix": {"reuse": "off"}})


def prefixes(job):
    """What the identity says of them, the tokens that were computed and those of the texts."""
    said = job.query("SELECT value FROM identity WHERE key = 'batch.prefixes'")
    computed, = job.query("SELECT sum(tokens) FROM batch")
    texts, = job.query("SELECT sum(tokens) FROM problem WHERE state = ?", support.DONE)
    return said[0][0] if said else None, computed[0], texts[0]


def check_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, latents in wanted.items():
        for name, values in latents.items():
            same = values.tobytes() == found[key][name].tobytes() if name.startswith("hs_") else values == found[key][name]
            assert same, f"{key}: {name} differs"


def check_reuse(job, reference, saves=0.2):
    check_same(support.read_latents(job), support.read_latents(reference))
    said, computed, texts = prefixes(job)
    assert said is not None and computed < (1 - saves) * texts
    assert prefixes(reference) == (None, texts, texts)


CASES = {"head": (True, False), "groups": (False, True), "both": (True, True)}


@pytest.mark.parametrize("case, pooling, dtype", [("head", "step_mean", "float32"), ("groups", "tokens", "bfloat16"),
                                                  ("both", "mean", "float16"), ("both", "last", "bfloat16")])
def test_latents_are_those_of_whole_texts(case, pooling, dtype, tmp_path):
    """Resident and, in groups of batches, streamed. A mean over the text begins in what is not computed again."""
    job = make(tmp_path / "reuse", *CASES[case], model={"dtype": dtype},
               latents={"pooling": pooling, "token_ids": True, "loss_mask": pooling == "step_mean"})
    reference = whole(job, tmp_path / "whole")
    streamed = job.twin(tmp_path / "streamed", model={"weights": "disk", "resident_blocks": 1}, batch={"group": 2})
    for one in (job, reference, streamed):
        one.run()
        one.check_finished(job.query("SELECT count(*) FROM problem")[0][0])
    check_reuse(job, reference)
    assert streamed.shards() == job.shards()
    said = prefixes(job)[0]
    assert ("head of " in said, said.endswith("groups from 24 tokens")) == (CASES[case][0], True)


@pytest.mark.parametrize("name", ["qwen3_next", "bamba", "gemma4-shared", "gpt_oss", "deepseek_v3"])
def test_other_families(name, tmp_path):
    """Delta nets, state spaces and convolutions go on from the head's state, from it alone; windows, shared keys, experts, sinks
    and latents as plain attention does."""
    config, dtype, shards, _, _ = make_goldens.variants()[name]
    make_goldens.family_tensors.text_config(config)["vocab_size"] = 600
    make_goldens.write_checkpoint(str(tmp_path / "model"), config, dtype, shards, make_goldens.list_tensors(name, config))
    shutil.copy(make_model() / "tokenizer.json", tmp_path / "model")
    job = make(tmp_path / "reuse", True, True, model={"path": str(tmp_path / "model")}, latents={"pooling": "mean"})
    reference = whole(job, tmp_path / "whole")
    for one in (job, reference):
        one.run()
    check_reuse(job, reference)
    assert prefixes(job)[0].endswith("groups from 24 tokens") == (name not in ("qwen3_next", "bamba"))


def tree(rng):
    """Texts of a random tree of prefixes, some of them the beginning of another, in a random order."""
    texts = [""]
    while len(texts) < 50:
        texts.append(rng.choice(texts) + " ".join(rng.choices(WORDS, k=rng.randint(1, 40))) + rng.choice((" ", "\n")))
    texts = texts[1:] + rng.choices(texts[1:], k=6)
    rng.shuffle(texts)
    return [{"problem_id": f"p-{number}", "statement": text, "steps": [rng.choice(WORDS)] * rng.randint(1, 3)}
            for number, text in enumerate(texts)]


@pytest.mark.parametrize("seed", range(4))
def test_random_trees(seed, tmp_path):
    rng = random.Random(seed)
    batch = {"problems": rng.choice((0, 0, 5)), "tokens": rng.choice((100, 250, 900)), "window": rng.choice((0, 0, 16)),
             "prefix": {"min_tokens": rng.choice((1, 7, 20))}}
    job = Job(tmp_path / "reuse", tree(rng), make_model(), problems={"max_tokens": 1024, "text": rng.choice(("", "one head")) + "{statement}{steps}"},
              latents={"layers": [0, 2, -1], "pooling": rng.choice(("tokens", "mean", "step_mean"))}, batch=batch,
              model={"dtype": rng.choice(("float32", "bfloat16")), **rng.choice(({}, {"weights": "disk", "resident_blocks": 1}))})
    reference = whole(job, tmp_path / "whole")
    for one in (job, reference):
        one.run()
        one.check_finished(55)
    check_reuse(job, reference, saves=0.05)


def test_long_texts_go_on_from_the_head(tmp_path):
    """In slices, and one whose head alone is more than a batch."""
    rng = random.Random(3)
    made = make_problems(12, steps=2, longest=5)
    for number in (2, 9):
        made[number]["steps"] = [" ".join(rng.choices(WORDS, k=120)) for _ in range(5)]
    for tokens in (256, 64):
        job = Job(tmp_path / f"reuse-{tokens}", made, make_model(), problems={"text": HEAD + "{statement}\n{steps}", "max_tokens": 2048},
                  latents={"layers": "all"}, batch={**BATCH, "tokens": tokens})
        reference = whole(job, tmp_path / f"whole-{tokens}")
        streamed = job.twin(tmp_path / f"streamed-{tokens}", model={"weights": "disk", "resident_blocks": 1}, batch={"group": 3})
        for one in (job, reference, streamed):
            one.run()
        check_reuse(job, reference, saves=0.05)
        assert streamed.shards() == job.shards()


def test_a_head_of_texts_longer_than_a_batch(tmp_path):
    """Whatever the few begin with that are not."""
    made = make_problems(12, steps=2, longest=5)
    for problem in made[1:]:
        problem["statement"] = HEAD + problem["statement"]
    job = Job(tmp_path / "reuse", made, make_model(), problems={"text": "{statement}\n{steps}", "max_tokens": 512}, batch={**BATCH, "tokens": 80})
    assert "a head of " in strata("plan", job.file).out
    reference = whole(job, tmp_path / "whole")
    for one in (job, reference):
        one.run()
    check_reuse(job, reference)


@pytest.fixture(scope="module")
def whole_on_gpu(tmp_path_factory):
    job = make(tmp_path_factory.mktemp("gpu"), True, True, 9, model={"device": "cuda:0", "dtype": "bfloat16"}, latents={"layers": [1, -1]},
               batch={"prefix": {"reuse": "off"}})
    job.program = support.EMULATED
    job.run(environment=ENV)
    return job


@needs_gpu
@pytest.mark.parametrize("section", [{}, {"device": ["cuda:0", "cuda:1"], "split": "layers"},
                                     {"device": ["cuda:0", "cuda:1"], "weights": "host", "resident_blocks": 2}])
def test_on_gpus(section, whole_on_gpu, tmp_path):
    """Each device has the head, or its blocks' share of it; where weights stream it is computed in every sweep."""
    job = whole_on_gpu.twin(tmp_path, model=section, batch=BATCH)
    job.run(environment=ENV)
    check_reuse(job, whole_on_gpu)


def test_forecasts_name_what_the_head_takes(done, tmp_path):
    """Of all blocks where they stay, of one where they stream."""
    names = ("blocks", "slots", "embedding", "final_norm", "expansion", "activations", "head", "residuals", "scratch")
    head = int(re.match(r"head of (\d+) tokens", prefixes(done)[0])[1])
    new = done.twin(tmp_path, model={"weights": "host", "resident_blocks": 1})
    ways = {way["way"]: way for way in json.loads(strata("plan", "--json", "--gpu", "h200", new.file).out)["ways"]}
    for way in ways.values():
        assert way["fits"] and way["needed"] == sum(way["memory"][name] for name in names)
    assert ways["host"]["resident_blocks"] < ways["host"]["blocks"] == ways["resident"]["resident_blocks"] == 3
    assert ways["resident"]["memory"]["head"] == head * 384 and ways["host"]["memory"]["head"] not in (0, head * 384)


@needs_gpu
def test_predictions_count_the_head_of_each_sweep(whole_on_gpu, tmp_path):
    job = whole_on_gpu.twin(tmp_path, model={"weights": "host", "resident_blocks": 2}, batch={**BATCH, "tokens": 100, "group": 1})
    job.run(environment=ENV)
    log = (job.output / "run.log").read_text()
    fixed, token, square = map(float, re.search(r"a batch takes ([\d.]+) s \+ ([\d.]+) us per token \+ ([\d.]+) ns per sq", log).groups())
    head = int(re.match(r"head of (\d+) tokens", prefixes(job)[0])[1])
    (batches, tokens, squares), = job.query("SELECT batches, tokens, squared_lengths FROM survey")
    assert batches > 2 and tokens == prefixes(job)[1]
    seconds = batches * fixed + (tokens + batches * head) * token * 1e-6 + (squares + batches * head**2) * square * 1e-9
    predicted = json.loads(strata("status", job.output, "--json").out)["prediction"]["seconds"]
    assert abs(predicted - seconds) < 0.01 * seconds + 0.0001 * batches, (predicted, seconds)  # of rounded figures


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    job = make(tmp_path_factory.mktemp("done"), True, True, batch={"tokens": 80})
    job.run()
    job.problems_count = len(grouped())
    assert len(job.shards()) > 2
    job.check_finished(job.problems_count)
    return job


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_goes_on_after_stops_and_kills(streamed, done, tmp_path):
    job = done.twin(tmp_path, **({"model": {"weights": "disk", "resident_blocks": 0}, "batch": {"group": 2}} if streamed else {}))
    rng = random.Random(11)
    job.run("--stop-after", 1, expect=STOPPED)
    for _ in range(2):
        process = job.start()
        time.sleep(rng.uniform(0.01, 0.08))
        process.kill()
        process.communicate()
        job.check_acknowledged(done.shards())
    while job.run("--stop-after", 1, expect=None).code == STOPPED:
        job.check_acknowledged(done.shards())
    job.check_finished(done.problems_count, done.shards())
    assert job.outcomes() == done.outcomes()


def test_a_run_keeps_what_it_began_with(done, tmp_path):
    """Another value of a key is refused by name; the dtype's own name is what it is kept in anyway."""
    job = done.twin(tmp_path)
    job.run("--stop-after", 1, expect=STOPPED)
    for keys in ({"reuse": "off"}, {"min_tokens": 25}, {"memory_gb": 1}):
        job.change(batch={"prefix": {**BATCH["prefix"], **keys}})
        refused = job.run(expect=JOB)
        assert f"batch.prefix.{next(iter(keys))}: stored " in refused.err, refused
    job.change(batch={"prefix": {**BATCH["prefix"], "keep": "float32"}})
    for _ in range(2):  # a launch that finds it finished looks at the identity too
        job.run()
        job.check_finished(done.problems_count, done.shards())


def test_damaged_notes(done, tmp_path):
    """What a run goes on from is what its identity names, or nothing is computed."""
    stopped = done.twin(tmp_path / "stopped")
    stopped.run("--stop-after", 1, expect=STOPPED)
    head, numbers = ("batch.prefixes.head", "batch.prefixes.survey")
    ids, = stopped.query("SELECT value FROM note WHERE key = ?", head)[0]
    told, = stopped.query("SELECT value FROM note WHERE key = ?", numbers)[0]
    tokens = told.split()[0]
    for number, (key, value) in enumerate([
            (head, None), (head, ""), (head, "no"), (head, "-1"), (head, ids + " 7"), (head, ids[:-1]), (head, "600000" + ids[3:]),
            (numbers, None), (numbers, "no"), (numbers, "0 0 0"), (numbers, f"{tokens} 1 0"), (numbers, f"{tokens} 99999 0"),
            (numbers, f"1 {told.split()[1]} 0"), (numbers, f"{2**64 - 1} {2**64 - 1} 1")]):
        job = done.twin(tmp_path / str(number))
        shutil.copytree(stopped.output, job.output)
        ledger = sqlite3.connect(job.ledger())
        ledger.execute("DELETE FROM note WHERE key = ?" if value is None else "UPDATE note SET value = ?2 WHERE key = ?1",
                       (key, value)[:1 + (value is not None)])
        ledger.commit()
        ledger.close()
        said = f"the ledger lacks the note '{key}'" if value is None else f"the ledger's note '{key}' is damaged"
        assert said in job.run(expect=DATA).last(), (key, value)
        assert job.shards() == stopped.shards()


def test_a_run_that_began_without_goes_on_without(done, tmp_path):
    """As one of a version that did not know of it: its identity says nothing, and what the job says now counts for nothing."""
    job = done.twin(tmp_path, batch={"prefix": {**BATCH["prefix"], "memory_gb": 0, "min_tokens": 500}})
    job.run("--stop-after", 1, expect=STOPPED)
    assert prefixes(job)[0] is None
    planned = " ".join(strata("plan", job.file).out.split())
    assert "prefixes texts are computed whole, as the run began" in planned, planned
    identity = job.query("SELECT key, value FROM identity ORDER BY key")
    for keys in ({"reuse": "off"}, BATCH["prefix"]):
        job.change(batch={"prefix": keys})
        assert strata("check", job.file).code == OK
        job.run("--stop-after", 1, expect=STOPPED)
    job.run()
    assert job.query("SELECT key, value FROM identity ORDER BY key") == identity
    check_same(support.read_latents(job), support.read_latents(done))


def test_parts(done, tmp_path):
    """Each finds its own, and none refuses another for it."""
    parts = Set(done.twin(tmp_path), 3)
    parts.run_all()
    found, ordinals = parts.latents()
    assert ordinals == list(range(done.problems_count))
    check_same(found, support.read_latents(done))
    said = {prefixes(parts.part(index))[0] for index in range(3)}
    assert None not in said
    assert strata("check", parts.job.file).code == OK
    assert strata("verify", parts.job.output).code == OK


def test_failed_problems_are_tried_again(tmp_path):
    """With the head of the run, whether or not their mended texts begin with it, and not from each other."""
    made = grouped()
    made[13]["steps"] *= 30
    broken = [dict(problem) for problem in made]
    for number in (3, 8, 13):
        broken[number]["statement"] += "\0"
    job = Job(tmp_path / "broken", broken, make_model(), problems={"text": "{statement}\n{steps}", "max_tokens": 512, "max_failed": 3},
              latents={"layers": "all"}, batch={**BATCH, "tokens": 4096})
    for problem in (*made, *broken):
        problem["statement"] = HEAD + problem["statement"]
    made[8]["statement"] = "Another beginning. " + made[8]["statement"]
    job.import_problems(broken)
    job.run()
    before = prefixes(job)[0]
    assert before.startswith("head of ")
    job.import_problems(made)
    job.run("--retry-failed")
    job.check_finished(len(made))
    assert prefixes(job)[0] == before
    reference = whole(job, tmp_path / "whole")
    reference.run()
    check_same(support.read_latents(job), support.read_latents(reference))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=needs_gpu)])
def test_what_is_not_finite_stays_in_its_text(device, tmp_path):
    """Others go on from a text in which a number is infinite, though only from the tokens before it. On a GPU they may fail with it,
    until they are tried again."""
    model = tmp_path / "model"
    shutil.copytree(make_model(), model)
    token = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]["Q"]
    row = 4 * 32
    support.change_tensor(model, "model.embed_tokens.weight",
                          lambda content: content[:token * row] + struct.pack("<32f", *[7e4] * 32) + content[(token + 1) * row:])
    made = grouped()[:11:5]  # solutions of one statement
    made[0]["statement"] += " Q"
    job = Job(tmp_path / "reuse", made, model, problems={"text": "{statement}\n{steps}", "max_tokens": 512, "max_failed": len(made)},
              model={"dtype": "float16", "device": device}, latents={"layers": "all"}, batch=BATCH)
    reference = whole(job, tmp_path / "whole")
    for one in (job, reference):
        one.program = support.EMULATED if device != "cpu" else one.program
        one.run(environment=ENV)
    lost = {key for key, (state, _) in reference.problems().items() if state == support.FAILED}
    assert lost == {"p-00000"}
    for key, (state, reason) in job.problems().items():
        if state == support.FAILED and key not in lost:
            assert device != "cpu" and reason.endswith("; it goes on from another text: --retry-failed computes it alone"), reason
    job.run("--retry-failed", environment=ENV)
    job.check_finished(len(made))
    check_same(support.read_latents(job), support.read_latents(reference))


def test_what_is_told(done, tmp_path):
    planned = strata("plan", done.twin(tmp_path / "new").file).out
    said, computed, texts = prefixes(done)
    head = int(re.match(r"head of (\d+) tokens \(SHA-256 [0-9a-f]{64}\), kept as float32; groups from 24 tokens$", said)[1])
    share = f"{100 * (1 - (computed + head) / texts):.1f} %"
    line = (f"{share} of the tokens are saved: {computed + head} of {texts} are computed, since texts begin alike; "
            f"a head of {head} tokens takes {head * 384 / 1000:.2f} kB of each device (bytes a token: float32 384); "
            "texts of a batch go on from each other from 24 tokens on")
    for text in (planned, (done.output / "run.log").read_text(), strata("plan", done.file).out):
        assert line in " ".join(text.split()), text
    assert f"tokens        {texts} (" in planned
    config = json.loads((make_model() / "config.json").read_text())
    state = 4 * config["hidden_size"] * (config["num_hidden_layers"] + 1)
    rows = " ".join(strata("plan", done.twin(tmp_path / "mean", latents={"pooling": "mean"}).file).out.split())
    assert f"a head of {head} tokens takes {head * (384 + state) / 1000:.2f} kB" in rows, rows  # of all its hidden states, too
    assert f" tokens are computed of {texts} since" in strata("status", done.output).out.replace(",", "")
    off = strata("plan", whole(done, tmp_path / "off").file).out
    assert "prefixes      texts are computed whole: batch.prefix.reuse is off" in off
    alone = Job(tmp_path / "alone", make_problems(12), make_model())
    assert "texts are computed whole: going on from what they have in common would save at most 5 % of" in " ".join(strata("plan", alone.file).out.split())
    alone.run()
    assert prefixes(alone)[0] is None
    assert f" {computed:,} tokens, " in " ".join(strata("log", done.output).out.split())
    assert strata("report", done.output, "--to", tmp_path / "report.html").code == OK
    assert f"tokens are computed of {texts:,}, since texts begin alike" in (tmp_path / "report.html").read_text()


def attributes(job):
    import h5py

    with h5py.File(sorted((job.output / "shards").glob("part-??????.h5"))[0]) as shard:
        return dict(shard.attrs)


def test_a_head_in_fewer_bits(done, tmp_path):
    """Says so in its shards and is near; what is not kept for texts of other heads has no part in it."""
    import numpy as np

    model = make_model("wide", head_dim=32)
    exact = make(tmp_path / "exact", True, True, model={"path": str(model)})
    exact.run()
    wanted = support.read_latents(exact)
    assert "head_kept_as" not in attributes(exact)
    errors = {}
    for keep in ("q8_0", "q4_0"):
        job = exact.twin(tmp_path / keep, batch={"prefix": {**BATCH["prefix"], "keep": keep}})
        job.run()
        again = job.twin(tmp_path / f"{keep}-streamed", model={"weights": "disk", "resident_blocks": 0})
        again.run()
        planned = " ".join(strata("plan", job.file).out.split())
        head = int(re.match(r"head of (\d+) tokens", prefixes(job)[0])[1])
        token = {"q8_0": 408, "q4_0": 216}[keep] + 1536 // 3  # and of one block as computed
        assert f"a head of {head} tokens takes {head * token / 1000:.2f} kB of each device (bytes a token: " in planned, planned
        assert f"(bytes a token: float32 1536, q8_0 408, q4_0 216) and is kept in {keep}, which was measured to" in planned, planned
        assert again.shards() == job.shards() and attributes(job)["head_kept_as"] == keep.encode()
        found = support.read_latents(job)
        off = [found[key]["hs_003"] - wanted[key]["hs_003"] for key in wanted]
        errors[keep] = float(np.sqrt(np.mean(np.square(np.concatenate(off)))))
        assert all(found[key]["hs_000"].tobytes() == wanted[key]["hs_000"].tobytes() for key in wanted)
    scale = float(np.sqrt(np.mean(np.square(np.concatenate([wanted[key]["hs_003"] for key in wanted])))))
    assert 0 < errors["q8_0"] < 0.02 * scale and errors["q8_0"] < errors["q4_0"] < 0.3 * scale


@pytest.mark.parametrize("keep, why", [("q8_0", "heads of block 0 have 8"), ("q4_0", "heads of block 0 have 8"),
                                       ("bfloat16", "batch.prefix.keep is bfloat16, and model.dtype is float32")])
def test_what_cannot_be_kept(keep, why, done, tmp_path):
    job = done.twin(tmp_path, batch={"prefix": {**BATCH["prefix"], "keep": keep}})
    for command in ("check", "plan", "run"):
        refused = strata(command, job.file)
        assert refused.code == JOB and why in " ".join((refused.out + refused.err).split()), refused
