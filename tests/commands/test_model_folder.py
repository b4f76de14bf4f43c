# SPDX-License-Identifier: MIT
"""Model folders that are none, and what lies in one beside the files that are read: named, with what to do."""
import json
import shutil

import pytest

import support
from support import DATA, OK, STOPPED, Job, make_model, make_problems


@pytest.fixture
def job(tmp_path):
    """A job of its own model, which a test may change."""
    shutil.copytree(make_model(), tmp_path / "model")
    return Job(tmp_path, make_problems(6), tmp_path / "model")


def refused(job, *words):
    done = job.run(expect=DATA)
    assert all(word in done.last() for word in words), done
    checked = support.strata("check", job.file)
    assert checked.code == DATA and all(word in checked.out for word in words), checked


def warned(job, *words):
    """The run goes on, says it on standard error, in its log and in its shards, and check says it."""
    import h5py

    done = job.run()
    log = (job.output / "run.log").read_text()
    with h5py.File(next((job.output / "shards").glob("*.h5"))) as shard:
        said = shard.attrs["warnings"].decode()
    checked = support.strata("check", job.file)
    for text in (done.err, log, said, checked.out):
        assert all(word in text for word in words), text
    assert checked.code == OK and "WARN  " in checked.out


def adapter(model):
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/base"}))


# ---- no folder

def test_name_on_the_hub(job):
    job.change(model={"path": "Qwen/Qwen3-8B"})
    refused(job, "'Qwen/Qwen3-8B' looks like a model's name on the Hub",
            "`hf download Qwen/Qwen3-8B --local-dir models/Qwen3-8B`")
    job.change(model={"path": "https://huggingface.co/Qwen/Qwen3-8B"})
    refused(job, "hf download Qwen/Qwen3-8B")
    job.change(model={"path": "~/models/x"})
    refused(job, "~ is not expanded")
    job.change(model={"path": "some/where/else"})
    refused(job, "there is no folder", "hf download ORG/NAME")


def test_top_of_the_cache(job, tmp_path):
    top = tmp_path / "hub" / "models--Org--Tiny"
    for revision in ("0123abcd", "4567ef"):
        (top / "snapshots" / revision).mkdir(parents=True)
    job.change(model={"path": str(top)})
    refused(job, f"{top}/snapshots/0123abcd")
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text("4567ef")
    refused(job, f"{top}/snapshots/4567ef")
    job.change(model={"path": str(top.parent)})
    refused(job, "the Hub's cache", "models--Org--Tiny")


def test_files(job, tmp_path):
    (tmp_path / "tiny.ggml").write_bytes(b"lmgg" + bytes(100))
    job.change(model={"path": str(tmp_path / "tiny.ggml")})
    refused(job, "is a GGML file", "safetensors")
    job.change(model={"path": str(next((tmp_path / "model").glob("*.safetensors")))})
    refused(job, "is one file of a checkpoint", "config.json")


# ---- other folders

def test_other_formats(job, tmp_path):
    model = tmp_path / "model"
    for file in model.glob("model*.safetensors*"):
        file.unlink()
    refused(job, "no weights at all")
    (model / "pytorch_model.bin").write_bytes(b"PK\3\4")
    refused(job, "PyTorch pickles (pytorch_model.bin)", "save_pretrained")
    (model / "pytorch_model.bin").rename(model / "tiny-q4.gguf")
    refused(job, "GGUF (tiny-q4.gguf)", f"model.path is then {model}/tiny-q4.gguf")
    (model / "config.json").unlink()
    refused(job, "holds GGUF (tiny-q4.gguf) and no config.json")


@pytest.mark.parametrize("files, words", [({"tiny-q4.gguf": b"GGUF"}, ["GGUF (tiny-q4.gguf)"]),
                                          ({"adapter_config.json": b"{}"}, ["an adapter", "and no model"]),
                                          ({"params.json": b"{}"}, ["params.json and no config.json"]),
                                          ({"config.json": b"{}", "pytorch_model.bin": b"PK"}, ["PyTorch pickles"]),
                                          ({}, ["is empty"])])
def test_other_formats_without_a_tokenizer(job, tmp_path, files, words):
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "model").mkdir()
    for name, content in files.items():
        (tmp_path / "model" / name).write_bytes(content)
    refused(job, *words)
    planned = support.strata("plan", job.file)
    assert planned.code == DATA and all(word in planned.err for word in words), planned


def test_missing_tokenizer(job, tmp_path):
    (tmp_path / "model" / "tokenizer.json").unlink()
    refused(job, "tokenizer.json is not there", "no other tokenizer's file")
    (tmp_path / "model" / "tokenizer.model").write_bytes(b"\n\x0e")
    refused(job, "tokenizer.model, which strata does not read", "AutoTokenizer")


# ---- first bytes

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 7031660\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content, word", [(POINTER, "Git LFS pointer"), ("<!DOCTYPE html><html></html>", "a web page"),
                                           ("", "is empty"), ("\0" * 4096, "filled with zeros")], ids=["lfs", "page", "empty", "zeros"])
def test_first_bytes_are_looked_at(job, tmp_path, name, content, word):
    (tmp_path / "model" / name).write_text(content)
    refused(job, name, word)


def test_first_bytes_of_the_job_and_the_database(job, tmp_path):
    done = support.strata("run", job.file.with_name("pointer.yaml").write_text(POINTER) and job.file.with_name("pointer.yaml"))
    assert done.code == support.JOB and "Git LFS pointer" in done.err, done
    job.database.write_text("problem_id,statement\n1,a\n")
    refused(job, "problems.db is text, not an SQLite database", "--csv")


def test_text_in_place_of_weights(job, tmp_path):
    model = tmp_path / "model"
    for file in model.glob("model*.safetensors*"):
        file.unlink()
    (model / "model.safetensors").write_text("404: Not Found")
    refused(job, "model.safetensors is text, not safetensors", "get the file again")


def test_a_job_in_utf16(job):
    twin = job.file.with_name("twin.yaml")
    twin.write_bytes(job.file.read_text().encode("utf-16"))
    done = support.strata("run", twin)
    assert done.code == support.JOB and "is UTF-16 text" in done.err and "iconv" in done.err, done


def test_half_a_surrogate_pair_that_nobody_needs(job, tmp_path):
    model = tmp_path / "model"
    for name in ("config.json", "tokenizer_config.json", "model.safetensors.index.json"):
        content = json.loads((model / name).read_text()) if (model / name).exists() else {}
        if content or name == "tokenizer_config.json":
            (model / name).write_text(json.dumps({**content, "x": "\ud800", "chat_template": ["\udfff"]}))
    assert job.run().said() == []


def test_byte_order_mark_is_skipped(job, tmp_path):
    config = tmp_path / "model" / "config.json"
    config.write_bytes(b"\xEF\xBB\xBF" + config.read_bytes())
    job.run()


# ---- beside the files that are read

def test_adapter(job, tmp_path):
    adapter(tmp_path / "model")
    refused(job, "an adapter of org/base (adapter_config.json)", f"`model.adapter: {tmp_path / 'model'}`")
    for file in (tmp_path / "model").glob("model*.safetensors*"):
        file.unlink()
    (tmp_path / "model" / "config.json").unlink()
    refused(job, "an adapter of org/base (adapter_config.json) and no model", "`model.adapter: ")


def test_remains_of_an_adapter(job, tmp_path):
    (tmp_path / "model" / "adapter_model.safetensors").write_bytes(b"")
    warned(job, "adapter_model")


CODE = "modeling_tiny.TinyModel"


@pytest.mark.parametrize("code", [{"AutoModel": CODE}, {"AutoConfig": "a.B", "AutoModel": [CODE, None]}, {"AutoModel": [None, CODE]},
                                  {"AutoModelForRewardModeling": CODE}, {"AutoTokenizer": ["a.B", None], "AutoModelForVision2Seq": CODE},
                                  {"AutoConfig": CODE}, CODE, [CODE]])
def test_code_of_the_folder(job, tmp_path, code):
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["TinyForReward"], "auto_map": code}))
    warned(job, CODE, "TinyForReward", "trust_remote_code")


@pytest.mark.parametrize("code", [{}, None, {"AutoTokenizer": "a.B", "AutoProcessor": "a.C"}, {"AutoModel": None}])
def test_code_of_no_model(job, tmp_path, code):
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": code}))
    assert "WARN" not in support.strata("check", job.file).out


@pytest.mark.parametrize("config, word", [({"add_bos_token": True}, "add_bos_token is true"),
                                          ({"tokenizer_class": "GPT2Tokenizer"}, "GPT2Tokenizer"),
                                          ({"split_special_tokens": True}, "split_special_tokens"),
                                          ({"truncation_side": "left"}, "truncation_side is left"),
                                          ({"add_prefix_space": True}, "Qwen2Tokenizer"),
                                          ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, "auto_map")])
def test_settings_of_the_tokenizer(job, tmp_path, config, word):
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(config))
    warned(job, word)


def test_class_of_a_text_model_beside_towers(job, tmp_path):
    """transformers picks it by the outer type."""
    model = tmp_path / "model"
    config = json.loads((model / "config.json").read_text())
    outer = {"model_type": "qwen3_vl", "text_config": {**config, "model_type": "qwen3_vl_text"}, "vision_config": {},
             "tie_word_embeddings": config.get("tie_word_embeddings", False)}
    (model / "config.json").write_text(json.dumps(outer))
    for shard in model.glob("*.safetensors"):
        raw = shard.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = raw[8:8 + size].replace(b'"model.', b'"model.language_model.')
        shard.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size:])
    for index in model.glob("*.index.json"):
        index.write_text(index.read_text().replace('"model.', '"model.language_model.'))
    assert "WARN" not in support.strata("check", job.file).out
    (model / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    warned(job, "transformers 5 takes the class Qwen2Tokenizer")


def test_markup_that_is_no_token(job):
    job.change(problems={"text": "<|im_start|>user\n{statement}<|im_end|><|no_token|>\n{steps} <|x {statement} <|no_token|>"})
    warned(job, "problems.text has <|no_token|>, which is no token")
    log = (job.output / "run.log").read_text()
    assert log.count("<|no_token|>") == 1 and "<|im_" not in log


def test_settings_that_change_nothing(job, tmp_path):
    """As Qwen3's folder has them."""
    (tmp_path / "model" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "model_max_length": 10 ** 30,
                    "pad_token": "<|endoftext|>"}))
    before = support.strata("check", job.file)
    assert "WARN" not in before.out and before.code == OK, before
    assert job.run().said() == []
    assert "tokenizer.changes" not in dict(job.query("SELECT key, value FROM identity"))


def test_tokens_of_the_configuration(job, tmp_path):
    """They count, belong to the run's identity, and a resume without them is refused."""
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps({"additional_special_tokens": ["of two"]}))
    assert len(job.run("--stop-after", 1, expect=STOPPED).said()) == 1
    assert "change its added tokens (1)" in (job.output / "run.log").read_text()
    config.unlink()
    assert "tokenizer.changes" in job.run(expect=support.JOB).err


def test_export_says_the_warnings(job, tmp_path):
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"split_special_tokens": True}))
    job.run()
    done = support.strata("export", job.output, "--format", "npy", "--to", tmp_path / "exported")
    assert done.code == OK, done
    assert "split_special_tokens" in json.loads((tmp_path / "exported" / "export.json").read_text())["warnings"]


def test_warnings_stay_as_they_were(job, tmp_path):
    """A shard of a resume says what the first launch found, so that its bytes are the same."""
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps({"split_special_tokens": True}))
    whole = job.twin(tmp_path / "whole")
    whole.run()
    job.run("--stop-after", 1, expect=STOPPED)
    config.unlink()
    job.run()
    assert job.shards() == whole.shards()
