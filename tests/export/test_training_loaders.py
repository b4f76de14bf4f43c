# SPDX-License-Identifier: MIT
"""What strata-export writes for draft heads, through the trainers' own loaders (tools/requirements-loaders.txt): every text, and the
tensors that a training step gets."""

import collections
import importlib
import sys
import types

import numpy as np
import pytest

from export.drafts import AUXILIARY, BLOCKS, HIDDEN, make_drafts
from parity import torch
from strata_export import __main__ as program
from strata_reader import Run
from support import BUILD

LOADERS = BUILD / "venv" / "loaders"
LONGEST = 256


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    if not LOADERS.is_dir():
        pytest.skip("the trainers' loaders are not installed")
    return make_drafts(tmp_path_factory.mktemp("drafts")).output


@pytest.fixture
def loaders(monkeypatch):
    """Their packages, behind all others. speculators imports a client of vLLM's server, which a loader with on_missing=raise never calls."""
    def named(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})

    for name in ("openai", "openai.types", "openai.types.chat", "openai.types.completion"):
        module = types.ModuleType(name)
        module.__getattr__, module.__path__ = named, []
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "path", [*sys.path, str(LOADERS)])
    return importlib.import_module


VOCABULARY, MODEL = 64, 600


def both(drafts, tmp_path, name):
    words = [str(drafts), "--format", name, "--to", str(tmp_path / name), "--draft-vocab-size", str(VOCABULARY), "--vocab-size", str(MODEL)]
    assert program.main(words) == 0
    return tmp_path / name, {tuple(problem["tokens"].tolist()): problem for problem in Run(drafts, bfloat16="torch")}


def auxiliary(problem):
    return torch.cat([problem["latents"][layer] for layer in AUXILIARY], dim=1)


def test_speculators(drafts, tmp_path, loaders):
    folder, problems = both(drafts, tmp_path, "speculators")
    loaded = loaders("speculators.train.data")
    data = loaded.ArrowDataset(max_len=LONGEST, datapath=str(folder), on_missing="raise")
    assert len(data) == len(problems)
    for item in (data[index] for index in range(len(data))):
        problem = problems.pop(tuple(item["input_ids"].tolist()))
        assert torch.equal(item["hidden_states"], auxiliary(problem)) and item["hidden_states"].dtype == torch.bfloat16
        assert torch.equal(item["verifier_last_hidden_states"], problem["latents"]["pre_norm"])
        assert item["loss_mask"].tolist() == problem["loss_mask"].tolist()
    assert problems == {} and data.approx_lengths == [len(data[index]["input_ids"]) for index in range(len(data))]
    shift = loaders("speculators.models.eagle3.data").shift_batch
    batch = loaded.CollateFn(LONGEST, HIDDEN, len(AUXILIARY), preprocess=shift)([data[0], data[1]])
    assert batch["hidden_states"].shape == (1, LONGEST, len(AUXILIARY) * HIDDEN)
    mapped = loaders("speculators.train.vocab_mapping").build_vocab_mappings_from_distribution(
        torch.load(folder / "token_freq.pt", weights_only=True), VOCABULARY, MODEL)
    assert [np.load(folder / name).tolist() for name in ("d2t.npy", "t2d.npy")] == [values.tolist() for values in mapped]


def test_specforge(drafts, tmp_path, loaders):
    folder, problems = both(drafts, tmp_path, "specforge")
    eagle3 = loaders("specforge.algorithms.eagle3.data")
    references = eagle3.build_offline_reader(str(folder), run_id="run", ttt_length=2, max_len=LONGEST).read()
    assert len(references) == len(problems)
    read, normalize = loaders("specforge.runtime.data_plane.feature_store").load_feature_file, eagle3.build_offline_normalizer(LONGEST)
    for reference in references:
        item = normalize(read(reference.feature_store_uri[len("file://"):]))
        problem = problems.pop(tuple(item["input_ids"][0].tolist()))
        assert torch.equal(item["hidden_state"][0], auxiliary(problem)) and torch.equal(item["target"][0], problem["latents"][BLOCKS])
        assert item["loss_mask"][0].tolist() == [*problem["loss_mask"].tolist()[:-1], 0]
    assert problems == {}
    counts = collections.Counter(token for problem in Run(drafts) for token in problem["tokens"][problem["loss_mask"] == 1].tolist())
    theirs = loaders("specforge.data.preprocessing").process_token_dict_to_mappings(counts, VOCABULARY, MODEL)
    ours = torch.load(folder / "vocab_mapping" / "vocab_mapping.pt", weights_only=True)
    for mapping in (theirs, (ours["d2t"], ours["t2d"])):  # they may choose other tokens among the equally frequent
        tokens = (mapping[0] + torch.arange(VOCABULARY)).tolist()
        assert tokens == mapping[1].nonzero()[:, 0].tolist() and sum(counts[token] for token in tokens) == sum(
            times for _, times in counts.most_common(VOCABULARY))
