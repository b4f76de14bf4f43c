# SPDX-License-Identifier: MIT
"""gpt-oss as it is published, its experts in MXFP4: the bits of the same model in numbers, and transformers' hidden states."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from packed.checkpoints import write_folder
from packed.numbers import Stored, read_folder, store
from parity import tokenizers  # noqa: F401
from support import SOURCE

sys.path.insert(0, str(SOURCE / "tools"))
import family_tensors  # noqa: E402
import golden_variants  # noqa: E402
import make_goldens  # noqa: E402

TOOL = os.path.join(os.environ["STRATA_BUILD"], "tests", "model_tool_hidden")
CODES = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
CONFIG = {**golden_variants.mixture_variants()["gpt_oss"][0], "hidden_size": 64, "intermediate_size": 32, "dtype": "bfloat16"}
METHOD = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]}
LENGTHS = [1, 5, 40]


def pack(values, rng):
    """[experts, in, out] -> the blocks and scales of [experts, out, in], and the numbers that they stand for, as they were laid out."""
    groups = np.swapaxes(values, 1, 2).reshape(values.shape[0], values.shape[2], -1, 32)
    exponents = np.clip(np.ceil(np.log2(np.abs(groups).max(3) / 6)), -126, 126) + rng.integers(-1, 2, groups.shape[:3])
    codes = np.abs(groups[..., None] / np.exp2(exponents)[..., None, None] - CODES).argmin(4).astype(np.uint8)
    numbers = (CODES[codes] * np.exp2(exponents)[..., None]).astype(np.float32).reshape(values.shape[0], values.shape[2], -1)
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    return Stored("U8", blocks), Stored("U8", (exponents + 127).astype(np.uint8)), np.ascontiguousarray(np.swapaxes(numbers, 1, 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The packed model, and the same in numbers."""
    rng, packed, plain = np.random.default_rng(5), {}, {}
    for tensor in family_tensors.list_tensors(CONFIG, 11):
        values = np.asarray(tensor.values(), np.float32).reshape(tensor.shape)
        if tensor.name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            packed[tensor.name + "_blocks"], packed[tensor.name + "_scales"], values = pack(values, rng)
        else:
            packed[tensor.name] = store(values, "BF16")
        plain[tensor.name] = store(values, "BF16")
    work = tmp_path_factory.mktemp("mxfp4")
    return (write_folder(work / "packed", "{}", {**CONFIG, "quantization_config": METHOD}, packed, 2),
            write_folder(work / "plain", "{}", CONFIG, plain, 1))


def states(folder, work, texts, dtype):
    layout = [len(texts), *map(len, texts), *(token for text in texts for token in text)]
    np.array(layout, dtype=np.int32).tofile(work / "texts.i32")
    done = subprocess.run([TOOL, str(folder), dtype, "2", str(work / "texts.i32"), str(work / "out.f32")],
                          capture_output=True, text=True, env={**os.environ, "STRATA_TEST_DEVICE": "cpu"})
    assert done.returncode == 0, done.stderr
    return np.fromfile(work / "out.f32", dtype=np.float32).reshape(CONFIG["num_hidden_layers"] + 1, -1, CONFIG["hidden_size"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_experts_are_their_numbers(folders, tmp_path, dtype):
    texts = make_goldens.make_ids("mxfp4", LENGTHS, CONFIG["vocab_size"])
    packed, plain = (states(folder, tmp_path, texts, dtype) for folder in folders)
    assert np.isfinite(packed).all() and np.abs(packed).max() > 0
    assert packed.tobytes() == plain.tobytes()


def test_transformers_has_the_same(folders, tmp_path):
    texts = make_goldens.make_ids("mxfp4", LENGTHS, CONFIG["vocab_size"])
    found = states(folders[0], tmp_path, texts, "float32")
    errors = make_goldens.layer_errors(found, make_goldens.hidden_states(str(folders[0]), texts))
    assert np.isfinite(found).all() and errors.max() <= 1e-5, errors


@pytest.mark.parametrize("change, words", [
    ("model.layers.0.mlp.experts.down_proj_scales", "'model.layers.0.mlp.experts.down_proj_scales' is missing"),
    ("model.layers.1.mlp.experts.gate_up_proj_blocks", "'model.layers.1.mlp.experts.gate_up_proj_blocks' is missing"),
])
def test_a_missing_half_is_named(folders, tmp_path, change, words):
    tensors = {name: stored for name, stored in read_folder(folders[0]).items() if name != change}
    config = json.loads((folders[0] / "config.json").read_text())
    folder = write_folder(tmp_path / "model", "{}", config, tensors, 1)
    with pytest.raises(AssertionError, match=words):
        states(folder, tmp_path, [[1]], "float32")
