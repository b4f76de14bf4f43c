# SPDX-License-Identifier: MIT
"""strata bench: several parts in one process, the sustained rate with what the device said meanwhile, and what a run that is cut off
leaves."""
import json
import os
import subprocess
import time

import pytest

import support
from support import OK, STRATA, USAGE, clean_environment, strata

CPU = ("bench", "--device", "cpu", "--threads", "1", "--shape", "tiny", "--tokens", "64", "--repeats", "1")
needs_emulation = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def names(report, part):
    return [figure["what"] for figure in report["figures"] if figure["part"] == part]


def emulated(*words, tokens=64, **settings):
    return strata("bench", "--device", "cuda:0", "--shape", "tiny", "--repeats", "1", "--tokens", tokens, *words,
                  environment=clean_environment(**{f"CUDA_EMULATION_{name}": str(value) for name, value in settings.items()}),
                  program=support.EMULATED)


def test_parts_as_a_list(tmp_path):
    file = tmp_path / "bench.json"
    file.write_text("of an earlier run")
    done = strata(*CPU, "--part", "rows,peaks,rows", "--json", file)
    assert done.code == OK, done
    report = json.loads(file.read_text())
    assert report["complete"] is True and report["shape"] == "tiny"
    assert {figure["part"] for figure in report["figures"]} == {"peaks", "rows"}
    assert len(done.out.splitlines()) == 1 + len(report["figures"])
    assert os.listdir(tmp_path) == ["bench.json"]


@pytest.mark.parametrize("parts, wrong", [("rowz", "rowz"), ("rows,rowz", "rowz"), ("rows,", ""), (",rows", ""), ("", ""), ("row", "row"),
                                          ("rows peaks", "rows peaks"), ("rows|peaks", "rows|peaks")])
def test_unknown_part(parts, wrong):
    done = strata(*CPU, "--part", parts)
    assert done.code == USAGE
    assert f"not '{wrong}'" in done.err and "products|small|attention|block|rows" in done.err and "list" in done.err


def test_other_choices_are_no_lists():
    done = strata(*CPU, "--dtype", "bfloat16,float32")
    assert done.code == USAGE and "--dtype must be one of bfloat16|float16|float32, not 'bfloat16,float32'" in done.err


def check_sustained(report):
    first, last, tokens = (next(f for f in report["figures"] if f["what"] == what) for what in
                           ("products in turn, first second", "products in turn, last second", "token/s of a block's products"))
    assert first["unit"] == last["unit"] == "GFLOP/s" and tokens["unit"] == "tokens/s"
    assert {f["part"] for f in (first, last, tokens)} == {"sustained"}
    assert last["limit"] == first["value"] > 0 and last["value"] > 0
    attended, kv, hidden, intermediate = 64, 32, 64, 192  # the shape tiny
    operations = 2 * hidden * (attended + 2 * kv + attended + 3 * intermediate)  # of a token
    assert tokens["value"] * operations == pytest.approx(last["value"] * 1e9, rel=1e-6)


def test_sustained_on_the_cpu(tmp_path):
    file = tmp_path / "bench.json"
    done = strata(*CPU, "--part", "sustained", "--seconds", "1", "--json", file)
    assert done.code == OK, done
    report = json.loads(file.read_text())
    check_sustained(report)
    assert len(report["figures"]) == 3 and report["throttle_reasons"] == "unknown"


METHODS = ["4 bits, groups of 128", "4 bits, columns in any order", "8 bits, a row", "float8, blocks of 128 x 128", "float4, groups of 32",
           "nf4", "nf4, double"]
BLOCKS_OF_32 = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"]
BLOCKS_OF_256 = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]


def check_expansion(report, formats):
    figures = report["figures"]
    assert sorted(names(report, "expansion")) == sorted(f"expansion, {name}" for name in formats) and len(figures) == len(formats)
    assert all(f["unit"] == "Gnum/s" and f["value"] > 0 and f["share"] > 0 for f in figures)
    numbers = 2 * report["intermediate"] * report["hidden"]  # of the block's largest matrix, gate|up
    assert all(f["value"] * 1e9 * f["seconds"] == pytest.approx(numbers, rel=1e-6) for f in figures)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_expansion_of_each_format(tmp_path, dtype):
    file = tmp_path / "bench.json"
    done = strata(*CPU, "--part", "expansion", "--dtype", dtype, "--json", file)
    assert done.code == OK, done
    check_expansion(json.loads(file.read_text()), METHODS + BLOCKS_OF_32)  # the tiny shape's rows are shorter than 256
    assert "% of a matmul of 64 tokens" in done.out


def test_expansion_of_long_blocks(tmp_path):
    file = tmp_path / "bench.json"
    done = strata("bench", "--device", "cpu", "--threads", "1", "--repeats", "1", "--shape", "qwen3-0.6b", "--part", "expansion", "--tokens", "8",
                  "--json", file)
    assert done.code == OK, done
    check_expansion(json.loads(file.read_text()), METHODS + BLOCKS_OF_32 + BLOCKS_OF_256)


@needs_emulation
def test_expansion_on_a_gpu(tmp_path):
    file = tmp_path / "bench.json"
    done = emulated("--part", "expansion", "--json", file)
    assert done.code == OK, done
    check_expansion(json.loads(file.read_text()), METHODS + BLOCKS_OF_32)


def check_families(report):
    figures = {figure["what"]: figure for figure in report["figures"]}
    assert list(figures) == ["block of tiny dense", "block of tiny experts", "experts of tiny experts", "block of tiny delta net",
                             "its delta net", "block of tiny state space", "its state space"]
    for name, figure in figures.items():
        assert figure["unit"] == ("tokens/s" if name.startswith("block") else "%") and figure["value"] > 0
        if name.startswith("block"):
            assert figure["share"] > 0 and figure["value"] * figure["seconds"] == pytest.approx(report["tokens"], rel=1e-6)
    experts = figures["experts of tiny experts"]
    assert experts["value"] == pytest.approx(100 * experts["dense_seconds"] / experts["seconds"], rel=1e-6)
    assert experts["seconds"] < figures["block of tiny experts"]["seconds"] and figures["its delta net"]["value"] < 100


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_families(tmp_path, dtype):
    file = tmp_path / "bench.json"
    done = strata(*CPU, "--part", "families", "--dtype", dtype, "--json", file)
    assert done.code == OK, done
    check_families(json.loads(file.read_text()))
    assert done.out.count(" % of the matmul peak") == 4


@needs_emulation
def test_families_on_a_gpu(tmp_path):
    file = tmp_path / "bench.json"
    done = emulated("--part", "families", "--json", file)
    assert done.code == OK, done
    check_families(json.loads(file.read_text()))


@needs_emulation
@pytest.mark.parametrize("shared, other", [(233472, "one head a warp"), (102400, "two heads a warp")])
def test_both_kernels_of_attention(tmp_path, shared, other):
    file = tmp_path / "bench.json"
    done = emulated("--part", "attention", "--json", file, tokens=320, MULTIPROCESSOR_SHARED=shared)
    assert done.code == OK, done
    assert names(json.loads(file.read_text()), "attention") == ["attention, 1 of 300 tokens", f"attention, 1 of 300 tokens, {other}"]


@needs_emulation
def test_the_one_kernel_of_attention(tmp_path):
    file = tmp_path / "bench.json"
    done = emulated("--part", "attention", "--dtype", "float32", "--json", file, tokens=320)
    assert done.code == OK, done
    assert names(json.loads(file.read_text()), "attention") == ["attention, 1 of 300 tokens"]


@needs_emulation
def test_sustained_on_a_gpu_that_is_held_back(tmp_path):
    file = tmp_path / "bench.json"
    done = emulated("--part", "sustained", "--seconds", "4", "--json", file, NVML_CLOCK=1980, NVML_SLOW_CLOCK=1410, SLOW="1:0",
                    NVML_POWER=699500, NVML_REASONS=0x24)
    assert done.code == OK, done
    report = json.loads(file.read_text())
    check_sustained(report)
    known = {f["what"]: (f["value"], f["unit"]) for f in report["figures"]}
    assert known["lowest SM clock"] == (1410, "MHz") and known["power"] == (699.5, "W")
    assert report["throttle_reasons"] == "power+thermal"
    assert "throttle reasons: power+thermal" in done.out


@needs_emulation
def test_sustained_without_monitoring(tmp_path):
    file = tmp_path / "bench.json"
    done = emulated("--part", "sustained", "--seconds", "1", "--json", file, NVML=0)
    assert done.code == OK, done
    report = json.loads(file.read_text())
    check_sustained(report)
    assert len(report["figures"]) == 3 and report["throttle_reasons"] == "unknown"


@needs_emulation
@pytest.mark.parametrize("part, tokens, blocks, sets", [("products", 64, 32, 1), ("rows", 64, 1, 8), ("rows", 16384, 1, 3),
                                                        ("copies", 64, 1, 1)])
def test_data_beyond_the_cache(tmp_path, part, tokens, blocks, sets):
    """What is timed over and over lies in more memory than two of the GPU's caches, as far as that is sensible."""
    file = tmp_path / "bench.json"
    done = emulated("--json", file, "--part", part, tokens=tokens)
    assert done.code == OK, done
    report = json.loads(file.read_text())
    assert (report["cache"], report["blocks"], report["sets"]) == (4 << 20, blocks, sets)
    assert all(figure["value"] > 0 for figure in report["figures"])


def test_a_run_that_is_cut_off_leaves_what_it_had(tmp_path):
    file = tmp_path / "bench.json"
    with subprocess.Popen([STRATA, *CPU, "--part", "rows,sustained", "--seconds", "600", "--json", file], stdout=subprocess.PIPE,
                          text=True, env=clean_environment()) as bench:
        lines = [bench.stdout.readline() for _ in range(4)]  # the device and three figures: each printed when it is known
        while len(json.loads(file.read_text())["figures"]) < 3:  # whole at any moment
            time.sleep(0.01)
        bench.kill()
        bench.wait()
        assert lines[1].startswith("RMSNorm ") and lines[3].startswith("SwiGLU ") and bench.stdout.read() == ""
    report = json.loads(file.read_text())
    assert report["complete"] is False
    assert names(report, "rows") == ["RMSNorm", "norm and rotation of heads", "SwiGLU"] and names(report, "sustained") == []


def test_a_device_is_written_to_and_not_replaced():
    done = strata(*CPU, "--part", "rows", "--json", "/dev/stderr")
    assert done.code == OK
    assert json.loads(done.err)["complete"] is True


def test_a_file_that_cannot_be_written_is_known_before_anything_is_measured(tmp_path):
    done = strata(*CPU, "--part", "rows", "--json", tmp_path / "missing" / "bench.json")
    assert done.code == support.WRITE and "bench.json" in done.err
    assert "RMSNorm" not in done.out
