"""ItemKNN: an item is scored by its cosine to the items a person wanted (Sarwar et al., WWW 2001)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from graph.interactions import Histories, Interactions
from models.baselines.matrix import check_decay, positive_matrix, query_matrix

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class ItemKNN:
    """score(j) = sum over wanted items i of s(i, j), with s kept for the nearest neighbours of each i."""

    similarity: csr_array
    """[N, N] row i holds the neighbours of item i; its diagonal is empty."""
    decay: float = 1.0
    """Factor a wanted item loses for each later event of the same person."""
    name: str = "item-knn"

    @classmethod
    def fit(
        cls, interactions: Interactions, *, neighbours: int = 100, shrinkage: float = 10.0, decay: float = 1.0
    ) -> Self:
        """Cosine with shrinkage: s(i, j) = |both| / (sqrt(|i| |j|) + shrinkage), people counted.

        Args:
            neighbours: how many of the most similar items each item keeps.
            shrinkage: pulls similarities that few people support towards 0.
        """
        check_decay(decay)
        if neighbours < 1 or shrinkage < 0:
            raise ValueError(
                f"neighbours is {neighbours} and shrinkage {shrinkage}: give at least 1 and no negative shrinkage"
            )
        people = positive_matrix(interactions)
        by_item = csr_array(people.T)
        norms = np.sqrt(by_item.sum(axis=1))
        blocks = [
            _nearest(csr_array(by_item[start : start + _ROWS_AT_ONCE] @ people), start, norms, neighbours, shrinkage)
            for start in range(0, by_item.shape[0], _ROWS_AT_ONCE)
        ]
        return cls(csr_array(vstack(blocks)), decay)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, self.similarity.shape[0], self.decay)
        return np.asarray((query @ self.similarity).toarray(), dtype=np.float32)


def _nearest(
    both: csr_array, first_row: int, norms: NDArray[np.float32], neighbours: int, shrinkage: float
) -> csr_array:
    """Turn rows of co-occurrence counts into similarities, the nearest of each row kept."""
    counts = both.tocoo()
    other = counts.row + first_row != counts.col
    row, column = counts.row[other], counts.col[other]
    similarity = counts.data[other] / (norms[row + first_row] * norms[column] + shrinkage)
    order = np.lexsort((column, -similarity, row))
    row = row[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = order[place < neighbours]
    return csr_array((similarity[kept].astype(np.float32), (row[place < neighbours], column[kept])), shape=both.shape)
