# SPDX-License-Identifier: MIT
"""Benchmarks of strata as ratios within one run: a device's rates, tokenizer against tokenizers, extraction against transformers.

`cpu` is the CPU's whole table: limits, products, small batches, attention, blocks and threads at the shapes of Qwen3-0.6B and
Qwen3-8B, then loading and the extraction; it is printed again at the end and written to build/bench/cpu.json.

Texts and vocabulary are the real problem set's where it lies beside the checkout, otherwise made-up problems and a vocabulary
trained on them. Everything made lies in build/bench."""
import argparse
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

from bench_overlap import bench_overlap
from bench_prefixes import bench_prefixes

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
WORK = BUILD / "bench"
DATA = ROOT.parent / "shared" / "data"
SHAPE = ["--hidden", "1024", "--layers", "28", "--heads", "16", "--kv-heads", "8", "--head-dim", "128", "--intermediate", "3072"]


def problems_file() -> Path:
    real = DATA / "problems.jsonl.gz"
    if real.exists():
        return real
    made = WORK / "problems.jsonl"
    if not made.exists():
        with open(made, "w") as out:
            subprocess.run([sys.executable, ROOT / "tools/make_problems.py", "--count", "4000"], stdout=out, check=True)
    return made


def texts(path: Path) -> list[str]:
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as lines:
        return [p["statement"] + "\n" + "\n".join(p["steps"]) for p in map(json.loads, lines)]


def model_folder(layers: int) -> Path:
    folder = WORK / f"model-{layers}"
    if not (folder / "config.json").exists():
        real = DATA / "qwen2-tokenizer.json.gz"
        source = ["--tokenizer", real] if real.exists() else ["--corpus", problems_file()]
        shape = [str(layers) if SHAPE[i - 1] == "--layers" else value for i, value in enumerate(SHAPE)]
        subprocess.run([sys.executable, ROOT / "tools/make_model.py", "--to", folder, "--family", "qwen3", *shape,
                        "--vocabulary", "151936", "--seed", "1", *source], check=True, stdout=subprocess.DEVNULL)
    return folder


LINE = re.compile(r"^(?P<what>.+?)  +(?P<value>[\d.]+) (?P<unit>GFLOP/s|GB/s|tokens/s|x)(?: +(?P<ratio>[\d.]+) % of +(?P<limit>[^\s;]+))?;?(?P<rest>.*)$")


def run_bench(title: str, options: list[str], rows: list[dict]) -> None:
    """`strata bench` with these options: shown as it goes, and its lines kept as rows of the table."""
    print(f"\n## {title}", flush=True)
    with subprocess.Popen([BUILD / "strata", "bench", *options], stdout=subprocess.PIPE, text=True) as bench:
        for line in bench.stdout:
            print(line, end="", flush=True)
            if found := LINE.match(line.rstrip()):
                rows.append({"part": title, **{name: value.strip() for name, value in found.groupdict().items() if value}})
        if bench.wait() != 0:
            sys.exit(f"strata bench {' '.join(options)} failed")


def bench_device(arguments: argparse.Namespace) -> None:
    for dtype in ("bfloat16", "float32"):
        run_bench(f"{arguments.device}, {dtype}", ["--device", arguments.device, "--dtype", dtype], [])


def cpu_paths() -> list[str]:
    """The paths of this processor that are not chosen for every dtype, and that products are measured on all the same."""
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    wanted = (("avx512bf16", "amx_bf16"), ("avx512", "avx512bw"), ("avx2", "avx2"))  # with AMX, avx512bf16 is not chosen either
    return [path for path, flag in wanted if flag in flags]


def bench_cpu(arguments: argparse.Namespace) -> None:
    rows: list[dict] = []
    cpu = ["--device", "cpu", "--threads", str(arguments.threads)]
    for shape, dtype, tokens in (("qwen3-0.6b", "bfloat16", 8192), ("qwen3-8b", "bfloat16", 8192),
                                 ("qwen3-0.6b", "float32", 8192), ("qwen3-8b", "float32", 2048)):
        run_bench(f"{shape}, {dtype}", [*cpu, "--shape", shape, "--dtype", dtype, "--tokens", str(tokens)], rows)
    for path in cpu_paths():
        for dtype in ("bfloat16", "float16", "float32"):
            for part in ("products", "small", "block"):
                run_bench(f"qwen3-0.6b, {dtype} on {path}, {part}", [*cpu, "--cpu-path", path, "--dtype", dtype, "--part", part,
                                                                   "--tokens", "2048"], rows)
    bench_load(arguments, rows)
    bench_extract(arguments, rows)
    (WORK / "cpu.json").write_text(json.dumps(rows, indent=1))
    print("\n## the whole table")
    for row in rows:
        ratio = f"{row['ratio']:>6} % of {row['limit']}" if "ratio" in row else ""
        print(f"{row['part']:<42} {row['what']:<40} {row['value']:>9} {row['unit']:<9} {ratio} {row.get('rest', '')}")


def bench_load(arguments: argparse.Namespace, rows: list[dict] | None = None) -> None:
    """A model's whole load, its files in the page cache, against reading and hashing them alone."""
    print(f"\n## loading, {arguments.threads} threads", flush=True)
    shown = subprocess.run([BUILD / "tests/model_tool_load", model_folder(arguments.layers), str(arguments.threads)], check=True,
                           capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": str(WORK / "cache")}).stdout
    size, hashing, loading, known = map(float, shown.split())
    rest = f"reading and hashing alone {size / hashing / 1e9:.2f} GB/s: packing and its memory add {100 * (loading / hashing - 1):.0f} %; " \
           f"with known hashes {loading / known:.2f} times as fast"
    print(f"loading {size / 1e9:.2f} GB: {size / loading / 1e9:.2f} GB/s; {rest}", flush=True)
    if rows is not None:
        rows.append({"part": "loading", "what": f"{size / 1e9:.2f} GB of bfloat16", "value": f"{size / loading / 1e9:.2f}", "unit": "GB/s",
                     "rest": rest})


def bench_tokenizer(arguments: argparse.Namespace) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    import tokenizers

    print("\n## tokenizer, one thread", flush=True)
    corpus = texts(problems_file())
    size = sum(len(t.encode()) for t in corpus)
    framed = WORK / "texts.bin"
    with open(framed, "wb") as out:
        for text in corpus:
            out.write(struct.pack("<I", len(text.encode())) + text.encode())
    path = model_folder(arguments.layers) / "tokenizer.json"
    shown = subprocess.run([BUILD / "tests/text_tool_encode", "--time", path, framed], check=True, capture_output=True, text=True).stdout
    ours = [float(n) for n in re.findall(r"[\d.]+(?:e[+-]?\d+)?", shown)]
    library = tokenizers.Tokenizer.from_file(str(path))
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for text in corpus:
            library.encode(text)
        best = min(best, time.perf_counter() - began)
    theirs = size / best
    print(shown.strip())
    print(f"tokenizers {tokenizers.__version__}: {theirs / 1e6:.2f} MB/s; strata {max(ours) / 1e6:.2f} MB/s; "
          f"ratio {max(ours) / theirs:.2f}", flush=True)


def run_strata(arguments: argparse.Namespace, folder: Path, dtype: str) -> tuple[float, float, float]:
    database = WORK / "problems.db"
    if not database.exists():
        subprocess.run([BUILD / "strata", "import", problems_file(), database], check=True, stdout=subprocess.DEVNULL)
    job = WORK / "job.yaml"
    query = f"SELECT * FROM problems ORDER BY substr(problem_id, -3), problem_id LIMIT {arguments.problems}"
    job.write_text(f"""problems: {{database: {database}, id: problem_id, query: "{query}"}}
model: {{path: {folder}, dtype: {dtype}, device: {arguments.device}}}
batch: {{problems: 64, tokens: 8192}}
run: {{output: {WORK / 'run'}, disk_reserve_gb: 0, drift_stop: false}}
""")
    subprocess.run(["rm", "-rf", WORK / "run"], check=True)
    shown = subprocess.run([BUILD / "strata", "run", "--quiet", job, "--threads", str(arguments.threads)], check=True,
                           capture_output=True, text=True).stdout
    rate = float(re.search(r"([\d.]+) tokens/s", shown)[1])
    waiting = float(re.search(r"([\d.]+) % of the time waiting", shown)[1])
    memory = float(re.search(r"peak memory ([\d.]+) GB", shown)[1])
    return rate, waiting, memory


def run_transformers(arguments: argparse.Namespace, folder: Path, dtype: str) -> dict[str, float]:
    import sqlite3

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    rows = sqlite3.connect(WORK / "problems.db").execute(
        "SELECT statement, steps FROM problems ORDER BY substr(problem_id, -3), problem_id LIMIT ?", [arguments.problems])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<|endoftext|>")
    encoded = [tokenizer(s + "\n" + "\n".join(json.loads(j)), truncation=True, max_length=2048)["input_ids"] for s, j in rows]
    tokens = sum(map(len, encoded))
    model = transformers.AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    rates = {}
    for name, size in (("batch 1", 1), ("padded batch 8", 8), ("length-sorted batch 8", 8)):
        if name.startswith("length-sorted"):
            encoded.sort(key=len)
        began = time.perf_counter()
        with torch.no_grad():
            for i in range(0, len(encoded), size):
                batch = tokenizer.pad({"input_ids": encoded[i:i + size]}, return_tensors="pt", padding_side="right")
                states = model(**batch, use_cache=False, output_hidden_states=True).hidden_states[-2]
                states.float().mean(1)
        rates[name] = tokens / (time.perf_counter() - began)
        print(f"transformers {name}: {rates[name]:.0f} tokens/s", flush=True)
    return rates


def extract(arguments: argparse.Namespace, dtype: str, rows: list[dict]) -> None:
    folder = model_folder(arguments.layers)
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e9
    title = f"extraction, {dtype}"
    print(f"\n## extraction of hidden_states[-2], Qwen3-0.6B shape with {arguments.layers} blocks, {dtype}, "
          f"{arguments.problems} problems, {arguments.threads} threads", flush=True)
    rate, waiting, memory = run_strata(arguments, folder, dtype)
    theirs = run_transformers(arguments, folder, dtype)
    again, _, _ = run_strata(arguments, folder, dtype)
    print(f"strata: {rate:.0f} tokens/s before and {again:.0f} after, {waiting:.1f} % of the time waiting, peak memory {memory:.2f} GB "
          f"(weights {weights:.2f} GB)")
    rate = max(rate, again)
    best = max(theirs.values())
    print(f"strata against transformers' best: {rate / best:.2f}x", flush=True)
    rows.append({"part": title, "what": "strata", "value": f"{rate:.0f}", "unit": "tokens/s", "rest": f"{rate / best:.2f}x the best below"})
    rows.extend({"part": title, "what": f"transformers, {name}", "value": f"{value:.0f}", "unit": "tokens/s"} for name, value in theirs.items())


def bench_extract(arguments: argparse.Namespace, rows: list[dict] | None = None) -> None:
    for dtype in [arguments.dtype] if arguments.dtype else ["bfloat16", "float32"]:
        extract(arguments, dtype, [] if rows is None else rows)


def large_model() -> Path:
    """Qwen3-1.7B's shape: 3.4 GB, of which the blocks are 2.8."""
    folder = WORK / "model-1.7b"
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools/make_model.py", "--to", folder, "--family", "qwen3", "--hidden", "2048",
                        "--layers", "28", "--heads", "16", "--kv-heads", "8", "--head-dim", "128", "--intermediate", "6144",
                        "--vocabulary", "151936", "--seed", "1", "--corpus", problems_file(), "--fast", "--shards", "2"],
                       check=True, stdout=subprocess.DEVNULL)
    return folder


def run_placed(arguments: argparse.Namespace, folder: Path, name: str, model: str, run: str) -> tuple[float, float, list[bytes]]:
    job = WORK / "placed.yaml"
    query = f"SELECT * FROM problems ORDER BY substr(problem_id, -3), problem_id LIMIT {arguments.problems}"
    job.write_text(f"""problems: {{database: {WORK / 'problems.db'}, id: problem_id, query: "{query}"}}
model: {{path: {folder}, device: {arguments.device}{model}}}
batch: {{tokens: 2048}}
run: {{output: {WORK / name}, disk_reserve_gb: 0, drift_stop: false{run}}}
""")
    subprocess.run(["rm", "-rf", WORK / name], check=True)
    shown = subprocess.run([BUILD / "strata", "run", "--quiet", job, "--threads", str(arguments.threads)], check=True,
                           capture_output=True, text=True).stdout
    shards = [shard.read_bytes() for shard in sorted((WORK / name / "shards").glob("*.h5"))]
    return float(re.search(r"([\d.]+) tokens/s", shown)[1]), float(re.search(r"peak memory ([\d.]+) GB", shown)[1]), shards


def bench_placement(arguments: argparse.Namespace) -> None:
    """A model whose blocks come from their files in every sweep, in a third of its memory, against the same model resident;
    and what streaming costs an emulated GPU."""
    bench_streaming(arguments)
    if not (WORK / "problems.db").exists():
        subprocess.run([BUILD / "strata", "import", problems_file(), WORK / "problems.db"], check=True, stdout=subprocess.DEVNULL)
    folder = large_model()
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e9
    print(f"\n## placement: Qwen3-1.7B's shape, {size:.2f} GB, {arguments.problems} problems, {arguments.threads} threads", flush=True)
    rate, memory, shards = run_placed(arguments, folder, "resident", "", "")
    print(f"resident: {rate:.0f} tokens/s, peak memory {memory:.2f} GB", flush=True)
    streamed, bounded, others = run_placed(arguments, folder, "streamed", ", weights: disk", f", memory_gb: {size / 3:.3f}")
    print(f"disk: {streamed:.0f} tokens/s, peak memory {bounded:.2f} GB of {size / 3:.2f}, "
          f"shards {'equal byte for byte' if shards == others else 'DIFFER'}", flush=True)
    again, _, _ = run_placed(arguments, folder, "resident", "", "")
    print(f"resident again: {again:.0f} tokens/s; disk against the mean of both: {200 * streamed / (rate + again):.1f} %", flush=True)


def bench_streaming(arguments: argparse.Namespace) -> None:
    """Copies beside computing, on the emulated GPU."""
    emulated = BUILD / "tests" / "strata_emulated"
    if emulated.exists():
        bench_overlap(WORK, BUILD / "strata", emulated)
    else:
        print("\n## streaming: not measured, the build has no emulated GPU", flush=True)


def bench_sharing(arguments: argparse.Namespace) -> None:
    """Texts that begin alike against the same texts computed whole; few blocks do, as all are alike."""
    opened = gzip.open if problems_file().suffix == ".gz" else open
    with opened(problems_file(), "rt") as lines:
        problems = [{key: row[key] for key in ("problem_id", "statement", "steps")} for row in map(json.loads, lines)]
    middling = [p for p in problems if 700 < len(p["statement"] + "".join(p["steps"])) < 1100] or problems
    bench_prefixes(WORK, BUILD / "strata", model_folder(6), middling[:: max(1, len(middling) // arguments.problems)][:arguments.problems],
                   arguments.threads)


def main() -> None:
    parts = {"cpu": bench_cpu, "device": bench_device, "tokenizer": bench_tokenizer, "load": bench_load, "extract": bench_extract,
             "placement": bench_placement, "overlap": bench_streaming, "prefixes": bench_sharing}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: cpu and tokenizer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], help="of the extraction (default: bfloat16, then float32)")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--problems", type=int, default=96, help="texts of the extraction (default: 96)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or ["cpu", "tokenizer"]:
        parts[part](arguments)


if __name__ == "__main__":
    main()
