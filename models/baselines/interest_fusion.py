"""Interest fusion: what a person likes on each platform, weighted by how much it says about the platform asked for.

The classical weighted fusion of per-domain interests, with no single source; its exact form is the one written here.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from graph.interactions import Histories, Interactions
from models.baselines.matrix import (
    check_decay,
    check_vectors,
    positive_matrix,
    query_matrix,
    right_singular_vectors,
)


@dataclass(frozen=True, eq=False)
class InterestFusion:
    """score(u, i) = (sum over platforms p of w[p, t] v[u, p]) . z_i for an item i of platform t.

    v[u, p] is the mean of the vectors z of the items that u wanted on p, 0 where there are none. For each t the weights
    w[:, t] are the ridge regression of what people wanted on t (1, and 0 for every other item of t) on v[u, p] . z_i
    for all p; where u did want i, v[u, t] is the mean of the others, or an item would vouch for itself.
    """

    vectors: NDArray[np.float32]
    """z [N, D]"""
    weights: NDArray[np.float32]
    """w [P, P] from source to target platform."""
    item_platform: NDArray[np.int64]
    """[N]"""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "interest-fusion"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        vectors: NDArray[np.float32] | None = None,
        *,
        rank: int = 32,
        ridge: float = 0.01,
        decay: float = 1.0,
    ) -> Self:
        """Fit the weights on the events of positive weight, in closed form.

        Args:
            vectors: z [N, D], such as text vectors; None takes the right singular vectors of the matrix of people and
                items (truncated SVD).
            rank: D where no vectors are given.
            ridge: pulls the weights towards 0, at least 0, as a share of the features' mean square.
        """
        check_decay(decay)
        if not ridge >= 0:
            raise ValueError(f"ridge is {ridge}: give at least 0, such as 0.01")
        if vectors is None:
            _, right = right_singular_vectors(positive_matrix(interactions), rank)
            vectors = np.ascontiguousarray(right.T)
        check_vectors(vectors, interactions)
        vectors = np.asarray(vectors, dtype=np.float32)
        platforms = range(len(interactions.platforms))
        query = query_matrix(interactions.histories(np.arange(len(interactions.users))), len(vectors), decay)
        means = _interests(query, vectors, interactions.item_platform, len(platforms))
        weights = [_fit_weights(query, means, vectors, interactions.item_platform == t, t, ridge) for t in platforms]
        return cls(vectors, np.stack(weights, axis=1), interactions.item_platform, decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, len(self.vectors), self.decay)
        means = _interests(query, self.vectors, self.item_platform, len(self.weights))
        scores = np.empty((len(histories), len(self.vectors)), dtype=np.float32)
        for target, weights in enumerate(self.weights.T):
            items = self.item_platform == target
            scores[:, items] = np.tensordot(weights, means, 1) @ self.vectors[items].T
        return scores


def _interests(
    query: csr_array, vectors: NDArray[np.float32], item_platform: NDArray[np.int64], num_platforms: int
) -> NDArray[np.float32]:
    """v [P, B, D] from the weights of the wanted items [B, N]."""
    means = np.zeros((num_platforms, query.shape[0], vectors.shape[1]), dtype=np.float32)
    for platform in range(num_platforms):
        items = np.flatnonzero(item_platform == platform)
        wanted = csr_array(query[:, items])
        total = wanted.sum(axis=1)
        means[platform] = (wanted @ vectors[items]) / np.where(total > 0, total, 1)[:, None]
    return means


def _fit_weights(
    query: csr_array,
    means: NDArray[np.float32],
    vectors: NDArray[np.float32],
    items: NDArray[np.bool_],
    target: int,
    ridge: float,
) -> NDArray[np.float32]:
    """w[:, target] [P]: the normal equations over all people and items [N] of the target, their own part left out."""
    candidates = vectors[items]
    gram = np.einsum("pud,qud->pq", means @ (candidates.T @ candidates), means, dtype=np.float64)
    pairs = csr_array(query[:, np.flatnonzero(items)]).tocoo()
    vector = candidates[pairs.col]
    seen = np.einsum("ped,ed->pe", means[:, pairs.row], vector).astype(np.float64)
    total = np.bincount(pairs.row, pairs.data, minlength=query.shape[0])[pairs.row]
    others = total - pairs.data
    own = (total * seen[target] - pairs.data * (vector**2).sum(axis=1)) / np.where(others > 1e-6, others, 1)
    unseen = seen.copy()
    unseen[target] = np.where(others > 1e-6, own, 0)
    gram += unseen @ unseen.T - seen @ seen.T
    gram += np.eye(len(gram)) * max(ridge * np.trace(gram) / len(gram), 1e-12)
    return np.linalg.solve(gram, unseen.sum(axis=1)).astype(np.float32)
