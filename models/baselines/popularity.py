"""Popularity: everybody is shown what most people wanted, in all, lately, or as a share of its platform."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories, Interactions

_DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class Popularity:
    """Scores an item by its training events of positive weight, whoever asks."""

    counts: NDArray[np.float32]
    """[N] events, each weighted by its age, or shares of the platform's."""
    name: str = "popularity"

    @classmethod
    def fit(
        cls, interactions: Interactions, *, half_life_days: float | None = None, per_platform: bool = False
    ) -> Self:
        """Count.

        Args:
            half_life_days: an event is worth half for every so many days that it is older than the newest; None counts
                all alike.
            per_platform: divide by the events of the item's platform: matters where platforms are ranked together.
        """
        if half_life_days is not None and not half_life_days > 0:
            raise ValueError(f"half_life_days is {half_life_days}: give more than 0, such as 30, or None to count all")
        wanted = interactions.where(interactions.weight > 0)
        worth, name = np.ones(len(wanted)), "popularity"
        if half_life_days is not None and len(wanted):
            worth = np.exp2((wanted.at - wanted.at.max()) / (_DAY_S * half_life_days))
            name = "recent popularity"
        counts = np.bincount(wanted.item, worth, minlength=len(wanted.items)).astype(np.float64)
        if per_platform:
            events = np.bincount(wanted.item_platform, counts, minlength=len(wanted.platforms))
            counts /= np.where(events > 0, events, 1)[wanted.item_platform]
            name += " per platform"
        return cls(counts.astype(np.float32), name)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return np.tile(self.counts, (len(histories), 1))
