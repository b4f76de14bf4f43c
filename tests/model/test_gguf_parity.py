# SPDX-License-Identifier: MIT
"""GGUF files against the libraries that made the format: transformers reads those of gguf_files.py as strata does, and strata those of
the gguf package."""
import importlib.util
import shutil

import gguf_files
import numpy as np
import pytest
import support
from parity import torch, transformers
from support import Job

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the gguf package is not installed")


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_transformers_reads_the_same_weights(tmp_path, family):
    """Rows of llama's queries and keys included: what stands in the way of others reading them would stand in ours."""
    model = support.make_model(family=family)
    metadata, tensors = gguf_files.from_folder(model)
    gguf_files.write(tmp_path / "tiny.gguf", metadata, tensors)
    config = transformers.AutoConfig.from_pretrained(model)
    expected = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32,
                                                              config=config).state_dict()
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name


def test_files_of_the_gguf_package(tmp_path):
    import gguf

    model = support.make_model(family="qwen3")
    metadata, tensors = gguf_files.from_folder(model)
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", metadata.pop("general.architecture"))
    for key, value in metadata.items():
        {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}[type(value)](key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, gguf_files.numbers(tensor).reshape(tensor.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copy(model / "tokenizer.json", tmp_path)
    same(tmp_path, model, tmp_path / "tiny.gguf")


def same(tmp_path, left, right):
    """Latents of two models, byte for byte."""
    jobs = [Job(tmp_path / name, support.make_problems(6), model) for name, model in (("of-left", left), ("of-right", right))]
    for job in jobs:
        job.run()
    expected, found = map(support.read_latents, jobs)
    assert expected.keys() == found.keys()
    for key, problem in expected.items():
        for name, value in problem.items():
            if name.startswith("hs_"):
                assert np.isfinite(value).all() and value.tobytes() == found[key][name].tobytes(), (key, name)


# Where the scales of a block lie, float16 each; MXFP4 has an exponent in place of one.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}


def random_blocks(shape, kind, rng):
    """Any codes, scales that keep a model's numbers where they were; some are subnormal."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    content = rng.integers(0, 256, (shape[0] * shape[1] // block, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = rng.choice([2e-5, 4e-5, 3e-4], len(content)).astype(np.float16)
        content[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    if kind == "MXFP4":
        content[:, 0] = rng.integers(115, 121, len(content))
    return content.reshape(shape[0], -1)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_packed_weights(tmp_path, family):
    """Every packed type, mixed as such files have them, the embedding's and those of one fused matrix included, against what the gguf
    package unpacks them to."""
    import gguf

    model = support.make_model(family=family, hidden=256, intermediate=512, head_dim=64)
    metadata, tensors = gguf_files.from_folder(model)
    rng = np.random.default_rng(1)
    packed, plain = dict(tensors), dict(tensors)
    matrices = [name for name, tensor in tensors.items() if len(tensor.shape) == 2]
    for number, name in enumerate(matrices):
        kind = list(SCALES)[number % len(SCALES)]
        content = random_blocks(tensors[name].shape, kind, rng)
        numbers = gguf.dequantize(content, gguf.GGMLQuantizationType[kind]).astype(np.float32)
        packed[name] = gguf_files.Packed(kind, tensors[name].shape, content.tobytes())
        plain[name] = gguf_files.Packed("F32", tensors[name].shape, numbers.tobytes())
    assert len(matrices) > len(SCALES) and "token_embd.weight" in matrices
    for name in ("packed", "plain"):
        (tmp_path / name).mkdir()
        shutil.copy(model / "tokenizer.json", tmp_path / name)
        gguf_files.write(tmp_path / name / "tiny.gguf", metadata, {"packed": packed, "plain": plain}[name])
    same(tmp_path, tmp_path / "plain" / "tiny.gguf", tmp_path / "packed" / "tiny.gguf")
