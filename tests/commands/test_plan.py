# SPDX-License-Identifier: MIT
"""What strata plan foretells: the ways to run a model on a machine that is not here, what an engine that generates would need, and
the rate of this machine's processor."""
import json
import re

import pytest

import support
from packed.sparse import HIDDEN, INTERMEDIATE, LAYERS, qwen3_8b
from support import DEVICE, OK, USAGE, Job, make_model, make_problems, strata

MIB, GIB = 2 ** 20, 2 ** 30
MISTRAL_7B = {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
              "rope_theta": 1e6, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "hidden_act": "silu"}
LLAMA_70B = {**MISTRAL_7B, "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
             "num_attention_heads": 64, "vocab_size": 128256}
emulated = pytest.mark.skipif(not support.EMULATED.exists(), reason="built without the emulation of CUDA")


def folder_of(folder, config):
    """A model of which only config.json is there."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "sliding_window" or
                                                    config["model_type"] == "mistral"}))
    return folder


def planned(*words, **how):
    done = strata("plan", *words, "--json", **how)
    assert (done.code, done.err) == (OK, ""), done
    return json.loads(done.out)


def ways(plan):
    return {way["way"]: way for way in plan["ways"]}


def words_of(done):
    """Row of the table -> its columns."""
    return {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.startswith("  ")}


@pytest.fixture
def mistral(tmp_path):
    return folder_of(tmp_path / "mistral", MISTRAL_7B)


@pytest.fixture
def llama(tmp_path):
    return folder_of(tmp_path / "llama", LLAMA_70B)


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "job", make_problems(6))


# ---- a machine that is not here

def test_a_model_that_fits(mistral):
    plan = planned("--model", mistral, "--gpu", "RTX 4090")
    machine, found = plan["machine"], ways(plan)
    assert (machine["card"], machine["here"], machine["memory"], machine["target"]) == ("RTX 4090", False, 24 * GIB, 0.9)
    assert machine["operations_per_second"] == pytest.approx(0.6 * 165.2e12) and machine["pcie_bytes_per_second"] == pytest.approx(25.2e9, rel=0.01)
    resident = found["resident"]
    assert resident["fits"] and (resident["resident_blocks"], resident["blocks"], resident["group_tokens"]) == (31, 31, 0)
    memory = resident["memory"]
    assert memory["blocks"] == sum(layer["held"] for layer in resident["layers"]) == 31 * 2 * (4096 * (10240 + 3 * 14336) + 2 * 4096)
    used = sum(memory[name] for name in ("blocks", "slots", "embedding", "final_norm", "expansion", "activations", "residuals", "scratch"))
    assert used == resident["needed"] <= resident["budget"] == pytest.approx(0.9 * 24 * GIB - 5e8)
    flops = 31 * (2 * 4096 * (10240 + 3 * 14336) + 2 * 4096 * 301)
    assert resident["tokens_per_second"] == pytest.approx(0.6 * 165.2e12 / flops, rel=1e-6) and resident["limit"] == "matrix rate"
    assert found["nf4"]["needed"] < 0.4 * resident["needed"] and found["nf4_double"]["needed"] < found["nf4"]["needed"]
    assert 0.95 < found["nf4"]["tokens_per_second"] / resident["tokens_per_second"] < 1


def test_a_model_that_streams(llama):
    plan = planned("--model", llama, "--gpu", "rtx-4090", "--in-use", "1GB", "--disk-rate", "7", "--pcie", "20")
    found = ways(plan)
    assert not found["resident"]["fits"] and found["resident"]["limit"] == "memory"
    for name, rate in (("host", 20e9), ("disk", 7e9)):
        way = found[name]
        assert way["fits"] and 0 < way["resident_blocks"] < 79 and way["limit"] == "matrix rate"
        # A copy takes as long as the computing of so many tokens: a weight has 2 bytes and costs them 2 operations each.
        assert way["hiding_tokens"] == pytest.approx(0.6 * 165.2e12 / rate, rel=0.03)
        assert way["group_tokens"] >= way["hiding_tokens"] and way["group_tokens"] % 8192 == 0
        assert way["needed"] <= way["budget"] == pytest.approx(0.9 * 23 * GIB - 5e8)
    assert found["host"]["tokens_per_second"] == pytest.approx(found["disk"]["tokens_per_second"])
    assert found["host"]["memory"]["host"] > 115e9 > 1e9 > found["disk"]["memory"]["host"]


def test_a_small_batch_meets_the_link(llama):
    """A group that has no room to hide the copies."""
    few = ("--model", llama, "--gpu", "24GB", "--tokens", "256", "--in-use", "17.35GB")
    found = ways(planned(*few, "--pcie", "1"))
    assert (found["host"]["limit"], found["host"]["fits"]) == ("PCIe", True)
    assert found["host"]["group_tokens"] < found["host"]["hiding_tokens"]
    assert ways(planned(*few, "--pcie", "1", "--disk-rate", "0.5"))["disk"]["limit"] == "disk"


def test_too_little_memory(llama):
    plan = planned("--model", llama, "--gpu", "24GB", "--host-memory", "64GB")
    host = ways(plan)["host"]
    assert (host["fits"], host["limit"]) == (False, "host memory") and host["memory"]["host"] > 64 * GIB
    done = strata("plan", "--model", llama, "--gpu", "8GB")
    assert done.code == OK and not any(way["fits"] for way in ways(planned("--model", llama, "--gpu", "6GB")).values())
    assert "resident    does not fit: 139." in done.out, done


def test_a_size_is_a_careful_guess(mistral):
    machine = planned("--model", mistral, "--gpu", "8GB")["machine"]
    assert (machine["card"], machine["card_is_guessed"], machine["memory"]) == ("RTX 4060", True, 8 * GIB)
    assert planned("--model", mistral, "--gpu", "8000MB")["machine"]["memory"] == 8000 * MIB


def test_several_gpus(job, llama):
    """Sharing batches each has all blocks; sharing blocks each has room for a model that fits on none."""
    done = strata("plan", job.file, "--gpu", "H200", "--gpus", "5")
    assert done.code == OK and re.findall(r"^  (\d) +resident +(\w+) ", done.out, re.M) == [
        (gpus, split) for gpus in "245" for split in ("batches", "layers") if (gpus, split) not in (("4", "layers"), ("5", "layers"))], done
    plan = planned("--model", llama, "--gpu", "H200", "--gpus", "4")
    one = ways(plan)["resident"]
    assert not one["fits"] and ways(plan)["nf4"]["fits"]
    several = {(row["gpus"], row["way"], row["split"]): row for row in plan["several"]}
    assert {gpus for gpus, _, _ in several} == {2, 4}
    nf4 = ways(plan)["nf4"]["tokens_per_second"]
    assert several[4, "nf4", "batches"]["tokens_per_second"] == pytest.approx(4 * nf4)
    assert not several[4, "resident", "batches"]["fits"] and several[4, "resident", "batches"]["tokens_per_second"] is None
    halves, quarters = several[2, "resident", "layers"], several[4, "resident", "layers"]
    assert halves["fits"] and (halves["blocks"], quarters["blocks"]) == (40, 20)
    assert quarters["needed"] < halves["needed"] < 0.55 * one["needed"]
    assert quarters["tokens_per_second"] == pytest.approx(2 * halves["tokens_per_second"])
    assert planned("--model", llama, "--gpu", "H200")["several"] == []


def test_several_gpus_read_a_block_once(llama):
    """Each takes a group of its own through a sweep; so many blocks stay on each."""
    plan = planned("--model", llama, "--gpu", "RTX 4090", "--gpus", "8", "--disk-rate", "1")
    disk = ways(plan)["disk"]
    for row in plan["several"]:
        if (row["way"], row["split"]) == ("disk", "batches"):
            assert row["tokens_per_second"] == pytest.approx(row["gpus"] * disk["tokens_per_second"])
            assert row["blocks"] == disk["resident_blocks"] < disk["blocks"]
    assert {row["split"] for row in plan["several"] if row["way"] in ("host", "disk")} == {"batches"}
    assert strata("plan", "--model", llama, "--gpus", "9").code == USAGE


def test_the_blocks_that_a_job_lets_stay(job, tmp_path):
    """As a run would place them: of two slots an even number comes."""
    for stay, at_most in ((0, 0), (1, 1), (2, 1), (3, 3)):
        twin = job.twin(tmp_path / str(stay), model={"weights": "host", "resident_blocks": stay})
        host = ways(planned(twin.file, "--gpu", "RTX 4090"))["host"]
        assert (host["resident_blocks"], host["blocks"]) == (at_most, 3), stay
        assert (host["group_tokens"] == 0) == (stay == 3)
        assert ("  host " in strata("plan", twin.file, "--gpu", "RTX 4090").out) == (stay < 3)


def test_the_table(llama, mistral):
    done = strata("plan", "--model", llama, "--gpu", "RTX 4090")
    rows = words_of(done)
    assert done.code == OK and rows["way"] == "memory blocks largest in flight tokens/s time limit".split(), done
    assert re.search(r"^  host +\d\d\.\d+ GB +7/79 +[\d,]+ +3,922 +731\.1 +-  matrix rate; 12\d\.\d+ GB of host memory$", done.out, re.M), done
    assert "an assumption" in done.out and "note          no weights are there" in done.out
    assert "by purpose" not in done.out and "generating" not in done.out
    fits = strata("plan", "--model", mistral, "--gpu", "RTX 4090", "--details")
    assert set(words_of(fits)) >= {"resident", "nf4", "nf4_double"} and not {"host", "disk"} & set(words_of(fits)), fits
    assert "  resident    block 0 to 30: 436.22 MB each, 436.22 MB in the files\n" in fits.out
    assert re.search(r"^  keys, values of one block +33\.55 MB", fits.out, re.M), fits


@pytest.mark.parametrize("words, said", [
    (("--gpu", "T4"), "T4 has compute capability 7.5, and strata runs on GPUs from 8.0 on"),
    (("--gpu", "RTX 4099"), "did you mean 'RTX 4090'?"), (("--gpu", "Voodoo"), "--gpu is a size such as 8GB or one of GTX 1660"),
    (("--gpu", "0GB"), "has no memory"), (("--in-use", "much"), "--in-use is a size such as 24GB"), (("--in-use", "-1"), "--in-use"),
    (("--target", "1.5"), "--target is a share"), (("--target", "nan"), "--target"), (("--pcie", "0"), "--pcie is a rate in GB/s"),
    (("--disk-rate", "1e99"), "--disk-rate"), (("--host-memory", "9" * 40), "--host-memory"), (("--kv", "q8_0"), "go with --context"),
    (("--limit", "3"), "--limit is for the rows of a job")])
def test_what_is_refused(words, said, mistral):
    done = strata("plan", "--model", mistral, *words)
    assert done.code == USAGE and said in done.err, done


def test_a_job_or_a_model(job, mistral):
    assert "JOB.yaml is missing (or --model PATH" in strata("plan").err
    assert "a job has its own model" in strata("plan", job.file, "--model", mistral).err
    assert strata("plan", "--model", mistral / "nowhere").code == support.DATA


# ---- a job's own

def test_the_checkpoint_decides(tmp_path):
    """Its formats count, and what is packed is not quantised again."""
    job = Job(tmp_path, make_problems(6), qwen3_8b(tmp_path / "model", "awq"), model={"dtype": "bfloat16"}, latents={"layers": [-1]},
              batch={"tokens": 8192, "problems": 64, "window": 64})
    found = ways(planned(job.file, "--gpu", "24GB"))
    assert set(found) == {"resident", "host", "disk"}
    resident = found["resident"]
    numbers = HIDDEN * (2 * HIDDEN + 2 * 1024 + 3 * INTERMEDIATE)
    assert resident["blocks"] == LAYERS and resident["layers"][0]["held"] == pytest.approx(numbers * (0.5 + 2.5 / 128), rel=1e-3)
    assert resident["memory"]["expansion"] == 2 * 2 * INTERMEDIATE * HIDDEN and resident["memory"]["final_norm"] == 2 * HIDDEN


def test_time_is_that_of_the_problems(job):
    plan = planned(job.file, "--gpu", "RTX 3060")
    text = strata("plan", job.file).out
    assert plan["tokens"] == int(re.search(r"^tokens +(\d+)", text, re.M)[1])
    resident = ways(plan)["resident"]
    assert resident["seconds"] == pytest.approx(plan["tokens"] / resident["tokens_per_second"]) and 0 < plan["fill"] <= 1
    assert plan["machine"]["operations_per_second"] == pytest.approx(0.6 * 12.7e12)  # float32


def test_the_processor_is_measured(job):
    """Its rate is a number; what it is a test of time cannot tell."""
    plan = planned(job.file)
    machine, found = plan["machine"], ways(plan)
    assert machine["here"] and machine["card"] is None and machine["pcie_bytes_per_second"] is None
    assert machine["operations_per_second"] > 1e6 and machine["conversion_bytes_per_second"] > 1e6
    assert set(found) == {"resident", "disk", "nf4", "nf4_double"} and found["resident"]["tokens_per_second"] > 1
    assert found["resident"]["resident_blocks"] == found["resident"]["blocks"] == 3 and plan["fill"] == 1


def test_a_large_block_is_measured_on_half_its_size(llama):
    found = planned("--model", llama)
    assert found["machine"]["operations_per_second"] > 1e6 and len(ways(found)["disk"]["layers"]) == 79


def test_a_processor_that_lacks_memory_streams_from_disk(tmp_path):
    job = Job(tmp_path, make_problems(6), make_model("deep", layers=24), batch={"group": 1})
    plan = planned(job.file)
    resident = ways(plan)["resident"]
    left = resident["needed"] - 4 * resident["layers"][0]["held"]
    in_use = plan["machine"]["memory"] - left / 0.9
    found = ways(planned(job.file, "--in-use", f"{in_use / MIB:.6f}MB"))
    disk = found["disk"]
    assert not found["resident"]["fits"] and disk["fits"] and 0 < disk["resident_blocks"] < 23 and disk["tokens_per_second"] > 1
    assert disk["memory"]["slots"] == disk["layers"][0]["held"] + disk["layers"][0]["file"] and disk["needed"] <= disk["budget"] <= left


def test_a_gpu_that_is_not_here(job):
    without = job.twin(job.folder / "gpu", model={"device": "cuda:0"})
    done = strata("plan", without.file)
    assert done.code == OK and re.search("^note +cuda:0 is not here, so this is for the CPU; --gpu NAME plans for a GPU$", done.out, re.M), done


@emulated
def test_a_gpu_that_is_here(job):
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(24 * GIB), CUDA_EMULATION_FREE=str(20 * GIB))
    there = job.twin(job.folder / "gpu", model={"device": "cuda:0"})
    machine = planned(there.file, program=support.EMULATED, environment=room)["machine"]
    assert machine["here"] and (machine["memory"], machine["in_use"], machine["card_is_guessed"]) == (24 * GIB, 4 * GIB, True)
    assert machine["host_memory"] > 0
    given = planned(there.file, "--in-use", "1GB", program=support.EMULATED, environment=room)["machine"]
    assert given["in_use"] == GIB


@emulated
@pytest.mark.parametrize("devices", ["cuda:all", ["cuda:0", "cuda:1", "cuda:2"]])
def test_several_gpus_of_a_job(devices, job):
    """Without --gpus as many as it has; the one with the least memory counts, also where a limit makes it so."""
    room = support.clean_environment(CUDA_EMULATION_DEVICES="3", CUDA_EMULATION_MEMORY=str(24 * GIB),
                                     CUDA_EMULATION_FREE=f"{20 * GIB},{18 * GIB}@1")
    there = job.twin(job.folder / "gpus", model={"device": devices, "split": "layers"})
    plan = planned(there.file, program=support.EMULATED, environment=room)
    assert plan["gpus"] == 3 and {row["gpus"] for row in plan["several"]} == {2, 3}
    assert plan["machine"]["memory"] - plan["machine"]["in_use"] == 18 * GIB
    assert "  this job has 3 GPUs and model.split: layers\n" in strata("plan", there.file, program=support.EMULATED, environment=room).out
    assert planned(there.file, "--gpus", "1", program=support.EMULATED, environment=room)["several"] == []
    there.change(run={"memory_gb": {"host": 100, "cuda:2": 3}})
    limited = planned(there.file, program=support.EMULATED, environment=room)["machine"]
    assert (limited["memory"], limited["in_use"]) == (3e9, 0)


@emulated
def test_a_gpu_of_a_job_that_is_not_here(job):
    there = job.twin(job.folder / "gpus", model={"device": ["cuda:0", "cuda:5"]}, run={"memory_gb": {"cuda:0": 3}})
    room = support.clean_environment(CUDA_EMULATION_DEVICES="1")
    plan = planned(there.file, program=support.EMULATED, environment=room)
    assert plan["machine"]["note"] == "cuda:5 is not here, and is planned for as if it were cuda:0" and plan["gpus"] == 2
    card = planned(there.file, "--gpu", "8GB")
    assert card["gpus"] == 2 and card["machine"]["memory"] == 3e9


@emulated
def test_check_agrees(tmp_path):
    """What a GPU plans for a launch is what was foretold of it."""
    job = Job(tmp_path, make_problems(6), qwen3_8b(tmp_path / "model", "plain"), model={"dtype": "bfloat16", "device": "cuda:0"},
              latents={"layers": [-1]}, batch={"tokens": 8192, "problems": 64, "window": 64})
    room = support.clean_environment(CUDA_EMULATION_MEMORY=str(16 * GIB), CUDA_EMULATION_FREE=str(8 * GIB))
    done = strata("check", job.file, program=support.EMULATED, environment=room)
    assert done.code == DEVICE, done
    needed = {name: float(value) * GIB for name, value in re.findall(r"(weights|activations|scratch) ([0-9.]+) GiB", done.out)}
    memory = ways(planned(job.file, "--gpu", "24GB"))["resident"]["memory"]
    assert needed["weights"] == pytest.approx(memory["blocks"] + memory["embedding"] + memory["final_norm"], rel=2e-3)
    assert needed["scratch"] == pytest.approx(memory["scratch"], rel=0.05)


# ---- engines that generate

@pytest.mark.parametrize("kv, context, each, least, most", [
    ("f16", 32768, 512, 8, 8), ("f16", 16384, 256, 14, 14), ("f16", 8192, 128, 22, 22), ("f16", 4096, 64, 29, 30), ("f16", 2048, 32, 32, 32),
    ("q8_0", 32768, 256, 15, 15), ("q4_0", 32768, 128, 22, 24)])
def test_published_figures(kv, context, each, least, most, mistral):
    """Mistral-7B in Q4_K_M on a card of 8,192 MB, of which others have 857, filled to 80 %; within a layer."""
    words = ("--model", mistral, "--gpu", "8192MB", "--in-use", "857MB", "--target", "0.8", "--context", context, "--kv", kv,
             "--file-size", "4166.1MB")
    found = planned(*words)["generation"]
    published, actual = found["published"], found["actual"]
    assert published["layer_bytes"] / MIB == pytest.approx(130.2, abs=0.05) and published["keys_and_values_bytes"] == each * MIB
    assert least - 1 <= published["layers"] <= most + 1
    block = {"f16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}[kv]
    assert actual["keys_and_values_bytes"] == 2 * context * 8 * 128 * block and actual["layers"] >= published["layers"]
    assert found["own_keys_and_values_bytes"] == 2 * context * 8 * 128 * 2 and found["own_residual_bytes"] == context * 4096 * 2
    text = strata("plan", *words).out
    assert re.search(rf"^  as is published +130\.2 MiB +{each}\.0 MiB +{published['layers']} of 32$", text, re.M), text
    assert re.search(rf"^  with grouped queries +130\.2 MiB .* {actual['layers']} of 32$", text, re.M), text
    assert "keys and values of one, " in text


def test_what_seven_billion_take(mistral):
    found = planned("--model", mistral, "--gpu", "8GB", "--context", 2048)["generation"]
    assert [found["parameters"] / 1e9, found["bytes_16_bit"] / 1e9, found["bytes_4_bit"] / 1e9] == pytest.approx([7.24, 14.48, 4.45], abs=0.01)
    assert "7.24 billion parameters: 14.48 GB at 16 bits, 4.45 GB in 4 (nf4)" in \
        strata("plan", "--model", mistral, "--gpu", "8GB", "--context", 2048).out


def test_the_file_is_the_checkpoint(tmp_path):
    """Unless another size is given."""
    model = make_model()
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    found = planned("--model", model, "--gpu", "8GB", "--context", 128)["generation"]
    assert found["published"]["layer_bytes"] == pytest.approx(size / 3)
