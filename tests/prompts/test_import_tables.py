# SPDX-License-Identifier: MIT
"""strata-import of what pyarrow and datasets read: the table is that of the same rows as JSON lines, or the file is refused by name."""
import datetime
import decimal
import json
import os

import datasets
import pytest

from parity import parquet, pyarrow
from prompts.test_import_rows import dump, rows
from strata_import import read_arrow
from strata_import.__main__ import main
from support import DATA, OK, USAGE, make_problems, strata, write_lines

ROWS = [{**problem, "deep": {"a": [{"b": [0.1, None, 1e22]}, None], "text": "∑ \x1f\"\0"}, "flag": i % 2 == 0, "level": i - 3, "gone": None}
        for i, problem in enumerate(make_problems(1200))]


@pytest.fixture(scope="module")
def table():
    return pyarrow.Table.from_pylist(ROWS)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    write_lines(folder / "in.jsonl", ROWS)
    assert strata("import", folder / "in.jsonl", folder / "p.db").code == OK
    return dump(folder / "p.db")


def write_arrow(path, table, opener):
    with opener(path, table.schema) as file:
        file.write_table(table, max_chunksize=500)


WRITERS = {
    "parquet": lambda path, table: parquet.write_table(table, path, row_group_size=700, compression="zstd"),
    "arrow": lambda path, table: write_arrow(path, table, pyarrow.ipc.new_file),
    "stream": lambda path, table: write_arrow(path, table, pyarrow.ipc.new_stream),
    "lines.zst": lambda path, table: pyarrow.CompressedOutputStream(str(path), "zstd").write(
        "".join(json.dumps(row) + "\n" for row in ROWS).encode()),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_table_is_that_of_the_rows(tmp_path, table, expected, kind):
    WRITERS[kind](tmp_path / "in", table)  # by content, whatever the name
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == OK
    assert dump(tmp_path / "p.db") == expected


def test_folders_that_datasets_saved(tmp_path, table, expected, capfd):
    whole = datasets.Dataset(table)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole.select(range(1000, 1100)), "test": whole}).save_to_disk(tmp_path / "two")
    capfd.readouterr()
    assert main([str(tmp_path / "one"), str(tmp_path / "p.db")]) == OK
    assert dump(tmp_path / "p.db") == expected
    assert main([str(tmp_path / "two"), str(tmp_path / "q.db")]) == USAGE
    assert capfd.readouterr().err.endswith("two has train, test: choose one with --split\n")
    assert main([str(tmp_path / "two"), str(tmp_path / "q.db"), "--split", "train"]) == OK
    assert [row[0] for row in rows(tmp_path / "q.db")] == [f"p-{i:05d}" for i in range(1000, 1100)]
    assert main([str(tmp_path / "two"), str(tmp_path / "r.db"), "--split", "dev"]) == USAGE
    (tmp_path / "one" / "dataset_info.json").write_text("{")
    assert main([str(tmp_path / "one"), str(tmp_path / "r.db")]) == DATA


def test_names_on_the_hub(tmp_path, table, capfd, monkeypatch):
    """As the hub would give it: a stream that is read once, pinned to the commit it was at."""
    from huggingface_hub import HfApi

    whole = datasets.Dataset(table.select(["problem_id", "statement"]).rename_columns(["id", "question"]))
    asked = []

    def load(name, config, split, revision, streaming):
        asked.append((name, config, split, revision, streaming))
        return whole.to_iterable_dataset()

    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, revision=None: type("Info", (), {"sha": "abc123"}))
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config, revision: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    assert main(["openai/gsm8k", "p.db", "--config", "main"]) == USAGE
    assert main(["openai/gsm8k", "p.db", "--config", "main", "--split", "train"]) == OK
    assert asked == [("openai/gsm8k", "main", "train", "abc123", True)]
    assert rows("p.db") == [(row["problem_id"], row["statement"]) for row in ROWS]
    said = json.loads(rows("p.db", "SELECT value FROM prompts_origin WHERE key = 'source.0'")[0][0])
    assert (said["name"], said["version"]) == ("openai/gsm8k", "abc123 main train")
    assert main(["openai/gsm8k", "q.db", "--split", "test", "--id-from", "row", "--limit", "2"]) == OK
    assert [row[0] for row in rows("q.db")] == ["gsm8k-000000", "gsm8k-000001"]
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, revision=None: (_ for _ in ()).throw(OSError("no network")))
    capfd.readouterr()
    assert main(["openai/gsm8k", "r.db"]) == DATA
    assert capfd.readouterr().err == "strata-import: cannot read openai/gsm8k (no file or folder here) from the hub: no network\n"


def test_types_that_json_does_not_have(tmp_path):
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)
    parquet.write_table(pyarrow.table({
        "id": pyarrow.array([1], pyarrow.uint8()), "day": pyarrow.array([day.date()]), "at": pyarrow.array([day], pyarrow.timestamp("ns")),
        "price": pyarrow.array([decimal.Decimal("1.50")]), "kind": pyarrow.array(["a"]).dictionary_encode(), "half": pyarrow.array([1.5], pyarrow.float16()),
        "days": pyarrow.array([[day.date()]]), "big": pyarrow.array(["x"], pyarrow.large_string())}), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == OK
    assert rows(tmp_path / "p.db") == [(1, "2026-01-02", "2026-01-02 03:04:05.000000000", "1.50", "a", 1.5, '["2026-01-02"]', "x")]


@pytest.mark.parametrize("values, words", [
    (pyarrow.array([None, b"\xff"]), "'x' holds bytes, not text"),
    (pyarrow.array([None, {"bytes": b"png"}]), "'x' holds bytes, not text")])
def test_values_that_are_refused_by_row(tmp_path, capfd, values, words):
    parquet.write_table(pyarrow.table({"id": [1, 2], "x": values}), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == DATA
    assert f"in:2: {words}" in capfd.readouterr().err and os.listdir(tmp_path) == ["in"]
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db"), "--drop", "x"]) == OK


@pytest.mark.parametrize("values, wanted", [
    (pyarrow.array([1.0, float("nan")]), None), (pyarrow.array([[1.0], [float("inf")]]), "[null]"),
    (pyarrow.array([1, 1 << 63], pyarrow.uint64()), str(1 << 63))])
def test_values_that_are_mended(tmp_path, capfd, values, wanted):
    parquet.write_table(pyarrow.table({"id": [1, 2], "x": values}), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == OK
    assert rows(tmp_path / "p.db", "SELECT x FROM problems")[1] == (wanted,)
    assert "1 line was not JSON, mended (the first: line 2): 1 x " in capfd.readouterr().err


def test_usual_ids_of_tables(tmp_path, capfd):
    parquet.write_table(pyarrow.table({"id": [1, 1], "uuid": ["a", "b"]}), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == OK
    assert "the id is 'uuid'" in capfd.readouterr().out
    parquet.write_table(pyarrow.table({"question": ["a", "a"]}), tmp_path / "in")
    assert main([str(tmp_path / "in"), str(tmp_path / "q.db")]) == DATA
    assert "--id-from row; the first row has question" in capfd.readouterr().err


@pytest.mark.parametrize("name, text", [
    ("in.csv", 'id,question,n\n007,"two\nlines, ""quoted""",1.50\n8,,NaN\n9,"",é\n'), ("in.tsv", "id\tquestion\tn\n007\ttwo, parts\t1\n"),
    ("in.csv.gz", "id;question;n\r\n1;a,b;c\r\n"), ("in.csv", "\ufeffid,n\n1,2\n")])
def test_csv_cells_are_their_text(tmp_path, name, text):
    import csv
    import gzip
    import io

    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert main([str(tmp_path / name), str(tmp_path / "p.db")]) == OK
    mark = ";" if ";" in text else "\t" if "\t" in text else ","
    cells = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=mark))
    found = rows(tmp_path / "p.db")
    assert [[cell or "" for cell in row] for row in found] == cells[1:]
    if "NaN" in text:
        assert found[1][1] is None and found[2][1] == ""  # nothing, and the empty text


@pytest.mark.parametrize("text, words", [
    ("id,a\n1,2\n3\n4,5\n", "1 cells where the heading has 2"), ("id,id\n1,2\n", "the column 'id' is there twice"),
    ("id,a\n", "there are no rows"), ("a,b\n1,2\n", "nor another usual name"), ("id,a\n1,\xff\n", "invalid UTF8"),
    ('id,a\n1,"x ""y""\n2,z\n', "row 1: a quotation mark that is never closed"), ('id,a\r\n1,x\r\n2,"z, and', "row 2: a quotation mark that is never closed"),
    ("\xff\xfei\0d\0", "is text in UTF-16: `iconv -f UTF-16 -t UTF-8`")])
def test_broken_csv(tmp_path, capfd, text, words):
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    assert main([str(tmp_path / "in.csv"), str(tmp_path / "p.db")]) == DATA
    said = capfd.readouterr().err
    assert words in said, said
    assert os.listdir(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("cell", ['5" disk', '"a ""b"""', '""""', '"a\nb"\n', '""', 'x"\n\n'])
def test_csv_that_ends_with_its_last_cell(tmp_path, cell):
    (tmp_path / "in.csv").write_text('id,a\n1,a 3" one\n2,' + cell)
    assert main([str(tmp_path / "in.csv"), str(tmp_path / "p.db")]) == OK
    assert rows(tmp_path / "p.db", "SELECT count(*) FROM problems") == [(2,)]


def test_csv_in_blocks(tmp_path, capfd, monkeypatch):
    """Types are not guessed from the first of many blocks; a row has to fit in one."""
    monkeypatch.setattr(read_arrow, "CSV_BLOCK", 1 << 20)
    with open(tmp_path / "in.csv", "w") as file:
        file.write("id,x\n")
        file.writelines(f"{i},{'1' if i < 60000 else 'a text'}{' ' * 60}\n" for i in range(80000))
    assert main([str(tmp_path / "in.csv"), str(tmp_path / "p.db")]) == OK
    assert rows(tmp_path / "p.db", "SELECT count(*), sum(x LIKE '1 %'), sum(typeof(x) = 'text') FROM problems") == [(80000, 60000, 80000)]
    (tmp_path / "long.csv").write_text("id,x\n1," + "a" * (2 << 20))
    assert main([str(tmp_path / "long.csv"), str(tmp_path / "q.db")]) == DATA
    assert "a row is longer than 1 MiB, or a quotation mark is never closed" in capfd.readouterr().err


@pytest.mark.parametrize("magic", [b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0", b"FEA1"])
def test_damaged_files(tmp_path, capfd, table, magic):
    (tmp_path / "in").write_bytes(magic + b"rubbish" * 9)
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db")]) == DATA
    assert capfd.readouterr().err.startswith(f"strata-import: {tmp_path}/in: ") and os.listdir(tmp_path) == ["in"]


def test_a_damaged_page_leaves_nothing(tmp_path, table):
    parquet.write_table(table, tmp_path / "in", row_group_size=100)
    content = bytearray((tmp_path / "in").read_bytes())
    content[len(content) // 2:len(content) // 2 + 400] = b"\xaa" * 400
    (tmp_path / "in").write_bytes(content)
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db"), "--id", "problem_id"]) == DATA
    assert os.listdir(tmp_path) == ["in"]


def test_rows_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    """A file of many rows in one group is never in memory as a whole."""
    rows_of = 20000
    parquet.write_table(pyarrow.table({"id": range(rows_of), "text": ["x" * 1000] * rows_of}), tmp_path / "in", row_group_size=rows_of,
                        use_dictionary=False, compression="none")
    sizes = []
    whole = read_arrow._rows
    monkeypatch.setattr(read_arrow, "_rows", lambda batch: sizes.append((batch.num_rows, pyarrow.total_allocated_bytes())) or whole(batch))
    assert main([str(tmp_path / "in"), str(tmp_path / "p.db"), "--id", "id"]) == OK
    assert sum(size for size, _ in sizes) >= rows_of and max(size for size, _ in sizes) <= read_arrow.ROWS
    assert max(held for _, held in sizes) < 12 << 20  # of 20 MB


def test_strata_reads_what_was_imported(tmp_path, table):
    parquet.write_table(table, tmp_path / "in.parquet")
    assert main([str(tmp_path / "in.parquet"), str(tmp_path / "p.db"), "--column", "statement=question"]) == OK
    assert [len(json.loads(row[0])) for row in rows(tmp_path / "p.db", "SELECT steps FROM problems ORDER BY rowid")] == [
        len(row["steps"]) for row in ROWS]
    assert rows(tmp_path / "p.db", "SELECT question FROM problems WHERE rowid = 1") == [(ROWS[0]["statement"],)]
