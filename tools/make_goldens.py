#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/model/goldens: hidden states of tiny seeded checkpoints as transformers computes them (float32, eager).

Every family with every flag that is supported; texts of lengths 1, odd, beyond the sliding window and beyond the original
context. The checkpoints themselves are not stored: their tensors are streams of numbers that the C tests and this script
both make. Needs torch and transformers; run it again, with its name, only when a variant is added.
"""
import copy
import json
import os
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_tensors  # noqa: E402
import golden_variants  # noqa: E402
import make_model  # noqa: E402
from golden_variants import without  # noqa: E402
from router_margins import MARGIN, ROUTERS, margin_of, routes_of  # noqa: E402

SEED = 20240607
HALVES = {"f16_errors": "float16", "bf16_errors": "bfloat16"}  # of transformers' own computation in each, by layer
COSINES = {"float16": 0.999985, "bfloat16": 0.9996}  # the least of a token that transformers' own halves may have: the tests ask less


def base(family, **changes):
    config = {"model_type": family, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48, "vocab_size": 96, "hidden_act": "silu",
              "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
    config.update(changes)
    return config


def llama_scaled(theta=10000.0, **scaling):
    return base("llama", max_position_embeddings=24, rope_theta=theta, rope_scaling=scaling)


def variants():
    """name -> (config, dtype of the file, shards, text lengths, changes of the config that must move a state)"""
    texts = [1, 7, 41, 20]
    plain_rope = {"rope_scaling": None}
    return {
        "qwen3": (base("qwen3", rope_theta=1000000.0), "F32", 1, texts, {"rope_theta": 10000.0}),
        "qwen3-tied": (base("qwen3", tie_word_embeddings=True, num_attention_heads=6, num_key_value_heads=2, hidden_size=40,
                            intermediate_size=56, rms_norm_eps=1e-5), "BF16", 3, texts, {"rms_norm_eps": 1e-2}),
        "qwen3-bias-window": (without(base("qwen3", attention_bias=True, use_sliding_window=True, sliding_window=9,
                                           max_window_layers=1, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}),
                                      "rope_theta"), "F32", 1, texts, {"use_sliding_window": False}),
        "qwen2-window": (without(base("qwen2", use_sliding_window=True, sliding_window=12, max_window_layers=2,
                                      num_key_value_heads=1), "head_dim"), "F16", 1, texts, {"use_sliding_window": False}),
        "qwen2-layer-types": (base("qwen2", use_sliding_window=True, sliding_window=5, tie_word_embeddings=True,
                                   layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
                              "BF16", 2, texts, {"layer_types": ["full_attention"] * 3}),
        "llama": (without(base("llama", num_key_value_heads=4), "head_dim"), "F32", 1, texts, {"rope_theta": 100.0}),
        "llama-bias": (base("llama", attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5), "F32", 2, texts, {}),
        "llama-linear": (llama_scaled(type="linear", factor=4.0), "F32", 1, texts, plain_rope),
        "llama-dynamic": (llama_scaled(rope_type="dynamic", factor=2.0), "F32", 1, [24, 25, 1, 41, 9], plain_rope),
        "llama-llama3": (llama_scaled(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=16), "F32", 1, texts, plain_rope),
        # theta and betas put both ends of yarn's ramp inside the eight frequencies
        "llama-yarn": (llama_scaled(100.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=0.8,
                                    beta_slow=0.1), "F16", 1, texts, plain_rope),
        "llama-yarn-mscale": (llama_scaled(100.0, rope_type="yarn", factor=None, original_max_position_embeddings=8,
                                           beta_fast=0.6, beta_slow=0.05, mscale=0.8, mscale_all_dim=0.4, truncate=False),
                              "F32", 1, texts, plain_rope),
        "mistral-window": (base("mistral", sliding_window=10, head_dim=24, num_attention_heads=3, num_key_value_heads=1,
                                rms_norm_eps=1e-5), "BF16", 2, texts, {"sliding_window": None}),
        "mistral-full": (base("mistral", sliding_window=None, num_attention_heads=6, num_key_value_heads=3, head_dim=8),
                         "F32", 1, texts, {"sliding_window": 10}),
        # heads that keys and values kept in blocks of 32 numbers can be of
        "qwen3-wide-heads": (base("qwen3", head_dim=32, num_attention_heads=2, num_key_value_heads=1), "F32", 1, texts,
                             {"rope_theta": 100.0}),
        **golden_variants.all_variants(),
    }


def make_ids(name, lengths, vocabulary):
    state = make_model.name_seed(SEED, "ids of " + name)
    every = ((make_model.uniform(state, 0, sum(lengths)) + 1) / 2 * vocabulary).astype(int).tolist()
    texts, first = [], 0
    for length in lengths:
        texts.append(every[first:first + length])
        first += length
    return texts


def list_tensors(name, config=None):
    """The tensors of a variant (with another config: of a change of it), under the names that its file has."""
    tensors = family_tensors.list_tensors(config or variants()[name][0], SEED)
    for before, after in golden_variants.RENAMED.get(name, []):
        for tensor in tensors:
            if tensor.name.startswith(before):
                tensor.name = after + tensor.name[len(before):]
    return tensors


def write_checkpoint(folder, config, dtype, shards, tensors):
    """The output head is always among the tensors of an untied model, to be ignored."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    make_model.write_weights(folder, tensors, dtype, shards)


def write_variant(folder, name):
    """Returns the config."""
    config, dtype, shards, _, _ = variants()[name]
    write_checkpoint(folder, config, dtype, shards, list_tensors(name))
    return config


def check_loaded(folder, info):
    """Every tensor of the language model was there, and no other. Of the towers beside it, files of goldens have a few only."""
    missing = [key for key in info["missing_keys"] if not any(word in key for word in ("vision", "visual", "multi_modal"))]
    unexpected = [key for key in info["unexpected_keys"] if "lm_head" not in key and "embed_out" not in key]
    if missing or unexpected or info["mismatched_keys"]:
        sys.exit(f"{folder}: missing {missing}, unexpected {unexpected}, of other shapes {info['mismatched_keys']}")


def load(folder, dtype):
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with open(os.path.join(folder, "config.json")) as file:
        mixture = {"experts_implementation": "eager"} if family_tensors.is_mixture(json.load(file)) else {}
    model, info = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True,
                                            **mixture)
    check_loaded(folder, info)
    if type(model).__name__ == "Llama4ForConditionalGeneration":  # whose own forward asks texts alone for what images leave
        model = model.get_decoder()
    return model.eval()


def find_module(model, name):
    """The module that has this name in the class with a head: the base model's own lacks the first part, or the first two."""
    modules = dict(model.named_modules())
    return modules[next(part for part in (name, *(name.split(".", count)[-1] for count in (1, 2))) if part in modules)]


def hidden_states(folder, texts, dtype="float32", routes=None, outputs=None):
    """[layers + 1, tokens, hidden] float32 of the texts one after another, each as a fresh call to the base model. `routes` collects
    what the routers of mixtures answer, call after call: how near they are to another choice, and chosen experts. `outputs` has
    modules' names as keys, and gets what these give: [tokens, hidden] float32."""
    import torch

    def hook(module, inputs, outputs):
        routes.append([margin_of(module, inputs, outputs), routes_of(module, outputs)[1]])

    def take(name):
        def hook(module, inputs, out):
            given[name].append((out[0] if isinstance(out, tuple) else out)[0].float().numpy())
        return hook

    given = {name: [] for name in outputs or ()}

    def start():
        model = load(folder, dtype)
        for name in given:
            find_module(model, name).register_forward_hook(take(name))
        for module in model.modules() if routes is not None else ():
            if type(module).__name__.lower().endswith(ROUTERS):
                module.register_forward_hook(hook)
        return model

    model, states = start(), []
    stateful = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type") == "dynamic"
    with torch.no_grad():
        for text in texts:
            if stateful:
                model = start()
            out = model(torch.tensor([text]), output_hidden_states=True, use_cache=False)
            # The last one of OPT-350m has another width: no run has it.
            wide = [state[0].float() for state in out.hidden_states if state.shape == out.hidden_states[0].shape]
            states.append(torch.stack(wide).numpy())
    for name, parts in given.items():
        outputs[name] = np.concatenate(parts)
    return np.concatenate(states, axis=1)


def layer_errors(states, reference):
    """Relative error of each layer over all tokens."""
    difference = np.linalg.norm((states - reference).astype(np.float64), axis=(1, 2))
    return difference / np.linalg.norm(reference.astype(np.float64), axis=(1, 2))


def least_cosine(states, reference):
    states, reference = states.astype(np.float64), reference.astype(np.float64)
    return ((states * reference).sum(2) / (np.linalg.norm(states, axis=2) * np.linalg.norm(reference, axis=2))).min()


def is_clear(folder, texts):
    """No token is near another choice of experts, so that rounding changes none, and transformers' own halves are near float32."""
    routes = []
    states = hidden_states(folder, texts, routes=routes)
    return all(route[0] >= MARGIN for route in routes) and all(
        least_cosine(hidden_states(folder, texts, half), states) >= least for half, least in COSINES.items())


def clear_texts(folder, name, lengths, vocabulary):
    for attempt in range(300):
        texts = make_ids(f"{name} {attempt}" if attempt > 0 else name, lengths, vocabulary)
        if is_clear(folder, texts):
            return texts
    sys.exit(f"{name}: of 300 choices of texts, each has a token that rounding moves too far")


def count_flips(routes, others):
    return int(sum((a[1] != b[1]).any(axis=1).sum() for a, b in zip(routes, others, strict=True)))


def make_variant(name, folder):
    """The variant's description for the C test, its float32 states, and how far each change of a flag moves them."""
    config, dtype, shards, lengths, change = variants()[name]
    path = os.path.join(folder, name)
    write_variant(path, name)
    texts = clear_texts(path, name, lengths, family_tensors.text_config(config)["vocab_size"])
    routes, own, moved = [], {}, {}
    states = hidden_states(path, texts, routes=routes)
    for key, half in HALVES.items():
        others = []
        rounded = hidden_states(path, texts, half, others)
        own[key] = layer_errors(rounded, states).tolist()
        if count_flips(routes, others) > 0:
            sys.exit(f"{name}: in {half}, tokens have other experts")
    if change:
        changed = {**copy.deepcopy(config), **change}
        write_checkpoint(path + "-changed", changed, dtype, shards, list_tensors(name, changed))
        moved["config"] = float(layer_errors(hidden_states(path + "-changed", texts), states).max())
    for kind in sorted({tensor.kind for tensor in list_tensors(name)} - {""}):
        moved[kind] = move_without(path + "-" + kind, name, kind, texts, states)
    description = {"layers": len(states) - 1, "hidden": states.shape[2], "config": config, "dtype": dtype, "shards": shards,
                   "texts": texts, **own,
                   "tensors": [[t.name, t.shape, t.mean, t.amplitude, t.gap, f"{t.state:016x}"] for t in list_tensors(name)]}
    return description, states, moved


def move_without(path, name, kind, texts, states):
    """How far the states move when the tensors of a kind are neutral: norms of 1, biases of 0."""
    config, dtype, shards, _, _ = variants()[name]
    tensors = list_tensors(name)
    for tensor in tensors:
        if tensor.kind == kind:
            tensor.amplitude = tensor.gap = 0.0
    write_checkpoint(path, config, dtype, shards, tensors)
    return float(layer_errors(hidden_states(path, texts), states).max())


def main():
    """Of all variants, or of those named."""
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model", "goldens")
    os.makedirs(target, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or variants():
            description, states, moved = make_variant(name, folder)
            for flag, distance in moved.items():
                if not distance >= 1e-3:
                    sys.exit(f"{name}: {flag} moves the states by {distance:.2e} only")
            with open(os.path.join(target, name + ".json"), "w") as file:
                json.dump(description, file, separators=(",", ":"))
                file.write("\n")
            states.astype("<f4").tofile(os.path.join(target, name + ".f32"))
            print(f"{name}: errors of transformers", ", ".join(f"{dtype} {max(description[key]):.2e}" for key, dtype in HALVES.items()),
                  "moved by",
                  ", ".join(f"{flag} {distance:.1e}" for flag, distance in moved.items()))


if __name__ == "__main__":
    main()
