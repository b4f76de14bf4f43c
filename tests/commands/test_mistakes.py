# SPDX-License-Identifier: MIT
"""What newcomers get wrong: each mistake is answered with what is wrong and what to do next, in one or two lines."""
import json
import os
import shutil
import struct

import pytest

import support
from support import DATA, DEVICE, JOB, USAGE, WRITE, Job, make_model, make_problems, merge

CHECKED = ["run", "job.yaml", "--quiet"]
ADDRESS = "https://huggingface.co/Qwen/Qwen3-8B/tree/main"
DOWNLOAD = "`hf download Qwen/Qwen3-8B --local-dir models/Qwen3-8B` gets it"
CACHED = "hf/hub/models--Qwen--Qwen3-8B"
SNAPSHOT = f"{CACHED}/snapshots/abcdef12"
IMPORT = "strata-latents[import]"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A job and its finished run, to be copied."""
    job = Job(tmp_path_factory.mktemp("done"), make_problems(6))
    job.run()
    return job


class Place:
    """A folder as a newcomer has it: a job, its problems, a model, and a finished run where one is wanted."""

    def __init__(self, folder, done):
        self.folder, self.done, self.keys = folder, done, done.keys
        for name in ("problems.db", "problems.jsonl"):
            shutil.copy(done.folder / name, folder)
        self.job({})

    def job(self, changes):
        self.write("job.yaml", json.dumps(merge(self.keys, changes), indent=1))

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def says(self, *words):
        environment = support.clean_environment(HF_HOME=str(self.folder / "hf"), HOME=str(self.folder))
        environment.pop("HF_HUB_CACHE", None)
        return support.strata(*words, cwd=self.folder, environment=environment)

    # ---- what the rows below ask for

    def run(self):
        shutil.copytree(self.done.output, self.folder / "out")

    def model(self, at="models/x", **changes):
        """A copy of the model; of the names, None takes one away."""
        shutil.copytree(make_model(), self.folder / at)
        config = self.folder / at / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))

    def cache(self):
        self.model(SNAPSHOT)
        self.write(f"{CACHED}/refs/main", "abcdef12")

    def links(self, ending):
        self.cache()
        for path in list((self.folder / SNAPSHOT).glob("*" + ending)):
            path.unlink()
            path.symlink_to("../../blobs/none")

    def weights_gone(self):
        self.model()
        for path in (self.folder / "models/x").glob("*safetensors*"):
            path.unlink()

    def pickles(self):
        self.weights_gone()
        self.write("models/x/pytorch_model.bin", b"PK\3\4" + bytes(99))

    def shard_gone(self):
        self.model()
        max((self.folder / "models/x").glob("*.safetensors")).unlink()

    def pointers(self):
        self.model()
        for path in (self.folder / "models/x").glob("*.safetensors"):
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n")

    def ggufs(self, *names):
        for name in names:
            self.write(f"models/x/{name}", b"GGUF\3\0\0\0" + bytes(90))

    def gguf_of(self, architecture):
        def text(words):
            return struct.pack("<Q", len(words)) + words.encode()

        key = text("general.architecture") + struct.pack("<I", 8) + text(architecture)
        content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key
        self.write("models/x/a.gguf", content + bytes(-len(content) % 32))

    def tokenizer(self, *names):
        self.model()
        (self.folder / "models/x/tokenizer.json").unlink()
        for name in names:
            self.write(f"models/x/{name}", "x")


def path(value):
    return {"model": {"path": value}}


def query(value):
    return {"problems": {"query": value}}


COLUMNS = "SELECT statement, steps, "
YAML = """problems: {database: problems.db, id: problem_id}
model: {path: models/x}
run: {output: out}
"""

# what is typed, the exit code, what the message has; then what there is: changes of the job, its text, files
MISTAKES = [
    # ---- the model's folder
    (CHECKED, DATA, ["strata downloads nothing", DOWNLOAD, "model.path is then models/Qwen3-8B"], path("Qwen/Qwen3-8B")),
    (CHECKED, DATA, ["strata downloads nothing", DOWNLOAD], path("https://huggingface.co/Qwen/Qwen3-8B")),
    (CHECKED, DATA, ["strata downloads nothing", DOWNLOAD], path(ADDRESS)),
    (CHECKED, DATA, ["the Hub's cache on this machine has 'Qwen/Qwen3-8B'", f"let model.path name {{folder}}/{SNAPSHOT}"],
     path("Qwen/Qwen3-8B"), Place.cache),
    (CHECKED, DATA, ["top folder in the Hub's cache", f"{SNAPSHOT}: let model.path name that"], path(CACHED), Place.cache),
    (CHECKED, DATA, ["is the Hub's cache", "models--Qwen--Qwen3-8B"], path("hf/hub"), Place.cache),
    (CHECKED, DATA, ["config.json is a link to something that is not there", "`hf download`"], path(SNAPSHOT),
     lambda place: place.links("config.json")),
    (CHECKED, DATA, ["tokenizer.json is a link to something that is not there", "`cp -rL`"], path(SNAPSHOT),
     lambda place: place.links("tokenizer.json")),
    (CHECKED, DATA, ["(it is a link to something that is not there)", "2 of the 2 shards"], path(SNAPSHOT),
     lambda place: place.links(".safetensors")),
    (CHECKED, DATA, ["model-00002-of-00002.safetensors", "1 of the 2 shards", "was the download complete?"], path("models/x"),
     Place.shard_gone),
    (CHECKED, DATA, ["no weights at all", "was the download complete?"], path("models/x"), Place.weights_gone),
    (CHECKED, DATA, ["PyTorch pickles (pytorch_model.bin)", "save_pretrained(sys.argv[1])\" models/x"], path("models/x"), Place.pickles),
    (CHECKED, DATA, ["Git LFS pointer", "git lfs pull"], path("models/x"), Place.pointers),
    (CHECKED, DATA, ["a GGUF file is a model by itself", "models/x/a-Q4_K_M.gguf", "or of the same folder a-Q8_0.gguf"], path("models/x"),
     lambda place: place.ggufs("a-Q8_0.gguf", "a-Q4_K_M.gguf")),
    (CHECKED, DATA, ["model.path is then models/x/a-00001-of-00002.gguf\n"], path("models/x"),
     lambda place: place.ggufs("a-00002-of-00002.gguf", "a-00001-of-00002.gguf", "mmproj-a.gguf")),
    (CHECKED, DATA, ["whisper", "llama"], path("models/x/a.gguf"), lambda place: (place.gguf_of("whisper"), shutil.copy(make_model() / "tokenizer.json", place.folder / "models/x"))),
    (CHECKED, DATA, ["the method 'hqq' is not supported", "awq, gptq", "get the model's own weights"], path("models/x"),
     lambda place: place.model(quantization_config={"quant_method": "hqq"})),
    (CHECKED, DATA, ["'model_type' is 'bert'", "`strata help models` lists them"], path("models/x"), lambda place: place.model(model_type="bert")),
    (CHECKED, DATA, ["no other tokenizer's file", "was the download complete?"], path("models/x"), Place.tokenizer),
    (CHECKED, DATA, ["tokenizer.model, which strata does not read", "AutoTokenizer.from_pretrained"], path("models/x"),
     lambda place: place.tokenizer("tokenizer.model")),
    (CHECKED, DATA, ["merges.txt, which strata does not read", "AutoTokenizer.from_pretrained"], path("models/x"),
     lambda place: place.tokenizer("vocab.json", "merges.txt")),
    (CHECKED, DATA, ["model.path is the folder that holds it"], path("models/x/config.json"), Place.model),
    (CHECKED, DATA, ["model.path is the folder that holds it"], path("models/x/model-00001-of-00002.safetensors"), Place.model),
    (CHECKED, DATA, ["let model.path name models/x"], path("models"), Place.model),
    (CHECKED, DATA, ["there is no folder models/y", "beside it is models/x"], path("models/y"), Place.model),
    (CHECKED, DATA, ["~ is not expanded"], path("~/models/x")),
    (CHECKED, DATA, ["$ is not expanded"], path("$MODELS/x")),
    (CHECKED, DATA, ["`model.adapter: models/x` merges"], path("models/x"),
     lambda place: place.write("models/x/adapter_config.json", '{"base_model_name_or_path": "Qwen/Qwen3-8B"}')),
    (CHECKED, JOB, ["layer 40 does not exist", "0 to 3, or -4 to -1"], {"latents": {"layers": [40]}}),

    (CHECKED, DATA, ["Qwen/Qwen3-8B is not there, nor its folder", "model.tokenizer"], {"model": {"tokenizer": "Qwen/Qwen3-8B"}}),

    # ---- the device
    (CHECKED, DEVICE, ["device cuda:0 is not available", "cpu or auto needs none"], {"model": {"device": "cuda:0"}}),
    (CHECKED, JOB, ["did you mean 'cuda:0'?"], {"model": {"device": "cuda"}}),
    (CHECKED, JOB, ["did you mean 'cuda:0'?"], {"model": {"device": "gpu"}}),
    (CHECKED, JOB, ["CPUs and on NVIDIA GPUs"], {"model": {"device": "mps"}}),

    # ---- the problems
    (CHECKED, DATA, ["no such table: problem", "it has problems"], query("SELECT * FROM problem")),
    (CHECKED, DATA, ["there is no folder data", "relative paths start at the job file's folder"], {"problems": {"database": "data/p.db"}}),
    (CHECKED, DATA, ["did you mean 'problems.db'?"], {"problems": {"database": "problem.db"}}),
    (CHECKED, DATA, ["the folder has problems.db"], {"problems": {"database": "gsm8k_train_2.db"}}),
    (CHECKED, DATA, ["`strata import FILE problems.db`"], {"problems": {"database": "problems.jsonl"}}),
    (CHECKED, DATA, ["it is a folder"], {"problems": {"database": "."}}),
    (CHECKED, DATA, ["no column 'question'", "it has problem_id, statement"], {"problems": {"text": "{question}"}}),
    (CHECKED, DATA, ["no column 'id'", "it has problem_id, statement"], {"problems": {"id": "id"}}),
    (CHECKED, DATA, ["problems.steps.column", "no column 'solution'"],
     {"problems": {"steps": {"column": "solution"}, "text": "{statement}{steps}"}}),
    (CHECKED, DATA, ["no column 'problem_id'; it has statement, steps"], query("SELECT statement, steps FROM problems")),
    (CHECKED, DATA, ["row 1 of the query", "is NULL; 3 rows have no id, of 6"],
     query(COLUMNS + "iif(rowid % 2, NULL, problem_id) AS problem_id FROM problems")),
    (CHECKED, DATA, ["row 2 of the query: the id 'problem_id' is NULL\n"],
     query(COLUMNS + "iif(rowid = 2, NULL, problem_id) AS problem_id FROM problems")),
    (CHECKED, DATA, ["has the value '0' a second time; 3 rows repeat an id, of 6"], query(COLUMNS + "rowid / 3 AS problem_id FROM problems")),
    (CHECKED, DATA, ["returns no rows", "problems has 6 rows"], query("SELECT * FROM problems WHERE 0")),
    (CHECKED, JOB, ["problems.steps.pattern", "byte"], {"problems": {"steps": {"pattern": "(Step"}}}),
    (CHECKED, JOB, ["problems.text", "'{{' is a brace as text"], {"problems": {"text": '{"q": {statement}}'}}),

    # ---- keys and values of the job file
    (CHECKED, JOB, ["job.yaml:6:3", "unknown key 'chat_template'", IMPORT], {"problems": {"chat_template": True}}),
    (CHECKED, JOB, ["unknown key 'batch_size'", "batch.problems"], {"batch": {"batch_size": 8}}),
    (CHECKED, JOB, ["unknown key 'max_length'", "problems.max_tokens"], {"problems": {"max_length": 8}}),
    (CHECKED, JOB, ["unknown key 'load_in_4bit'", "model.quantize: nf4"], {"model": {"load_in_4bit": True}}),
    (CHECKED, JOB, ["unknown key 'output_dir'", "run.output"], {"run": {"output_dir": "x"}}),
    (CHECKED, JOB, ["unknown key 'layers' in model (it belongs to latents)"], {"model": {"layers": [1]}}),
    (CHECKED, JOB, ["unknown key 'poolings'", "did you mean 'pooling'?"], {"latents": {"poolings": "mean"}}),
    (CHECKED, JOB, ["latents.pooling", "step_mean|mean|last", "not 'max'"], {"latents": {"pooling": "max"}}),
    (CHECKED, JOB, ["latents.pooling", "did you mean 'mean'?"], {"latents": {"pooling": "average"}}),
    (CHECKED, JOB, ["model.dtype", "did you mean 'float16'?"], {"model": {"dtype": "fp16"}}),
    (CHECKED, JOB, ["model.dtype", "did you mean 'bfloat16'?"], {"model": {"dtype": "bf16"}}),
    (CHECKED, JOB, ["batch.tokens must be a whole number, not '16k'"], {"batch": {"tokens": "16k"}}),
    (CHECKED, JOB, ["run.threads", "out of bounds: 0 to 1024"], {"run": {"threads": -1}}),
    (CHECKED, JOB, ["model.path is missing"], path(None)),
    (CHECKED, JOB, ["job.yaml is empty"], ""),
    (CHECKED, JOB, ["the job file is empty"], "# to do\n"),
    (CHECKED, JOB, ["problems.database is missing"], "{}"),
    (CHECKED, JOB, ["a job file has sections"], "- a\n"),
    (CHECKED, JOB, ["job.yaml:2:1: a tab", "spaces"], "problems:\n\tdatabase: x\n"),
    (CHECKED, JOB, ["job.yaml:3:1: a tab", "spaces"], "problems:\n  database: x\n\tid: x\n"),
    (CHECKED, JOB, ["job.yaml:4:1: 'run' appears twice (first in line 3)"], YAML + "run: {output: b}\n"),
    (CHECKED, JOB, ["'id:problem_id'", "'id: problem_id' is"], YAML.replace("id: problem_id", "id:problem_id")),
    (CHECKED, JOB, ["job.yaml:3:3: a key without a value", "a colon and a space"], "problems:\n  database: x\n  id:problem_id\nrun: {}\n"),
    (CHECKED, JOB, ["problems.text", "stands in quotes"], "problems:\n  text: {statement}\n"),
    (CHECKED, JOB, ["iconv -f UTF-16"], YAML.encode("utf-16")),
    (CHECKED, JOB, ["ZIP archive"], b"PK\3\4" + bytes(60)),

    # ---- the output
    (CHECKED, WRITE, ["problems.jsonl is not a folder"], {"run": {"output": "problems.jsonl"}}),
    (CHECKED, WRITE, ["holds a.txt and no ledger", "choose an empty folder"], {"run": {"output": "x"}}, lambda place: place.write("x/a.txt", "")),
    (CHECKED, JOB, ["a different identity (latents.layers)", "stored '[0, -2, -1]', now '[0]'", "choose another run.output"],
     {"latents": {"layers": [0]}}, Place.run),

    # ---- one thing in the place of another
    (["run", "jobs.yaml"], JOB, ["cannot open jobs.yaml", "did you mean 'job.yaml'?"]),
    (["run", "x/job.yaml"], JOB, ["there is no folder x"]),
    (["run", "out"], JOB, ["out is a run directory", "strata run ./job.yaml"], Place.run),
    (["check", "out/"], JOB, ["out/ is a run directory", "strata check ./job.yaml"], Place.run),
    (["run", "problems.db"], JOB, ["an SQLite database: name it in a job as problems.database"]),
    (["run", "problems.jsonl"], JOB, ["holds problems, not a job", "`strata import problems.jsonl problems.db`"]),
    (["run", "models/x"], JOB, ["a model's folder, not a job", "model.path"], Place.model),
    (["run", "."], JOB, ["it is a folder", "job.yaml"]),
    (["status", "outt"], DATA, ["there is no such folder", "did you mean 'out'?"], Place.run),
    (["status", "."], DATA, ["of runs it has out"], Place.run),
    (["status", "out/shards"], DATA, ["it lies in the run directory out"], Place.run),
    (["verify", "out/ledger.sqlite"], DATA, ["it lies in the run directory out"], Place.run),
    (["export", "models/x", "--format", "npy", "--to", "e"], DATA, ["it is a model's folder", "run.output"], Place.model),
    (["status", "problems.db"], DATA, ["it is a file", "run.output"]),
    (["status", "job.yaml"], DATA, ["the run of the job job.yaml has not begun", "there is no folder out"]),
    (["status", "job.yaml"], JOB, ["job.yaml:1:1", "a job file has sections"], "- a\n"),
    (["show", "p-00001", "out"], DATA, ["the run directory comes first: strata show out p-00001"], Place.run),
    (["status", "out", "--watch", "5"], DATA, ["there is no ledger in 5"], Place.run),
    (["show", "out", "p-0001"], DATA, ["'p-0001'", "the nearest is 'p-00001'"], Place.run),
    (["show", "out", "P-00001"], DATA, ["'P-00001'", "the nearest is 'p-00001'"], Place.run),

    # ---- import
    (["import", "problems.jsonl", "problems.db"], DATA, ["has a table 'problems' already (--append adds to it)"]),
    (["import", "problem.jsonl", "p.db"], DATA, ["cannot open problem.jsonl", "did you mean 'problems.jsonl'?"]),
    (["import", "in.jsonl", "p.db"], DATA, ["with --id", "the first line has question, answer"],
     lambda place: place.write("in.jsonl", '{"question": "q", "answer": 1}\n')),
    (["import", "in.csv", "p.db"], DATA, ["it begins as CSV", IMPORT], lambda place: place.write("in.csv", "id,question\n1,x\n")),
    (["import", "in.json", "p.db"], DATA, ["one JSON array", "jq -c", IMPORT], lambda place: place.write("in.json", '[{"id": 1}]')),
    (["import", "in.parquet", "p.db"], DATA, ["a Parquet table", IMPORT], lambda place: place.write("in.parquet", b"PAR1" + bytes(20))),
    (["import", "in.arrow", "p.db"], DATA, ["an Arrow (Feather) table", IMPORT], lambda place: place.write("in.arrow", b"ARROW1\0\0" + bytes(20))),
    (["import", "in.zst", "p.db"], DATA, ["compressed with zstd", IMPORT], lambda place: place.write("in.zst", b"\x28\xb5\x2f\xfd" + bytes(9))),
    (["import", "in.xz", "p.db"], DATA, ["compressed with xz", IMPORT], lambda place: place.write("in.xz", b"\xfd7zXZ\0" + bytes(9))),
    (["import", "in.zip", "p.db"], DATA, ["a ZIP archive"], lambda place: place.write("in.zip", b"PK\3\4" + bytes(60))),
    (["import", "in.xlsx", "p.db"], DATA, ["an office document", "save it as CSV"],
     lambda place: place.write("in.xlsx", b"PK\3\4" + bytes(26) + b"[Content_Types].xml" + bytes(60))),
    (["import", "openai/gsm8k", "p.db"], DATA, ["strata-import openai/gsm8k PROBLEMS.db"]),

    (["import", "problems.jsonl", "p.db", "--id", "stepz"], DATA, ["6 broken lines", "the first line has problem_id, statement"]),
    (["import", "problems.jsonl", "problems.jsonl", "p.db"], USAGE, ["--append adds another"]),
    (["import", "problems.jsonl", "p.db", "--messages", "m"], USAGE, ["an option of strata-import", IMPORT]),
    (["import", "problems.jsonl", "x/p.db"], WRITE, ["there is no folder x"]),
    (["import", "problems.db", "problems.jsonl"], DATA, ["problems.jsonl is JSON, not an SQLite database"]),

    # ---- commands and options
    (["resume"], USAGE, ["unknown command 'resume'", "strata run JOB.yaml"]),
    (["start", "job.yaml"], USAGE, ["unknown command 'start'", "strata run JOB.yaml"]),
    (["stop"], USAGE, ["unknown command 'stop'", "Ctrl-C", "strata status DIR"]),
    (["version"], USAGE, ["strata --version"]),
    (["-V"], USAGE, ["strata --version"]),
    (["download", "Qwen/Qwen3-8B"], USAGE, ["strata downloads nothing", "hf download"]),
    (["init"], USAGE, ["strata help job"]),
    (["stauts", "out"], USAGE, ["did you mean 'status'?"]),
    (["help", "resume"], USAGE, ["strata run JOB.yaml"]),
    (["run"], USAGE, ["JOB.yaml is missing"]),
    (["run", "job.yaml", "--resume"], USAGE, ["unknown option '--resume'", "the same command resumes"]),
    (["run", "job.yaml", "--batch-size", "4"], USAGE, ["batch.problems"]),
    (["run", "job.yaml", "-o", "x"], USAGE, ["did you mean '--output'?"]),
    (["run", "job.yaml", "--overwrite"], USAGE, ["never overwritten"]),
    (["run", "job.yaml", "job.yaml"], USAGE, ["unexpected argument 'job.yaml'"]),
    (["status", "out", "-w"], USAGE, ["did you mean '--watch'?"]),
    (["export", "out"], USAGE, ["--format"]),
    (["export", "out", "--format", "csv", "--to", "e"], USAGE, ["--format must be one of safetensors|npy|hdf5|rjepa", "not 'csv'"], Place.run),
    (["export", "out", "--format", "safetensor", "--to", "e"], USAGE, ["did you mean 'safetensors'?"], Place.run),
    (["help", "latents.layers"], USAGE, ["job (every key of a job file)"]),
    (["export", "out", "--format", "npy", "--to", "models"], USAGE, ["models exists", "never overwrites"], Place.run,
     lambda place: place.write("models/x", "")),
]


def name(row):
    return "-".join(row[0])[:30] + "-" + row[2][0][:20].replace("/", "_")


@pytest.mark.parametrize("row", MISTAKES, ids=name)
def test_mistake(tmp_path, done, row):
    typed, code, words, *given = row
    place = Place(tmp_path, done)
    for there in given:
        if isinstance(there, dict):
            place.job(there)
        elif callable(there):
            there(place)
        else:
            place.write("job.yaml", there)
    told = place.says(*typed)
    assert told.code == code, told
    assert told.out == "" or "identity" in words[0], told  # which sums up what is there
    for word in words:
        assert word.replace("{folder}", str(tmp_path)) in told.err, told
    lines = [line for line in told.err.splitlines() if not line.startswith("problems.jsonl:")]  # an import lists the broken ones
    assert len(lines) <= 3 and len("".join(lines)) < 420, told


def test_job_in_place_of_its_run(tmp_path, done):
    """Where a run directory is wanted its job file will do, and that is said."""
    place = Place(tmp_path, done)
    place.run()
    for words in (["status", "--json"], ["log"], ["verify"], ["show", "p-00000"]):
        told = place.says(words[0], "job.yaml", *words[1:])
        assert told.code == 0 and told.err == f"strata {words[0]}: job.yaml is a job file; its run directory is out\n", told
        assert told.out, told


@pytest.mark.parametrize("text", [YAML.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + YAML.encode(), YAML.encode().rstrip(b"\n")])
def test_other_line_ends(tmp_path, done, text):
    place = Place(tmp_path, done)
    place.model()
    place.write("job.yaml", text)
    told = place.says("plan", "job.yaml")
    assert told.code == 0, told
