# SPDX-License-Identifier: MIT
"""A model whose indexer leaves each token index_topk keys to see: texts within it run, longer ones are refused before anything is computed."""
import shutil
import sys

import pytest

import support
from support import JOB, Job, make_problems, read_latents

sys.path.insert(0, str(support.SOURCE / "tools"))
import family_tensors  # noqa: E402
import make_goldens  # noqa: E402


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa"])
def test_longer_texts_are_refused(family, tmp_path):
    tiny = support.make_model()
    config = {**make_goldens.variants()[family][0], "vocab_size": 600, "index_topk": 40}
    model = tmp_path / "model"
    make_goldens.write_checkpoint(str(model), config, "F32", 1, family_tensors.list_tensors(config, 1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tiny / name).exists():
            shutil.copy(tiny / name, model)
    job = Job(tmp_path, make_problems(6), model)
    said = job.run(expect=JOB).err
    assert "index_topk" in said and "problems.max_tokens: 40" in said
    job.change(problems={"max_tokens": 40})
    job.run()
    assert read_latents(job)
