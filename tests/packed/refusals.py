# SPDX-License-Identifier: MIT
"""Quantised checkpoints that a reader has to refuse, by name, with words of the error.

    for name in REFUSALS: made, words = refusal(name)    # words: regular expressions, each found in the error, in any case
                          run_refused(folder, made, words)   # of packed/runs.py

The words are the module or the tensor, and what is wrong with it; how a reader puts it is its own affair.
"""
import json
from typing import Callable, NamedTuple

import numpy as np

from packed.cases import case
from packed.numbers import Stored, store

Q = "model.layers.1.self_attn.q_proj"
NAME = r"layers\.1\.self_attn\.q_proj"


class Refusal(NamedTuple):
    base: str        # of cases.CASES
    change: Callable  # (checkpoints.Checkpoint) -> None
    words: tuple


# ---- changes ----------------------------------------------------------------------------------------------------------

def without(*suffixes):
    def change(made):
        for suffix in suffixes:
            del made.tensors[f"{Q}.{suffix}"]
    return change


def replaced(suffix, function):
    """function: array -> array of the same type."""
    def change(made):
        old = made.tensors[f"{Q}.{suffix}"]
        made.tensors[f"{Q}.{suffix}"] = Stored(old.dtype, np.ascontiguousarray(function(old.array.copy())))
    return change


def retyped(suffix, stored):
    """stored: what takes the tensor's place."""
    def change(made):
        made.tensors[f"{Q}.{suffix}"] = stored(made.tensors[f"{Q}.{suffix}"])
    return change


def placed(suffix, place, value):
    """One number of a tensor, at a place of the flattened array, as the bits that it stores."""
    def function(array):
        array.reshape(-1)[place] = value
        return array
    return replaced(suffix, function)


def configured(*path, value):
    def change(made):
        inner = made.config["quantization_config"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    return change


def formatted(layout):
    """Of compressed-tensors, at both places that say it."""
    def change(made):
        described = made.config["quantization_config"]
        described["format"] = described["config_groups"]["group_0"]["format"] = layout
    return change


def stated(**changes):
    """Keys of the JSON in the quant state of bitsandbytes; None takes one away."""
    def change(made):
        name = f"{Q}.weight.quant_state.bitsandbytes__nf4"
        state = {**json.loads(made.tensors[name].array.tobytes()), **changes}
        state = {key: value for key, value in state.items() if value is not None}
        made.tensors[name] = Stored("U8", np.frombuffer(json.dumps(state).encode(), np.uint8))
    return change


def shortened(suffix):
    """A row less."""
    return replaced(suffix, lambda array: array[:-1])


def neither(made):
    """A module that the config does not name, with neither packed tensors nor plain ones."""
    for name in [name for name in made.tensors if name.startswith(Q + ".")]:
        del made.tensors[name]


def skipped_yet_packed(made):
    """The config says that the module is left as it is, the file has it packed: by its tensors a reader can load it, and may."""
    made.config["quantization_config"]["modules_to_not_convert"] = [Q]


def renamed_method(method, **keys):
    def change(made):
        made.config["quantization_config"] = {**made.config["quantization_config"], "quant_method": method, **keys}
    return change


def without_method(made):
    del made.config["quantization_config"]["quant_method"]


def both(made):
    """A packed and a plain matrix of one module."""
    made.tensors[f"{Q}.weight"] = store(made.twin[f"{Q}.weight"].values(), "F16")


def stored_15(made):
    """A zero point of 16 in a v1 file of 4 bits, asymmetric: adding one carries into the neighbour in some readers."""
    made.tensors[f"{Q}.qzeros"].array.view(np.uint32).reshape(-1)[0] |= 0xF


def dynamic(settings, *changes):
    """GPTQ's settings of single modules, beside other changes."""
    def change(made):
        made.config["quantization_config"]["dynamic"] = settings
        for one in changes:
            one(made)
    return change


NAN_F16, NAN_BF16 = np.float16("nan"), 0x7FC0
SIZES = r"the model takes \d.*B at 16 bits, which model.quantize: nf4 makes \d.*B"
FINITE = r"finite|nan|infinit"
SIZE = r"shape|\[|size|bytes|columns|rows|count|long"

REFUSALS = {
    "awq-no-scales": Refusal("awq-g32", without("scales"), (NAME, "scales")),
    "awq-no-zeros": Refusal("awq-g32", without("qzeros"), (NAME, "qzeros")),
    "awq-no-codes": Refusal("awq-g32", without("qweight"), (NAME, r"qweight|weight")),
    "awq-short-codes": Refusal("awq-g32", shortened("qweight"), (NAME, SIZE)),
    "awq-short-scales": Refusal("awq-g32", shortened("scales"), (NAME, SIZE)),
    "awq-narrow-scales": Refusal("awq-g32", replaced("scales", lambda a: a[:, :-8]), (NAME, SIZE)),
    "awq-float-codes": Refusal("awq-g32", retyped("qweight", lambda t: Stored("F32", t.array.view(np.float32))), (NAME, "F32")),
    "awq-nan-scale": Refusal("awq-g32", placed("scales", 3, NAN_F16), (NAME, FINITE)),
    "awq-infinite-scale": Refusal("awq-g32", placed("scales", -1, np.float16("inf")), (NAME, FINITE)),
    "awq-nothing": Refusal("awq-g32", neither, (NAME,)),
    "awq-gemv": Refusal("awq-g32", configured("version", value="gemv"), ("gemv", SIZES)),
    "awq-gemv-fast": Refusal("awq-g32", configured("version", value="gemv_fast"), ("gemv_fast",)),
    "awq-marlin": Refusal("awq-g32", configured("version", value="marlin"), ("marlin", SIZES)),
    "awq-3-bit": Refusal("awq-g32", configured("bits", value=3), (r"\b3\b|\bbits\b",)),
    "awq-other-group": Refusal("awq-g32", configured("group_size", value=48), (r"\b48\b|group",)),
    "gptq-no-zeros": Refusal("gptq-g32-asymmetric", without("qzeros"), (NAME, "qzeros")),
    "gptq-no-g-idx-act-order": Refusal("gptq-act-order", without("g_idx"), (NAME, "g_idx|desc_act")),
    "gptq-g-idx-beyond": Refusal("gptq-act-order", placed("g_idx", 5, 4), (NAME, "g_idx")),
    "gptq-g-idx-negative": Refusal("gptq-act-order", placed("g_idx", 5, -1), (NAME, "g_idx")),
    "gptq-g-idx-short": Refusal("gptq-act-order", shortened("g_idx"), (NAME, SIZE)),
    "gptq-nan-scale": Refusal("gptq-g64-bf16", placed("scales", 0, NAN_BF16), (NAME, FINITE)),
    "gptq-short-codes": Refusal("gptq-g32-asymmetric", shortened("qweight"), (NAME, SIZE)),
    "gptq-stored-15": Refusal("gptq-g32-asymmetric", stored_15, (NAME, "zero")),
    "gptq-3-bit": Refusal("gptq-g32-asymmetric", configured("bits", value=3), (r"\b3\b|\bbits\b",)),
    "gptq-2-bit": Refusal("gptq-g32-asymmetric", configured("bits", value=2), (r"\b2\b|\bbits\b",)),
    "gptq-marlin": Refusal("gptq-g32-asymmetric", configured("checkpoint_format", value="marlin"), ("marlin",)),
    "gptq-dynamic-3-bit": Refusal("gptq-g32-asymmetric", dynamic({r".*q_proj": {"bits": 3}}, replaced("qweight", lambda a: a[:6])),
                                  ("gptq", NAME, "dynamic", "get a checkpoint with 4 or 8 bits")),
    "gptq-dynamic-of-others": Refusal("gptq-8-bit", dynamic({r".*k_proj": {"group_size": 64}}, configured("bits", value=4)),
                                      ("gptq", r"layers\.0\.self_attn\.q_proj\.qweight", "dynamic")),
    "gptq-dynamic-negative-yet-packed": Refusal("gptq-8-bit", dynamic({"-:.*": {}}, configured("bits", value=4)),
                                                ("gptq", r"layers\.0\.self_attn\.q_proj\.qweight", "dynamic")),
    "gptq-dynamic-other-group": Refusal("gptq-g32-asymmetric", dynamic({r".*q_proj": {"group_size": 16}}, shortened("scales")),
                                        (NAME, "scales", "dynamic")),
    "gptq-dynamic-no-settings": Refusal("gptq-g32-asymmetric", dynamic({r".*q_proj": 8}), ("gptq", r"'dynamic': '\.\*q_proj'",)),
    "gptq-dynamic-nothing": Refusal("gptq-g32-asymmetric", dynamic({r"-:.*q_proj": {}}, neither), (NAME,)),
    "fp8-no-scale": Refusal("fp8", without("weight_scale_inv"), (NAME, "scale")),
    "fp8-short-scale": Refusal("fp8-ragged", replaced("weight_scale_inv", lambda a: a[:, :-1]), (NAME, SIZE)),
    "fp8-nan-scale": Refusal("fp8", placed("weight_scale_inv", 0, np.nan), (NAME, FINITE)),
    "fp8-nan-ue8m0": Refusal("fp8-ue8m0", placed("weight_scale_inv", 0, 255), (NAME, FINITE)),
    "fp8-nan-code": Refusal("fp8", placed("weight", 77, 0x7F), (NAME, FINITE)),
    "fp8-negative-nan-code": Refusal("fp8", placed("weight", -1, 0xFF), (NAME, FINITE)),
    "fp8-block-of-nothing": Refusal("fp8", configured("weight_block_size", value=[0, 128]), ("weight_block_size|block",)),
    "nf4-no-absmax": Refusal("nf4", without("weight.absmax"), (NAME, "absmax")),
    "nf4-no-map": Refusal("nf4", without("weight.quant_map"), (NAME, "quant_map")),
    "nf4-no-state": Refusal("nf4", without("weight.quant_state.bitsandbytes__nf4"), (NAME, "quant_state")),
    "nf4-map-of-15": Refusal("nf4", shortened("weight.quant_map"), (NAME, "quant_map")),
    "nf4-nan-map": Refusal("nf4", placed("weight.quant_map", 3, np.nan), (NAME, FINITE)),
    "nf4-short-codes": Refusal("nf4", shortened("weight"), (NAME, SIZE)),
    "nf4-short-absmax": Refusal("nf4", shortened("weight.absmax"), (NAME, "absmax")),
    "nf4-nan-absmax": Refusal("nf4", placed("weight.absmax", 2, np.inf), (NAME, FINITE)),
    "nf4-no-nested": Refusal("nf4-double", without("weight.nested_absmax"), (NAME, "nested_absmax")),
    "nf4-short-nested": Refusal("nf4-double", shortened("weight.nested_absmax"), (NAME, "nested_absmax")),
    "nf4-nested-map-of-255": Refusal("nf4-double", shortened("weight.nested_quant_map"), (NAME, "nested_quant_map")),
    "nf4-other-shape": Refusal("nf4", stated(shape=[32, 128]), (NAME, "shape")),
    "nf4-blocks-of-100": Refusal("nf4", stated(blocksize=100), (NAME, "blocksize|block")),
    "nf4-no-blocks": Refusal("nf4", stated(blocksize=None), (NAME, "blocksize|block")),
    "nf4-nan-offset": Refusal("nf4-double", stated(nested_offset=1e300), (NAME, "nested_offset")),
    "int8-no-scale": Refusal("int8", without("SCB"), (NAME, "SCB")),
    "int8-nan-scale": Refusal("int8", placed("SCB", 0, np.nan), (NAME, FINITE)),
    "int8-columns": Refusal("int8", retyped("weight_format", lambda t: Stored("U8", np.array(1, np.uint8))), (NAME, "weight_format")),
    "ct-no-scale": Refusal("ct-packed", without("weight_scale"), (NAME, "weight_scale")),
    "ct-no-zero": Refusal("ct-packed-g32-asymmetric", without("weight_zero_point"), (NAME, "zero")),
    "ct-other-shape": Refusal("ct-packed", placed("weight_shape", 0, 64), (NAME, "weight_shape|shape")),
    "ct-nan-scale": Refusal("ct-int-rows", placed("weight_scale", 1, NAN_BF16), (NAME, FINITE)),
    "ct-g-idx-beyond": Refusal("ct-packed-act-order", placed("weight_g_idx", 0, 99), (NAME, "g_idx")),
    "ct-nvfp4": Refusal("ct-packed", formatted("nvfp4-pack-quantized"), ("nvfp4",)),
    "ct-marlin-24": Refusal("ct-packed", formatted("marlin-24"), ("marlin-24",)),
    "ct-sparse": Refusal("ct-int-rows", configured("sparsity_config", value={"format": "sparse-24-bitmask", "sparsity_structure": "2:4"}),
                         ("spars",)),
    **{f"method-{method}": Refusal("awq-g32", renamed_method(method), (method,))
       for method in ("auto-round", "hqq", "aqlm", "eetq", "quip", "quanto", "higgs", "torchao", "bitnet", "spqr", "vptq", "fbgemm_fp8",
                      "modelopt", "marlin", "no_such_method")},
    "method-none": Refusal("awq-g32", without_method, ("quant_method",)),
}

# A reader may load these or refuse them; if it loads them, by the tensors that are there, it has the numbers of the twin.
EITHER = {"gptq-dynamic-skipped-yet-packed": Refusal("gptq-g32-asymmetric", dynamic({"-:.*q_proj": {}}), (NAME,)),
          "awq-skipped-yet-packed": Refusal("awq-g32", skipped_yet_packed, (NAME,)),
          "awq-packed-and-plain": Refusal("awq-g32", both, (NAME,))}


def refusal(name):
    base, change, words = {**REFUSALS, **EITHER}[name]
    made = case(base)
    change(made)
    return made, words
