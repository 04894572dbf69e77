"""Two towers: items as vectors, a person as a network of the items they wanted (Covington et al., RecSys 2016)."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Pairs, Validate, check_dim, l2_penalty, minimise, seeded, wanted_among
from models.baselines.matrix import check_vectors, positive_matrix, query_matrix
from models.baselines.matrix_factorisation import check_negatives
from models.baselines.people import row_means
from models.losses import sampled_softmax_loss
from models.propagate import Adjacency


class Towers(nn.Module):
    """Items: an id vector and a map of the text. People: a perceptron of the mean vector of their items."""

    text: Tensor

    def __init__(self, text: Tensor, dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("text", text, persistent=False)
        self.id = nn.Parameter(torch.randn(len(text), dim) * 0.1)
        self.map = nn.Linear(text.shape[1], dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(text)))
        self.people = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )

    def items(self) -> Tensor:
        """[N, D]"""
        return self.id + self.map(self.text)  # type: ignore[no-any-return]

    def queries(self, mean: Tensor) -> Tensor:
        """[B, D] what to look for, from the mean item vectors [B, D]; the mean itself is where the network starts."""
        return mean + self.people(mean)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class TwoTower:
    """score(u, i) = f(mean of z_j over what u wanted) · z_i + b_i."""

    towers: Towers
    """In evaluation mode."""
    items: NDArray[np.float32]
    """[N, D] z_i."""
    name: str = "two-tower"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        text: NDArray[np.float32] | None = None,
        *,
        dim: int = 64,
        negatives: int = 512,
        dropout: float = 0.2,
        penalty: float = 1e-3,
        epochs: int = 100,
        batch: int = 1024,
        learning_rate: float = 1e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Minimise the sampled softmax of every wanted item given the others that its person wanted.

        Args:
            text: [N, T] a vector of each item's text, zeros where there is none; None goes by ids alone.
            negatives: items drawn uniformly and shared by a batch; those that a person wanted do not count for them.
            dropout: share of a person's vector, and of the layer after it, that is dropped in training.
            penalty: weight of half the squared length of the item vectors in a batch, a mean over its pairs.
        """
        check_dim(dim)
        check_negatives(negatives, penalty)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: give a share from 0 to below 1")
        text = np.zeros((len(interactions.items), 1), np.float32) if text is None else text
        check_vectors(text, interactions)
        people = positive_matrix(interactions)
        pairs, summed = Pairs.from_matrix(people), Adjacency.from_scipy(csr_matrix(people))
        others = torch.from_numpy(np.maximum(np.diff(people.indptr) - 1, 1)).unsqueeze(1)
        with seeded(seed):
            towers = Towers(torch.from_numpy(text), dim, dropout)

            def epoch() -> Iterator[Tensor]:
                for user, item in pairs.batches(batch):
                    items = towers.items()
                    wanted, sampled = F.embedding(item, items), torch.randint(len(items), (negatives,))
                    mean = (F.embedding(user, summed @ items) - wanted) / others[user]
                    query = towers.queries(mean)
                    positive = (query * wanted).sum(dim=1) + towers.bias[item]
                    negative = query @ items[sampled].T + towers.bias[sampled]
                    negative = negative.masked_fill(wanted_among(people, user, sampled), -torch.inf)
                    yield sampled_softmax_loss(positive, negative, len(items)) + penalty * l2_penalty(wanted)

            return minimise(
                towers,
                epoch,
                lambda: cls(deepcopy(towers), towers.items().numpy()),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )

    def score(self, histories: Histories) -> NDArray[np.float32]:
        with torch.inference_mode():
            mean = row_means(query_matrix(histories, len(self.items)), self.items)
            queries = self.towers.queries(torch.from_numpy(mean)).numpy()
            scores: NDArray[np.float32] = queries @ self.items.T + self.towers.bias.numpy()
        return scores
