"""Columns of events: what many events are written from at once, without an object for each."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any, Final, Self

from graph.keys import AccountKey, ItemKey
from graph.records import Event, canonical_json
from graph.stored import EPOCH, MICROSECOND, instant, plain


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Events as columns of one length. Whoever makes them has checked what `Event` checks."""

    event_id: Sequence[str]
    type: Sequence[str]
    account: Sequence[AccountKey]
    item: Sequence[ItemKey]
    at: Sequence[int]
    """Microseconds since 1970, UTC."""
    weight: Sequence[float]
    value: Sequence[float | None]
    sequence: Sequence[int | None]
    context: Sequence[str]
    """As `canonical_json` writes it."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """The columns of records; raises RecordError for a context that stores cannot keep."""
        rows = [
            (
                event.event_id,
                event.type,
                event.account,
                event.item,
                (event.at - EPOCH) // MICROSECOND,
                event.weight,
                event.value,
                event.sequence,
                canonical_json(plain(event.context)) if event.context else "{}",
            )
            for event in events
        ]
        return cls(*zip(*rows, strict=True)) if rows else cls(*([()] * len(fields(cls))))

    def __len__(self) -> int:
        return len(self.event_id)

    def columns(self) -> Sequence[Sequence[Any]]:
        """The columns, in the order of the fields."""
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, rows: Sequence[int]) -> "EventColumns":
        """These rows alone, in this order."""
        if len(rows) < 2:  # itemgetter of one place gives no tuple
            return EventColumns(*([column[row] for row in rows] for column in self.columns()))
        return EventColumns(*map(itemgetter(*rows), self.columns()))

    def parts(self, most: int) -> "Iterator[EventColumns]":
        """All rows in order, at most so many at once."""
        for start in range(0, len(self), most):
            whole = len(self) <= most
            yield self if whole else EventColumns(*(column[start : start + most] for column in self.columns()))

    def events(self) -> Iterator[Event]:
        """The same as records."""
        for id, type, account, item, at, weight, value, sequence, context in zip(*self.columns(), strict=True):
            said = {} if context == "{}" else json.loads(context)
            yield Event(id, type, account, item, instant(at), weight, value, sequence, said)


def event_digests(
    type: Iterable[str],
    account: Iterable[AccountKey],
    item: Iterable[ItemKey],
    at: Sequence[int],
    sequence: Iterable[int | None],
) -> list[str]:
    """What `event_digest` says of each row; `at` in microseconds since 1970."""
    instants = {micros: f"{micros / 1_000_000:.6f}" for micros in set(at)}
    orders = ("" if number is None else str(number) for number in sequence)
    texts = map("\x1f".join, zip(type, account, item, map(instants.__getitem__, at), orders, strict=True))
    return list(map(_digest, texts))


_EMPTY: Final = hashlib.blake2b(digest_size=16)


def _digest(text: str) -> str:
    found = _EMPTY.copy()  # cheaper than to begin anew
    found.update(text.encode())
    return found.hexdigest()
