"""LightGCN: id vectors, smoothed over the graph of who wanted what (He et al., SIGIR 2020)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Pairs, Validate, check_dim, l2_penalty, minimise, seeded
from models.baselines.matrix import positive_matrix
from models.baselines.matrix_factorisation import bpr_loss, check_negatives
from models.baselines.people import TrainedUsers, history_sums
from models.propagate import Adjacency, symmetric_normalised


@dataclass(frozen=True, eq=False)
class UserItemGraph:
    """People and the items they wanted as one graph: U users, then N items."""

    people: sp.csr_array
    """[U, N] 1 where wanted."""
    adjacency: Adjacency
    """[U+N, U+N] D^-1/2 A D^-1/2, without self-loops."""
    item_scale: Tensor
    """[N, 1] d_i^-1/2; 0 where nobody wanted the item."""

    @classmethod
    def from_interactions(cls, interactions: Interactions) -> "UserItemGraph":
        """From the events of positive weight."""
        people = positive_matrix(interactions)
        num_users, num_items = people.shape
        user, item = people.nonzero()
        ends = np.concatenate([user, num_users + item]), np.concatenate([num_users + item, user])
        both = sp.csr_matrix((np.ones(2 * people.nnz, np.float32), ends), shape=(num_users + num_items,) * 2)
        degree = np.bincount(people.indices, minlength=people.shape[1])
        scale = np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0).astype(np.float32)
        return cls(people, Adjacency.from_scipy(symmetric_normalised(both)), torch.from_numpy(scale).unsqueeze(1))

    @property
    def num_users(self) -> int:
        return int(self.people.shape[0])

    def layers(self, x: Tensor, count: int) -> list[Tensor]:
        """x [U+N, D] and what becomes of it after 1 to `count` steps."""
        layers = [x]
        for _ in range(count):
            layers.append(self.adjacency @ layers[-1])
        return layers

    def messages(self, layers: Sequence[Tensor]) -> Tensor:
        """[N, D] what each item adds to the sum over the next layers of a person who wanted it.

        Layer l + 1 of a person is |h|^-1/2 sum over wanted i of d_i^-1/2 e_i^(l): with `people.history_sums` that
        folds in anybody, and gives users of the training what propagation gives them.
        """
        return torch.stack([layer[self.num_users :] for layer in layers]).sum(dim=0) * self.item_scale


@dataclass(frozen=True, eq=False)
class LightGCN:
    """score(u, i) = e_u · e_i, each the mean over its layers 0 to L.

    Somebody who was not in training has layers 1 to L alone: all but an id vector of their own.
    """

    users: TrainedUsers
    items: NDArray[np.float32]
    """[N, D] e_i."""
    messages: NDArray[np.float32]
    """[N, D] see UserItemGraph.messages, divided by L + 1."""
    name: str = "lightgcn"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        dim: int = 64,
        layers: int = 3,
        penalty: float = 1e-4,
        epochs: int = 300,
        batch: int = 2048,
        learning_rate: float = 5e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Minimise BPR and a penalty on the id vectors: equation 15 of the paper.

        Args:
            layers: L, how far a vector spreads.
            penalty: weight of half the squared length of the id vectors in a batch, a mean over its pairs.
        """
        check_dim(dim)
        check_layers(layers)
        check_negatives(1, penalty)
        graph = UserItemGraph.from_interactions(interactions)
        pairs = Pairs.from_matrix(graph.people)
        with seeded(seed):
            ids = nn.Embedding(sum(graph.people.shape), dim)
            nn.init.normal_(ids.weight, std=0.1)

            def epoch() -> Iterator[Tensor]:
                for user, item in pairs.batches(batch):
                    rows = triples(graph, pairs, user, item)
                    final = torch.stack(graph.layers(ids.weight, layers)).mean(dim=0)
                    yield triple_loss(final, rows) + penalty * l2_penalty(*F.embedding(rows, ids.weight))

            return minimise(
                ids,
                epoch,
                lambda: cls._from_layers(graph, graph.layers(ids.weight, layers)),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )

    @classmethod
    def _from_layers(cls, graph: UserItemGraph, layers: Sequence[Tensor]) -> Self:
        final = torch.stack(list(layers)).mean(dim=0).numpy()
        users = TrainedUsers(final[: graph.num_users], np.diff(graph.people.indptr) > 0)
        return cls(users, final[graph.num_users :], (graph.messages(layers[:-1]) / len(layers)).numpy())

    def score(self, histories: Histories) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (
            self.users.vectors_of(histories, history_sums(histories, self.messages)) @ self.items.T
        )
        return scores


def triples(graph: UserItemGraph, pairs: Pairs, user: Tensor, item: Tensor) -> Tensor:
    """[3, B] nodes of the users, of the items they wanted, and of one item each that they did not want."""
    return torch.stack([user, graph.num_users + item, graph.num_users + pairs.unwanted(user, 1)[:, 0]])


def triple_loss(vectors: Tensor, rows: Tensor) -> Tensor:
    """BPR over the vectors [U+N, D] of triples [3, B]."""
    user, wanted, unwanted = F.embedding(rows, vectors)
    return bpr_loss((user * wanted).sum(dim=1), (user * unwanted).sum(dim=1, keepdim=True))


def check_layers(layers: int) -> None:
    """Raise ValueError unless something is propagated."""
    if layers < 1:
        raise ValueError(f"layers is {layers}: give at least 1, such as 3")
