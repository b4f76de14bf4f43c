"""GGUF files against the libraries that made the format: transformers reads those of gguf_files.py as strata does, and strata those of
the gguf package."""
import importlib.util
import shutil

import gguf_files
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
    folder, file = Job(tmp_path / "a", support.make_problems(6), model), Job(tmp_path / "b", support.make_problems(6), tmp_path / "tiny.gguf")
    folder.run()
    file.run()
    expected, found = support.read_latents(folder), support.read_latents(file)
    assert expected.keys() == found.keys()
    for key, problem in expected.items():
        assert all(value.tobytes() == found[key][name].tobytes() for name, value in problem.items() if name.startswith("hs_"))
