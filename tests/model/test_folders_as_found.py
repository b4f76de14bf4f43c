# SPDX-License-Identifier: MIT
"""Model folders that are not quite as save_pretrained leaves them: what transformers computes of them, or that it refuses them too."""
import json
import os
import subprocess

import numpy as np
import pytest

from parity import safetensors, torch, transformers

from test_parity import TOOL, make_goldens, token_errors, tool_states

LENGTHS = [1, 7, 33]


def make(folder, name="qwen3", **changes):
    config, dtype, _, _, _ = make_goldens.variants()[name]
    make_goldens.write_checkpoint(str(folder), config, dtype, 1, make_goldens.list_tensors(name))
    change_config(folder, **changes)
    return config["vocab_size"]


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def reference(folder, texts):
    """Of the whole model, with its head: only that ties the embedding to it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        states = [torch.stack([state[0] for state in model(torch.tensor([text]), output_hidden_states=True).hidden_states])
                  for text in texts]
    return torch.cat(states, dim=1).numpy()


def compare(folder, work, vocabulary):
    texts = make_goldens.make_ids("as found", LENGTHS, vocabulary)
    wanted = reference(folder, texts)
    states = tool_states(folder, work, texts, "float32", 1)
    assert states.shape == wanted.shape and np.isfinite(states).all()
    assert token_errors(states, wanted).max() <= 1e-5


@pytest.mark.parametrize("name", ["qwen3", "llama", "llama-bias"])
def test_fewer_blocks_than_the_file_has(name, tmp_path):
    vocabulary = make(tmp_path / "model", name, num_hidden_layers=2)
    compare(tmp_path / "model", tmp_path, vocabulary)


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_a_tied_embedding_that_is_there_as_the_head(name, tmp_path):
    vocabulary = make(tmp_path / "model", name, tie_word_embeddings=True)
    change_tensors(tmp_path / "model", lambda tensors: tensors.pop("model.embed_tokens.weight"))
    compare(tmp_path / "model", tmp_path, vocabulary)


def test_a_tied_embedding_beside_another_head(tmp_path):
    vocabulary = make(tmp_path / "model", tie_word_embeddings=True)
    change_tensors(tmp_path / "model", lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"] + 1}))
    compare(tmp_path / "model", tmp_path, vocabulary)


def test_a_null_size_of_heads(tmp_path):
    """Only qwen3's class has no null: transformers refuses it, and so does the program, by name."""
    vocabulary = make(tmp_path / "llama", "llama", head_dim=None)
    compare(tmp_path / "llama", tmp_path, vocabulary)
    make(tmp_path / "qwen3", "qwen3", head_dim=None)
    with pytest.raises(Exception, match="head_dim"):
        transformers.AutoConfig.from_pretrained(tmp_path / "qwen3")
    np.array([1, 1, 0], dtype=np.int32).tofile(tmp_path / "one.i32")
    done = subprocess.run([TOOL, tmp_path / "qwen3", "float32", "1", tmp_path / "one.i32", tmp_path / "out"],
                          capture_output=True, text=True, env=os.environ)
    assert done.returncode == 65 and "'head_dim' is null, which qwen3 does not define" in done.stderr, done.stderr


@pytest.mark.parametrize("written", ["NaN", "-Infinity", "1" + 30 * "0", "1e999"])
def test_numbers_of_python_in_keys_that_nobody_reads(written, tmp_path):
    vocabulary = make(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text('{"rms_norm_eps": 5, "router_aux_loss_coef": %s, %s' % (written, path.read_text().lstrip("{ \n")))
    compare(tmp_path / "model", tmp_path, vocabulary)
