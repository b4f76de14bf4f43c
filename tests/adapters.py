# SPDX-License-Identifier: MIT
"""LoRA adapters for tests: folders as peft saves them, and the models that they make, merged in float32."""
import json
import pathlib
import shutil

import numpy as np

from packed.numbers import Stored, read_folder, store, write_safetensors

ALL = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
PLAIN = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8,
         "lora_dropout": 0.05, "bias": "none", "fan_in_fan_out": False, "init_lora_weights": True, "inference_mode": True,
         "layers_to_transform": None, "layers_pattern": None, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
         "use_rslora": False, "use_dora": False, "lora_bias": False, "target_parameters": None, "peft_version": "0.18.0"}


class Adapter:
    """Matrices A and B for modules of a model's blocks, and its configuration.

    exact: numbers with few bits, so that no sum of theirs is rounded and every order of adding gives the same product.
    """

    def __init__(self, model, modules=ALL, blocks=None, ranks=None, exact=True, seed=5, **config):
        rng = np.random.default_rng(seed)
        self.model = pathlib.Path(model)
        self.weights = {name.removesuffix(".weight"): stored.values().astype(np.float32)
                        for name, stored in read_folder(self.model).items() if stored.dtype in ("F32", "F16", "BF16")}
        self.config = {**PLAIN, "target_modules": [name.split(".")[1] for name in modules], **config}
        self.parts = {}
        for module in self.weights:
            block, _, inner = module.removeprefix("model.layers.").partition(".")
            if inner in modules and (blocks is None or int(block) in blocks):
                rows, columns = self.weights[module].shape
                rank = (ranks or {}).get(inner, self.config["r"])
                self.parts[module] = [self.draw(rng, shape, exact) for shape in ((rank, columns), (rows, rank))]

    @staticmethod
    def draw(rng, shape, exact):
        numbers = rng.integers(-8, 9, shape) / 64 if exact else rng.normal(0, 0.1, shape)
        return numbers.astype(np.float32)

    def tensors(self, dtype="F32", outer="base_model.model."):
        return {f"{outer}{module}.lora_{letter}.weight": store(numbers, dtype)
                for module, parts in self.parts.items() for letter, numbers in zip("AB", parts)}

    def write(self, folder, dtype="F32", tensors=None):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(self.config))
        write_safetensors(folder / "adapter_model.safetensors", self.tensors(dtype) if tensors is None else tensors)
        return folder

    def scale(self, module):
        """Where patterns are names of modules, and no two fit one."""
        def of(key, standard):
            return next((value for name, value in self.config[key].items() if module.endswith(name)), self.config[standard])

        rank, alpha = of("rank_pattern", "r"), of("alpha_pattern", "lora_alpha")
        return np.float32(alpha / (np.sqrt(rank) if self.config["use_rslora"] else rank))

    def merged(self, folder):
        """The model with W + scale * B A in the place of W, all of it float32."""
        folder = pathlib.Path(folder)
        shutil.copytree(self.model, folder, ignore=shutil.ignore_patterns("model*.safetensors*"))
        tensors = {name: Stored("F32", stored.values().astype(np.float32)) for name, stored in read_folder(self.model).items()}
        for module, (a, b) in self.parts.items():
            tensors[module + ".weight"] = Stored("F32", self.weights[module] + (b @ a) * self.scale(module))
        write_safetensors(folder / "model.safetensors", tensors)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32", "dtype": "float32"}))
        return folder
