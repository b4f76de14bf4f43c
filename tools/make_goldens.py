#!/usr/bin/env python3
"""Makes tests/model/goldens: hidden states of tiny seeded checkpoints as transformers computes them (float32, eager).

Every family with every flag that is supported; texts of lengths 1, odd, beyond the sliding window and beyond the original
context. The checkpoints themselves are not stored: their tensors are streams of numbers that the C tests and this script
both make. Needs torch and transformers; run it again only when a variant is added.
"""
import copy
import json
import os
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_model  # noqa: E402

SEED = 20240607
HALVES = {"f16_errors": "float16", "bf16_errors": "bfloat16"}  # of transformers' own computation in each, by layer


def base(family, **changes):
    config = {"model_type": family, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48, "vocab_size": 96, "hidden_act": "silu",
              "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
    config.update(changes)
    return config


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


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
    }


def make_ids(name, lengths, vocabulary):
    state = make_model.name_seed(SEED, "ids of " + name)
    every = ((make_model.uniform(state, 0, sum(lengths)) + 1) / 2 * vocabulary).astype(int).tolist()
    texts, first = [], 0
    for length in lengths:
        texts.append(every[first:first + length])
        first += length
    return texts


def write_checkpoint(folder, config, dtype, shards, tensors=None):
    """Returns the tensors. The output head is always there, to be ignored."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    tensors = tensors or make_model.list_tensors(config, SEED)
    make_model.write_weights(folder, tensors, dtype, shards)
    return tensors


def hidden_states(folder, texts, dtype="float32"):
    """[layers + 1, tokens, hidden] float32 of the texts one after another, each as a fresh call to the base model."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    def load():
        model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="eager")
        return model.eval()

    model, states = load(), []
    stateful = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type") == "dynamic"
    with torch.no_grad():
        for text in texts:
            if stateful:
                model = load()
            out = model(torch.tensor([text]), output_hidden_states=True, use_cache=False)
            states.append(torch.stack([state[0].float() for state in out.hidden_states]).numpy())
    return np.concatenate(states, axis=1)


def layer_errors(states, reference):
    """Relative error of each layer over all tokens."""
    difference = np.linalg.norm((states - reference).astype(np.float64), axis=(1, 2))
    return difference / np.linalg.norm(reference.astype(np.float64), axis=(1, 2))


def make_variant(name, folder):
    """The variant's description for the C test, its float32 states, and how far each change of a flag moves them."""
    config, dtype, shards, lengths, change = variants()[name]
    texts = make_ids(name, lengths, config["vocab_size"])
    path = os.path.join(folder, name)
    tensors = write_checkpoint(path, config, dtype, shards)
    states = hidden_states(path, texts)
    own = {key: layer_errors(hidden_states(path, texts, dtype), states).tolist() for key, dtype in HALVES.items()}
    moved = {}
    if change:
        write_checkpoint(path + "-changed", {**copy.deepcopy(config), **change}, dtype, shards)
        moved["config"] = float(layer_errors(hidden_states(path + "-changed", texts), states).max())
    for kind in ("_norm.weight", ".bias"):
        selected = [tensor for tensor in tensors if tensor.name.endswith(kind)]
        if selected:
            moved[kind] = move_without(path + kind, config, dtype, shards, tensors, selected, texts, states)
    description = {"config": config, "dtype": dtype, "shards": shards, "texts": texts, **own,
                   "tensors": [[t.name, t.shape, t.mean, t.amplitude, t.gap, f"{t.state:016x}"] for t in tensors]}
    return description, states, moved


def move_without(path, config, dtype, shards, tensors, selected, texts, states):
    """How far the states move when some tensors are neutral: norms of 1, biases of 0."""
    neutral = copy.deepcopy(tensors)
    for tensor in neutral:
        if tensor.name in {other.name for other in selected}:
            tensor.amplitude = tensor.gap = 0.0
    write_checkpoint(path, config, dtype, shards, neutral)
    return float(layer_errors(hidden_states(path, texts), states).max())


def main():
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model", "goldens")
    os.makedirs(target, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in variants():
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
