# SPDX-License-Identifier: MIT
"""Adapters that are refused by name: what their configuration asks for, tensors, folders, files that are cut or changed anywhere."""
import json
import shutil

import numpy as np
import pytest

import support
from adapters import ALL, Adapter
from packed.numbers import Stored, store
from support import DATA, OK, Job, make_model, make_problems


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path, make_problems(2), make_model(), model={"adapter": "adapter"})


def refused(job, *words):
    checked = support.strata("check", job.file)
    said = " ".join(checked.out.split())
    assert checked.code == DATA and all(word in said for word in words), checked


CONFIGS = [
    ({"peft_type": "LOHA"}, "'peft_type' is 'LOHA'; only LORA is supported"),
    ({"peft_type": None}, "'peft_type' is 'missing'"),
    ({"r": 0}, "'r' is 0, outside 1 to 65536"),
    ({"r": 1e300}, "'r' is 1e+300, outside 1 to 65536"),
    ({"r": "4"}, "'r' is not a whole number"),
    ({"lora_alpha": float("nan")}, "'lora_alpha' is"),
    ({"lora_alpha": float("inf")}, "'lora_alpha' is"),
    ({"lora_alpha": 1e300}, "'lora_alpha' is 1e+300, which makes no finite scale for a rank of 4"),
    ({"rank_pattern": [1]}, "'rank_pattern' is not a map"),
    ({"rank_pattern": {"q_proj": 0}}, "'q_proj' is 0, outside"),
    ({"alpha_pattern": {"q_proj": "x"}}, "'alpha_pattern' has no finite number for 'q_proj'"),
    ({"alpha_pattern": {"q_proj": 1e300}}, "makes no finite scale"),
    ({"alpha_pattern": {"layers.[01].q_proj": 2}}, "'layers.[01].q_proj', and regular expressions are not supported"),
    ({"target_modules": [1]}, "'target_modules' is not a list of names"),
    ({"target_modules": {"q_proj": 1}}, "'target_modules' is not a list of names"),
    ({"target_modules": ["q_proj"]}, "tensors of 'model.layers.0.self_attn.k_proj', which its configuration leaves out"),
    ({"layers_to_transform": [1]}, "tensors of 'model.layers.0.self_attn.q_proj', which its configuration leaves out"),
    ({"target_modules": [*(name.split(".")[1] for name in ALL), "c_attn"]}, "'c_attn', which is no matrix of a block"),
    ({"layers_to_transform": ["0"]}, "'layers_to_transform' is not a list of numbers"),
    ({"layers_to_transform": [0], "layers_pattern": "h"}, "'layers_pattern' is not 'layers'"),
    ({"bias": "all"}, "'bias' is 'all'; only none is supported"),
    ({"modules_to_save": ["embed_tokens", "lm_head"]}, "'embed_tokens', a module that the adapter replaces"),
    ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes the model's own weights"),
    ({"init_lora_weights": 3}, "'init_lora_weights' is not"),
    ({"use_dora": True}, "'use_dora' is set, which is not supported"),
    ({"fan_in_fan_out": True}, "'fan_in_fan_out' is set"),
    ({"lora_bias": True}, "'lora_bias' is set"),
    ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "'target_parameters' is set"),
    ({"alora_invocation_tokens": [1, 2]}, "'alora_invocation_tokens' is set"),
    ({"trainable_token_indices": {"embed_tokens": [3]}}, "'trainable_token_indices' is set"),
    ({"layer_replication": [[0, 2], [1, 3]]}, "'layer_replication' is set"),
    ({"use_something_new": True}, "'use_something_new' is not known"),
]


@pytest.mark.parametrize("config, words", CONFIGS, ids=[str(list(config.items())[0])[:40] for config, _ in CONFIGS])
def test_configurations_that_are_refused(job, tmp_path, config, words):
    adapter = Adapter(make_model())
    folder = adapter.write(tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(json.dumps({**adapter.config, **config}))
    refused(job, "model.adapter: ", words)


def test_known_keys_that_change_nothing(job, tmp_path):
    Adapter(make_model(), use_something_new=None, megatron_config={}, init_lora_weights="gaussian", eva_config={"rho": 2.0},
            qalora_group_size=16, runtime_config={"ephemeral_gpu_offload": False}, revision="main").write(tmp_path / "adapter")
    assert job.run().said() == []


Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def ones(*shape):
    return store(np.ones(shape, np.float32), "F32")


TENSORS = [
    (lambda t: t.update({Q0: ones(4, 31)}), f"tensor '{Q0}' has shape [4, 31]; the model and the adapter's rank ask for [4, 32]"),
    (lambda t: t.update({Q0: ones(0, 32)}), "has shape [0, 32]"),
    (lambda t: t.update({Q0: ones(4, 32, 1)}), "has shape [4, 32, 1]"),
    (lambda t: t.update({Q0: ones(5, 32)}), "has shape [5, 32]"),
    (lambda t: t.update({Q0.replace("_A", "_B"): ones(4, 32)}), "has shape [4, 32]"),
    (lambda t: t.update({Q0: Stored("I32", np.ones((4, 32), np.int32))}), "has dtype I32"),
    (lambda t: t.update({Q0: store(np.full((4, 32), np.nan, np.float32), "F32")}), f"tensor '{Q0}' holds a NaN at [0, 0]"),
    (lambda t: t.update({Q0: store(np.where(np.arange(128).reshape(4, 32) == 70, -np.inf, 1).astype(np.float32), "BF16")}),
     f"tensor '{Q0}' holds an infinity at [2, 6]"),
    (lambda t: t.pop(Q0), "'model.layers.0.self_attn.q_proj' has lora_B and no lora_A"),
    (lambda t: [t.pop(Q0), t.pop(Q0.replace("_A", "_B"))], "there is no tensor of 'model.layers.0.self_attn.q_proj', which 'target_modules'"),
    (lambda t: t.update({Q0.replace(".0.", ".7."): ones(4, 32)}), "layers.7.self_attn.q_proj.lora_A.weight' has no place"),
    (lambda t: t.update({Q0.replace("q_proj", "q_norm"): ones(4, 8)}), "q_norm.lora_A.weight' has no place"),
    (lambda t: t.update({Q0.replace("lora_A.weight", "lora_A.default.weight"): ones(4, 32)}), "has no place in a qwen3 model of 3 layers"),
    (lambda t: t.update({Q0.replace("lora_A.weight", "lora_B.bias"): ones(32)}), "is a bias, which is not supported"),
    (lambda t: t.update({Q0.replace("lora_A.weight", "lora_magnitude_vector"): ones(32)}), "is of DoRA"),
    (lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": ones(4, 600)}), "an adapter of the embedding"),
    (lambda t: t.update({"base_model.model.model.embed_tokens.weight": ones(600, 32)}), "is the embedding itself"),
    (lambda t: t.update({"model.layers.0.self_attn.q_proj.lora_A.weight": ones(4, 32)}), "has no place"),
    (lambda t: t.clear(), "there is no tensor of 'model.layers.0.self_attn.q_proj'"),
]


@pytest.mark.parametrize("change, words", TENSORS, ids=[words[:40] for _, words in TENSORS])
def test_tensors_that_are_refused(job, tmp_path, change, words):
    adapter = Adapter(make_model())
    tensors = adapter.tensors()
    change(tensors)
    adapter.write(tmp_path / "adapter", tensors=tensors)
    if words.startswith("there is no tensor of 'model.layers.0.self_attn.q_proj'") and not tensors:
        words = "there is no tensor of 'layers.0.self_attn.q_proj'"
    refused(job, "adapter_model.safetensors", words)


def test_products_that_are_not_finite(job, tmp_path):
    """Found where the weights are loaded: each number of A and B is finite."""
    adapter = Adapter(make_model())
    adapter.parts["model.layers.1.mlp.up_proj"] = [np.full((4, 32), 1e30, np.float32), np.full((64, 4), 1e30, np.float32)]
    adapter.write(tmp_path / "adapter")
    done = job.run(expect=DATA)
    assert "'model.layers.1.mlp.up_proj.weight'" in done.last() and "what model.adapter adds to rows 0 to 63 is not finite" in done.last()


def test_a_tied_head(tmp_path):
    """Merged, it changes the embedding; applied, it does not."""
    model = tmp_path / "model"
    shutil.copytree(make_model(), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    adapter = Adapter(model, target_modules=["q_proj", "lm_head"], modules=("self_attn.q_proj",))
    adapter.config["target_modules"] = ["q_proj", "lm_head"]
    tensors = {**adapter.tensors(), "base_model.model.lm_head.lora_A.weight": ones(4, 32), "base_model.model.lm_head.lora_B.weight": ones(600, 4)}
    adapter.write(tmp_path / "adapter", tensors=tensors)
    refused(Job(tmp_path, make_problems(2), model, model={"adapter": "adapter"}), "a head that is tied to the embedding")


def test_folders_that_hold_no_adapter(job, tmp_path):
    refused(job, "model.adapter: there is no folder", "strata downloads nothing")
    folder = tmp_path / "adapter"
    folder.mkdir()
    refused(job, "holds no adapter_config.json")
    Adapter(make_model()).write(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(job, "a PyTorch pickle (adapter_model.bin)", "weights_only=True")
    (folder / "adapter_model.bin").unlink()
    refused(job, "holds no adapter_model.safetensors: was the download complete?")
    (folder / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    refused(job, "Git LFS pointer")
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF" + bytes(60))
    job.change(model={"adapter": "adapter.gguf"})
    refused(job, "is a GGUF file, of which adapters are not read")
    job.change(model={"adapter": "job.yaml"})
    refused(job, "is not a folder")


def test_files_that_are_cut_or_changed_anywhere(job, tmp_path):
    """None crashes, and none is taken for another adapter than it was: what still opens differs in numbers alone."""
    adapter = Adapter(make_model(), ("self_attn.q_proj",), blocks=(0, 1, 2))
    path = adapter.write(tmp_path / "adapter") / "adapter_model.safetensors"
    good = path.read_bytes()
    rng = np.random.default_rng(9)
    header = 8 + int.from_bytes(good[:8], "little")
    for size in (0, 7, 8, header - 1, header, len(good) - 1):
        path.write_bytes(good[:size])
        refused(job, "model.adapter: ", "adapter_model.safetensors")
    path.write_bytes(good + b"\0")
    refused(job, "belong to none")
    for _ in range(40):
        changed = bytearray(good)
        changed[int(rng.integers(0, header))] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(changed)
        checked = support.strata("check", job.file)
        assert checked.code in (OK, DATA), checked
