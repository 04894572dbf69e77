"""Events: row → event, or the reason why not; and many rows → columns, each distinct text of a column read once."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import compress
from typing import Any, Final

from graph.columns import EventColumns, event_digests
from graph.keys import MAX_KEY_LENGTH
from graph.records import Attributes, Event, canonical_json, event_digest
from graph.stored import EPOCH, MICROSECOND, plain
from ingest.errors import IngestError
from ingest.mapping import Events, Mapping, TypeRule, ValueRule
from ingest.parse import (
    Keyring,
    Refused,
    Rejected,
    Values,
    account_key,
    attributes_reader,
    instant_reader,
    item_key,
    platform_reader,
    refuse,
)
from ingest.rules import Rule

_CACHED: Final = 200_000
"""Distinct texts of a column whose meaning is held; at this many the cache begins anew, so memory has a bound."""

_UNREADABLE: Final[Any] = object()


def event_parser(
    section: Events, mapping: Mapping, columns: Sequence[str], keyring: Keyring, *, latest: datetime | None = None
) -> Callable[[Values], Event | Rejected]:
    """Compile the parser of a file of events; one that happened after `latest` is a bad row."""
    platform_of = platform_reader(mapping.platform, columns)
    account_at, item_at = columns.index(section.account), columns.index(section.item)
    constant = section.type.constant
    type_of = _event_type(section.type, columns)
    at_of = instant_reader(section.at, columns, latest=latest) if section.at else lambda _: EPOCH
    value_of = _value(section.value, columns) if section.value else None
    sequence_of = _sequence(columns.index(section.sequence)) if section.sequence else None
    context_of = attributes_reader(section.context, columns)
    marks = section.value.marks if section.value else {}
    id_at = columns.index(section.id) if section.id else None
    accounts_of, items_of = keyring.accounts, keyring.items
    only = mapping.platform.name
    known_accounts, known_items = (accounts_of(only), items_of(only)) if only else ({}, {})

    def parse(values: Values) -> Event | Rejected:
        try:
            raw_account, raw_item = values[account_at], values[item_at]
            platform = only or platform_of(values)
            accounts, items = (known_accounts, known_items) if only else (accounts_of(platform), items_of(platform))
            account = accounts.get(raw_account) or account_key(keyring, platform, raw_account, "account")
            item = items.get(raw_item) or item_key(keyring, platform, raw_item, "item")
            type, weight = constant or type_of(values)
            at = at_of(values)
            sequence = None if sequence_of is None else sequence_of(values)
            value = None
            if value_of is not None:
                value, sign = value_of(values)
                weight *= sign
            if id_at is None:
                event_id = event_digest(type, account, item, at, sequence)
            else:
                event_id = _event_id(platform, values[id_at].strip())
            context = context_of(values)
            if marks and value is not None:
                context = {**context, **marks}
            return Event(event_id, type, account, item, at, weight, value, sequence, context)
        except Refused as reject:
            return reject.reason

    return parse


def event_columns_parser(
    section: Events, mapping: Mapping, columns: Sequence[str], keyring: Keyring, *, latest: datetime | None = None
) -> Callable[[Sequence[Values]], tuple[EventColumns, list[tuple[int, Rejected]]]]:
    """Compile the parser of many rows: it finds what `event_parser` finds, which it asks what is wrong with a row.

    Returns: a function of rows that gives the events among them, in order, and the places of the others with reasons.
    """
    parse_row = event_parser(section, mapping, columns, keyring, latest=latest)
    readers = _Readers(section, mapping, columns, keyring, latest)

    def parse(rows: Sequence[Values]) -> tuple[EventColumns, list[tuple[int, Rejected]]]:
        if not rows:
            return EventColumns.of(()), []
        found = readers.columns(rows)
        unreadable = {at for column in found if _UNREADABLE in column for at in _places(column)}
        if unreadable:
            taken = [at not in unreadable for at in range(len(rows))]
            found = [list(compress(column, taken)) for column in found]
        events = readers.events(found, list(compress(rows, taken)) if unreadable else rows)
        return events, [(at, _reason(parse_row(rows[at]))) for at in sorted(unreadable)]

    return parse


class _Readers:
    """What reads each column of a file of events."""

    def __init__(
        self, section: Events, mapping: Mapping, columns: Sequence[str], keyring: Keyring, latest: datetime | None
    ) -> None:
        def of(column: str | None, reader: Callable[[Values], Any]) -> "tuple[int, _Once]":
            return columns.index(column or ""), _Once(reader)

        rule, self._section, self._only = mapping.platform, section, mapping.platform.name
        self._account_at, self._item_at = columns.index(section.account), columns.index(section.item)
        self._id_at = columns.index(section.id) if section.id else None
        self._keyring = keyring
        self._platform = None if self._only else of(rule.column, platform_reader(rule, [rule.column or ""]))
        self._constant = section.type.constant
        self._type = (
            None if self._constant else of(section.type.column, _event_type(section.type, [section.type.column or ""]))
        )
        at, value = section.at, section.value
        self._instant = of(at.column, _micros(instant_reader(at, [at.column], latest=latest))) if at else None
        self._value = of(value.column, _value(value, [value.column])) if value else None
        self._sequence = of(section.sequence, _sequence(0)) if section.sequence else None
        self._context = attributes_reader(section.context, columns)
        self._marks: Attributes = value.marks if value else {}

    def columns(self, rows: Sequence[Values]) -> list[Sequence[Any]]:
        """Account, item, type with weight, instant, value with sign, sequence and id of each row."""
        texts = list(zip(*rows, strict=True))

        def read(column: "tuple[int, _Once] | None", otherwise: Any) -> list[Any]:
            return [otherwise] * len(rows) if column is None else column[1].all(texts[column[0]])

        platforms = read(self._platform, self._only)
        return [
            self._keys(self._keyring.accounts, platforms, texts[self._account_at], account_key),
            self._keys(self._keyring.items, platforms, texts[self._item_at], item_key),
            read(self._type, self._constant),
            read(self._instant, 0),
            read(self._value, (None, 1)),
            read(self._sequence, None),
            () if self._id_at is None else list(map(_id_or_not, platforms, texts[self._id_at])),
        ]

    def events(self, found: Sequence[Sequence[Any]], rows: Sequence[Values]) -> EventColumns:
        """The columns of rows that are all readable."""
        accounts, items, typed, instants, valued, sequences, ids = found
        types = [type for type, _ in typed]
        weights = [weight for _, weight in typed]
        values = [value for value, _ in valued]
        if self._value is not None:
            weights = [weight * sign for weight, (_, sign) in zip(weights, valued, strict=True)]
        if self._id_at is None:
            ids = event_digests(types, accounts, items, instants, sequences)
        contexts: Sequence[str] = ["{}"] * len(rows)
        if self._section.context or self._marks:
            contexts = [self._said(row, value) for row, value in zip(rows, values, strict=True)]
        return EventColumns(ids, types, accounts, items, instants, weights, values, sequences, contexts)

    def _said(self, row: Values, value: float | None) -> str:
        said = self._context(row)
        return canonical_json(plain({**said, **self._marks} if value is not None else said))

    def _keys(
        self,
        known: Callable[[str], dict[str, Any]],
        platforms: Sequence[Any],
        raw: Sequence[str],
        make: Callable[[Keyring, str, str, str], Any],
    ) -> list[Any]:
        if self._only:
            there = known(self._only)
            found = {
                text: there.get(text) or _or_not(make, self._keyring, self._only, text, "")
                for text in dict.fromkeys(raw)
            }
            return list(map(found.__getitem__, raw))
        pairs = {
            pair: _UNREADABLE if pair[0] is _UNREADABLE else _or_not(make, self._keyring, *pair, "")
            for pair in dict.fromkeys(zip(platforms, raw, strict=True))
        }
        return list(map(pairs.__getitem__, zip(platforms, raw, strict=True)))


class _Once(dict[str, Any]):
    """What each distinct text of a column means, found out once."""

    def __init__(self, read: Callable[[Values], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> Any:
        self[text] = found = _or_not(self._read, (text,))
        return found

    def all(self, texts: Sequence[str]) -> list[Any]:
        """The meaning of each text."""
        if len(self) > _CACHED:
            self.clear()
        return list(map(self.__getitem__, texts))


def _or_not(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except Refused:
        return _UNREADABLE


def _id_or_not(platform: Any, text: str) -> Any:
    return _UNREADABLE if platform is _UNREADABLE else _or_not(_event_id, platform, text.strip())


def _micros(read: Callable[[Values], datetime]) -> Callable[[Values], int]:
    return lambda values: (read(values) - EPOCH) // MICROSECOND


def _places(column: Sequence[Any]) -> list[int]:
    return [at for at, found in enumerate(column) if found is _UNREADABLE]


def _reason(found: Event | Rejected) -> Rejected:
    if isinstance(found, Event):
        raise IngestError(
            f"event {found.event_id} is read in one way and not in another: a fault of Isthmus, report it"
        )
    return found


def _event_id(platform: str, raw: str) -> str:
    if not raw:
        refuse("id", "", "is empty", Rule.EMPTY)
    if len(raw) + len(platform) >= MAX_KEY_LENGTH:
        refuse("id", raw, f"has {len(raw)} characters: an event's id has at most {MAX_KEY_LENGTH}", Rule.KEY_FORM)
    return f"{platform}:{raw}"


def _event_type(rule: TypeRule, columns: Sequence[str]) -> Callable[[Values], tuple[str, float]]:
    if (constant := rule.constant) is not None:
        return lambda _: constant
    at = columns.index(rule.column or "")
    types = {value: (to.as_, to.resolved_weight) for value, to in rule.values.items()}

    def type_of(values: Values) -> tuple[str, float]:
        found = types.get(values[at]) or types.get(values[at].strip())
        if found is None:
            if not values[at].strip():
                refuse("type", "", "is empty", Rule.EMPTY)
            refuse("type", values[at], f"is none of the mapping's types: {', '.join(types)}", Rule.UNKNOWN_TYPE)
        return found

    return type_of


def _sequence(at: int) -> Callable[[Values], int | None]:
    def sequence_of(values: Values) -> int | None:
        text = values[at]
        if not text:
            return None
        try:
            number = int(text)
        except ValueError:
            refuse("sequence", text, "is not a whole number", Rule.NOT_A_NUMBER)
        if not -(2**63) <= number < 2**63:
            refuse("sequence", text, "is beyond 64 bits", Rule.NOT_A_NUMBER)
        return number

    return sequence_of


def _value(rule: ValueRule, columns: Sequence[str]) -> Callable[[Values], tuple[float | None, int]]:
    """The value and the sign it gives the weight; an empty field is no value."""
    at = columns.index(rule.column)
    low, high = rule.scale or (-math.inf, math.inf)
    positive_from = -math.inf if rule.positive_from is None else rule.positive_from

    def value_of(values: Values) -> tuple[float | None, int]:
        text = values[at]
        if not text:
            return None, 1
        try:
            number = float(text)
        except ValueError:
            refuse("value", text, "is not a number", Rule.NOT_A_NUMBER)
        if not math.isfinite(number):
            refuse("value", text, "is not a finite number", Rule.NOT_A_NUMBER)
        if not low <= number <= high:
            refuse("value", text, f"is beyond the scale {low:g} to {high:g}", Rule.OFF_SCALE)
        return number, 1 if number >= positive_from else -1

    return value_of
