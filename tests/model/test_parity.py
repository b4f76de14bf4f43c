# SPDX-License-Identifier: MIT
"""Every variant of tools/make_goldens.py, live: hidden states of all layers from the tool against transformers, by name."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from packed.cases import case
from parity import tokenizers

SOURCE = os.environ["STRATA_SOURCE"]
TOOL = os.path.join(os.environ["STRATA_BUILD"], "tests", "model_tool_hidden")
# The same on the emulated GPU, where that is built (tests/cuda_emulation).
EMULATED_TOOL = os.path.join(os.environ["STRATA_BUILD"], "tests", "cuda_emulation", "cuda_emulated_tool_hidden")
DEVICES = {"cpu": TOOL, **({"cuda:0": EMULATED_TOOL} if os.path.exists(EMULATED_TOOL) else {})}
sys.path.insert(0, os.path.join(SOURCE, "tools"))
import make_goldens  # noqa: E402

# Beside the goldens' lengths: single tokens in a row, odd ones, far beyond every window and original context.
LENGTHS = [1, 1, 3, 64, 2, 97, 33]
FURTHER_LENGTHS = [1, 3, 70, 2, 29]  # of further families; and of their mixtures of experts
FEW_LENGTHS = [1, 2, 17]
SPARED = ("float16", "bfloat16")  # on the emulated GPU, variants of further families run in one of them, by turns
COSINES = {"bfloat16": 0.9995, "float16": 0.99998}  # the least of a token, in halves


def tool_states(folder, work, texts, dtype, threads, device="cpu", tokens=None, modules=None):
    """`modules`, a list, gets the name of the module whose output each state is; the last state is then pre_norm."""
    layout = [len(texts), *map(len, texts), *(token for text in texts for token in text)]
    np.array(layout, dtype=np.int32).tofile(work / "texts.i32")
    environment = {**os.environ, "STRATA_TEST_DEVICE": device, **({} if modules is None else {"STRATA_TEST_PRE_NORM": "1"})}
    done = subprocess.run([DEVICES[device], str(folder), dtype, str(threads), str(work / "texts.i32"), str(work / "out.f32"),
                           *([] if tokens is None else [str(tokens)])], check=True, env=environment, stdout=subprocess.PIPE, text=True)
    if modules is not None:
        modules[:] = done.stdout.splitlines()
    with open(os.path.join(folder, "config.json")) as file:
        hidden = make_goldens.family_tensors.hidden_size(json.load(file))
    return np.fromfile(work / "out.f32", dtype=np.float32).reshape(-1, sum(map(len, texts)), hidden)


def states_by_name(folder, texts, modules, dtype="float32"):
    """Of transformers: the tuple's, which are what the modules of these names give, and behind them the last one's output."""
    outputs = dict.fromkeys(filter(None, modules))
    states = make_goldens.hidden_states(str(folder), texts, dtype, outputs=outputs)
    assert len(states) == len(modules) - 1
    for state, name in zip(states, modules):
        assert not name or np.array_equal(state, outputs[name]), name
    return np.concatenate([states, outputs[modules[-1]][None]])


def token_errors(states, reference):
    states, reference = states.astype(np.float64), reference.astype(np.float64)
    return np.linalg.norm(states - reference, axis=2) / np.linalg.norm(reference, axis=2)


def token_cosines(states, reference):
    states, reference = states.astype(np.float64), reference.astype(np.float64)
    return (states * reference).sum(2) / (np.linalg.norm(states, axis=2) * np.linalg.norm(reference, axis=2))


def least_cosine(dtype, own, reference):
    """Of a token: where the worst of transformers' own in that type is far, thrice as far. One token's error is mostly chance, and
    processors round products of halves differently; over all tokens of a layer the errors are held to 1.2."""
    return min(COSINES[dtype], 1 - 3 * (1 - token_cosines(own, reference).min()))


NAMES = sorted(make_goldens.variants())
FURTHER = make_goldens.golden_variants.all_variants()


def live_texts(name, folder, config):
    """Of a mixture of experts, few, of which no token is near another choice of experts."""
    inner = make_goldens.family_tensors.text_config(config)
    if make_goldens.family_tensors.is_mixture(config):
        return make_goldens.clear_texts(str(folder), "live " + name, FEW_LENGTHS, inner["vocab_size"])
    return make_goldens.make_ids("live " + name, FURTHER_LENGTHS if name in FURTHER else LENGTHS, inner["vocab_size"])


@pytest.mark.parametrize("name", NAMES)
def test_all_layers(name, tmp_path):
    folder = tmp_path / "model"
    texts = live_texts(name, folder, make_goldens.write_variant(str(folder), name))
    modules = []
    states = {device: tool_states(folder, tmp_path, texts, "float32", 1, device, modules=modules) for device in DEVICES}
    reference = states_by_name(folder, texts, modules)
    halves = {dtype: states_by_name(folder, texts, modules, dtype) for dtype in COSINES}

    for device, exact in states.items():
        assert np.isfinite(exact).all()
        errors = token_errors(exact, reference)
        assert errors.max() <= 1e-5, (device, errors.max(axis=1))

        for dtype, own in halves.items():
            if device != "cpu" and name in FURTHER and dtype == SPARED[NAMES.index(name) % 2]:
                continue
            rounded = tool_states(folder, tmp_path, texts, dtype, 2, device, modules=modules)
            assert np.isfinite(rounded).all()
            cosines = token_cosines(rounded, reference)
            least = least_cosine(dtype, own, reference)
            assert cosines.min() >= least, (device, dtype, least, cosines.min(axis=1))
            own_errors = make_goldens.layer_errors(own, reference)
            ratios = make_goldens.layer_errors(rounded, reference) / np.maximum(own_errors, 1e-12)
            assert (make_goldens.layer_errors(rounded, reference) <= 1.2 * own_errors).all(), (device, dtype, ratios)
            print(f"{name} on {device}: float32 {errors.max():.1e}, {dtype} cosine {cosines.min():.7f}, ratio {ratios.max():.3f}")


# Longer than a batch, so that it runs in slices: 4 of them.
@pytest.mark.parametrize("name", ["qwen3", "qwen2-layer-types", "llama-dynamic", "llama-yarn", "mistral-window", "llama4-dense"])
def test_a_text_in_slices(name, tmp_path):
    folder = tmp_path / "model"
    config = make_goldens.write_variant(str(folder), name)
    texts = make_goldens.make_ids("long " + name, [609], config["vocab_size"])
    modules = []
    exact = tool_states(folder, tmp_path, texts, "float32", 2, tokens=192, modules=modules)
    reference = states_by_name(folder, texts, modules)
    assert np.isfinite(exact).all()
    errors = token_errors(exact, reference)
    assert errors.max() <= 1e-5, errors.max(axis=1)
    own = states_by_name(folder, texts, modules, "bfloat16")
    rounded = tool_states(folder, tmp_path, texts, "bfloat16", 2, tokens=192, modules=modules)
    cosines = token_cosines(rounded, reference)
    assert cosines.min() >= least_cosine("bfloat16", own, reference), cosines.min(axis=1)
    ratios = make_goldens.layer_errors(rounded, reference) / np.maximum(make_goldens.layer_errors(own, reference), 1e-12)
    assert (ratios <= 1.2).all(), ratios
    print(f"{name} in slices: float32 {errors.max():.1e}, bfloat16 cosine {cosines.min():.7f}")


# What AWQ and GPTQ are run in by those who made them; transformers gets the numbers that the codes stand for.
@pytest.mark.parametrize("name", ["awq", "gptq-act-order", "gptq-8-bit", "nf4-double"])
def test_packed_weights_in_float16(name, tmp_path):
    made = case(name)
    folder, exact = made.write(tmp_path / "packed"), str(made.write_twin(tmp_path / "exact"))
    texts = make_goldens.make_ids("packed " + name, LENGTHS, 250)
    reference = make_goldens.hidden_states(exact, texts)
    own = make_goldens.layer_errors(make_goldens.hidden_states(exact, texts, "float16"), reference)
    for device in DEVICES:
        rounded = tool_states(folder, tmp_path, texts, "float16", 2, device)
        errors = make_goldens.layer_errors(rounded, reference)
        assert (errors <= 1.2 * own).all(), (device, errors / np.maximum(own, 1e-12))
        print(f"{name} on {device}: ratio {(errors / np.maximum(own, 1e-12)).max():.3f}")


def test_the_emulated_gpu_is_compared_too():
    if "cuda:0" not in DEVICES:
        pytest.skip("built without the emulation of CUDA")


def test_goldens_are_what_the_script_makes(tmp_path):
    for name in ("qwen3", "mistral-window"):
        description, states, moved = make_goldens.make_variant(name, str(tmp_path))
        with open(os.path.join(SOURCE, "tests", "model", "goldens", name + ".json")) as file:
            assert json.load(file)["tensors"] == description["tensors"]
        stored = np.fromfile(os.path.join(SOURCE, "tests", "model", "goldens", name + ".f32"), dtype=np.float32)
        assert token_errors(states, stored.reshape(states.shape)).max() <= 1e-5
        assert moved and all(distance >= 1e-3 for distance in moved.values()), moved


def run_make_model(folder, corpus, *more):
    subprocess.run([sys.executable, os.path.join(SOURCE, "tools", "make_model.py"), "--to", str(folder), "--family", "qwen3",
                    "--hidden", "32", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--head-dim", "16",
                    "--intermediate", "64", "--shards", "3", *more, "--corpus", str(corpus)], check=True)


def test_make_model_is_repeatable_and_loads_in_transformers(tmp_path):
    corpus = tmp_path / "texts.jsonl"
    with open(corpus, "w") as file:
        for number in range(200):
            file.write(json.dumps({"id": number, "statement": f"Find {number} + {number * 7}, then halve it: été {number}",
                                   "steps": ["Step 1: add them", f"Step 2: halve {number * 8}"]}) + "\n")
    for folder in ("a", "b"):
        run_make_model(tmp_path / folder, corpus, "--vocabulary", "600")
    names = sorted(os.listdir(tmp_path / "a"))
    assert "model-00003-of-00003.safetensors" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json"))
    text = "Step 1: halve 42 été <|im_end|> 東京"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text and max(ids) < 600
    reference = make_goldens.hidden_states(str(tmp_path / "a"), [ids])
    states = tool_states(tmp_path / "a", tmp_path, [ids], "float32", 1)
    assert token_errors(states, reference).max() <= 1e-5
    assert 1 < np.linalg.norm(reference, axis=2).max() < 100
