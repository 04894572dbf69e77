"""LEADS_TO: the sparse part of the flagship's score, the largest weights of a linear item-item model."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from graph.interactions import Histories, Interactions
from models.baselines.ease import EASE
from models.baselines.matrix import check_decay, positive_matrix, query_matrix

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class LeadsTo:
    """score = scale * sum over wanted events j of decay^age(j) * weights[j]: EASE with few weights a line."""

    weights: csr_array
    """[N, N]; line j holds what having wanted item j adds to other items."""
    decay: float = 1.0
    """Factor an event loses for each later one of the same person."""
    scale: float = 1.0
    """What the sum is worth beside the dense part of the score."""
    name: str = "leads_to"

    @classmethod
    def fit(cls, interactions: Interactions, *, ridge: float = 300.0, keep: int = 200) -> Self:
        """Solve EASE and keep the `keep` largest weights of each line, by absolute value; untouched items have none."""
        if keep < 1:
            raise ValueError(f"keep is {keep}: give at least 1 weight a line, such as 200")
        num_items = len(interactions.items)
        model = EASE.fit(interactions, ridge=ridge)
        touched = np.unique(positive_matrix(interactions).indices).astype(np.int64)
        lines, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        values = [np.zeros(0, np.float32)]
        for start in range(0, len(touched), _BLOCK):
            rows = touched[start : start + _BLOCK]
            block = model.weights(rows)
            block[np.arange(len(rows)), rows] = 0
            size = min(keep, num_items)
            best = np.argpartition(np.abs(block), num_items - size, axis=1)[:, num_items - size :]
            weights = np.take_along_axis(block, best, axis=1)
            line, place = np.nonzero(np.abs(weights) > 1e-5)
            lines.append(rows[line])
            columns.append(best[line, place])
            values.append(weights[line, place])
        coordinates = (np.concatenate(lines), np.concatenate(columns))
        return cls(csr_array((np.concatenate(values), coordinates), shape=(num_items, num_items)))

    @classmethod
    def empty(cls, num_items: int) -> Self:
        """No weights at all."""
        return cls(csr_array((num_items, num_items), dtype=np.float32))  # type: ignore[arg-type]

    def with_query(self, decay: float, scale: float) -> "LeadsTo":
        """The same weights under another decay and scale."""
        check_decay(decay)
        return LeadsTo(self.weights, decay, scale)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, self.weights.shape[0], self.decay)
        return np.asarray((query @ self.weights).toarray() * np.float32(self.scale), dtype=np.float32)
