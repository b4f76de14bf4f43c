# SPDX-License-Identifier: MIT
"""A chat from its messages to the loss mask in a shard: tokens and mask are those of transformers."""
import json
import shutil

import h5py
import pytest

from parity import transformers
from prompts.chat_templates import ALL, CHATS
from strata_import.__main__ import main
from support import OK, Job, make_model, strata, write_lines


@pytest.mark.parametrize("name", ["generation", "thinking"])
def test_tokens_and_mask_of_chats(tmp_path, name):
    model = shutil.copytree(make_model(), tmp_path / "model")
    (model / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}))
    (model / "chat_template.jinja").write_text(ALL[name])
    write_lines(tmp_path / "in.jsonl", [{"problem_id": title, "messages": chat} for title, chat in CHATS.items()])
    job = Job(tmp_path / "job", None, model, problems={"text": "{text}", "special_tokens": False, "max_tokens": 2000,
                                                       "steps": {"spans": "roles", "roles": ["assistant"]}},
              latents={"layers": [-1], "token_ids": True, "loss_mask": True}, batch={"tokens": 2000})
    assert main([str(tmp_path / "in.jsonl"), str(job.database), "--model", str(model)]) == OK
    assert strata("check", job.file).code == OK
    job.run()
    job.check_finished(len(CHATS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    seen = 0
    for path in (job.output / "shards").glob("part-??????.h5"):
        with h5py.File(path, "r") as file:
            ids, at, offset = file["problems/id"][:].tobytes(), file["problems/id_offset"][:], file["tokens/offset"][:]
            for p in range(len(at) - 1):
                title = ids[int(at[p]):int(at[p + 1])].decode()
                tokens, mask = (file[f"tokens/{one}"][int(offset[p]):int(offset[p + 1])].tolist() for one in ("ids", "loss_mask"))
                true = tokenizer.apply_chat_template(CHATS[title], return_dict=True, return_assistant_tokens_mask=name == "generation")
                assert tokens == true["input_ids"], title
                if name == "generation":
                    assert mask == true["assistant_masks"], title
                # What is masked reads as the turns do: the last token of each is the one that ends it.
                assert tokenizer.decode([token for token, own in zip(tokens, mask) if own]).count("<|im_end|>") == sum(
                    message["role"] == "assistant" for message in CHATS[title])
                seen += 1
    assert seen == len(CHATS)
