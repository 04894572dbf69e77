"""Rekey: a store copied into an empty one, every pseudonym replaced by the one that the newest secret makes of it.

No raw identity is needed: a pseudonym's successor is a keyed hash of it (`graph.keys.Pseudonyms.rekeyed`). Only what
every store can do is used, so either kind can be copied into either, and doing it again changes nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from graph.errors import StoreError
from graph.keys import AccountKey, IdentityKey, Pseudonyms, UserKey, tombstone
from graph.records import Account, Event, Evidence, Link, Node, Relation, event_digest
from graph.store import Store
from graph.stored import in_utc, stored_event, stored_evidence, stored_key, stored_node, stored_relation


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
        node = stored_node(label, row)
        return Account(self.account(node.key)) if isinstance(node, Account) else node

    def link(self, link: Link) -> Link:
        return Link(self.account(link.account), UserKey(self.digest(link.user.digest)), link.evidence, link.at)

    def evidence(self, row: dict[str, Any]) -> Evidence:
        old = stored_evidence(row["account"], row["other"], row["source"], in_utc(row["at"]))
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
        old = stored_event(type, row)
        new, id = self.account(old.account), old.event_id
        if id == event_digest(type, old.account, old.item, old.at, old.sequence):
            id = event_digest(type, new, old.item, old.at, old.sequence)
        return replace(old, event_id=id, account=new)


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()
