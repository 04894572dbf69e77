"""Rekey: a store copied into an empty one, every pseudonym replaced by the one that the newest secret makes of it.

No raw identity is needed: a pseudonym's successor is a keyed hash of it (`graph.keys.Pseudonyms.rekeyed`). Only what
every store can do is used, so either kind can be copied into either, and doing it again changes nothing.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa

from graph.errors import StoreError
from graph.keys import AccountKey, EntityKey, IdentityKey, ItemKey, PlatformKey, Pseudonyms, UserKey, tombstone
from graph.records import Account, Entity, Event, Evidence, Item, Link, Node, Platform, Relation, event_digest
from graph.store import Store
from graph.stored import stored_evidence, stored_key, stored_relation


def rekey(source: Store, target: Store, pseudonyms: Pseudonyms) -> int:
    """Copy all of a store; returns how many events there were.

    An event's id that was made of its account is made anew; one that the platform gave stays.

    Raises: StoreError if both are the same store.
    """
    if source.url == target.url:
        raise StoreError(f"{source.url} cannot be copied onto itself: name another, empty store")
    successor = _Successor(pseudonyms)
    target.ensure_schema()
    target.bury(tombstone(pseudonyms.rekeyed(grave)) for grave in source.tombstones())
    for label in source.labels():
        if label != "User":  # links bring them
            target.upsert_nodes(successor.node(label, row) for row in _rows(source.read_nodes(label)))
    for batch in source.read_links():
        accounts = [stored_key(AccountKey, key) for key in batch["account"].to_pylist()]
        target.link(map(successor.link, source.stated_of(accounts)))
    revoked = [successor.evidence(row) for row in _rows(source.read_evidence(revoked=True))]
    target.add_evidence(revoked)
    target.revoke(revoked)
    target.add_evidence(successor.evidence(row) for row in _rows(source.read_evidence()))
    for type in source.relation_types():
        target.upsert_edges(successor.relation(type, row) for row in _rows(source.read_relations(type)))
    events = 0
    for type in source.event_types():
        written = target.upsert_edges(successor.event(type, row) for row in _rows(source.read_events(type)))
        events += written.created + written.existing
    return events


class _Successor:
    """What the newest secret makes of a record."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self.digest = lru_cache(1_000_000)(lambda digest: pseudonyms.rekeyed(tombstone(digest)))

    def account(self, key: AccountKey) -> AccountKey:
        return AccountKey(key.platform, self.digest(key.digest))

    def node(self, label: str, row: dict[str, Any]) -> Node:
        if label == "Account":
            return Account(self.account(stored_key(AccountKey, row["key"])))
        if label == "Platform":
            return Platform(stored_key(PlatformKey, row["key"]))
        attributes = json.loads(row["attributes"])
        if label == "Item":
            said = {name: _in_utc(row[name]) for name in ("title", "text", "url", "created_at")}
            return Item(stored_key(ItemKey, row["key"]), **said, attributes=attributes)
        return Entity(stored_key(EntityKey, row["key"]), row["name"], attributes)

    def link(self, link: Link) -> Link:
        return Link(self.account(link.account), UserKey(self.digest(link.user.digest)), link.evidence, link.at)

    def evidence(self, row: dict[str, Any]) -> Evidence:
        old = stored_evidence(row["account"], row["other"], row["source"], _in_utc(row["at"]))
        if isinstance(old.other, AccountKey):
            return Evidence(self.account(old.account), self.account(old.other), old.source, old.at)
        other = IdentityKey(old.other.kind, self.digest(old.other.digest))
        return Evidence(self.account(old.account), other, old.source, old.at)

    def relation(self, type: str, row: dict[str, Any]) -> Relation:
        ends = [row[name] for name in ("source_label", "source", "target_label", "target")]
        old = stored_relation(type, ends, json.loads(row["properties"]))
        source, target = (self.account(end) if isinstance(end, AccountKey) else end for end in (old.source, old.target))
        return Relation(type, source, target, old.properties)

    def event(self, type: str, row: dict[str, Any]) -> Event:
        old, item = stored_key(AccountKey, row["account"]), stored_key(ItemKey, row["item"])
        at, sequence, id = _in_utc(row["at"]), row["sequence"], row["event_id"]
        new = self.account(old)
        if id == event_digest(type, old, item, at, sequence):
            id = event_digest(type, new, item, at, sequence)
        return Event(id, type, new, item, at, row["weight"], row["value"], sequence, json.loads(row["context"]))


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _in_utc(value: Any) -> Any:
    """Arrow's instants are in a zone of its own called UTC; ours are in Python's."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value
