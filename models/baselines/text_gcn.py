"""TextGCN: frozen text vectors carried over the graph, nothing trained (Chernov, Wahab and Novitskij, 2025)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions
from models.baselines.matrix import (
    check_decay,
    check_vectors,
    inverse_root,
    normalised,
    positive_matrix,
    query_matrix,
)


@dataclass(frozen=True, eq=False)
class TextGCN:
    """score = cos(e_u, e_i), e the mean of layers 0 .. L (arXiv 2510.12461, "TextGCN").

    Layer 0 of an item is its text vector, of a person the mean of those of the items they wanted; each layer is
    e_u <- sum_i e_i / sqrt(|N_u| |N_i|) and e_i <- sum_u e_u / sqrt(|N_u| |N_i|), as in LightGCN. Items keep their
    layers from the training graph, a person's are made from their history: the same for people of the training part.
    """

    text: NDArray[np.float32]
    """Layer 0 of the items, [N, T] unit vectors or zeros."""
    below: NDArray[np.float32]
    """D^-1/2 (layer 0 + ... + layer L - 1) of the items, [N, T]: what a history adds up for layers 1 .. L."""
    items: NDArray[np.float32]
    """e_i [N, T], unit vectors or zeros."""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "text-gcn"

    @classmethod
    def fit(cls, interactions: Interactions, text: NDArray[np.float32], *, layers: int = 3, decay: float = 1.0) -> Self:
        """Propagate over the events of positive weight.

        Args:
            text: [N, T] text vectors, brought to unit length here; zeros where an item has none.
            layers: L, at least 0; 0 compares texts alone.
        """
        check_decay(decay)
        check_vectors(text, interactions)
        if layers < 0:
            raise ValueError(f"layers is {layers}: give at least 0; 2 or 3 is usual")
        wanted = positive_matrix(interactions)
        graph = normalised(wanted)
        text = _unit(np.asarray(text, dtype=np.float32))
        item: NDArray[np.float32] = text
        user = (wanted @ text) / np.maximum(wanted.sum(axis=1), 1).astype(np.float32)[:, None]
        total, below = text.copy(), np.zeros_like(text)
        for _ in range(layers):
            below += item
            item, user = graph.T @ user, graph @ item
            total += item
        return cls(text, below * inverse_root(wanted.sum(axis=0))[:, None], _unit(total), decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, len(self.text), self.decay)
        root = inverse_root(query.sum(axis=1))[:, None]
        people = root * (root * (query @ self.text) + query @ self.below)
        return np.asarray(_unit(people) @ self.items.T, dtype=np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
