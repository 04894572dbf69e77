"""Figures that tell whether events can be learned from: degrees, what is cold, and how platforms overlap."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph.interactions import Interactions
from graph.store import Store


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


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures of all that a store holds."""

    graph: GraphStats
    by_day: Sequence[tuple[str, date, int]]
    """Platform, day in UTC and the events on it, sorted; without those that have no time."""
    undated: Sequence[tuple[str, int]]
    """Platform and its events at 1970-01-01T00:00Z exactly, where a source that knows no times puts them."""
    people_of: Sequence[tuple[int, int]]
    """How many events and how many people have so many, sorted."""


def store_stats(store: Store) -> StoreStats:
    """Figures of a store, streamed: memory grows with accounts, items and days, and not with events."""
    by_account, by_item, by_day = _Sums("account", "platform"), _Sums("item", "platform"), _Sums("platform", "at")
    types = Counter[str]()
    for type in store.event_types():
        for batch in store.read_events(type):
            types[type] += len(batch)
            platform = pc.struct_field(pc.extract_regex(batch["item"], "^(?P<platform>[^:]*):"), "platform")
            day = pc.floor_temporal(batch["at"], unit="day")
            # What has no time is at the first instant of a day that others are on: it gets one that no day begins at.
            at = pc.if_else(pc.equal(batch["at"], _EPOCH), pa.scalar(_UNDATED, batch["at"].type), day)
            rows = pa.table({"account": batch["account"], "item": batch["item"], "platform": platform, "at": at})
            for sums in (by_account, by_item, by_day):
                sums.add(rows)
    user_of: dict[str, str] = {}
    for batch in store.read_links():
        user_of.update(zip(batch["account"].to_pylist(), batch["user"].to_pylist(), strict=True))
    people: dict[str, Counter[str]] = {}
    everybody = Counter[str]()
    for account, platform, events in by_account.total():
        user = user_of.get(account, account)
        people.setdefault(platform, Counter())[user] += events
        everybody[user] += events
    warm: dict[str, list[int]] = {}
    for _, platform, events in by_item.total():
        warm.setdefault(platform, []).append(events)
    items = Counter[str]()
    for batch in store.read_nodes("Item"):
        items.update(batch["platform"].to_pylist())
    names = sorted({*items, *warm})
    platforms = tuple(
        PlatformStats(
            platform=name,
            items=items[name],
            people=len(people.get(name, ())),
            events=sum(warm.get(name, ())),
            cold_items=items[name] - len(warm.get(name, ())),
            per_item=_spread(np.array(warm.get(name, ()), np.int64)),
            per_person=_spread(np.array([*people.get(name, Counter[str]()).values()], np.int64)),
        )
        for name in names
    )
    members = {name: people.get(name, Counter[str]()).keys() for name in names}
    graph = GraphStats(
        people=len(everybody),
        items=items.total(),
        events=types.total(),
        event_types=tuple(sorted(types.items())),
        per_person=_spread(np.array([*everybody.values()], np.int64)),
        platforms=platforms,
        overlaps=tuple(
            _shared(p, q, len(members[p] & members[q]), len(members[p]), len(members[q]))
            for p, q in combinations(names, 2)
        ),
    )
    days = sorted(by_day.total())
    return StoreStats(
        graph,
        by_day=tuple((platform, at.date(), events) for platform, at, events in days if at != _UNDATED),
        undated=tuple((platform, events) for platform, at, events in days if at == _UNDATED),
        people_of=tuple(sorted(Counter(everybody.values()).items())),
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNDATED: Final = _EPOCH - timedelta(microseconds=1)
_HELD: Final = 1_000_000
"""Partial sums that are held, beside the sum so far, before they are summed up."""


class _Sums:
    """Events by two columns, over tables that come one by one."""

    def __init__(self, *by: str) -> None:
        self._by = list(by)
        self._tables: list[pa.Table] = []
        self._held = 0

    def add(self, rows: pa.Table) -> None:
        counted = rows.select(self._by).group_by(self._by).aggregate([([], "count_all")])
        self._tables.append(counted.rename_columns([*self._by, "events"]))
        self._held += len(counted)
        if self._held > _HELD:
            self._tables, self._held = [self._summed()], 0

    def total(self) -> Iterator[tuple[Any, ...]]:
        """The columns and how many events there are with them."""
        if self._tables:
            for batch in self._summed().to_batches(10_000):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _summed(self) -> pa.Table:
        summed = pa.concat_tables(self._tables).group_by(self._by).aggregate([("events", "sum")])
        return summed.rename_columns([*self._by, "events"])


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
    return _shared(platforms[p], platforms[q], both, len(people[p]), len(people[q]))


def _shared(first: str, second: str, both: int, of_first: int, of_second: int) -> Overlap:
    smaller = min(of_first, of_second)
    return Overlap(first, second, both, both / smaller if smaller else 0.0)


def _degrees(rows: NDArray[np.int64]) -> Degrees:
    return _spread(np.unique(rows, return_counts=True)[1])


def _spread(counts: NDArray[np.int64]) -> Degrees:
    if not len(counts):
        return Degrees(0.0, 0.0, 0)
    return Degrees(float(counts.mean()), float(np.median(counts)), int(counts.max()))
