"""Negatives: items that are taken not to be what the person wanted, drawn from an explicit generator."""

import torch
from torch import Tensor


def uniform_negatives(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[count] of the candidate rows, drawn uniformly with replacement; shared by a whole batch."""
    return candidates[torch.randint(len(candidates), (count,), generator=generator)]
