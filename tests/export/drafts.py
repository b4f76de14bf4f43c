# SPDX-License-Identifier: MIT
"""A run as the trainers of draft heads want it: every token of four layers, the last block's output on both sides of the norm, and which
tokens the assistant wrote."""

import json

from support import Job, make_model, make_problems

BLOCKS, HIDDEN, AUXILIARY = 8, 16, [2, 4, 5]


def chats(count):
    """Rendered texts with the byte spans of their roles, as strata-import writes them."""
    for problem in make_problems(count, steps=3, longest=8):
        text, roles = b"", []
        for number, step in enumerate(problem["steps"]):
            start = len(text)
            text += step.encode()
            roles.append({"role": "assistant" if number % 2 == 0 else "user", "start": start, "end": len(text)})
            text += b" | "
        yield {"problem_id": problem["problem_id"], "text": text.decode(), "roles": json.dumps(roles), "topic": problem["topic"]}


def make_drafts(folder, count=14, **latents):
    job = Job(folder, list(chats(count)), make_model("drafts", layers=BLOCKS, hidden=HIDDEN, intermediate=32),
              problems={"text": "{text}", "steps": {"spans": "roles", "roles": ["assistant"]}},
              latents={"layers": [*AUXILIARY, "pre_norm", -1], "pooling": "tokens", "dtype": "bfloat16", "token_ids": True,
                       "loss_mask": True, **latents},
              batch={"problems": 2}, run={"checkpoint_every": 2})
    job.run()
    return job
