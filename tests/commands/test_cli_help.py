# SPDX-License-Identifier: MIT
"""The command line as a whole: help, version, unknown words, and an output that cannot be written."""
import os
import re
import subprocess

SOURCE = os.environ["STRATA_SOURCE"]
STRATA = os.path.join(os.environ["STRATA_BUILD"], "strata")


def strata(*words):
    done = subprocess.run([STRATA, *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def commands():
    text = strata("help")[1]
    block = text.split("\ncommands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in block.splitlines()]


def test_version():
    version = re.search(r"project\(strata VERSION (\S+)", open(os.path.join(SOURCE, "CMakeLists.txt")).read())[1]
    code, said, err = strata("--version")
    first, commit, cuda, libraries = said.splitlines()
    assert re.fullmatch(r"commit (unknown|[A-Za-z0-9._+/-]+?(-dirty)?)", commit), commit
    assert (code, first, err) == (0, f"strata {version}", "")
    commands = open(os.path.join(os.environ["STRATA_BUILD"], "compile_commands.json")).read()
    built = r"\d+\.\d+\.\d+ for .+; loads cuBLASLt \d+ with a GPU" if "strata_cuda.dir/kernels/cuda/cuda_device.c" in commands else \
        "none: built without CUDA"
    assert re.fullmatch(f"CUDA {built}", cuda), cuda
    assert re.fullmatch(r"HDF5 1\.\d+\.\d+; SQLite 3\.\d+\.\d+; pcre2 10\.\d+.*; utf8proc \d.*", libraries), libraries


def test_help():
    code, text, err = strata("help")
    assert (code, err) == (0, "")
    assert text.startswith("strata extracts hidden states from a language model's layers for a database of problems, "
                           "and loses nothing.\n\nusage: strata COMMAND ...\n\ncommands:\n")
    assert text.endswith("topics:\n"
                         "  job                       the keys of a job file\n"
                         "  exit-codes                what the exit code says\n"
                         "  models                    the families of models\n"
                         "\nSee 'strata help COMMAND' or 'strata help TOPIC' for details; 'strata --version' prints the version.\n")
    assert strata("--help") == strata("-h") == (0, text, "")
    assert strata() == (64, text, "")
    assert {"import", "help"} <= set(commands())


def test_help_of_every_command():
    for name in commands():
        code, text, err = strata("help", name)
        assert (code, err) == (0, "")
        assert re.match(rf"strata {name}: .+\n\nusage: strata {name}( .*)?\n(       .*\n)*\n", text), name
        assert all(len(line) <= 120 for line in text.splitlines()), name
        assert strata(name, "--help") == (0, text, "")


def test_help_import():
    assert strata("help", "import")[1] == """\
strata import: import problems from JSON lines, Parquet, CSV ... into an SQLite database

usage: strata import FILE.jsonl[.gz] PROBLEMS.db [--table TABLE] [--id COLUMN] [--append] [--skip-broken]

  FILE.jsonl[.gz]           one JSON object per line; - reads standard input
  PROBLEMS.db               the SQLite database; created if it does not exist
  --table TABLE             the table to create (default: problems)
  --id COLUMN               the member with the problem's ID, unique and in every line (default: problem_id,
                            or another common name that fits)
  --append                  append to an existing table
  --skip-broken             skip broken lines and list them (default: import nothing if one is broken)

Parquet, Arrow, CSV, a JSON array, JSON lines in zstd, bzip2 or xz, and folders of these are handed over to the
Python package's strata-import with the same options (pip install 'strata-latents[import]'; it has more of
them: chats by a model's template, names on the hub). It stores what is below in the same way.

Numbers, strings and true/false (1/0) become columns; arrays and objects become JSON text; null and missing
members become NULL. Either everything is imported or nothing: lines that are broken, lack the ID or repeat
one are listed by number (the first 20). With --skip-broken they are skipped and all listed.

What Python's json.dumps writes although JSON, or 64 bits, do not have it is mended, in columns and inside of
arrays and objects alike, and one line on standard error counts it:
  half of a surrogate pair (\\ud83d)       U+FFFD, each half one
  NaN, Infinity, -Infinity, 1e999         NULL (inside of arrays and objects null)
  an integer beyond signed 64 bits        a text of its digits, as they are written (SQLite's type TEXT)
The ID is never mended: such a line is broken. So is one with half of a surrogate pair in a member's name,
with bytes that are not UTF-8, or with a member twice.
"""


def test_exit_codes():
    assert strata("help", "exit-codes") == (0, """\
exit codes:
   0  success: every problem is accounted for (failed ones are listed), or the command did what was asked
  64  wrong usage: an unknown command, option or value
  65  bad input data (database, model, tokenizer), no problem succeeded, or more failed than max_failed allows
  69  the device, its driver or a library is missing or too small, or the model's disk does not respond
  70  internal error, or out of memory, threads or open files: run the same command again
  73  cannot write: disk full, permissions, a failed sync
  75  stopped cleanly before the end (signal, budget), or the database is locked: run the same command again
  78  bad job file
  80  stopped because batch times drifted
""", "")


def test_models():
    code, text, err = strata("help", "models")
    assert (code, err) == (0, "") and text.startswith("models, by model_type of their config.json:\n  llama, mistral, ")
    assert text.endswith(" and llama4\n") and all(len(line) <= 110 for line in text.splitlines())


def test_job_reference():
    code, text, err = strata("help", "job")
    assert (code, err) == (0, "")
    assert text.startswith("""\
A job file is YAML with the sections below. Paths are relative to the job file's folder.
Keys marked as part of the run's identity cannot change once it has started: with another value the run is not resumed.

problems: The input: the rows of an SQLite query, and the text built from each.
  database: path; required
      SQLite database with the problems (strata import creates one)
  query: text; default SELECT * FROM problems (part of the run's identity)
      a single SELECT; exports keep its order
  id: text; required (part of the run's identity)
""")
    for line in ('text: text; default "{statement}\\n{steps}"', "layers: all, or a list of integers, -1000 to 1000, pre_norm and names; default [-2]",
                 "dtype: float16, bfloat16, float32; default float16"):
        assert f"  {line} (part of the run's identity)\n" in text
    assert "  threads: integer, 0 to 1024; default 0\n" in text
    assert "`" not in text
    markdown = strata("help", "job", "--markdown")[1]
    assert markdown.startswith("### `problems`\n")
    assert "| `checkpoint_every` | integer, 1 to 1000000 | `10` | yes | " in markdown
    assert "| `threads` | integer, 0 to 1024 | `0` |  | " in markdown
    keys = re.findall(r"^  (\w+): ", text, re.M)
    assert re.findall(r"^\| `(\w+)` \|", markdown, re.M) == keys and len(keys) > 30
    assert text.count("(part of the run's identity)") == markdown.count(" | yes | ") > 15
    for row in re.findall(r"^\|.*$", markdown, re.M):
        assert row.count("|") == 6, row


def test_unknown_words():
    assert strata("imprt") == (64, "", "strata: unknown command 'imprt' (did you mean 'import'?); see 'strata help'\n")
    assert strata("qqqqqq") == (64, "", "strata: unknown command 'qqqqqq'; see 'strata help'\n")
    see = "see 'strata help help'\n"
    assert strata("help", "exit-code") == (
        64, "", "strata help: unknown topic 'exit-code' (did you mean 'exit-codes'?)\n" + see)
    assert strata("help", "job", "x") == (64, "", "strata help: unexpected argument 'x'\n" + see)
    assert strata("help", "import", "--markdown") == (64, "", "strata help: --markdown is for the topic 'job'\n" + see)


def test_full_output():
    with open("/dev/full", "w") as full:
        done = subprocess.run([STRATA, "help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (73, "strata help: cannot write the output: No space left on device (make room and "
                                              "run the same command again)\n")
