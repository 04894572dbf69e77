"""ALS: factors of people and items by weighted squared error (Hu, Koren, Volinsky, ICDM 2008), through `implicit`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from graph.interactions import Histories, Interactions
from models.baselines.matrix import check_decay, positive_matrix, query_matrix


@dataclass(frozen=True, eq=False)
class ALS:
    """score = x_u . y_i; x_u is solved from a person's history as in training (section 4, equation 4).

    A wanted item weighs `confidence` in the squared error where any other weighs 1, as `implicit` counts; it needs
    `pip install isthmus[compare]` to be fitted, nothing more to score.
    """

    items: NDArray[np.float32]
    """Y [N, K]"""
    confidence: float
    """Weight of the error at a wanted item; any other item's is 1."""
    ridge: float
    """Penalty on the squared length of each factor."""
    decay: float = 1.0
    """Factor by which a wanted item's confidence nears 1 for each later event of the same person."""
    name: str = "als"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        rank: int = 64,
        confidence: float = 5.0,
        ridge: float = 30.0,
        iterations: int = 15,
        decay: float = 1.0,
        seed: int = 0,
    ) -> Self:
        """Alternate between people and items; on one thread, so that a seed says all.

        Args:
            rank: K, the length of a factor.
            confidence: above 1 trusts wanted items more than the absence of others.
            ridge: above 0; it grows with confidence.
        Raises: ModuleNotFoundError without `implicit`, ValueError for settings out of range.
        """
        check_decay(decay)
        if rank < 1 or iterations < 1:
            raise ValueError(f"rank is {rank} and iterations {iterations}: give at least 1 of each, such as 64 and 15")
        if not (confidence >= 1 and ridge > 0):
            raise ValueError(
                f"confidence is {confidence} and ridge {ridge}: give a confidence of at least 1 and a ridge above 0"
            )
        from implicit.cpu.als import AlternatingLeastSquares

        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=rank,
                regularization=ridge,
                alpha=confidence,
                iterations=iterations,
                num_threads=1,
                random_state=seed,
            )
            model.fit(csr_matrix(positive_matrix(interactions)), show_progress=False)
        return cls(np.asarray(model.item_factors, dtype=np.float32), confidence, ridge, decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, len(self.items), self.decay)
        everything = self.items.T @ self.items + self.ridge * np.eye(self.items.shape[1], dtype=np.float32)
        people = np.zeros((len(histories), self.items.shape[1]), dtype=np.float32)
        for person, (start, end) in enumerate(zip(query.indptr[:-1], query.indptr[1:], strict=True)):
            wanted = self.items[query.indices[start:end]]
            extra = (self.confidence - 1) * query.data[start:end]
            people[person] = np.linalg.solve(everything + (wanted.T * extra) @ wanted, (1 + extra) @ wanted)
        return people @ self.items.T
