"""XSimGCL: a graph network whose noisy layers are contrasted with each other (Yu et al., TKDE 2023)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Pairs, Validate, check_dim, l2_penalty, minimise, seeded
from models.baselines.lightgcn import UserItemGraph, check_layers, triple_loss, triples
from models.baselines.matrix_factorisation import check_negatives
from models.baselines.people import history_sums

PATIENCE: Final = 10
"""Looks at validation: telling nodes apart comes first, and looks bad until tastes are learned."""


@dataclass(frozen=True, eq=False)
class XSimGCL:
    """score(u, i) = e_u · e_i, each the mean over layers 1 to L, so that a person's vector needs no id of theirs."""

    items: NDArray[np.float32]
    """[N, D] e_i."""
    messages: NDArray[np.float32]
    """[N, D] see UserItemGraph.messages, divided by L."""
    name: str = "xsimgcl"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        dim: int = 64,
        layers: int = 3,
        noise: float = 0.1,
        contrast: float = 0.02,
        temperature: float = 0.15,
        penalty: float = 1e-4,
        epochs: int = 100,
        batch: int = 2048,
        learning_rate: float = 1e-2,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Minimise BPR + contrast · InfoNCE(final, layer 1): equations 9 to 12 of the paper.

        Args:
            layers: L, how far a vector spreads.
            noise: length of the random push of every vector in every layer, in its own orthant.
            contrast: weight of telling a batch's users, and its items, from each other. The paper has 0.2 for a million
                events and more; a hundred thousand learn nothing else for 40 epochs then.
            temperature: of that; lower looks harder at the most alike.
            penalty: weight of half the squared length of the id vectors in a batch, a mean over its pairs.
        """
        check_dim(dim)
        check_layers(layers)
        check_negatives(1, penalty)
        if min(noise, contrast) < 0 or not temperature > 0:
            raise ValueError(
                f"noise is {noise}, contrast {contrast} and temperature {temperature}: give none below 0, "
                "and a temperature above 0"
            )
        graph = UserItemGraph.from_interactions(interactions)
        pairs = Pairs.from_matrix(graph.people)
        with seeded(seed):
            ids = nn.Embedding(sum(graph.people.shape), dim)
            nn.init.xavier_uniform_(ids.weight)

            def epoch() -> Iterator[Tensor]:
                for user, item in pairs.batches(batch):
                    rows = triples(graph, pairs, user, item)
                    noisy = _noisy_layers(graph, ids.weight, layers, noise)
                    final = torch.stack(noisy).mean(dim=0)
                    told_apart = sum(
                        _info_nce(final[nodes], noisy[0][nodes], temperature) for nodes in map(torch.unique, rows[:2])
                    )
                    shrunk = penalty * l2_penalty(*F.embedding(rows, ids.weight))
                    yield triple_loss(final, rows) + contrast * told_apart + shrunk

            return minimise(
                ids,
                epoch,
                lambda: cls._from_layers(graph, graph.layers(ids.weight, layers)),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
                patience=PATIENCE,
            )

    @classmethod
    def _from_layers(cls, graph: UserItemGraph, layers: Sequence[Tensor]) -> Self:
        items = torch.stack(list(layers[1:])).mean(dim=0)[graph.num_users :]
        return cls(items.numpy(), (graph.messages(layers[:-1]) / (len(layers) - 1)).numpy())

    def score(self, histories: Histories) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = history_sums(histories, self.messages) @ self.items.T
        return scores


def _noisy_layers(graph: UserItemGraph, x: Tensor, layers: int, noise: float) -> list[Tensor]:
    """Layers 1 to L of x [U+N, D], each pushed by `noise` before it is propagated further."""
    noisy = []
    for _ in range(layers):
        x = graph.adjacency @ x
        x = x + noise * x.sign() * F.normalize(torch.rand_like(x), dim=1)
        noisy.append(x)
    return noisy


def _info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean -ln of the share that line b of `first` [B, D] has with line b among all lines of `second` [B, D]."""
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits)))
