# SPDX-License-Identifier: MIT
"""How far the tokens of a mixture of experts are from another choice, by what transformers' routers answer (make_goldens.py)."""
import numpy as np

# What names of classes end with, in lower case.
ROUTERS = ("topkrouter", "tokenchoicerouter", "moev1gate", "gemma4textrouter", "llama4router")
MARGIN = 0.04  # rounding to bfloat16 moves a router's logits by less


def gap_behind(ranks, chosen):
    """Between the least that is chosen of each row and the greatest that is not."""
    ranked = np.sort(ranks, axis=1)
    return ranked[:, -chosen] - ranked[:, -chosen - 1] if chosen < ranks.shape[1] else np.full(len(ranks), np.inf)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def turn_margin(router, logits):
    """The same of PhiMoE, where the order of two experts counts, and which others are near enough to be of the softmax."""
    ranked, margin = np.sort(logits, axis=1), np.inf
    for place in (-1, -2):
        greatest = ranked[:, place, None]
        spread = (greatest - logits) / np.maximum(np.abs(logits), greatest)
        gap = (ranked[:, place] - ranked[:, place - 1]) / logits.std(axis=1)
        near = np.abs(spread - 2 * router.router_jitter_noise) * (logits <= greatest)  # of 0.01, a MARGIN
        margin = min(margin, gap.min(), np.where(logits <= greatest, near, 1).min() * 100 * MARGIN)
    return margin


def routes_of(router, outputs):
    """The logits of a router, and which experts it chose."""
    if type(router).__name__ == "Llama4Router":
        return outputs[1].float().numpy(), np.sort(outputs[1].topk(router.top_k, dim=1).indices.numpy())
    logits = outputs[0].float().numpy()
    logits = np.log(logits) if type(router).__name__ == "Gemma4TextRouter" else logits  # it answers their softmax
    return logits, np.sort(outputs[2].numpy())


def margin_of(router, inputs, outputs):
    """How far any token is from another choice of experts, in standard deviations of what they are chosen by."""
    name = type(router).__name__
    logits, routes = routes_of(router, outputs)
    if name == "PhimoeTopKRouter":
        return turn_margin(router, logits)
    bias = inputs[1] if len(inputs) > 1 else getattr(router, "e_score_correction_bias", None)
    ranks = logits if bias is None else 1 / (1 + np.exp(-logits)) + bias.float().numpy()
    if name == "Ernie4_5_MoeTopKRouter":
        ranks = softmax(logits) + router.moe_statics.e_score_correction_bias.float().numpy()
    by_pairs = bias is not None or name == "Mistral4TopkRouter"
    deviations, margin = ranks.std(axis=1), np.inf
    groups = 1 if getattr(router, "topk_method", None) == "greedy" else getattr(router, "num_group", None) or 1
    if groups > 1:
        best = np.sort(ranks.reshape(len(ranks), groups, -1), axis=2)[:, :, -2 if by_pairs else -1:].sum(axis=2)
        margin = (gap_behind(best, router.topk_group) / deviations).min()
        left_out = best < np.sort(best, axis=1)[:, -router.topk_group, None]
        ranks = np.where(np.repeat(left_out, ranks.shape[1] // groups, axis=1), -1e9, ranks)
    return min(margin, (gap_behind(ranks, routes.shape[1]) / deviations).min())
