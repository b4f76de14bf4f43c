# SPDX-License-Identifier: MIT
"""The tensors that family_tensors.py lists for published models hold as many numbers as transformers' models do; and every tiny model of
golden_variants.py has its golden, which test_parity.c compares with as soon as test_parity.py does."""
import json
import os
import re
import subprocess
import sys

import pytest

from support import SOURCE

sys.path.insert(0, str(SOURCE / "tools"))
import family_tensors  # noqa: E402
import make_goldens  # noqa: E402

FOLDER = SOURCE / "tests" / "model"
COUNTS = json.loads((FOLDER / "parameters.json").read_text())["parameters"]
TIED = ("gemma", "gpt2", "gpt-neo", "opt", "bloom", "smollm3", "starcoder2", "falcon", "mpt", "lfm2-8b")  # where the class says so and the file does not
BESIDE = ("vision", "visual", "multi_modal", ".indexer.")


def test_every_config_is_counted():
    assert sorted(COUNTS) == sorted(path.stem for path in (FOLDER / "configs").glob("*.json"))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_listed_tensors_are_all(name):
    config = json.loads((FOLDER / "configs" / f"{name}.json").read_text())
    listed = family_tensors.list_tensors(config, 1, head=False)
    names = [tensor.name for tensor in listed]
    assert len(set(names)) == len(names)
    assert sum(tensor.count() for tensor in listed if not any(part in tensor.name for part in BESIDE)) == COUNTS[name]


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_a_plan_counts_them_too(name, tmp_path):
    config = json.loads((FOLDER / "configs" / f"{name}.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run([os.path.join(os.environ["STRATA_BUILD"], "strata"), "plan", "--model", str(tmp_path), "--gpu", "80GB", "--json"],
                          capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)
    text = family_tensors.text_config(config)
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", name.startswith(TIED)))
    head = 0 if tied else text["vocab_size"] * family_tensors.hidden_size(config)
    assert plan["parameters"] - head == COUNTS[name]
    if plan["active_parameters"] != plan["parameters"]:
        assert family_tensors.is_mixture(config) and plan["active_parameters"] < plan["parameters"] / 2


@pytest.mark.parametrize("name", ["deepseek_v2", "gemma4-experts", "gemma4-inputs", "gpt_oss", "granitemoe", "granitemoehybrid", "lfm2",
                                  "llama4", "mixtral", "nemotron_h-latent", "qwen3_5_moe", "qwen3_next"])
def test_this_machine_is_measured_for_any_family(name, tmp_path):
    """Where a family has no MLP beside its experts, latents or another mixer, a block of the same sizes stands for its own."""
    (tmp_path / "config.json").write_text(json.dumps(make_goldens.variants()[name][0]))
    done = subprocess.run([os.path.join(os.environ["STRATA_BUILD"], "strata"), "plan", "--model", str(tmp_path), "--tokens", "64", "--json"],
                          capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert json.loads(done.stdout)["parameters"] > 0


def test_every_variant_has_its_golden():
    stored = {path.stem for path in (FOLDER / "goldens").glob("*.f32")}
    assert stored == set(make_goldens.variants())
    for name in stored:
        golden = json.loads((FOLDER / "goldens" / f"{name}.json").read_text())
        config = make_goldens.variants()[name][0]
        assert golden["config"] == config, name
        projected = config.get("word_embed_proj_dim", golden["hidden"]) != golden["hidden"]  # and the last state, which is not there
        assert golden["layers"] == family_tensors.layer_count(config) - projected, name
        assert golden["hidden"] == family_tensors.hidden_size(config), name
        assert golden["tensors"] == [[t.name, t.shape, t.mean, t.amplitude, t.gap, f"{t.state:016x}"]
                                     for t in make_goldens.list_tensors(name)], name


def test_the_goldens_of_what_is_computed_are_compared_with():
    tables = re.findall(r"golden_(?:names|families)\[\] = \{(.*?)\};", (FOLDER / "golden.h").read_text(), re.S)
    assert sorted(re.findall(r'"([^"]+)"', "".join(tables))) == sorted(make_goldens.variants())
