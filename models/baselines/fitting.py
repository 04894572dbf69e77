"""Fitting: what every neural baseline learns with: wanted pairs, items nobody wanted, and one loop for all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from models.scorer import Scorer

Validate = Callable[[Scorer], float]
"""How good a scorer is by now, higher is better; sees the validation part, never the test."""

LOOK_EVERY: Final = 5
"""Epochs between two looks at validation."""
PATIENCE: Final = 5
"""Looks in a row without a better figure after which a fit stops."""
TRIES: Final = 10
"""How often a negative is drawn again that the person wanted; somebody who wanted nearly all may keep one."""

AnyScorer = TypeVar("AnyScorer", bound=Scorer)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws what this seed gives: weights, batches, negatives, dropout; outside it is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def minimise(
    network: nn.Module,
    epoch: Callable[[], Iterator[Tensor]],
    scorer: Callable[[], AnyScorer],
    *,
    epochs: int,
    learning_rate: float,
    validate: Validate | None,
    look_every: int = LOOK_EVERY,
    patience: int = PATIENCE,
) -> AnyScorer:
    """Take one step of Adam for each loss; return the scorer that validation liked best, or the last without it.

    Args:
        epoch: the loss of each batch of one pass over the data, computed when it is asked for.
        scorer: what the network is worth now; a copy, since the network goes on learning.
        epochs: passes at most.
    Raises: ValueError if a setting is none.
    """
    if epochs < 1 or not learning_rate > 0:
        raise ValueError(f"epochs is {epochs} and learning_rate {learning_rate}: give at least 1 and more than 0")
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    best, best_value, stale = None, -float("inf"), 0
    for number in range(1, epochs + 1):
        network.train()
        for loss in epoch():
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if validate is None or (number % look_every and number < epochs):
            continue
        now = _finished(network, scorer)
        with torch.random.fork_rng(devices=[]):
            value = validate(now)
        if value > best_value:
            best, best_value, stale = now, value, 0
        else:
            stale += 1
        if stale == patience:
            break
    return _finished(network, scorer) if best is None else best


def _finished(network: nn.Module, scorer: Callable[[], AnyScorer]) -> AnyScorer:
    network.eval()
    with torch.no_grad():
        return scorer()


@dataclass(frozen=True, eq=False)
class Pairs:
    """The E distinct pairs of a person and an item they wanted, sorted."""

    user: Tensor
    """[E]"""
    item: Tensor
    """[E]"""
    num_items: int

    @classmethod
    def from_matrix(cls, people: csr_array) -> "Pairs":
        """From [U, N] with an entry for each pair; ValueError if there is none."""
        if not people.nnz:
            raise ValueError("there is no event of positive weight to learn from: ingest some, or split otherwise")
        user = np.repeat(np.arange(people.shape[0]), np.diff(people.indptr))
        return cls(torch.from_numpy(user), torch.from_numpy(people.indices.astype(np.int64)), people.shape[1])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Users [B] and items [B], every pair once, in a new random order."""
        for rows in shuffled(len(self.user), size):
            yield self.user[rows], self.item[rows]

    def unwanted(self, user: Tensor, count: int) -> Tensor:
        """[B, count] items drawn uniformly that these users [B] did not want."""
        drawn = torch.randint(self.num_items, (len(user), count))
        for _ in range(TRIES):
            wanted = self._wanted(user, drawn)
            redrawn = int(wanted.sum())
            if not redrawn:
                break
            drawn[wanted] = torch.randint(self.num_items, (redrawn,))
        return drawn

    def _wanted(self, user: Tensor, item: Tensor) -> Tensor:
        pairs = self.user * self.num_items + self.item
        asked = user.unsqueeze(1) * self.num_items + item
        return pairs[torch.searchsorted(pairs, asked).clamp(max=len(pairs) - 1)] == asked


def wanted_among(people: csr_array, user: Tensor, sampled: Tensor) -> Tensor:
    """[B, K] whether each of the users [B] wanted each of the sampled items [K], from people [U, N]."""
    return torch.from_numpy(people[user.numpy()][:, sampled.numpy()].toarray() > 0)


def shuffled(count: int, size: int) -> Iterator[Tensor]:
    """The rows 0 to count - 1 in a new random order, `size` at a time."""
    if size < 1:
        raise ValueError(f"batch is {size}: give at least 1, such as 2048")
    order = torch.randperm(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def l2_penalty(*vectors: Tensor) -> Tensor:
    """Half the squared length of the vectors [B, ..., D] that a batch used, per line of the batch."""
    return torch.stack([each.square().sum() / len(each) for each in vectors]).sum() / 2


def check_dim(dim: int) -> None:
    """Raise ValueError unless vectors of this width hold something."""
    if dim < 1:
        raise ValueError(f"dim is {dim}: give at least 1, such as 64")
