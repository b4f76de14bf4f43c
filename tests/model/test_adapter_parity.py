# SPDX-License-Identifier: MIT
"""Hidden states with a LoRA adapter against transformers: of the model merged by torch in float32 and, where peft is installed, by peft."""
import importlib
import importlib.util

import numpy as np
import pytest

from adapters import Adapter
from parity import safetensors, torch, transformers

from test_parity import COSINES, DEVICES, make_goldens, token_cosines, token_errors, tool_states

LENGTHS = [1, 7, 33, 2]


def make(folder, name):
    config, dtype, shards, _, _ = make_goldens.variants()[name]
    make_goldens.write_checkpoint(str(folder), config, dtype, shards, make_goldens.list_tensors(name))
    return make_goldens.make_ids("adapter " + name, LENGTHS, config["vocab_size"])


def states_of(model, texts):
    with torch.no_grad():
        states = [torch.stack([state[0] for state in model(torch.tensor([text]), output_hidden_states=True).hidden_states])
                  for text in texts]
    return torch.cat(states, dim=1).numpy()


def base_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def merged_by_torch(folder, adapter, made):
    """As peft's LoraLayer.get_delta_weight and merge have it; the scale is the test's own."""
    model = base_model(folder)
    parts = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    for module in made.parts:
        a, b = (parts[f"base_model.model.{module}.lora_{letter}.weight"].float() for letter in "AB")
        model.get_submodule(module).weight.data += (b @ a) * float(made.scale(module))
    return model


def merged_by_peft(folder, adapter, _):
    peft = importlib.import_module("peft")
    return peft.PeftModel.from_pretrained(base_model(folder), str(adapter)).merge_and_unload()


MERGES = [merged_by_torch, *([merged_by_peft] if importlib.util.find_spec("peft") else [])]


@pytest.mark.parametrize("name, dtype, config", [
    ("qwen3", "F32", {"r": 5, "lora_alpha": 16}), ("qwen3-tied", "BF16", {"r": 8, "use_rslora": True}),
    ("qwen2-window", "F16", {"r": 3, "alpha_pattern": {"up_proj": 1}}), ("llama-bias", "F32", {"r": 16, "lora_alpha": 8}),
    ("mistral-window", "BF16", {"r": 2})])
def test_all_layers(name, dtype, config, tmp_path, monkeypatch):
    texts = make(tmp_path / "model", name)
    made = Adapter(tmp_path / "model", exact=False, **config)
    adapter = made.write(tmp_path / "adapter", dtype)
    plain = states_of(base_model(tmp_path / "model"), texts)
    monkeypatch.setenv("STRATA_TEST_ADAPTER", str(adapter))
    for merge in MERGES:
        wanted = states_of(merge(tmp_path / "model", adapter, made), texts)
        assert token_errors(wanted, plain)[-1].min() > 1e-3, "the adapter moves nothing"
        for device in DEVICES:
            exact = tool_states(tmp_path / "model", tmp_path, texts, "float32", 2, device)
            assert np.isfinite(exact).all()
            errors = token_errors(exact, wanted)
            assert errors.max() <= 1e-5, (merge.__name__, device, errors.max(axis=1))
            rounded = tool_states(tmp_path / "model", tmp_path, texts, "bfloat16", 2, device)
            assert token_cosines(rounded, wanted).min() >= COSINES["bfloat16"], (merge.__name__, device)
            print(f"{name} {merge.__name__} on {device}: float32 {errors.max():.1e}")
