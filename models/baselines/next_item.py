"""Next item: what SASRec and the recurrent networks share, all but the module that reads a person's items."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import AnyScorer, Validate, minimise, shuffled
from models.losses import sampled_softmax_loss

GROUP: Final = 16
"""People of a batch that are read side by side, of about one length: most of a batch would be padding otherwise."""


class NextItem(nn.Module):
    """One vector for each item, which is read and looked for, and a reader that says what to look for next."""

    def __init__(self, num_items: int, dim: int, reader: nn.Module, dropout: float = 0.0) -> None:
        """
        Args:
            reader: from the vectors [B, L, D] of items, oldest first and padded at the end, and how many count [B], to
                a query [B, L, D] after each; it never looks ahead.
            dropout: share of the items' numbers that a step of training hides, wherever it meets these items.
        """
        super().__init__()
        self.items = nn.Embedding(num_items, dim)
        nn.init.xavier_normal_(self.items.weight)
        self.reader = reader
        self.dropout = dropout

    def vectors(self) -> Tensor:
        """[N, D] of all items; in training, others of their numbers are hidden at each call."""
        return F.dropout(self.items.weight, self.dropout) if self.training and self.dropout else self.items.weight

    def forward(self, item: Tensor, length: Tensor, vectors: Tensor | None = None) -> Tensor:
        """[B, L, D] queries after each of the items [B, L]; `vectors` are what a step of training has left of them."""
        return self.reader(F.embedding(item, self.items.weight if vectors is None else vectors), length)  # type: ignore[no-any-return]


def learn_next_item(
    network: NextItem,
    interactions: Interactions,
    scorer: Callable[[], AnyScorer],
    *,
    max_history: int,
    negatives: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    validate: Validate | None,
) -> AnyScorer:
    """Minimise the sampled softmax of every next item among the newest `max_history` + 1 wanted ones of each person.

    Args:
        negatives: items drawn uniformly and shared by a batch.
        batch: people in a batch.
    """
    if negatives < 1:
        raise ValueError(f"negatives is {negatives}: give at least 1, such as 256")
    item, length = newest_items(interactions.histories(np.arange(len(interactions.users))), max_history + 1)
    item, length = item[length > 1], length[length > 1]
    if not len(item):
        raise ValueError("nobody has two events of positive weight, one to follow the other: ingest longer histories")
    num_items = len(interactions.items)

    def epoch() -> Iterator[Tensor]:
        for rows in shuffled(len(item), batch):
            groups = torch.split(rows[length[rows].argsort(stable=True)], GROUP)
            vectors = network.vectors()
            read = [_queries_and_targets(network, item[group], length[group], vectors) for group in groups]
            query, wanted = (torch.cat(parts) for parts in zip(*read, strict=True))
            sampled = torch.randint(num_items, (negatives,))
            positive = (query * F.embedding(wanted, vectors)).sum(dim=1)
            negative = query @ F.embedding(sampled, vectors).T
            negative = negative.masked_fill(wanted.unsqueeze(1) == sampled, -torch.inf)
            yield sampled_softmax_loss(positive, negative, num_items)

    return minimise(network, epoch, scorer, epochs=epochs, learning_rate=learning_rate, validate=validate)


def _queries_and_targets(network: NextItem, item: Tensor, length: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """[M, D] the query after each item but the last of each person, and [M] the item that followed it."""
    steps = length - 1
    width = int(steps.max())
    inside = torch.arange(width) < steps.unsqueeze(1)
    return network(item[:, :width], steps, vectors)[inside], item[:, 1 : width + 1][inside]


def score_next_item(network: NextItem, histories: Histories, max_history: int) -> NDArray[np.float32]:
    """[B, N] scores after the newest wanted item of each person; all 0 for somebody who wanted nothing yet."""
    item, length = newest_items(histories, max_history)
    with torch.inference_mode():
        last = network(item, length)[torch.arange(len(item)), (length - 1).clamp(min=0)]
        scores: NDArray[np.float32] = (last * (length > 0).unsqueeze(1) @ network.items.weight.T).numpy()
    return scores


def newest_items(histories: Histories, most: int) -> tuple[Tensor, Tensor]:
    """[B, L] the newest wanted items of each person, oldest first, padded with 0 at the end; [B] how many they are."""
    wanted = histories.where(histories.weight > 0)
    ends = wanted.offsets[1:]
    lengths = np.minimum(np.diff(wanted.offsets), most)
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    inside = steps < lengths[:, None]
    item = np.zeros(inside.shape, np.int64)
    item[inside] = wanted.item[((ends - lengths)[:, None] + steps)[inside]]
    return torch.from_numpy(item), torch.from_numpy(lengths)


def check_reader(max_history: int, dropout: float) -> None:
    """Raise ValueError unless a reader sees something."""
    if max_history < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"max_history is {max_history} and dropout {dropout}: give at least 1, and a share from 0 to below 1"
        )
