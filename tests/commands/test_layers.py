# SPDX-License-Identifier: MIT
"""latents.layers by name, and pre_norm: what is stored under which name, what a resume takes for the same, and what readers see."""
import json

import h5py
import numpy as np
import pytest

import support
from parity import tokenizers, torch, transformers
from strata_reader import Run
from support import JOB, OK, STOPPED, Job, make_problems, read_latents, strata

NAMES = ["pre_norm", "model.norm", "blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "layers.1"]
STORED = ["hs_000", "hs_001", "hs_002", "hs_003", "hs_003_pre_norm"]
PRE_NORM = "hs_003_pre_norm"


@pytest.fixture(scope="module")
def problems():
    return make_problems(10, seed=7)


@pytest.fixture(scope="module")
def base(problems, tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("layers"), problems, latents={"layers": NAMES, "pooling": "tokens"})
    job.run()
    return job


def test_pre_norm_is_what_the_last_block_gives(base, problems):
    model = support.make_model()
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    given = []
    network.get_submodule("model.layers.2").register_forward_hook(lambda module, inputs, output: given.append(output))
    found = read_latents(base)
    for problem in problems:
        text = problem["statement"] + "\n" + "\n".join(problem["steps"])
        ids = tokenizer.encode(text).ids[:base.keys["problems"]["max_tokens"]]
        with torch.no_grad():
            states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
        own = found[problem["problem_id"]]
        for name, expected in [*((f"hs_{i:03d}", state[0]) for i, state in enumerate(states)), (PRE_NORM, given.pop()[0])]:
            expected = expected.double().numpy()
            errors = np.linalg.norm(own[name] - expected, axis=1) / np.linalg.norm(expected, axis=1)
            assert errors.max() <= 1e-5, name
        assert not np.allclose(own[PRE_NORM], own["hs_003"], rtol=0.05)


@pytest.mark.parametrize("pooling", ["step_mean", "mean", "last"])
def test_pooling(base, tmp_path, pooling):
    job = base.twin(tmp_path, latents={"layers": ["model.layers.2"], "pooling": pooling})
    job.run()
    tokens = read_latents(base)
    for key, problem in read_latents(job).items():
        assert problem["rows"]
        for (_, first, last, *_), row in zip(problem["rows"], problem[PRE_NORM]):
            np.testing.assert_allclose(row, tokens[key][PRE_NORM][first:last].mean(0), rtol=1e-4, atol=1e-5)


# Texts in slices, blocks from their files, another grouping: the bits stay.
@pytest.mark.parametrize("changes", [{"batch": {"tokens": 64}}, {"model": {"weights": "disk", "resident_blocks": 1}},
                                     {"latents": {"layers": ["pre_norm"]}}])
def test_bits(base, tmp_path, changes):
    job = base.twin(tmp_path, **changes)
    job.run()
    found, expected = read_latents(job), read_latents(base)
    for key, problem in found.items():
        for name in [name for name in problem if name.startswith("hs_")]:
            assert problem[name].tobytes() == expected[key][name].tobytes(), (key, name)
        assert PRE_NORM in problem


def test_what_readers_see(base, tmp_path):
    for path in [*base.output.glob("shards/*.h5"), base.output / "latents.h5"]:
        with h5py.File(path) as file:
            assert sorted(file["latents"]) == sorted(file["statistics"]) == STORED
            said = file[f"latents/{PRE_NORM}"].attrs
            assert said["layer"] == b"pre_norm = output of block 3 of 3, before the final norm; not in transformers' hidden_states tuple"
            assert (said["block"], said["after_final_norm"], said["pre_norm"]) == (3, 0, 1) and "hidden_states_index" not in said
            assert list(file.attrs["layers"]) == [0, 1, 2, 3, 4]
    run = Run(base.output)
    stored = read_latents(base)
    assert run.layers == [0, 1, 2, 3, "pre_norm"]
    assert run[0]["latents"]["pre_norm"].tobytes() == stored[run.ids[0]][PRE_NORM].tobytes()
    assert np.array_equal(run.latents("pre_norm")[0], np.concatenate([stored[key][PRE_NORM] for key in run.ids]))
    with pytest.raises(KeyError, match="no hidden_states"):
        run.latents(4)
    assert f"  {PRE_NORM}  norm" in strata("show", base.output, run.ids[0]).out
    assert strata("verify", base.output).code == OK
    assert strata("report", base.output, "--to", tmp_path / "page.html").code == OK
    assert all(f"<td>{name}</td>" in (tmp_path / "page.html").read_text() for name in STORED)


def test_exports(base, tmp_path):
    stored = read_latents(base)
    for layers, names in (("pre_norm", [PRE_NORM]), ("-1,pre_norm", ["hs_003", PRE_NORM]), ("all", STORED)):
        to = tmp_path / layers
        assert strata("export", base.output, "--format", "npy", "--layers", layers, "--to", to).code == OK
        assert [layer["name"] for layer in json.loads((to / "export.json").read_text())["layers"]] == names
    entry = json.loads((tmp_path / "pre_norm" / "export.json").read_text())["layers"][0]
    assert entry["index"] == "pre_norm" and entry["negative_index"] is None and entry["hook"] == "blocks.2.hook_resid_post"
    assert entry["block"] == entry["blocks"] == 3 and entry["after_final_norm"] is False
    values = np.load(tmp_path / "all" / "all" / f"{PRE_NORM}.npy")
    assert np.array_equal(values, np.concatenate([stored[key][PRE_NORM] for key in Run(base.output).ids]))
    for format in ("safetensors", "hdf5", "rjepa"):
        assert strata("export", base.output, "--format", format, "--layers", "pre_norm", "--to", tmp_path / format).code == OK
    for layers in ("4", "pre_norm,pre_norm", "pre_normed", "pre_norm,"):
        assert strata("export", base.output, "--format", "npy", "--layers", layers, "--to", tmp_path / "none").code == 64


def test_other_words_for_the_same_layers_go_on(base, tmp_path):
    """Of a run that has a half: the rest has its identity, and the shards' bits are those of a run that was never stopped."""
    job = base.twin(tmp_path / "run", latents={"layers": [-2, "pre_norm"]}, run={"checkpoint_every": 1})
    whole = job.twin(tmp_path / "whole")
    whole.run()
    job.run("--stop-after", 2, expect=STOPPED)
    for layers in (["model.layers.1", "blocks.2.hook_resid_post"], ["layers.2", 2]):
        job.change(latents={"layers": layers})
        assert "that of the run" in strata("check", job.file).out
        job.run()
    assert [path.read_bytes() for path in sorted(job.output.glob("shards/*.h5"))] == \
        [path.read_bytes() for path in sorted(whole.output.glob("shards/*.h5"))]
    assert dict(job.query("SELECT key, value FROM identity"))["latents.layers"] == "[-2, pre_norm]"
    for layers in ([2], [2, 3], "all", ["model.layers.0", "pre_norm"]):
        job.change(latents={"layers": layers})
        assert "latents.layers" in job.run(expect=JOB).err


def test_check_and_plan_say_what_layers_are(base):
    for command in ("check", "plan"):
        said = strata(command, base.file).out
        assert "hidden_states[1] of 0..3 = output of block 1 of 3 (model.layers.0)" in said
        assert "hidden_states[0] of 0..3 = embedding output (model.embed_tokens)" in said
    assert "pre_norm = output of block 3 of 3, before the final norm (model.layers.2)" in said
    assert "hidden_states[3] of 0..3 = output of block 3 of 3, after the final norm (model.norm)" in said


def test_the_last_block_by_name_is_noted(base, tmp_path):
    job = base.twin(tmp_path, latents={"layers": ["model.layers.2"]})
    said = " ".join(strata("check", job.file).out.split())
    assert "model.layers.2 is the output of block 3 of 3 (pre_norm), which transformers' hidden_states do not have" in said
