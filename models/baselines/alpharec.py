"""AlphaRec: frozen text vectors, mapped and smoothed over the graph of who wanted what (Sheng et al., ICLR 2025)."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from models.baselines.fitting import Pairs, Validate, check_dim, minimise, seeded, wanted_among
from models.baselines.lightgcn import UserItemGraph, check_layers
from models.baselines.matrix import check_vectors, query_matrix
from models.baselines.people import history_sums, row_means
from models.losses import sampled_softmax_loss


@dataclass(frozen=True, eq=False)
class AlphaRec:
    """score(u, i) = cos(e_u, e_i), each the mean over layers 0 to L; layer 0 of a person is f(mean of their texts).

    Nothing is learned of a person or an item but f, so everybody is folded in exactly.
    """

    network: nn.Sequential
    """f: [.., T] -> [.., D], in evaluation mode."""
    text: NDArray[np.float32]
    """[N, T]"""
    items: NDArray[np.float32]
    """[N, D] e_i / |e_i|."""
    messages: NDArray[np.float32]
    """[N, D] see UserItemGraph.messages."""
    name: str = "alpharec"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        text: NDArray[np.float32],
        *,
        dim: int = 64,
        layers: int = 2,
        negatives: int = 256,
        temperature: float = 0.15,
        epochs: int = 200,
        batch: int = 4096,
        learning_rate: float = 1e-3,
        seed: int = 0,
        validate: Validate | None = None,
    ) -> Self:
        """Minimise InfoNCE of cosines: equations 1 to 5 of the paper.

        Args:
            text: [N, T] a vector of each item's title, zeros where there is none.
            layers: L, how far a vector spreads.
            negatives: items drawn uniformly and shared by a batch; those that a person wanted do not count for them.
            temperature: lower looks harder at the negatives that score best.
        """
        check_dim(dim)
        check_layers(layers)
        check_vectors(text, interactions)
        if negatives < 1 or not temperature > 0:
            raise ValueError(f"negatives is {negatives} and temperature {temperature}: give at least 1 and more than 0")
        graph = UserItemGraph.from_interactions(interactions)
        pairs = Pairs.from_matrix(graph.people)
        nodes = torch.from_numpy(np.concatenate([row_means(graph.people, text), text]))
        with seeded(seed):
            width = text.shape[1]
            network = nn.Sequential(
                nn.Linear(width, max(1, width // 2)), nn.LeakyReLU(), nn.Linear(max(1, width // 2), dim)
            )

            def epoch() -> Iterator[Tensor]:
                for user, item in pairs.batches(batch):
                    sampled = torch.randint(pairs.num_items, (negatives,))
                    final = F.normalize(torch.stack(graph.layers(network(nodes), layers)).mean(dim=0), dim=1)
                    people, items = final[user], final[graph.num_users :]
                    positive = (people * F.embedding(item, items)).sum(dim=1) / temperature
                    negative = people @ items[sampled].T / temperature
                    negative = negative.masked_fill(wanted_among(graph.people, user, sampled), -torch.inf)
                    yield sampled_softmax_loss(positive, negative, negatives)

            return minimise(
                network,
                epoch,
                lambda: cls._from_network(network, text, graph, graph.layers(network(nodes), layers)),
                epochs=epochs,
                learning_rate=learning_rate,
                validate=validate,
            )

    @classmethod
    def _from_network(
        cls, network: nn.Sequential, text: NDArray[np.float32], graph: UserItemGraph, layers: Sequence[Tensor]
    ) -> Self:
        items = F.normalize(torch.stack(list(layers)).sum(dim=0)[graph.num_users :], dim=1)
        return cls(deepcopy(network), text, items.numpy(), graph.messages(layers[:-1]).numpy())

    def score(self, histories: Histories) -> NDArray[np.float32]:
        with torch.inference_mode():
            own = self.network(torch.from_numpy(row_means(query_matrix(histories, len(self.text)), self.text)))
            people = F.normalize(own + torch.from_numpy(history_sums(histories, self.messages)), dim=1)
        scores: NDArray[np.float32] = people.numpy() @ self.items.T
        return scores
