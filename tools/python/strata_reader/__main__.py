# SPDX-License-Identifier: MIT
"""python -m strata_reader: tables of metadata from runs and exports."""

import argparse
import sys

from .parquet import rjepa_parquet, to_parquet


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m strata_reader", description="Reads runs and exports of strata.")
    commands = parser.add_subparsers(dest="command", required=True)
    rjepa = commands.add_parser("rjepa-parquet", help="shard-NNNN.jsonl of an rjepa export to shard-NNNN.parquet")
    rjepa.add_argument("folder", help="the folder that `strata export --format rjepa --to` made")
    table = commands.add_parser("metadata-parquet", help="one row a finished problem of a run")
    table.add_argument("run", nargs="+", help="the run directory, the set, or parts of it")
    table.add_argument("file", help="the Parquet file to write")
    given = parser.parse_args(arguments)
    try:
        if given.command == "rjepa-parquet":
            for path in rjepa_parquet(given.folder):
                print(path)
        else:
            print(f"{given.file}: {to_parquet(given.run if len(given.run) > 1 else given.run[0], given.file)} problems")
    except (OSError, ValueError, ImportError) as error:
        print(f"strata_reader: {error}", file=sys.stderr)
        return 65 if not isinstance(error, ImportError) else 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
