# SPDX-License-Identifier: MIT
"""Hidden states of the same texts through transformers: a child of gpu_check.py, so that its memory is gone when it ends.

Reads a JSON request: model folder, device, index of hidden_states, texts, their steps' token spans, batch sizes, seconds for each, and
seconds after which no other size is begun. Writes the rates of the batch sizes as JSON, again after each, and the step means of the
texts as float32 numbers, one row after another."""
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers


def pad(encoded, device):
    width = max(map(len, encoded))
    ids = torch.zeros(len(encoded), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(encoded):
        ids[row, :len(text)] = torch.tensor(text)
        mask[row, :len(text)] = 1
    return ids.to(device), mask.to(device)


def forward(model, encoded, layer, device):
    ids, mask = pad(encoded, device)
    return model(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states[layer]


def finish(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(model, encoded, size, layer, device, seconds):
    """Tokens a second (of the texts, not of the padding) in batches of this size, for about so many seconds."""
    forward(model, encoded[:size], layer, device)
    finish(device)
    began, tokens = time.perf_counter(), 0
    for at in range(0, len(encoded) - size + 1, size):
        batch = encoded[at:at + size]
        forward(model, batch, layer, device).float().mean(1).cpu()
        tokens += sum(map(len, batch))
        if time.perf_counter() - began > seconds:
            break
    finish(device)
    return tokens / (time.perf_counter() - began)


def means(model, encoded, spans, layer, device):
    rows = []
    for text, steps in zip(encoded, spans):
        states = forward(model, [text], layer, device)[0].float()
        rows.extend(states[start:end].mean(0).cpu().numpy() for start, end in steps)
    return np.stack(rows)


def main():
    request = json.loads(Path(sys.argv[1]).read_text())
    device = request["device"]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=request["model"] + "/tokenizer.json")
    encoded = [tokenizer(text)["input_ids"][:request["max_tokens"]] for text in request["texts"]]
    model = transformers.AutoModel.from_pretrained(request["model"], dtype=torch.bfloat16, attn_implementation="sdpa")
    model = model.eval().to(device)
    rates = {}
    began = time.perf_counter()
    with torch.no_grad():
        compared = len(request["spans"])
        means(model, encoded[:compared], request["spans"], request["layer"], device).astype("<f4").tofile(request["means"])
        for size in request["batches"]:
            if rates and time.perf_counter() - began > request["most"]:
                break
            try:
                rates[str(size)] = measure(model, encoded, size, request["layer"], device, request["seconds"])
            except torch.cuda.OutOfMemoryError:
                rates[str(size)] = None
                torch.cuda.empty_cache()
            aside = Path(request["answer"] + ".part")
            aside.write_text(json.dumps({"rates": rates}))  # what is known, should time run out
            aside.rename(request["answer"])


if __name__ == "__main__":
    main()
