"""Interactions: the events of a snapshot as columns of rows, person by person in the order they happened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graph.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Interactions:
    """E events, sorted by (user, at, sequence, event_id); parts of a whole share its vocabularies and so its rows."""

    user: NDArray[np.int64]
    """[E] rows of `users`."""
    item: NDArray[np.int64]
    """[E] rows of `items`."""
    type: NDArray[np.int64]
    """[E] positions in `event_types`."""
    at: NDArray[np.int64]
    """[E] seconds since 1970, UTC."""
    value: NDArray[np.float32]
    """[E] ratings, counts … as the source gives them, NaN where it gives none; where a mapping says per_person, how far
    a value is above what is expected of its person, from -1 to 1 (graph.preference)."""
    weight: NDArray[np.float32]
    """[E] how much each event says that the person wants the item; negative for a dislike."""
    users: Vocabulary
    items: Vocabulary
    event_types: Sequence[str]
    platforms: Sequence[str]
    item_platform: NDArray[np.int64]
    """[N] position in `platforms` of each item."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def platform(self) -> NDArray[np.int64]:
        """[E] position in `platforms` of each event's item."""
        return self.item_platform[self.item]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """[U+1] the events of user row u are offsets[u]:offsets[u+1]."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))

    def where(self, mask: NDArray[np.bool_]) -> "Interactions":
        """The events where mask [E] is true, over the same vocabularies."""
        return replace(
            self,
            user=self.user[mask],
            item=self.item[mask],
            type=self.type[mask],
            at=self.at[mask],
            value=self.value[mask],
            weight=self.weight[mask],
        )

    def histories(self, users: NDArray[np.int64]) -> "Histories":
        """The events of these users, [B] rows."""
        starts, ends = self.offsets[users], self.offsets[users + 1]
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Histories(offsets, self.item[index], self.type[index], self.at[index], self.weight[index], users)


def join(first: Interactions, second: Interactions) -> Interactions:
    """Both parts as one, sorted by (user, at), ties in the order given; they must share their vocabularies."""
    if first.users is not second.users or first.items is not second.items:
        raise ValueError("these interactions count rows over different vocabularies: join parts of one whole")
    order = np.lexsort((np.concatenate([first.at, second.at]), np.concatenate([first.user, second.user])))
    return replace(
        first,
        user=np.concatenate([first.user, second.user])[order],
        item=np.concatenate([first.item, second.item])[order],
        type=np.concatenate([first.type, second.type])[order],
        at=np.concatenate([first.at, second.at])[order],
        value=np.concatenate([first.value, second.value])[order],
        weight=np.concatenate([first.weight, second.weight])[order],
    )


@dataclass(frozen=True, eq=False)
class Histories:
    """What B people did, oldest first: the events of person b are offsets[b]:offsets[b+1] of each column."""

    offsets: NDArray[np.int64]
    """[B+1]"""
    item: NDArray[np.int64]
    """[E] rows of items."""
    type: NDArray[np.int64]
    """[E] positions in event_types."""
    at: NDArray[np.int64]
    """[E] seconds since 1970, UTC."""
    weight: NDArray[np.float32]
    """[E]"""
    users: NDArray[np.int64] | None = None
    """[B] rows of these people among the users of the interactions they come from; None from elsewhere."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def ages(self) -> NDArray[np.int64]:
        """[E] how many events of the same person came after each one; 0 for the newest."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - 1 - np.arange(len(self.item))

    def where(self, mask: NDArray[np.bool_]) -> "Histories":
        """The events where mask [E] is true, of the same people."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return replace(
            self,
            offsets=kept[self.offsets],
            item=self.item[mask],
            type=self.type[mask],
            at=self.at[mask],
            weight=self.weight[mask],
        )
