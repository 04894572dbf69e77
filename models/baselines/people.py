"""People: the vector that somebody was given in training, or one that is folded in from what they did."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from graph.interactions import Histories
from models.baselines.matrix import query_matrix


@dataclass(frozen=True, eq=False)
class TrainedUsers:
    """What a model learned of each user of its training."""

    vectors: NDArray[np.float32]
    """[U, D]"""
    known: NDArray[np.bool_]
    """[U] true where the user had an event to learn from."""

    def vectors_of(self, histories: Histories, folded: NDArray[np.float32]) -> NDArray[np.float32]:
        """[B, D] the trained vector of everybody who has one, `folded` [B, D] of everybody else.

        A trained vector does not change with what the person did since: so it is in the published figures.
        """
        if histories.users is None:
            return folded
        known = self.known[histories.users]
        return np.where(known[:, None], self.vectors[histories.users], folded)


def history_sums(histories: Histories, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, D] the vectors [N, D] of the n distinct items each person wanted, summed and divided by sqrt(n)."""
    return row_sums(query_matrix(histories, len(items)), items)


def row_sums(people: csr_array, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same for people [B, N] with an entry for each wanted item."""
    counts = np.maximum(np.diff(people.indptr), 1).astype(np.float32)
    return np.asarray((people @ items) / np.sqrt(counts)[:, None], dtype=np.float32)


def row_means(people: csr_array, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, D] the mean over the vectors [N, D] of the items with an entry in each row of people [B, N], or zeros."""
    counts = np.maximum(np.diff(people.indptr), 1).astype(np.float32)
    return np.asarray((people @ items) / counts[:, None], dtype=np.float32)
