# SPDX-License-Identifier: MIT
"""strata-import: problems and chats from data sets into an SQLite database."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from typing import Any, List, NoReturn, Optional, Tuple

from . import __version__, ids
from .errors import USAGE, Failure
from .importing import Import, Options, Report
from .rendering import ROLES, TEXT, Rendering
from .sources import find_sources
from .table import Table
from .templates import Template

PROGRAM = "strata-import"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{PROGRAM}: {message}\nsee '{PROGRAM} --help'\n")


def pair(text: str) -> Tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise argparse.ArgumentTypeError(f"wants NAME=VALUE, not '{text}'")
    return name, value


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"wants a number from 1 on, not '{text}'")
    return int(text)


def day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants a date like 2026-11-29, not '{text}'") from None


def argument(text: str) -> Tuple[str, Any]:
    name, value = pair(text)
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants NAME=JSON, not '{text}' (a text is '{name}=\"...\"')") from None


def parser() -> Parser:
    made = Parser(prog=PROGRAM, allow_abbrev=False, usage="%(prog)s SOURCE... PROBLEMS.db [options]",
                  description="Imports problems and chats into an SQLite database. Either everything is imported or nothing.")
    made.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    made.add_argument("source", metavar="SOURCE", nargs="+",
                      help="Parquet, Arrow, Feather, CSV, TSV, JSON lines or a JSON array (text also as .gz, .zst, .bz2, .xz; - reads standard "
                           "input), a folder that datasets saved, a folder of such files, or a data set on the hub (openai/gsm8k)")
    made.add_argument("database", metavar="PROBLEMS.db", help="the SQLite database; created if it does not exist")
    rows = made.add_argument_group("rows and columns")
    rows.add_argument("--table", default="problems", help="the table to create (default: problems)")
    rows.add_argument("--append", action="store_true", help="append to an existing table")
    rows.add_argument("--id", metavar="COLUMN", help="the column with the problem's ID, unique and in every row (default: problem_id, or "
                                                     "another common name that fits)")
    rows.add_argument("--id-from", choices=["row"], help="number the rows: problem_id becomes NAME-000000, NAME the first source's")
    rows.add_argument("--column", metavar="SOURCE=NAME", type=pair, action="append", default=[], help="rename a column (repeatable)")
    rows.add_argument("--keep", metavar="COLUMN,...", action="append", default=[], help="import these columns only")
    rows.add_argument("--drop", metavar="COLUMN,...", action="append", default=[], help="leave these columns out")
    rows.add_argument("--limit", metavar="N", type=count, help="read the first N rows only")
    rows.add_argument("--skip-broken", action="store_true", help="skip broken rows and list them (default: import nothing if one is broken)")
    rows.add_argument("--split", help="the split of a data set or a folder")
    rows.add_argument("--config", help="the configuration of a data set on the hub")
    rows.add_argument("--revision", help="the revision of a data set on the hub (default: the newest, which is recorded)")
    chats = made.add_argument_group("chats", "With --model or --chat-template the messages of each row are rendered: the columns "
                                             f"{TEXT} and {ROLES} hold the text and whose each part of it is.")
    chats.add_argument("--model", metavar="DIR", help="the model folder whose chat template and special tokens are used")
    chats.add_argument("--chat-template", metavar="FILE", help="a Jinja template in place of the model's")
    chats.add_argument("--template-name", metavar="NAME", help="the one of a model's several templates")
    chats.add_argument("--messages", metavar="COLUMN", help="the column with the messages (default: messages or conversations)")
    chats.add_argument("--tools", metavar="COLUMN", help="the column with a list of tools")
    chats.add_argument("--documents", metavar="COLUMN", help="the column with a list of documents")
    chats.add_argument("--add-generation-prompt", action="store_true", help="end each text with the beginning of an assistant's turn")
    thinking = chats.add_mutually_exclusive_group()
    thinking.add_argument("--enable-thinking", dest="thinking", action="store_true", default=None, help="enable_thinking=true for the template")
    thinking.add_argument("--no-enable-thinking", dest="thinking", action="store_false", help="enable_thinking=false for the template")
    chats.add_argument("--template-arg", metavar="NAME=JSON", type=argument, action="append", default=[],
                       help="a value for the template (repeatable)")
    chats.add_argument("--date", metavar="YYYY-MM-DD", type=day, help="the date for templates that ask for it (default: today, which is recorded)")
    chats.add_argument("--span-end", choices=["include", "exclude"], default="include",
                       help="whether the marker that ends an assistant's turn belongs to its span (default: include)")
    return made


def rendering(given: Any) -> Optional[Rendering]:
    """None without a template."""
    if given.model is None and given.chat_template is None:
        for option in ("template_name", "messages", "tools", "documents", "add_generation_prompt", "template_arg", "date"):
            if getattr(given, option):
                raise Failure(USAGE, f"--{option.replace('_', '-')} needs the template: --model DIR or --chat-template FILE")
        if given.thinking is not None or given.span_end != "include":
            raise Failure(USAGE, "rendering needs the template: --model DIR or --chat-template FILE")
        return None
    arguments = dict(given.template_arg)
    if given.thinking is not None:
        arguments["enable_thinking"] = given.thinking
    template = Template(given.model, given.chat_template, given.template_name, given.date or datetime.date.today(), arguments,
                        given.add_generation_prompt)
    return Rendering(template, given.messages, given.tools, given.documents, given.span_end == "include")


def names(given: List[str]) -> List[str]:
    return [name for words in given for name in words.split(",") if name]


def say(report: Report, given: Any) -> None:
    print(f"{given.database}: {report.rows} rows, {report.columns} columns in table {given.table}")
    if report.numbered:
        print(f"rows are numbered: the id is '{ids.STANDARD}'")
    elif given.id is None and report.id != ids.STANDARD:
        print(f"there is no '{ids.STANDARD}': the id is '{report.id}' (problems.id of the job)")
    if report.faults:
        print(f"{report.faults} broken {'row was' if report.faults == 1 else 'rows were'} left out")


def say_rendered(made: Rendering, report: Report, given: Any) -> None:
    """The piece of a job file that reads what was rendered."""
    if made.without_turns:
        print(f"{made.without_turns} of {made.rendered} chats without a turn of an assistant in the text")
    for role, chats in sorted(made.unprinted.items()):
        print(f"{chats} of {made.rendered} chats have a message or a call of '{role}' that the template does not print")
    bos = "the texts begin with the BOS token: " if made.with_bos else "the template has the special tokens: "
    query = "" if given.table == "problems" else f"  query: 'SELECT * FROM \"{given.table}\"'\n"
    print(f"a job reads them so ({bos}special_tokens: false):\n\nproblems:\n  database: {json.dumps(given.database, ensure_ascii=False)}\n"
          f"{query}  id: {json.dumps(report.id, ensure_ascii=False)}\n  text: \"{{{TEXT}}}\"\n  special_tokens: false\n"
          f"  steps: {{spans: {ROLES}, roles: [assistant]}}")


def run(given: Any) -> None:
    options = Options(table=given.table, id=given.id, number_rows=given.id_from is not None, append=given.append,
                      skip_broken=given.skip_broken, limit=given.limit, renamed=dict(given.column), keep=set(names(given.keep)),
                      drop=set(names(given.drop)))
    if given.id is not None and given.id_from is not None:
        raise Failure(USAGE, "--id and --id-from: one of them")
    sources = find_sources(given.source, given.config, given.split, given.revision)
    made = rendering(given)
    table = Table(given.database, given.table, given.append)
    try:
        report = Import(sources, table, options, made).run(made.record if made is not None else dict)
    finally:
        table.close()
    say(report, given)
    if made is not None:
        say_rendered(made, report, given)


def main(arguments: Optional[List[str]] = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    taken = parser()
    given = taken.parse_args(words) if "--" in words else taken.parse_intermixed_args(words)  # options may stand between the sources
    sys.setrecursionlimit(20000)  # objects within each other, as deep as strata import takes them
    try:
        run(given)
        sys.stdout.flush()
    except Failure as failure:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted; nothing was imported", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
