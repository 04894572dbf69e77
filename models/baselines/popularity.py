"""Popularity: everybody is shown what most people wanted."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions


@dataclass(frozen=True, eq=False)
class Popularity:
    """Scores an item by how many events of positive weight it had in training, whoever asks."""

    counts: NDArray[np.float32]
    """[N] events of positive weight."""
    name: str = "popularity"

    @classmethod
    def fit(cls, interactions: Interactions) -> Self:
        wanted = interactions.item[interactions.weight > 0]
        return cls(np.bincount(wanted, minlength=len(interactions.items)).astype(np.float32))

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return np.tile(self.counts, (len(histories), 1))
