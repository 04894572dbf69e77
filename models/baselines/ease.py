"""EASE: a linear item-item model in closed form (Steck, WWW 2019), and how much of a query each event is worth."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_array

from graph.interactions import Histories, Interactions
from models.baselines.matrix import check_decay, positive_matrix, query_matrix


@dataclass(frozen=True, eq=False)
class EASE:
    """score = q B with B = I - P diag(1 / diag P), P = (X'X + lambda I)^-1, so that B has a zero diagonal.

    By the Woodbury identity P = (I - G) / lambda with G = X' K X and K = (X X' + lambda I)^-1, hence off the diagonal
    B_ij = G_ij / (1 - G_jj). Where people are fewer than items no item-item matrix is made: X' K is kept instead.
    """

    smoothed: NDArray[np.float32]
    """G [N, N], or X' K [N, U] where people are fewer."""
    people: csr_array | None
    """X [U, N], or None where `smoothed` is G."""
    gain: NDArray[np.float32]
    """[N] the diagonal of G, in [0, 1)."""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "ease"

    @classmethod
    def fit(cls, interactions: Interactions, *, ridge: float = 300.0, decay: float = 1.0) -> Self:
        """Solve for B from the events of positive weight: min(people, items)^3 operations.

        Args:
            ridge: lambda, at least 1; larger trusts rare items less.
        """
        check_decay(decay)
        if not ridge >= 1:
            raise ValueError(f"ridge is {ridge}: give at least 1; 100 to 1000 suits most data")
        people = positive_matrix(interactions)
        people = csr_array(people[np.diff(people.indptr) > 0])
        if people.shape[0] > people.shape[1]:
            smoothed = _inverse((people.T @ people).toarray(), ridge)
            smoothed *= -ridge
            np.fill_diagonal(smoothed, smoothed.diagonal() + 1)
            return cls(smoothed, None, smoothed.diagonal().copy(), decay)
        smoothed = people.T @ _inverse((people @ people.T).toarray(), ridge)
        gain = np.asarray(people.T.multiply(smoothed).sum(axis=1), dtype=np.float32)
        return cls(smoothed, people, gain, decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return self._apply(query_matrix(histories, len(self.gain), self.decay))

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[len(rows), N] rows of B: what having wanted each of these items adds to the score of every item."""
        ones = np.ones(len(rows), dtype=np.float32)
        return self._apply(csr_array((ones, (np.arange(len(rows)), rows)), shape=(len(rows), len(self.gain))))

    def _apply(self, query: csr_array) -> NDArray[np.float32]:
        scores = query @ self.smoothed
        if self.people is not None:
            scores = scores @ self.people
        person = np.repeat(np.arange(query.shape[0]), np.diff(query.indptr))
        scores[person, query.indices] -= query.data * self.gain[query.indices]
        scores /= 1 - self.gain
        return np.asarray(scores, dtype=np.float32)


def _inverse(gram: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """(gram + ridge I)^-1 through Cholesky in place, in single precision: the ridge keeps it well conditioned."""
    np.fill_diagonal(gram, gram.diagonal() + ridge)
    factor, failed = spotrf(gram.T, lower=True, overwrite_a=True)
    inverse, failed_too = spotri(factor, lower=True, overwrite_c=True)
    if failed or failed_too:
        raise ValueError(f"EASE cannot be solved with ridge {ridge}: give a larger one")
    lower = np.tril(inverse, -1)
    return np.ascontiguousarray(np.tril(inverse) + lower.T)
