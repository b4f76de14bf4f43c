# SPDX-License-Identifier: MIT
"""Quantised checkpoints of small models, each with its exact twin: the same numbers in float32, in ordinary safetensors. A run of
either gives the same bytes.

    made = quantised(folder, "gptq", act_order=True)     # folder: of tools/make_model.py; the options are those of methods.py
    made.write(to)
    made.write_twin(other)

Tensors and config may be changed before either is written. packed/cases.py names the combinations worth a run.
"""
import inspect
import json
import pathlib
import re

import numpy as np

from packed.methods import METHODS, config_ct
from packed.numbers import read_folder, store, write_safetensors

LINEAR = re.compile(r"((?:model|backbone)\.layers\.\d+\.(?:self_attn|(?:mlp|mixer)(?:\.experts\.\d+|\.shared_experts)?)\.\w+_proj)\.weight")


class Checkpoint:
    def __init__(self, tokenizer, config, twin_config):
        self.tokenizer, self.config, self.twin_config = tokenizer, config, twin_config
        self.tensors = {}  # name -> Stored, of the quantised checkpoint
        self.twin = {}     # name -> Stored, float32
        self.options = {}  # module -> the options that it was packed with

    def write(self, folder, shards=1):
        return write_folder(folder, self.tokenizer, self.config, self.tensors, shards)

    def write_twin(self, folder):
        return write_folder(folder, self.tokenizer, self.twin_config, self.twin, 1)


def write_folder(folder, tokenizer, config, tensors, shards):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    names, where = list(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        some = names[len(names) * number // shards:len(names) * (number + 1) // shards]
        write_safetensors(folder / file, {name: tensors[name] for name in some})
        where.update(dict.fromkeys(some, file))
    size = sum(tensor.array.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": where}))
    return folder


def accepted(function):
    return set(inspect.signature(function).parameters) - {"weight", "rng", "skip"}


def options_of(module, options, dynamic):
    """Of one module, by the first pattern of GPTQ's `dynamic` that begins it; None: it is plain."""
    names = {"group_size": "group", "sym": "symmetric", "desc_act": "act_order"}
    for pattern, settings in dynamic.items():
        if re.match(pattern.removeprefix("-:").removeprefix("+:"), module):
            own = {names.get(key, key): value for key, value in settings.items()}
            return None if pattern.startswith("-:") else {**options, **own}
    return options


def quantised(folder, method, seed=1, skip=None, plain=(), dynamic=None, **options):
    """The linear layers of the blocks, quantised; the rest as it is. skip: modules that the file has plain and that the config names;
    plain: more that the file has plain, without a word in the config; dynamic: pattern -> settings, as the config has it."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    pack, describe = METHODS[method]
    described = {**describe(skip=skip, **options), **({"dynamic": dynamic} if dynamic else {})}
    unknown = set(options) - accepted(pack) - accepted(describe) - accepted(config_ct)
    assert not unknown, unknown
    options = {key: value for key, value in options.items() if key in accepted(pack)}
    made = Checkpoint((folder / "tokenizer.json").read_text(encoding="utf-8"), {**config, "quantization_config": described},
                      {**config, "torch_dtype": "float32"})
    rng = np.random.default_rng(seed)
    for name, stored in read_folder(folder).items():
        linear = LINEAR.fullmatch(name)
        own = options_of(linear[1], options, dynamic or {}) if linear else None
        if own is None or linear[1] in (*(skip or ()), *plain):
            made.tensors[name] = stored
            made.twin[name] = store(stored.values(), "F32")
            continue
        made.options[linear[1]] = own
        packed = pack(stored.values(), rng, **own)
        for suffix, tensor in packed.tensors.items():
            made.tensors[f"{linear[1]}.{suffix}"] = tensor
        made.twin[name] = store(packed.weight, "F32")
    return made
