"""Losses: functions of scores, each with its source."""

import math

import torch
from torch import Tensor


def sampled_softmax_loss(
    positive: Tensor, negative: Tensor, num_candidates: int, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the positive among uniformly sampled negatives, corrected for how few of all were sampled.

    Each of the K negatives stands for num_candidates / K items, which is the log-q correction of Bengio and Senécal
    (2008) for a uniform proposal; without it the loss knows the order of scores but not their scale.

    Args:
        positive: [B] scores of what happened.
        negative: [B, K] scores of sampled items; -inf leaves one out (it was the positive).
        num_candidates: items the negatives were sampled from.
        weight: [B] how much each line counts; None counts all alike.
    Returns: scalar, at least 0: the weighted mean.
    Raises: ValueError if the first dimensions differ.
    """
    if positive.shape != negative.shape[:1]:
        raise ValueError(
            f"positive is {tuple(positive.shape)}, negative {tuple(negative.shape)}: expected [B] and [B, K]"
        )
    rest = negative.logsumexp(dim=1) + math.log(num_candidates / negative.shape[1])
    loss = torch.logaddexp(rest, positive) - positive
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum()
