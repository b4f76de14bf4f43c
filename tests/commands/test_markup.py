# SPDX-License-Identifier: MIT
"""Texts that a chat template rendered, and a tokenizer that they do not suit: a BOS twice, markup without tokens."""
import json
import shutil

import pytest

import support
from support import JOB, OK, Job, read_latents, strata

BOS = "<|endoftext|>"  # what the tokenizer puts before a text; 386
WARNING = "the texts have markup that is no token of this tokenizer"
QWEN, LLAMA = "<|im_start|>user\n{}<|im_end|>\n", "<|start_header_id|>user<|end_header_id|>\n{}<|eot_id|>"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its tokenizer has a template that begins with a BOS."""
    folder = shutil.copytree(support.make_model(), tmp_path_factory.mktemp("bos") / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {BOS: {"id": BOS, "ids": [386], "tokens": [BOS]}}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def text_job(folder, texts, model=None, **sections):
    rows = [{"problem_id": f"t-{number:03d}", "text": text} for number, text in enumerate(texts)]
    return Job(folder, rows, model, **support.merge({"problems": {"text": "{text}"}, "latents": {"pooling": "tokens", "token_ids": True}},
                                                     sections))


def words(said):
    return " ".join(said.split())


@pytest.mark.parametrize("doubled", [6, 1])
def test_a_doubled_bos_is_refused(doubled, model, tmp_path):
    """Before the first batch; the job may be mended where it is."""
    texts = [(BOS if number >= 6 - doubled else "") + f"number {number}" for number in range(6)]
    job = text_job(tmp_path, texts, model)
    advice = "set it to false for texts that a chat template rendered" + (", or leave these out in problems.query" if doubled < 6 else "")
    message = (f"{doubled} of 6 texts begin with {BOS} (the first: problem t-{6 - doubled:03d}), and problems.special_tokens: true "
               f"puts another before it, as transformers would: {advice}")
    refused = job.run(expect=JOB)
    assert message in refused.err and not job.acknowledged()
    checked = strata("check", job.file)
    assert checked.code == JOB and f"FAIL texts {message}" in words(checked.out)
    job.change(problems={"special_tokens": False})
    assert strata("check", job.file).code == OK
    job.run()
    job.check_finished(6)
    assert [problem["ids"].count(386) for _, problem in sorted(read_latents(job).items())] == [0] * (6 - doubled) + [1] * doubled
    twice = job.twin(tmp_path / "twice", problems={"text": BOS + "{text}"})  # who wants it has it
    twice.run()
    assert read_latents(twice)["t-005"]["ids"][:2] == [386, 386]


def test_markup_without_tokens(tmp_path):
    """Told by check and in the log; of another model's template, not of the model's own."""
    own = text_job(tmp_path / "own", [QWEN.format(number) for number in range(4)])
    checked = strata("check", own.file)
    assert checked.code == OK and WARNING not in words(checked.out)
    texts = [LLAMA.format(number) for number in range(4)] + ["a <| b <|> c <||> d", "<start_of_turn>model", "plain"]
    job = text_job(tmp_path / "other", texts)
    checked = strata("check", job.file)
    assert checked.code == OK
    found = words(checked.out).split("WARN texts ")[1].split("?")[0]
    assert found.startswith(WARNING + ": <|start_header_id|> (")
    assert found.count("in 4 of the first 7 texts") == 3 and found.count("in 1 of the first 7 texts") == 1
    assert "<|eot_id|> (" in found and "<start_of_turn> (" in found and found.endswith("was it another model's chat template that rendered them")
    job.run()
    assert WARNING in (job.output / "run.log").read_text()
    rare = text_job(tmp_path / "rare", ["plain"] * 10 + [LLAMA.format(1)])
    assert WARNING not in words(strata("check", rare.file).out)
