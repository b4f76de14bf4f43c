# SPDX-License-Identifier: MIT
"""What sharing prefixes gains: a set behind a head of about 1,000 tokens against the same set computed whole, as a share of what the
operations allow; and sets without anything in common, which must lose nothing. Runs alternate, and of each batch the quickest counts;
on a machine that has other work to do the shares come out low or high all the same."""
import csv
import json
import os
import re
import subprocess
from pathlib import Path

TURNS = 3
COMMON = 'batch: {tokens: 8192, prefix: {reuse: %s}}'


class Set:
    """A problem set in a database, and its runs."""

    def __init__(self, work: Path, strata: Path, name: str, problems: list[dict], model: Path, threads: int):
        self.work, self.strata, self.name, self.model, self.threads = work, strata, name, model, threads
        lines = work / f"{name}.jsonl"
        lines.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        self.database = work / f"{name}.db"
        self.database.unlink(missing_ok=True)
        subprocess.run([strata, "import", lines, self.database], check=True, stdout=subprocess.DEVNULL)

    def run(self, reuse: str) -> dict:
        """Seconds of each batch, processor time of the whole launch, tokens computed, peak memory and latents."""
        job = self.work / f"{self.name}.yaml"
        folder = self.work / f"{self.name}-run"
        job.write_text(f"""problems: {{database: {self.database}, id: problem_id, max_tokens: 4096}}
model: {{path: {self.model}, device: cpu}}
{COMMON % reuse}
run: {{output: {folder}, disk_reserve_gb: 0, drift_stop: false}}
""")
        subprocess.run(["rm", "-rf", folder], check=True)
        before = os.times()
        shown = subprocess.run([self.strata, "run", "--quiet", job, "--threads", str(self.threads)], check=True, capture_output=True,
                               text=True).stdout
        after = os.times()
        with open(folder / "throughput.csv") as file:
            batches = list(csv.DictReader(file))
        exported = self.work / f"{self.name}-export"
        subprocess.run(["rm", "-rf", exported], check=True)
        subprocess.run([self.strata, "export", folder, "--format", "npy", "--to", exported], check=True, stdout=subprocess.DEVNULL)
        return {"batches": [float(batch["compute_seconds"]) for batch in batches],
                "processor": after.children_user - before.children_user,
                "tokens": sum(int(batch["tokens"]) for batch in batches),
                "memory": float(re.search(r"peak memory ([\d.]+) GB", shown)[1]),
                "latents": sorted((path.name, path.read_bytes()) for path in exported.rglob("*.npy"))}

    def compare(self) -> dict[str, dict]:
        best: dict[str, dict] = {}
        for _ in range(TURNS):
            for reuse in ("auto", "off"):
                found = self.run(reuse)
                kept = best.setdefault(reuse, found)
                kept["processor"] = min(kept["processor"], found["processor"])
                kept["batches"] = list(map(min, kept["batches"], found["batches"]))
                kept["seconds"] = sum(kept["batches"])
        if best["auto"]["latents"] != best["off"]["latents"]:
            raise SystemExit(f"{self.name}: the latents differ")
        return best


def operations(config: dict, blocks: int, lengths: list[tuple[int, int]]) -> float:
    """Of texts of (tokens before their own, own tokens): of matmuls and of attention."""
    heads, kv_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    matmuls = 2 * (hidden * (heads + 2 * kv_heads) * size + heads * size * hidden + 3 * hidden * inner)
    tokens = sum(own for _, own in lengths)
    keys = sum(2 * before * own + own * own + own for before, own in lengths)
    return blocks * (matmuls * tokens + 2 * heads * size * keys)


def with_head(problems: list[dict], characters: int = 3200) -> tuple[list[dict], str]:
    head = ""
    for problem in problems:
        if len(head) > characters:
            break
        head += "Question: " + problem["statement"] + "\n" + "\n".join(problem["steps"]) + "\n\n"
    return [{**problem, "statement": head + "Question: " + problem["statement"]} for problem in problems], head


def bench_prefixes(work: Path, strata: Path, model: Path, problems: list[dict], threads: int) -> None:
    config = json.loads((model / "config.json").read_text())
    blocks = config["num_hidden_layers"] - 1  # before hidden_states[-2]
    print(f"\n## prefixes: {len(problems)} problems, {config['num_hidden_layers']} blocks of Qwen3-0.6B's shape, {threads} threads", flush=True)
    behind, _ = with_head(problems)
    best = Set(work, strata, "behind", behind, model, threads).compare()
    whole, shared = best["off"], best["auto"]
    texts = len(problems)
    head = round((whole["tokens"] - shared["tokens"]) / texts)
    # Of the mean text: what lengths differ by moves the squares of their own tokens alone.
    own = shared["tokens"] / texts
    ideal = operations(config, blocks, [(0, head + own)] * texts) / operations(config, blocks, [(head, own)] * texts)
    gain = whole["seconds"] / shared["seconds"]
    print(f"a head of {head} tokens: {whole['tokens']} tokens computed whole, {shared['tokens']} behind the head; latents equal byte for byte\n"
          f"batches take {whole['seconds']:.1f} s and {shared['seconds']:.1f} s: {gain:.2f}x, of {ideal:.2f}x by operations "
          f"{100 * gain / ideal:.1f} %; peak memory {whole['memory']:.2f} and {shared['memory']:.2f} GB", flush=True)
    best = Set(work, strata, "apart", problems, model, threads).compare()
    print(f"nothing in common: batches take {best['auto']['seconds']:.1f} s, {best['off']['seconds']:.1f} s with reuse off: "
          f"{100 * best['auto']['seconds'] / best['off']['seconds']:.1f} %; processor time of whole launches "
          f"{100 * best['auto']['processor'] / best['off']['processor']:.1f} %", flush=True)
