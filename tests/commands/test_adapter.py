# SPDX-License-Identifier: MIT
"""Runs with model.adapter: the bytes of the merged model's, and its place in the identity."""
import json
import shutil

import h5py
import numpy as np
import pytest

import support
from adapters import Adapter
from packed.cases import case, gguf_case
from packed.checkpoints import quantised
from packed.mixtures import mixture
from packed.numbers import store
from packed.runs import same_latents
from support import DATA, JOB, OK, STOPPED, Job, make_model, make_problems


def run_both(tmp_path, adapter, dtype="F32", **sections):
    """The model with its adapter, and the merged model alone: every latent has the same bits."""
    merged = Job(tmp_path / "merged", make_problems(5, seed=3), adapter.merged(tmp_path / "model"), **sections)
    job = merged.twin(tmp_path / "job", model={"path": str(adapter.model), "adapter": str(adapter.write(tmp_path / "adapter", dtype))})
    merged.run()
    job.run()
    same_latents(job, merged)
    return job


def attributes(job):
    with h5py.File(next(iter(sorted(job.output.rglob("part-*.h5"))))) as file:
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}


# ---- the numbers

@pytest.mark.parametrize("computed", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_bits_of_the_merged_model(tmp_path, stored, computed):
    """B A and the sum in float32, and one rounding to what is computed in: that of the merged numbers."""
    run_both(tmp_path, Adapter(make_model(dtype=stored)), dtype="BF16" if stored == "bfloat16" else "F32", model={"dtype": computed})


@pytest.mark.parametrize("config, ranks", [({"use_rslora": True}, None), ({"lora_alpha": -3.5}, None),
                                           ({"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"mlp.down_proj": 2}},
                                            {"self_attn.q_proj": 8}),
                                           ({"r": 1}, None), ({"r": 40, "lora_alpha": 40}, None)])
def test_scales_and_ranks(tmp_path, config, ranks):
    run_both(tmp_path, Adapter(make_model(), ranks=ranks, **config))


def test_patterns_are_matched_as_peft_matches_them(tmp_path):
    """The first that fits the end of the name at a dot, or from its begin on after ^; a dot is any character."""
    model = make_model()
    adapter = Adapter(model, ("self_attn.q_proj", "mlp.up_proj"), r=4, lora_alpha=4,
                      alpha_pattern={"proj": 64, "^up_proj": 32, "^model.layers.1.self_attn.q_proj$": 8, "layers\\.1\\.mlp.up_proj": 16})
    scales = {"model.layers.1.self_attn.q_proj": 2, "model.layers.1.mlp.up_proj": 4}
    adapter.scale = lambda module: np.float32(scales.get(module, 1))
    run_both(tmp_path, adapter)


def test_some_matrices_and_blocks(tmp_path):
    run_both(tmp_path, Adapter(make_model(), ("self_attn.v_proj", "mlp.up_proj"), blocks=(0, 2), layers_to_transform=[2, 0, 9]))
    run_both(tmp_path / "one", Adapter(make_model(), ("mlp.down_proj",), blocks=(1,), layers_to_transform=1, layers_pattern="layers"))
    run_both(tmp_path / "excluded", Adapter(make_model(), ("self_attn.q_proj",), blocks=(1, 2), target_modules=["q_proj"],
                                            exclude_modules=["layers.0.self_attn.q_proj"]))
    run_both(tmp_path / "pattern", Adapter(make_model(), ("self_attn.o_proj",), blocks=(1,), target_modules=r".*\.1\..*o_proj"))
    run_both(tmp_path / "linear", Adapter(make_model(), target_modules="all-linear"))


def test_all_that_a_head_has_is_passed_over(tmp_path):
    """Of the model without its outer class, too."""
    model = make_model()
    adapter = Adapter(model, modules_to_save=["lm_head"])
    merged = Job(tmp_path / "merged", make_problems(4), adapter.merged(tmp_path / "model"))
    tensors = {name.replace(".model.model.", ".model."): stored for name, stored in adapter.tensors().items()}
    tensors["base_model.model.lm_head.weight"] = store(np.ones((600, 32), np.float32), "F32")
    job = merged.twin(tmp_path / "job", model={"path": str(model), "adapter": str(adapter.write(tmp_path / "adapter", tensors=tensors))})
    merged.run()
    job.run()
    same_latents(job, merged)
    said = "the adapter's tensors of the head are not loaded, which no hidden state needs (base_model.model.lm_head.weight)"
    assert said in (job.output / "run.log").read_text() and said in " ".join(support.strata("check", job.file).out.split())


def test_blocks_that_are_read_again(tmp_path):
    job = run_both(tmp_path, Adapter(make_model()))
    streamed = job.twin(tmp_path / "streamed", model={"weights": "disk", "resident_blocks": 1})
    streamed.run()
    assert streamed.shards() == job.shards()


@pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")
@pytest.mark.parametrize("more", [{"weights": "disk", "resident_blocks": 1}, {"weights": "host", "resident_blocks": 0},
                                  {"device": ["cuda:0", "cuda:1"]}, {"device": ["cuda:0", "cuda:1"], "split": "layers"},
                                  {"device": ["cuda:0", "cuda:1"], "weights": "host", "resident_blocks": 1}])
def test_on_gpus(tmp_path, more):
    """One with all weights, and whatever else."""
    adapter = Adapter(make_model())
    environment = support.clean_environment(CUDA_EMULATION_DEVICES="2", CUDA_EMULATION_PREFER="7")
    one = Job(tmp_path / "one", make_problems(5, seed=3), adapter.model,
              model={"adapter": str(adapter.write(tmp_path / "adapter")), "device": "cuda:0"})
    one.program = support.EMULATED
    one.run(environment=environment)
    other = one.twin(tmp_path / "other", model=more)
    other.run(environment=environment)
    assert other.shards() == one.shards()


@pytest.mark.parametrize("how", ["nf4", "nf4_double", "int8"])
def test_merged_before_it_is_quantised(tmp_path, how):
    run_both(tmp_path, Adapter(make_model(hidden=64, intermediate=128)), model={"quantize": how})


# ---- the identity

def test_another_adapter_is_another_run(tmp_path):
    model = make_model()
    adapter = Adapter(model)
    job = Job(tmp_path, make_problems(8), model, model={"adapter": "adapter"}, batch={"problems": 1}, run={"checkpoint_every": 1})
    adapter.write(tmp_path / "adapter")
    job.run("--stop-after", 1, expect=STOPPED)
    identity = dict(job.query("SELECT key, value FROM identity"))
    assert identity["model.adapter"].startswith("LoRA of rank 4 on 21 matrices, SHA-256 ")
    fingerprint = identity["model.adapter"].split()[-1]

    for name, other in {"numbers": Adapter(model, seed=6), "scale": Adapter(model, lora_alpha=16)}.items():
        other.write(tmp_path / name)
        job.change(model={"adapter": name})
        refused = job.run(expect=JOB)
        assert "(model.adapter)" in refused.err and "different identity" in refused.err, refused
    job.change(model={"adapter": None})
    assert "(model.adapter)" in job.run(expect=JOB).err

    shutil.move(tmp_path / "adapter", tmp_path / "elsewhere")  # where it lies is nothing of it
    job.change(model={"adapter": "elsewhere"})
    checked = support.strata("check", job.file)
    assert checked.code == OK and f"LoRA of rank 4 on 21 matrices, SHA-256 {fingerprint}" in " ".join(checked.out.split()), checked
    job.run()
    job.check_finished(8)
    assert attributes(job)["adapter_fingerprint"] == fingerprint
    assert f"  adapter     {identity['model.adapter']}" in support.strata("status", job.output).out
    assert json.loads(support.strata("status", job.output, "--json").out)["adapter"] == identity["model.adapter"]
    done = support.strata("export", job.output, "--format", "npy", "--to", tmp_path / "exported")
    assert done.code == OK, done
    described = json.loads((tmp_path / "exported" / "export.json").read_text())["model"]
    assert described["adapter"] == identity["model.adapter"] and described["adapter_fingerprint"] == fingerprint

    plain = job.twin(tmp_path / "plain", model={"adapter": None})
    plain.run()
    assert attributes(plain)["model_fingerprint"] != attributes(job)["model_fingerprint"]
    assert "adapter" not in attributes(plain) and not support.strata("status", plain.output).out.count("  adapter ")


def test_an_adapter_in_the_models_folder(tmp_path):
    """It has to be named: then the run is that of an adapter elsewhere."""
    adapter = Adapter(make_model())
    both = tmp_path / "both"
    shutil.copytree(adapter.model, both)
    adapter.write(both)
    adapter.write(tmp_path / "adapter")
    job = Job(tmp_path, make_problems(4), both)
    assert f"`model.adapter: {both}` merges it into the model" in job.run(expect=DATA).last()
    job.change(model={"adapter": "adapter"})  # which transformers would not apply, but the folder's own
    assert "holds an adapter" in job.run(expect=DATA).last()
    job.change(model={"adapter": "both/../both"})
    assert job.run().said() == []
    apart = job.twin(tmp_path / "apart", model={"path": str(adapter.model), "adapter": str(tmp_path / "adapter")})
    apart.run()
    same_latents(job, apart)


# ---- packed weights

@pytest.mark.parametrize("name", ["awq", "gptq-act-order", "nf4-double", "fp8", "ct-packed", "llama-Q4_K_M", "llama-F16"])
def test_packed_weights(tmp_path, name):
    """Codes take nothing in; expanded at load they are numbers like others. Rows of GGUF's llama lie interleaved."""
    made = (gguf_case if name.startswith("llama") else case)(name)
    adapter = Adapter(made.write_twin(tmp_path / "exact"), ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"))
    adapter.write(tmp_path / "adapter")
    job = Job(tmp_path / "job", make_problems(4, seed=3), made.write(tmp_path / "packed"), model={"adapter": str(tmp_path / "adapter")})
    if not name.endswith("F16"):
        done = job.run(expect=JOB)
        assert "'layers.0.self_attn.q_proj.weight', which lies beside or in packed weights (" in done.last() and "expand: load" in done.last()
        job.change(model={"expand": "load"})
    job.run()
    merged = job.twin(tmp_path / "merged", model={"path": str(adapter.merged(tmp_path / "whole")), "adapter": None, "expand": "matmul"})
    merged.run()
    same_latents(job, merged)


def test_packed_experts(tmp_path):
    made = quantised(mixture(tmp_path / "numbers"), "bnb4")
    adapter = Adapter(made.write_twin(tmp_path / "exact"), ("mlp.experts.1.gate_proj", "mlp.experts.4.down_proj"))
    adapter.config["target_modules"] = ["experts.1.gate_proj", "experts.4.down_proj"]
    assert len(adapter.parts) == 4
    adapter.write(tmp_path / "adapter")
    job = Job(tmp_path / "job", make_problems(4, seed=3), made.write(tmp_path / "packed"), model={"adapter": str(tmp_path / "adapter")})
    done = job.run(expect=JOB)
    assert "'layers.0.mlp.experts.1.gate_proj.weight', which lies beside or in packed weights (" in done.last()
    assert "model.expand: load" in done.last()
    job.change(model={"expand": "load"})
    job.run()
    merged = job.twin(tmp_path / "merged", model={"path": str(adapter.merged(tmp_path / "whole")), "adapter": None, "expand": "matmul"})
    merged.run()
    same_latents(job, merged)


def test_a_matrix_that_is_not_packed_among_others(tmp_path):
    """The others stay as they are."""
    made = case("nf4-skipped")
    adapter = Adapter(made.write_twin(tmp_path / "exact"), ("self_attn.o_proj",), blocks=(1,), layers_to_transform=[1])
    job = Job(tmp_path / "job", make_problems(4, seed=3), made.write(tmp_path / "packed"),
              model={"adapter": str(adapter.write(tmp_path / "adapter"))})
    merged = job.twin(tmp_path / "merged", model={"path": str(adapter.merged(tmp_path / "whole")), "adapter": None})
    job.run()
    merged.run()
    same_latents(job, merged)
