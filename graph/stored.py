"""Stored: what both stores do alike with records on their way in and out.

Instants are counted in microseconds since 1970; keys that come out are taken at their word, since they were checked on
their way in; attributes are held to what both stores can keep.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

from graph.errors import ErasedError, RecordError, SchemaError, StoreError
from graph.keys import AccountKey, EntityKey, IdentityKey, ItemKey, PlatformKey, UserKey
from graph.records import (
    Account,
    Attributes,
    Entity,
    Event,
    Evidence,
    Item,
    Node,
    Platform,
    Relation,
    Scalar,
    User,
)
from graph.schema import CORE_LABELS, OWN_LABELS, check_label

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

KeyT = TypeVar("KeyT", PlatformKey, ItemKey, AccountKey, UserKey, IdentityKey, EntityKey)


def instant(micros: int) -> datetime:
    """The instant that many microseconds after 1970 began, UTC."""
    return EPOCH + timedelta(microseconds=micros)


def moment(event: Event) -> tuple[datetime, float, str]:
    """What a history is ordered by: when, the source's own order (none comes first), the event's id."""
    return event.at, -math.inf if event.sequence is None else event.sequence, event.event_id


def first_said(evidence: Evidence) -> tuple[bool, datetime, str]:
    """What evidence is ordered by: who said it first; what was always so comes before all."""
    return evidence.at is not None, evidence.at or EPOCH, evidence.source


def stored_key(kind: type[KeyT], text: str) -> KeyT:
    """A key that a store held."""
    return str.__new__(kind, text)


def stored_relation(type: str, ends: Sequence[str], properties: Mapping[str, Any]) -> Relation:
    """A relation that a store held; `ends` are source label, source, target label, target."""
    source_label, source, target_label, target = ends
    return Relation(type, _end(source_label, source), _end(target_label, target), properties)


def stored_evidence(account: str, other: str, source: str, at: datetime | None) -> Evidence:
    """Evidence that a store held."""
    if other.startswith("account:"):
        return Evidence(stored_key(AccountKey, account), stored_key(AccountKey, other), source, at)
    return Evidence(stored_key(AccountKey, account), stored_key(IdentityKey, other), source, at)


def stored_node(label: str, row: Mapping[str, Any]) -> Node:
    """The record of a row that `Store.read_nodes` gave."""
    if label == "Account":
        return Account(stored_key(AccountKey, row["key"]))
    if label == "Platform":
        return Platform(stored_key(PlatformKey, row["key"]))
    if label == "User":
        return User(stored_key(UserKey, row["key"]))
    attributes = json.loads(row["attributes"])
    if label == "Item":
        said = {name: in_utc(row[name]) for name in ("title", "text", "url", "created_at")}
        return Item(stored_key(ItemKey, row["key"]), **said, attributes=attributes)
    return Entity(stored_key(EntityKey, row["key"]), row["name"], attributes)


def stored_event(type: str, row: Mapping[str, Any]) -> Event:
    """The record of a row that `Store.read_events` gave."""
    account, item = stored_key(AccountKey, row["account"]), stored_key(ItemKey, row["item"])
    said = row["weight"], row["value"], row["sequence"], json.loads(row["context"])
    return Event(row["event_id"], type, account, item, in_utc(row["at"]), *said)


def in_utc(value: Any) -> Any:
    """What it is, but an instant of Arrow's, whose zone is its own UTC, in Python's."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _end(label: str, text: str) -> ItemKey | AccountKey | EntityKey:
    if label == "Item":
        return stored_key(ItemKey, text)
    if label == "Account":
        return stored_key(AccountKey, text)
    return stored_key(EntityKey, text)


def label_of(key: PlatformKey | ItemKey | AccountKey | UserKey | EntityKey) -> str:
    """The label of a key's node; raises SchemaError where an entity's would be one of the core."""
    return _entity_label(key.kind) if isinstance(key, EntityKey) else key.label


@cache
def _entity_label(kind: str) -> str:
    label = check_label(stored_key(EntityKey, f"{kind}:").label)
    if label in CORE_LABELS or label in OWN_LABELS:
        raise SchemaError(f"entities of the kind {kind!r} would get the label {label}, which is not theirs: rename it")
    return label


def plain(attributes: Attributes) -> dict[str, Scalar | list[str]]:
    """Attributes as both stores keep them; raises RecordError for a name or value that one of them cannot keep."""
    for name, value in attributes.items():
        if not name or "\0" in name:
            raise RecordError(f"{name!r} is not an attribute's name: give at least one character, none of them NUL")
        if not is_kept(value):
            raise RecordError(
                f"the attribute {name} is {value!r}: give text, a finite number, an integer of 64 bits, true or false, "
                "or a list of texts"
            )
    return {name: value if isinstance(value, str | int | float) else list(value) for name, value in attributes.items()}


def is_kept(value: object) -> bool:
    """Whether a value can be an attribute's."""
    match value:
        case str() | bool():
            return True
        case int():
            return -(1 << 63) <= value < 1 << 63
        case float():
            return math.isfinite(value)
        case list() | tuple():
            return all(isinstance(part, str) for part in value)
        case _:
            return False


def dangling(what: str, key: str) -> StoreError:
    """The error of an edge whose end is not in the store."""
    return StoreError(f"{what} needs {key}, which is not in the store: write its node first; nothing was written")


def was_erased(key: str) -> ErasedError:
    """The error of an account that was erased and is sent again."""
    return ErasedError(f"{key} was erased and is not taken again; nothing was written: leave its rows out")


def wrong_type(type: str) -> SchemaError:
    """The error of a relationship type that is used for events and for something else."""
    return SchemaError(f"{type} is used for events or for relations, not for both: give one of them another type")
