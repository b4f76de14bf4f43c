# SPDX-License-Identifier: MIT
"""How far off hidden states come out whose head is kept in fewer bits (batch.prefix.keep): a table for configs/README.md.

Seeded models, among them one of Qwen3-0.6B's shape with all 28 blocks (but a small vocabulary), read texts that begin with the same
tokens. The same job runs with the head's keys and values as computed, in q8_0 and in q4_0, in float32, so that nothing else is
rounded; and, to compare with, all of it in bfloat16. Of the tokens behind the head, and of each layer: the root mean square of the difference, over that of the hidden states. Random
weights have none of the outliers that trained keys have, so that these are figures of the arithmetic, not of a trained model.

usage: build/venv/bin/python tools/prefix_error.py --to FOLDER [--models tiny-qwen3,...,qwen3-0.6b] [--head 256] [--strata build/strata]"""
import argparse
import json
import pathlib
import random
import re
import sqlite3
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))
from strata_reader import Run  # noqa: E402

TINY = {"hidden": 256, "layers": 8, "heads": 8, "kv-heads": 4, "head-dim": 32, "intermediate": 512}
MODELS = {**{f"tiny-{family}": {"family": family, **TINY} for family in ("qwen3", "qwen2", "llama")},
          "qwen3-0.6b": {"family": "qwen3", "hidden": 1024, "layers": 28, "heads": 16, "kv-heads": 8, "head-dim": 128,
                         "intermediate": 3072}}
WORDS = ("the sum of two numbers is even when both are odd so we divide by three and get seven therefore let n be an integer").split()
TEXTS, LEAST = 8, 64
WAYS = {"q8_0": ("float32", "q8_0"), "q4_0": ("float32", "q4_0"), "bfloat16, all computed in it": ("bfloat16", "auto")}


def make_problems(folder, head):
    """A head of about so many tokens before texts of 40 words."""
    rng = random.Random(7)
    texts = [" ".join(rng.choices(WORDS, k=40)) for _ in range(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"statement": text}) + "\n" for text in texts))
    connection = sqlite3.connect(folder / "problems.db")
    connection.execute("CREATE TABLE IF NOT EXISTS problems (problem_id TEXT, statement TEXT)")
    connection.execute("DELETE FROM problems")
    connection.executemany("INSERT INTO problems VALUES(?, ?)", ((f"p-{i}", text) for i, text in enumerate(texts)))
    connection.commit()
    connection.close()
    return " ".join(rng.choices(WORDS, k=head)) + "\n"


def make_model(folder, name):
    path = folder / name
    if not path.exists():
        shape = [word for key, value in MODELS[name].items() for word in (f"--{key}", str(value))]
        subprocess.run([sys.executable, ROOT / "tools/make_model.py", "--to", path, *shape, "--vocabulary", "600", "--dtype", "bfloat16",
                        "--seed", "1", "--corpus", folder / "corpus.jsonl"], check=True, stdout=subprocess.DEVNULL)
    return path


def run(folder, strata, model, head, dtype, keep):
    """Runs the job; returns it as it is read, and how many tokens its head has."""
    output = folder / f"{model.name}-{dtype}-{keep}"
    job = {"problems": {"database": str(folder / "problems.db"), "id": "problem_id", "text": head + "{statement}", "max_tokens": 8192},
           "model": {"path": str(model), "dtype": dtype, "device": "cpu"},
           "latents": {"layers": "all", "pooling": "tokens", "dtype": "float32"},
           "batch": {"prefix": {"min_tokens": LEAST, "keep": keep}}, "run": {"output": str(output), "drift_stop": False}}
    file = folder / f"{output.name}.json"
    file.write_text(json.dumps(job))
    subprocess.run([strata, "run", file, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    ledger = sqlite3.connect(output / "ledger.sqlite")
    (said,), = ledger.execute("SELECT value FROM identity WHERE key = 'batch.prefixes'")
    ledger.close()
    return Run(output), int(re.match(r"head of (\d+) tokens", said)[1])


def errors(exact, other, head):
    """[layers] the relative root mean square of the differences behind the head."""
    found = []
    for layer in exact.layers:
        wanted, got = (np.concatenate([problem["latents"][layer][head:] for problem in one]).astype(np.float64) for one in (exact, other))
        assert np.isfinite(got).all() and np.isfinite(wanted).all()
        found.append(np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted ** 2)))
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--head", type=int, default=256, help="words of the head, about as many tokens")
    parser.add_argument("--strata", type=pathlib.Path, default=ROOT / "build/strata")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    text = make_problems(arguments.to, arguments.head)
    print("| model | head | kept as | hidden_states[1] | a quarter | half | three quarters | last | largest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.models.split(","):
        model = make_model(arguments.to, name)
        exact, head = run(arguments.to, arguments.strata, model, text, "float32", "auto")
        for way, (dtype, keep) in WAYS.items():
            found = errors(exact, run(arguments.to, arguments.strata, model, text, dtype, keep)[0], head)
            last = len(found) - 1
            shown = [found[at] for at in (1, last // 4, last // 2, 3 * last // 4, last)]
            print(f"| {name} | {head} | {way} | " + " | ".join(f"{100 * value:.2f} %" for value in [*shown, found.max()]) + " |", flush=True)


if __name__ == "__main__":
    main()
