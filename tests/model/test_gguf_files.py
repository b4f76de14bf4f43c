# SPDX-License-Identifier: MIT
"""Models in GGUF files through the program: the latents of the folder that they were made from, and what is refused."""
import json
import math
import shutil

import gguf_files
import numpy as np
import pytest
import support
from gguf_files import Packed, Typed
from support import DATA, OK, Job

PROBLEMS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A job whose database the others share."""
    return Job(tmp_path_factory.mktemp("gguf"), support.make_problems(PROBLEMS, seed=5))


def latents(job):
    job.run()
    return support.read_latents(job)


def same(left, right, tolerance=0.0):
    assert left.keys() == right.keys()
    for key, problem in left.items():
        for name, value in problem.items():
            other = right[key][name]
            if not isinstance(value, np.ndarray):
                assert value == other
            elif tolerance == 0:
                assert value.tobytes() == other.tobytes(), (key, name)
            else:
                assert np.isfinite(value).all() and np.abs(value - other).max() <= tolerance * np.abs(value).max(), (key, name)


def changed(tmp_path, model, **changes):
    """A copy of the folder with another config.json."""
    copy = tmp_path / "changed"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return copy


def make_file(tmp_path, model, tensors=None, kind=None, **metadata):
    """The model as a GGUF file, its tokenizer.json beside it."""
    own_metadata, own_tensors = gguf_files.from_folder(model, **metadata)
    own_tensors = gguf_files.retype(own_tensors, kind) if kind else own_tensors
    folder = tmp_path / "file"
    folder.mkdir()
    shutil.copy(model / "tokenizer.json", folder)
    return gguf_files.write(folder / "tiny.gguf", own_metadata, {**own_tensors, **(tensors or {})})


def both(base, tmp_path, folder, file, tolerance=0.0):
    of_folder = latents(base.twin(tmp_path / "a", model={"path": str(folder)}))
    same(of_folder, latents(base.twin(tmp_path / "b", model={"path": str(file)})), tolerance)
    return of_folder


# ---- the latents of the folder

@pytest.mark.parametrize("family, dtype, kind", [(family, "float32", "F32") for family in ("llama", "mistral", "qwen2", "qwen3")]
                         + [("llama", "float16", "F16"), ("qwen3", "float16", "F16"), ("llama", "bfloat16", "BF16"),
                            ("qwen2", "bfloat16", "BF16")])
def test_latents_of_the_folder(base, tmp_path, family, dtype, kind):
    model = support.make_model(family=family, dtype=dtype)
    both(base, tmp_path, model, make_file(tmp_path, model, kind=kind))


def test_order_of_rows_matters(base, tmp_path):
    """The rows of llama's queries and keys are not as the folder has them: left so, other latents come out."""
    model = support.make_model(family="llama")
    metadata, tensors = gguf_files.from_folder(model)
    plain = gguf_files.read_safetensors(model)["model.layers.0.self_attn.q_proj.weight"]
    assert tensors["blk.0.attn_q.weight"].content != plain.content
    tensors["blk.0.attn_q.weight"] = plain
    file = gguf_files.write(tmp_path / "tiny.gguf", metadata, tensors)
    shutil.copy(model / "tokenizer.json", tmp_path)
    with pytest.raises(AssertionError):
        both(base, tmp_path, model, file)


@pytest.mark.parametrize("family, config, metadata", [
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"ARCH.rope.scaling.type": "linear", "ARCH.rope.scaling.factor": 2.0}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 3.0}}, {"ARCH.rope.scale_linear": 3.0}),
    ("llama", {}, {"ARCH.rope.scaling.type": "none", "ARCH.rope.scaling.factor": 2.0}),
    ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
     {"ARCH.rope.scaling.type": "yarn", "ARCH.rope.scaling.factor": 4.0, "ARCH.rope.scaling.original_context_length": 32}),
    ("qwen2", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0,
                                "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 0.5}},
     {"ARCH.rope.scaling.type": "yarn", "ARCH.rope.scaling.factor": 4.0, "ARCH.rope.scaling.original_context_length": 32,
      "ARCH.rope.scaling.yarn_beta_fast": 8.0, "ARCH.rope.scaling.yarn_beta_slow": 2.0, "ARCH.rope.scaling.yarn_log_multiplier": 0.5}),
    ("mistral", {"sliding_window": 5}, {"ARCH.attention.sliding_window": 5}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}, {"ARCH.attention.sliding_window": 6}),
    ("qwen3", {"rope_theta": 5e6, "rms_norm_eps": 1e-5},
     {"ARCH.rope.freq_base": 5e6, "ARCH.attention.layer_norm_rms_epsilon": 1e-5, "ARCH.attention.head_count_kv": [2, 2, 2]}),
    ("llama", {}, {"ARCH.rope.freq_base": None, "ARCH.attention.key_length": None, "ARCH.attention.value_length": None}),
])
def test_what_metadata_says(base, tmp_path, family, config, metadata):
    model = support.make_model(family=family)
    other = both(base, tmp_path, changed(tmp_path, model, **config), make_file(tmp_path, model, **metadata))
    if config:
        with pytest.raises(AssertionError):
            same(other, latents(base.twin(tmp_path / "c", model={"path": str(model)})))


def test_heads_of_another_size(base, tmp_path):
    model = support.make_model(family="qwen3", head_dim=16)
    both(base, tmp_path, model, make_file(tmp_path, model))


def test_factors_of_the_frequencies(base, tmp_path):
    """rope_freqs.weight: a factor for all is linear scaling, those of a converter are Llama 3.1's."""
    model = support.make_model(family="llama")
    linear = changed(tmp_path, model, rope_scaling={"type": "linear", "factor": 2.0})
    file = make_file(tmp_path, model, {"rope_freqs.weight": np.full(4, 2.0, np.float32)})
    both(base, tmp_path, linear, file)


def test_llama_3_1(base, tmp_path):
    model = support.make_model(family="llama")
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 1024}
    factors = []
    for i in range(4):
        wavelength = 2 * math.pi * 10000.0 ** (2 * i / 8)
        smooth = min(1.0, max(0.0, (1024 / wavelength - 1.0) / 3.0))
        factors.append(1 / ((1 - smooth) / 8.0 + smooth))
    assert any(1.01 < factor < 7.9 for factor in factors)
    both(base, tmp_path, changed(tmp_path, model, rope_scaling=scaling),
         make_file(tmp_path, model, {"rope_freqs.weight": np.array(factors, np.float32)}), tolerance=1e-5)


# ---- files

def test_split_files_and_their_identity(base, tmp_path):
    model = support.make_model(family="llama")
    metadata, tensors = gguf_files.from_folder(model)
    (tmp_path / "m").mkdir()
    parts = gguf_files.write_split(tmp_path / "m" / "tiny", 3, metadata, tensors)
    job = base.twin(tmp_path / "b", model={"path": str(parts[0]), "tokenizer": str(model / "tokenizer.json")})
    same(latents(base.twin(tmp_path / "a", model={"path": str(model)})), latents(job))
    job.check_finished(PROBLEMS)
    shown = support.strata("show", job.output, "p-00003")
    assert shown.code == OK, shown
    changed_byte = bytearray(parts[2].read_bytes())
    changed_byte[-40] ^= 1
    parts[2].write_bytes(changed_byte)
    refused = job.run(expect=None)
    assert refused.code != OK and "model.fingerprint" in refused.err, refused
    job.change(model={"path": str(parts[1])})
    refused = job.run(expect=DATA)
    assert "tiny-00002-of-00003.gguf is part 2 of a model of 3: give the path of the first one" in refused.err, refused
    parts[1].unlink()
    job.change(model={"path": str(parts[0])})
    assert "tiny-00002-of-00003.gguf" in job.run(expect=DATA).err


def refused(base, tmp_path, file, *words):
    job = base.twin(tmp_path / "job", model={"path": str(file), "tokenizer": str(support.make_model() / "tokenizer.json")})
    for done in (job.run(expect=DATA), support.strata("plan", job.file)):
        assert done.code == DATA and all(word in done.err for word in words), (words, done)


def test_no_tokenizer(base, tmp_path):
    file = make_file(tmp_path, support.make_model())
    (file.parent / "tokenizer.json").unlink()
    job = base.twin(tmp_path / "job", model={"path": str(file)})
    assert "put the model's tokenizer.json beside the file, or name one with model.tokenizer" in job.run(expect=DATA).err
    job.change(model={"tokenizer": str(support.make_model() / "tokenizer.json")})
    job.run()


def test_files_that_are_not_there_or_others(base, tmp_path):
    refused(base, tmp_path, tmp_path / "absent.gguf", "there is no file")
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(base, tmp_path, pointer, "a Git LFS pointer")
    pointer.write_bytes(bytes(4096))
    refused(base, tmp_path, pointer, "filled with zeros")
    pointer.write_bytes(b"GGML" + bytes(range(100)))
    refused(base, tmp_path, pointer, "neither a model's folder nor a GGUF file")


def test_name_is_no_matter(base, tmp_path):
    model = support.make_model()
    file = make_file(tmp_path, model)
    blob = file.rename(file.parent / "sha256-0123456789abcdef")
    both(base, tmp_path, model, blob)


def test_folder_with_a_file(base, tmp_path):
    file = make_file(tmp_path, support.make_model())
    refused(base, tmp_path, file.parent, "holds GGUF (tiny.gguf) and no config.json", f"model.path is then {file}")
    shutil.copy(support.make_model() / "config.json", file.parent)
    refused(base, tmp_path, file.parent, "holds GGUF (tiny.gguf) and neither model.safetensors", f"model.path is then {file}")


@pytest.mark.parametrize("metadata, tensors, words", [
    ({"general.architecture": "gemma3"}, {}, ["'general.architecture' is 'gemma3'; supported are llama, qwen2 and qwen3"]),
    ({"general.architecture": None}, {}, ["'general.architecture' is missing"]),
    ({"ARCH.block_count": 4}, {}, ["tensor 'model.layers.3.input_layernorm.weight' is missing"]),
    ({"ARCH.feed_forward_length": 72}, {}, ["has shape [64, 32]; the file's metadata asks for [72, 32]"]),
    ({}, {"blk.0.attn_rel_b.weight": np.ones(4, np.float32)}, ["tensor 'blk.0.attn_rel_b.weight' of tiny.gguf has no place"]),
    ({}, {"blk.0.ffn_up.weight": Packed("IQ2_XXS", (1, 256), bytes(66))}, ["'blk.0.ffn_up.weight': type IQ2_XXS is not supported"]),
    ({}, {"rope_freqs.weight": np.ones(5, np.float32)}, ["tensor 'rope_freqs.weight' is F32 [5], not F32 [4]"]),
    ({}, {"rope_freqs.weight": np.zeros(4, np.float32)}, ["tensor 'rope_freqs.weight' holds 0, outside"]),
    ({}, {"rope_freqs.weight": np.full(4, np.nan, np.float32)}, ["tensor 'rope_freqs.weight' holds"]),
    ({"general.alignment": Typed("u32", 3)}, {}, ["'general.alignment' is 3"]),
])
def test_refused_models(base, tmp_path, metadata, tensors, words):
    refused(base, tmp_path, make_file(tmp_path, support.make_model(), tensors, **metadata), "tiny.gguf", *words)
