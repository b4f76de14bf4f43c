# SPDX-License-Identifier: MIT
"""Extractions of gpu_check.py: their rate, their bits in other company, alone and after a kill, and the same texts through transformers."""
import json
import shutil
import subprocess

import numpy as np

import gpu_check_basics as basics
import gpu_check_rates as rates
import gpu_check_runs as runs
from gpu_check_process import Failed, LeftOut

TEXTS_MEAN = 257  # tokens of a text as tools/make_problems.py makes them
SET_SIZE = 21456  # texts of the set that they are like


# ---- one layer's step means ----

def need_model(check):
    if "model" not in check.figures:
        if check.making is None:
            raise LeftOut("without a model")
        basics.finish_model(check, check.processes.wait(check.making, check.timeout()))


def make_problems(check):
    count = 24
    if not check.options.quick:
        count = int(np.clip(rates.expected_rate(check) * min(check.shape.seconds, check.left() / 8) / TEXTS_MEAN, 64, SET_SIZE))
    lines = check.work / "problems.jsonl"
    with open(lines, "w") as out:
        subprocess.run([check.options.python, check.root / "tools/make_problems.py", "--count", str(count), "--lengths", "real", "--longest",
                        str(check.shape.longest)], stdout=out, stderr=subprocess.DEVNULL, check=True, timeout=check.timeout())
    check.call("import", check.strata, "import", lines, check.work / "problems.db")
    check.figures["problems"] = {"count": count}
    check.runner = runs.Runner(check)


def extract(check):
    need_model(check)
    make_problems(check)
    runs.forget(check.work / "model")
    reading = runs.read_rate(check.work / "model")
    runs.forget(check.work / "model")
    place = check.monitor.here()
    run = check.runner.run(check.runner.job("pooled", check.figures["problems"]["count"]))
    watched = check.monitor.since(place)
    found = {**runs.ledger(run), "load_bytes_per_second": runs.load_rate(run), "read_bytes_per_second": reading, "watched": watched}
    check.pooled = check.runner.latents(run)
    check.product_tokens = runs.product_tokens(run)
    if not all(np.isfinite(one["latents"]).all() for one in check.pooled.values()):
        raise Failed("latents are not finite")
    check.figures["extract"] = found
    return f"{found['tokens_per_second']:.0f} token/s of {check.figures['problems']['count']} texts"


def every_token(check):
    check.need("extract")
    quick, extracted = check.options.quick, check.figures["extract"]
    room = min(0.4 * shutil.disk_usage(check.work).free, 24 << 30) if not quick else 16 << 20
    token_bytes = 2 * (check.shape.layers + 1) * check.shape.hidden
    mean = extracted["tokens"] / check.figures["problems"]["count"]
    fast = extracted["tokens_per_second"] * min(check.shape.seconds, check.left() / 8) if not quick else 1e9
    count = int(min(min(room / token_bytes, fast) / mean, check.figures["problems"]["count"]))
    if count < 4:
        raise LeftOut(f"no room for every token's layers in {check.work}")
    writing = runs.write_rate(check.work, 2 << 30 if not quick else 8 << 20)
    run = check.runner.run(check.runner.job("every", count, {"layers": "all", "pooling": "tokens", "dtype": "float16"}))
    found = runs.ledger(run)
    shutil.rmtree(run)
    check.figures["every_token"] = {**found, "write_bytes_per_second": writing, "token_bytes": token_bytes, "problems": count}
    return f"{found['wall_tokens_per_second']:.0f} token/s, {found['stored_bytes'] / found['wall_seconds'] / 1e9:.2f} GB/s stored"


# ---- the same bits ----

def compare_bits(check, part, count, batch):
    """Extracts texts once more in other batches. Where products have the same size their bits must be the same."""
    run = check.runner.run(check.runner.job(part, count, batch=batch))
    found = check.runner.latents(run)
    different = [name for name, one in found.items() if one["latents"].tobytes() != check.pooled[name]["latents"].tobytes()]
    same_size = runs.product_tokens(run) == check.product_tokens  # on a CPU they have no size of their own
    check.figures[part] = {"problems": len(found), "different": different, "same_size": same_size}
    if len(found) != count or (same_size and different):
        raise Failed(f"{len(different)} of {len(found)} texts have other bits: {', '.join(different[:5])}")
    return f"{count} texts: {'the same bits' if not different else 'products of another size, other bits'}"


def company(check):
    """Texts packed into other batches, with products of the same size."""
    check.need("extract")
    return compare_bits(check, "company", check.figures["problems"]["count"] // 3, {"window": 150})


def alone(check):
    """One text per batch. The products of a GPU are smaller then: bits may change with their algorithms, which the table tells apart."""
    check.need("extract")
    return compare_bits(check, "alone", min(32 if not check.options.quick else 6, check.figures["problems"]["count"]), {"problems": 1})


def killed(check):
    check.need("extract")
    count = max(check.figures["problems"]["count"] // 6, min(24, check.figures["problems"]["count"]))
    small = {"batch": {"problems": 2}} if check.options.quick else {}
    often = {"checkpoint_every": 1 if check.options.quick else 2}
    expected = runs.shard_hashes(check.runner.run(check.runner.job("whole", count, run=often, **small)))
    job = check.runner.job("killed", count, run=often, **small)
    for _ in range(3):
        interrupted = check.runner.run_killed(job)
        if interrupted:
            break
        shutil.rmtree(job.parent / "run", ignore_errors=True)
    if not interrupted:
        raise Failed("every run was over before it could be killed")
    resumed = runs.shard_hashes(check.runner.run(job))
    check.figures["killed"] = {"shards": len(expected), "equal": resumed == expected}
    if resumed != expected:
        raise Failed("the resumed run's shards differ from the uninterrupted one's")
    return f"{len(expected)} shards with the same hashes"


# ---- transformers ----

def transformers(check):
    check.need("extract", "torch")
    if check.on_gpu and check.figures["torch"].get("cuda") != "True":
        raise LeftOut("torch sees no GPU here")
    quick = check.options.quick
    with open(check.work / "problems.jsonl") as lines:
        problems = [json.loads(line) for line in lines]
    compared = problems[:4 if quick else 12]
    means, answer = check.work / "means.f32", check.work / "answer.json"
    request = {"model": str(check.work / "model"), "device": check.options.device if check.on_gpu else "cpu", "layer": -2,
               "max_tokens": check.shape.max_tokens, "texts": ["\n".join([p["statement"], *p["steps"]]) for p in problems[:8 if quick else 512]],
               "spans": [check.pooled[p["problem_id"]]["spans"].tolist() for p in compared],
               "batches": [2, 8] if quick else [16, 8, 4, 32], "seconds": 0.2 if quick else 6.0, "most": check.timeout() * (0.6 if quick else 0.4),
               "means": str(means), "answer": str(answer)}
    asked = check.work / "request.json"
    asked.write_text(json.dumps(request))
    try:
        check.call("transformers", check.options.python, check.root / "tools/gpu_check_torch.py", asked, env=check.torch_environment)
    except subprocess.TimeoutExpired:  # the sizes that it has done count
        if not answer.exists():
            raise
    answer = json.loads(answer.read_text())
    ours = np.concatenate([check.pooled[p["problem_id"]]["latents"] for p in compared]).astype("f8")
    theirs = np.fromfile(means, "<f4").reshape(ours.shape).astype("f8")
    norms = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    cosine = (ours * theirs).sum(1) / (norms[0] * norms[1])
    error = np.linalg.norm(ours - theirs, axis=1) / norms[1]
    check.figures["transformers"] = {**answer, "rows": len(ours), "lowest_cosine": float(cosine.min()), "worst_error": float(error.max())}
    if not cosine.min() > 0.99:
        raise Failed(f"latents differ from transformers': cosine {cosine.min():.5f}")
    rates_there = [rate for rate in answer["rates"].values() if rate]
    if not rates_there:
        raise Failed("no batch of any size fitted the device's memory")
    return f"best batch {max(rates_there):.0f} token/s; {len(ours)} step means, cosine at least {cosine.min():.6f}"
