"""EASE: a linear item-item model in closed form (Steck, WWW 2019), and how much of a query each event is worth."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from graph.interactions import Histories, Interactions
from models.baselines.matrix import check_decay, positive_matrix, query_matrix
from models.baselines.ridge import Smoother


@dataclass(frozen=True, eq=False)
class EASE:
    """score = q B with B = I - P diag(1 / diag P), P = (X'X + lambda I)^-1, so that B has a zero diagonal.

    With P = (I - G) / lambda this is B_ij = G_ij / (1 - G_jj) off the diagonal.
    """

    smoother: Smoother
    """G"""
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
        return cls(Smoother.fit(positive_matrix(interactions), ridge), decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return self._apply(query_matrix(histories, len(self.smoother.diagonal), self.decay))

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[len(rows), N] rows of B: what having wanted each of these items adds to the score of every item."""
        shape = (len(rows), len(self.smoother.diagonal))
        return self._apply(csr_array((np.ones(len(rows), dtype=np.float32), (np.arange(len(rows)), rows)), shape=shape))

    def _apply(self, query: csr_array) -> NDArray[np.float32]:
        scores = self.smoother.smooth(query)
        person = np.repeat(np.arange(query.shape[0]), np.diff(query.indptr))
        scores[person, query.indices] -= query.data * self.smoother.diagonal[query.indices]
        scores /= 1 - self.smoother.diagonal
        return scores
