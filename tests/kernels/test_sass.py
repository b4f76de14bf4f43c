# SPDX-License-Identifier: MIT
"""The machine code of the CUDA kernels: within their registers, with packed conversions, whole chunks at a time."""
import sys

import pytest

import support

sys.path.insert(0, str(support.SOURCE / "tools"))
import sass  # noqa: E402

ARCH = "90"
COUNTED_WITH = "13.0"  # of nvcc: others allocate registers otherwise
MOST_REGISTERS = {"delta_scan_kernel<bf16, 4, same_beginning>": 96,  # 5 blocks of Qwen3.5's heads a multiprocessor
                  "space_scan_kernel<4, same_beginning>": 128}


@pytest.fixture(scope="module")
def tools():
    nvcc = sass.find_nvcc()
    if not nvcc:
        pytest.skip("no nvcc")
    nvdisasm = sass.find_nvdisasm(nvcc)
    if not nvdisasm:
        pytest.skip("no nvdisasm")
    return nvcc, nvdisasm


@pytest.mark.parametrize("source, wide", [
    ("rows", {"embed_kernel": {128}, "embed_scaled_kernel": {128}, "keep_kernel": {128}, "copy_columns_kernel": {128},
              "add_kernel": {128}, "scale_kernel": {128}}),
    ("norms", {"rms_norm_kernel": {128}, "norm_kernel": {128}}),
    ("activations", {"swiglu_kernel": {128}, "activate_kernel": {128}, "gate_kernel": {128},
                     "gate_rows_kernel": {128}, "xielu_kernel": {128}, "clamp_kernel": {128}}),
    ("rotary", {f"{kernel}<{number}": {width} for kernel in ("rotary_kernel", "turning_kernel")  # 4 numbers a lane
                for number, width in (("bf16", 64), ("f16", 64), ("float", 128))}),
    ("pool", {"pool_kernel": {128}}),
    ("attention_bf16", {"attention_mma_kernel": {128}}),
    ("attention_f16", {"attention_mma_kernel": {128}}),
    ("attention_scoring_bf16", {"attention_mma_kernel": {128}, "attention_wide_kernel": {128}}),
    ("attention_scoring_f16", {"attention_mma_kernel": {128}, "attention_wide_kernel": {128}}),
    ("attention_origins_bf16", {"attention_mma_kernel": {128}, "attention_wide_kernel": {128}}),
    ("attention_origins_f16", {"attention_mma_kernel": {128}, "attention_wide_kernel": {128}}),
    ("keep", {"pack_kernel": {16}}),  # a block has 34 bytes or 18
    ("delta_net_rows", {"delta_convolution_kernel<float": {128}, "delta_norm_kernel<float": {128}, "delta_gates_kernel": {128},
                        **{f"delta_{kernel}_kernel<{half}, {count}": widths for half in ("bf16", "f16")  # 4 or 8 numbers a lane
                           for kernel, count, widths in (("norm", 4, {64}), ("norm", 8, {128}), ("convolution", 4, {64, 128}),
                                                         ("convolution", 8, {128}))}}),
    ("delta_net_scan", {"delta_scan_kernel<bf16": {32, 64}, "delta_scan_kernel<f16": {32, 64}, "delta_scan_kernel<float": {64}}),
    ("causal_tail", {"causal_tail_kernel<bf16": {16}, "causal_tail_kernel<f16": {16}, "causal_tail_kernel<float": {32}}),
    ("state_space_rows", {"space_convolution_kernel": {128}, "space_gates_kernel": {128}, "space_norm_kernel<bf16": {64},
                          "space_norm_kernel<f16": {64}, "space_norm_kernel<float": {128}}),
    ("state_space_scan", {"space_scan_kernel": {32, 64}}),  # a state's numbers one by one: its rows may be of any length
    ("experts_gemm", {"experts_kernel": {128}}),
    ("experts_order", {"experts_scale_kernel": {128}, "experts_sum_kernel": {128}, "experts_order_kernel": {32}, "experts_tiles_kernel": {32}}),
    ("experts_route", {"route_kernel": {32}}),
])
def test_kernels(tools, source, wide):
    kernels = sass.kernels_of(sass.KERNELS / f"{source}.cu", ARCH, *tools)
    assert len(kernels) >= 3
    if sass.release(tools[0]) == COUNTED_WITH:
        assert [kernel.name for kernel in kernels if kernel.spilled or kernel.stack] == []
        assert [kernel for kernel in kernels if kernel.registers > MOST_REGISTERS.get(kernel.name, 255)] == []
    assert [kernel.name for kernel in kernels if kernel.counts["F2F"]] == []
    for kernel in kernels:
        assert sum(kernel.counts.values()) > 50, kernel
        if "false" not in kernel.name or source == "experts_gemm":  # elsewhere that is for rows which have no aligned chunks
            widths = [bits for name, bits in wide.items() if kernel.name.startswith(name)]
            assert [set(kernel.stores)] == widths, kernel
        if source.startswith("attention") or kernel.name.startswith(("experts_kernel<bf16", "experts_kernel<f16")):
            assert kernel.counts["HMMA"] > 0 and kernel.counts["LDSM"] > 0 and kernel.counts["LDGSTS"] > 0, kernel


def test_counts_and_widths():
    counts, stores = sass.count("""
.text._Z1kv:
        /*0010*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/              @!P0 F2F.BF16.F32 R4, R4 ;
        /*0030*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0040*/             @!UP1 STG.E.U16 desc[UR4][R2.64], R4 ;
        /*0050*/                   STG.E desc[UR4][R2.64], R4 ;
""")["_Z1kv"]
    assert counts == {"LDG": 1, "F2F": 1, "STG": 3}
    assert stores == {128: 1, 16: 1, 32: 1}
