"""Figures that tell whether events can be learned from: degrees, what is cold, and how platforms overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Interactions


@dataclass(frozen=True, slots=True)
class Degrees:
    """How many events each of some nodes has."""

    mean: float
    median: float
    highest: int

    def __str__(self) -> str:
        return f"mean {self.mean:.1f}, median {self.median:g}, highest {self.highest:,}"


@dataclass(frozen=True, slots=True)
class PlatformStats:
    """One platform."""

    platform: str
    items: int
    people: int
    """With an event on it."""
    events: int
    cold_items: int
    """Without any event: only text and knowledge tell them apart."""
    per_item: Degrees
    """Of the items with an event."""
    per_person: Degrees

    @property
    def cold_share(self) -> float:
        return self.cold_items / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """People with events on both of two platforms: what joins the islands."""

    first: str
    second: str
    people: int
    share: float
    """Of the people of the smaller one."""


@dataclass(frozen=True, slots=True)
class GraphStats:
    """What `stats` found; printed, it is a report to read."""

    people: int
    items: int
    events: int
    event_types: Sequence[tuple[str, int]]
    per_person: Degrees
    platforms: Sequence[PlatformStats]
    overlaps: Sequence[Overlap]

    def __str__(self) -> str:
        types = ", ".join(f"{type} {count:,}" for type, count in self.event_types) or "none"
        lines = [
            f"{self.people:,} people · {self.items:,} items · {self.events:,} events ({types})",
            f"events of a person: {self.per_person}",
            "",
            f"{'platform':<20} {'items':>9} {'cold':>6} {'people':>9} {'events':>11}   events of a warm item",
        ]
        lines += [
            f"{each.platform:<20} {each.items:>9,} {each.cold_share:>6.1%} {each.people:>9,} {each.events:>11,}"
            f"   {each.per_item}"
            for each in self.platforms
        ]
        lines += [
            f"{each.first} and {each.second} share {each.people:,} people, {each.share:.1%} of the smaller one's"
            for each in self.overlaps
        ]
        return "\n".join(lines)


def stats(interactions: Interactions) -> GraphStats:
    """Figures about events and the items that are there to be recommended; without events they are 0."""
    people = [np.unique(interactions.user[interactions.platform == p]) for p in range(len(interactions.platforms))]
    counts = np.bincount(interactions.type, minlength=len(interactions.event_types))
    return GraphStats(
        people=len(np.unique(interactions.user)),
        items=len(interactions.items),
        events=len(interactions),
        event_types=tuple((type, int(count)) for type, count in zip(interactions.event_types, counts, strict=True)),
        per_person=_degrees(interactions.user),
        platforms=tuple(_platform(interactions, p) for p in range(len(interactions.platforms))),
        overlaps=tuple(_overlap(interactions.platforms, p, q, people) for p, q in combinations(range(len(people)), 2)),
    )


def _platform(interactions: Interactions, p: int) -> PlatformStats:
    here = interactions.where(interactions.platform == p)
    items = int((interactions.item_platform == p).sum())
    warm = len(np.unique(here.item))
    return PlatformStats(
        platform=interactions.platforms[p],
        items=items,
        people=len(np.unique(here.user)),
        events=len(here),
        cold_items=items - warm,
        per_item=_degrees(here.item),
        per_person=_degrees(here.user),
    )


def _overlap(platforms: Sequence[str], p: int, q: int, people: Sequence[NDArray[np.int64]]) -> Overlap:
    both = len(np.intersect1d(people[p], people[q], assume_unique=True))
    smaller = min(len(people[p]), len(people[q]))
    return Overlap(platforms[p], platforms[q], both, both / smaller if smaller else 0.0)


def _degrees(rows: NDArray[np.int64]) -> Degrees:
    if not len(rows):
        return Degrees(0.0, 0.0, 0)
    counts = np.unique(rows, return_counts=True)[1]
    return Degrees(float(counts.mean()), float(np.median(counts)), int(counts.max()))
