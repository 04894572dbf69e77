"""GF-CF: a linear and an ideal low-pass filter over the graph of people and items (Shen et al., CIKM 2021)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from graph.interactions import Histories, Interactions
from models.baselines.matrix import (
    check_decay,
    inverse_root,
    normalised,
    positive_matrix,
    query_matrix,
    right_singular_vectors,
)


@dataclass(frozen=True, eq=False)
class GFCF:
    """score = q (R~'R~ + alpha D^-1/2 V V' D^1/2), R~ = D_U^-1/2 X D^-1/2 (section 4, "GF-CF").

    V [N, K] are the right singular vectors of R~ with the largest singular values, D the degrees of the items.
    """

    people: csr_array
    """R~ [U, N]"""
    into: NDArray[np.float32]
    """D^-1/2 V [N, K]"""
    out_of: NDArray[np.float32]
    """V' D^1/2 [K, N]"""
    alpha: float
    """Weight of the ideal filter."""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "gf-cf"

    @classmethod
    def fit(cls, interactions: Interactions, *, rank: int = 128, alpha: float = 0.3, decay: float = 1.0) -> Self:
        """Factorise the events of positive weight.

        Args:
            rank: K, how many of the lowest frequencies the ideal filter lets pass.
            alpha: weight of the ideal filter, at least 0; 0 is the linear filter alone.
        """
        check_decay(decay)
        if not alpha >= 0:
            raise ValueError(f"alpha is {alpha}: give at least 0, such as 0.3")
        wanted = positive_matrix(interactions)
        people = normalised(wanted)
        _, vectors = right_singular_vectors(people, rank)
        degrees = wanted.sum(axis=0)
        into = vectors.T * inverse_root(degrees)[:, None]
        return cls(people, into, vectors * np.sqrt(degrees), alpha, decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, len(self.into), self.decay)
        linear = (query @ self.people.T @ self.people).toarray()
        return np.asarray(linear + self.alpha * ((query @ self.into) @ self.out_of), dtype=np.float32)
