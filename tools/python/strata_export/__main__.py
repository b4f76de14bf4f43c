# SPDX-License-Identifier: MIT
"""strata-export: training layouts of runs."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from typing import Any, NoReturn, Optional, Sequence

from strata_reader import Run, __version__, rjepa_parquet
from strata_reader.arrow import Columns

from . import parquet, specforge, speculators
from .choose import choose_layers, parse_size
from .errors import DATA, MISSING, STOPPED, USAGE, WRITE, ExportError
from .output import FULL, Output
from .plan import Plan, model_of, moment_of
from .splits import SplitRule
from .vocabulary import parse_sizes

FORMATS = ("parquet", "speculators", "specforge", "rjepa-parquet")
SAMPLES: dict[str, Any] = {"speculators": speculators, "specforge": specforge}
DTYPES = ("float32", "float16", "bfloat16")


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"strata-export: {message}\nsee 'strata-export --help'", file=sys.stderr)
        sys.exit(USAGE)


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    words = Words(prog="strata-export", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                  description="Writes training layouts of the hidden states of a run, a set, or parts of one.",
                  epilog="A killed export goes on with the same command; the folder appears once it is complete.\n"
                         "Exit codes: 0, 64 command line, 65 data, 69 a Python package is missing, 73 cannot write, 75 stopped.")
    words.add_argument("run", nargs="+", metavar="DIR", help="the run directory, the set, or parts of it")
    words.add_argument("--format", required=True, choices=FORMATS)
    words.add_argument("--to", metavar="FOLDER", help="the folder to create (rjepa-parquet: default is beside the JSON lines)")
    words.add_argument("--layers", metavar="LIST", help="-2,35,pre_norm,model.layers.3 (default: all that are stored)")
    words.add_argument("--dtype", choices=DTYPES, help="of the numbers (default: as stored; parquet has no bfloat16 and takes float32)")
    words.add_argument("--split", metavar="RULE", help="'source', or fractions: train=0.9,validation=0.1 (default: one split)")
    words.add_argument("--split-column", metavar="COLUMN", help="the column with the split names (default: split)")
    words.add_argument("--seed", type=int, metavar="SEED", help="seed of the split by fractions (default: 0)")
    words.add_argument("--max-shard-size", metavar="SIZE", help="of a Parquet file: 5GB, 500MB ... (default: 500MB)")
    words.add_argument("--per", choices=("row", "problem"), help="what a row of Parquet is: one of the latents, or a problem with lists of "
                       "them (default: row)")
    words.add_argument("--draft-vocab-size", type=int, metavar="N", help="of a draft head: write down its vocabulary, the tokens that are "
                       "trained on most often")
    words.add_argument("--vocab-size", type=int, metavar="N", help="of the model, as its config.json has it; with --draft-vocab-size")
    words.add_argument("--require-complete", action="store_true", help="refuse a run or set that has not processed every problem")
    words.add_argument("--version", action="version", version=f"strata-export {__version__}")
    given = words.parse_args(_join_layers(list(sys.argv[1:] if arguments is None else arguments)))
    if given.format == "rjepa-parquet":
        others = [value for name, value in vars(given).items() if name not in ("run", "format", "to")]
        if len(given.run) > 1 or any(value not in (None, False) for value in others):
            words.error("--format rjepa-parquet takes one folder of `strata export --format rjepa`, and --to")
        return given
    if given.to is None:
        words.error("--to FOLDER is missing")
    if given.split is None and (given.seed is not None or given.split_column is not None):
        words.error("--seed and --split-column belong to --split")
    if given.seed is not None and not 0 <= given.seed < 1 << 63:
        words.error("--seed is a whole number from 0 on")
    if given.format != "parquet" and (given.max_shard_size or given.per):
        words.error(f"--max-shard-size and --per belong to --format parquet: {given.format} has a file a text")
    if given.format == "parquet" and (given.draft_vocab_size or given.vocab_size):
        words.error("--draft-vocab-size and --vocab-size belong to draft heads: speculators, specforge")
    return given


def _join_layers(words: list) -> list:
    """argparse takes -1,2 for an option unless it is part of the word before it."""
    end = words.index("--") if "--" in words else len(words)
    for at in range(end - 1, 0, -1):
        if words[at - 1] == "--layers" and words[at].startswith("-"):
            words[at - 1 : at + 1] = [f"--layers={words[at]}"]
    return words


def open_run(given: argparse.Namespace) -> Run:
    form = "float32" if given.format == "parquet" else "torch"
    try:
        run = Run(given.run if len(given.run) > 1 else given.run[0], bfloat16=form)
    except ImportError as error:
        raise ExportError(MISSING, f"--format {given.format} needs the Python package {error.name}: pip install {error.name}") from error
    if not run.layers:
        raise ExportError(DATA, f"{run.path} has no sealed shard yet")
    if not run.complete:
        missing = [f"parts {', '.join(map(str, run.missing))} have not begun"] if run.missing else []
        left = f"{run.path} is not complete" + "".join(f": {text}" for text in missing)
        if given.require_complete:
            raise ExportError(DATA, f"{left}; --require-complete was given")
        print(f"strata-export: warning: {left}; what is not finished is not in this export", file=sys.stderr)
    return run


def manifest(given: argparse.Namespace, run: Run, plan: Plan, layers: list, numbers: str, more: dict, saturated: int) -> dict:
    left_out = run.left_out
    return {
        "export_version": 1, "format": given.format, "program": f"strata-export {__version__}", "run": " ".join(given.run),
        "complete": run.complete,
        "counts": {"problems": plan.problems, "rows": plan.rows, "failed": sum(entry["state"] == "failed" for entry in left_out),
                   "skipped": sum(entry["state"] == "skipped" for entry in left_out), "saturated": saturated, "unsplit": plan.unsplit},
        "model": model_of(run, layers), "dtype": {"stored": run.dtype, "exported": numbers}, "layers": layers,
        "splits": {name: len(positions) for name, positions in plan.splits.items()}, **more, "left_out": left_out}


def export(given: argparse.Namespace) -> None:
    rule = SplitRule(given.split, given.split_column or "split", given.seed or 0, "train")
    most = parse_size(given.max_shard_size) if given.max_shard_size else parquet.DEFAULT_SIZE
    sizes = parse_sizes(given.draft_vocab_size, given.vocab_size)
    run = open_run(given)
    layers, asked = choose_layers(run, given.layers), given.layers not in (None, "all")
    numbers = given.dtype or run.dtype
    is_parquet, per = given.format == "parquet", given.per or "row"
    if is_parquet and numbers == "bfloat16":
        print("strata-export: bfloat16 becomes float32, exactly: Parquet has no bfloat16", file=sys.stderr)
        numbers = "float32"
    request = {"format": given.format, "layers": layers, "dtype": numbers, "split": given.split, "split_column": rule.column,
               "seed": rule.seed, "most": most if is_parquet else None, "per": per if is_parquet else None, "moment": moment_of(run),
               "vocabulary": sizes and list(sizes), "version": 1}
    output = Output(given.to, request)
    if output.is_complete():
        print(f"{given.to}: complete already")
        return
    if not is_parquet:
        SAMPLES[given.format].prepare(run, layers, asked)
    try:
        output.open()
        plan = Plan(run, rule, Columns() if is_parquet else None)
        if is_parquet:
            more = parquet.write(run, plan, output, layers, numbers, per, most)
        else:
            more = SAMPLES[given.format].write(run, plan, output, layers, numbers, asked, sizes)
        saturated = sum(entry.get("saturated", 0) for entry in output.files.values())
        output.publish(manifest(given, run, plan, layers, numbers, more, saturated))
    finally:
        output.close()
    report(given, run, plan, output, more, saturated)


def report(given: argparse.Namespace, run: Run, plan: Plan, output: Output, more: dict, saturated: int) -> None:
    size = sum(entry["bytes"] for entry in output.files.values())
    kept = f", {output.kept} of them from before" if output.kept else ""
    print(f"{given.to}: {plan.problems} problems, {plan.rows} rows, {size} bytes in {len(output.files)} files{kept}")
    if run.left_out:
        print(f"left out: {len(run.left_out)} problems that failed or were skipped (listed in export.json)")
    if "trained_with" in more:
        print(f"trained with: {more['trained_with']}")
    if saturated:
        print(f"strata-export: warning: {saturated} numbers exceeded float16's range and were stored as its largest", file=sys.stderr)
    if plan.empty:
        print(f"strata-export: warning: nothing fell to {', '.join(plan.empty)}", file=sys.stderr)
    if plan.unsplit:
        print(f"strata-export: warning: {plan.unsplit} problems lack the column of the split and went to 'unsplit'", file=sys.stderr)


def stop(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Optional[Sequence[str]] = None) -> int:
    given = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: names of folders may be any bytes
    before = signal.signal(signal.SIGTERM, stop)
    try:
        if given.format == "rjepa-parquet":
            for path in rjepa_parquet(given.run[0], given.to):
                print(path)
        else:
            export(given)
    except ExportError as error:
        print(f"strata-export: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("strata-export: stopped; the same command goes on", file=sys.stderr)
        return STOPPED
    except ImportError as error:
        print(f"strata-export: --format {given.format} needs a Python package: {error}", file=sys.stderr)
        return MISSING
    except OSError as error:
        print(f"strata-export: {error}", file=sys.stderr)
        return WRITE if error.errno in FULL else DATA
    except (ValueError, KeyError) as error:
        print(f"strata-export: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return DATA
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
