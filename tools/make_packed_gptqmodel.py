#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/model/goldens/packed-gptqmodel.json: what gptqmodel makes of the AWQ and GPTQ checkpoints of tests/packed, as
transformers loads them on a CPU. For each matrix the SHA-256 of its numbers in float16, [out, in].

gptqmodel dequantises to float16 inside its layers; an identity matrix put through a layer gives the matrix back, since every
sum has one term. The cases are those that it reads as their files say: not whole-row groups (its CPU code for them rounds
otherwise), scales of float32 (rounded before the product), mislabelled files, files without g_idx, biases that the model does
not have and plain matrices that the configuration does not name.

Needs torch, transformers, gptqmodel 7.7.0 and optimum, which the record names; run it again only when a case is added.
"""
import hashlib
import importlib.metadata
import json
import pathlib
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent
TARGET = SOURCE / "tests" / "model" / "goldens" / "packed-gptqmodel.json"
NAMES = ("awq", "awq-g32", "awq-g64-bf16", "awq-skipped", "gptq", "gptq-g32-asymmetric", "gptq-g64-bf16", "gptq-v2", "gptq-v2-asymmetric",
         "gptq-no-format", "gptq-format-alias", "gptq-act-order", "gptq-act-order-symmetric", "gptq-8-bit", "gptq-8-bit-asymmetric",
         "gptq-8-bit-v2")


def matrices(path):
    """Name of the weight -> float16 [out, in] of every packed layer."""
    import numpy as np
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, device_map="cpu")
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            with torch.no_grad():
                weight = module(torch.eye(module.in_features, dtype=torch.float32)).T.numpy()
            half = np.ascontiguousarray(weight.astype(np.float16))
            if not np.array_equal(half.astype(np.float32), weight):
                sys.exit(f"{name}: gptqmodel did not round to float16")
            found[name + ".weight"] = half
    return found


def main():
    sys.path[:0] = [str(SOURCE / "tests"), str(SOURCE / "tools" / "python")]
    from packed.cases import case

    record = {package: importlib.metadata.version(package) for package in ("gptqmodel", "transformers", "optimum", "torch")}
    record["cases"] = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found = matrices(case(name).write(pathlib.Path(folder) / "model"))
        record["cases"][name] = {key: hashlib.sha256(half.tobytes()).hexdigest() for key, half in found.items()}
    TARGET.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{TARGET}: {sum(map(len, record['cases'].values()))} matrices of {len(NAMES)} checkpoints")


if __name__ == "__main__":
    main()
