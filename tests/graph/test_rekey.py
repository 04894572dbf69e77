"""Rekey: a copy under the next secret is what ingest would have made with it, and no old pseudonym is left."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from graph.errors import KeyFormatError, StoreError
from graph.keys import EntityKey, ItemKey, Pseudonyms, lone_user, tombstone
from graph.records import LONE, Account, Entity, Event, Evidence, Item, Link, Relation, event_digest
from graph.rekey import rekey
from graph.store import Store, checksum, open_store

OLD, NEW = b"the first secret of all", b"the second secret of all"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HEAT = ItemKey("films", "heat")


def fill(store: Store, pseudonyms: Pseudonyms) -> None:
    """All that a store can hold of four people, one of whom was erased, with a link that was taken back."""
    ann, anna, ben, eve = map(pseudonyms.account, ("films", "books", "books", "m"), "1123")
    drama = Entity(EntityKey("category", "Drama"), "Drama", {"depth": 2.5})
    mail = pseudonyms.identity("mail", "ann@example.org")
    store.ensure_schema()
    store.upsert_nodes([Item(HEAT, "Heat", None, None, NOON, {"tags": ["a", "b"], "year": 1995})])
    store.upsert_nodes([drama, *map(Account, (ann, anna, ben, eve))])
    store.link([Link(ann, pseudonyms.user("p"), "identity-table", NOON)])
    store.link(Link(account, lone_user(account), LONE) for account in (anna, ben, eve))
    store.add_evidence([Evidence(ann, mail, "x", NOON), Evidence(anna, mail, "x"), Evidence(ann, ben, "ticket")])
    store.revoke([Evidence(ann, ben, "ticket")])
    made = event_digest("RATED", ann, HEAT, NOON, 3)
    store.upsert_edges([Event(made, "RATED", ann, HEAT, NOON, -1.0, 2.5, 3, {"device": "tv"})])
    store.upsert_edges([Event("films:77", "RATED", ben, HEAT, NOON), Relation("FOLLOWS", ann, ben, {"since": 3})])
    store.upsert_edges([Relation("IN_CATEGORY", HEAT, drama.key)])
    store.erase(lone_user(eve))


def test_a_rekeyed_store_is_what_the_next_secret_would_have_made(tmp_path: Path) -> None:
    first, both = Pseudonyms(OLD), Pseudonyms(NEW, [OLD])
    with (
        open_store(f"sqlite:///{tmp_path}/old.db") as old,
        open_store(f"sqlite:///{tmp_path}/new.db") as new,
        open_store(f"sqlite:///{tmp_path}/made.db") as made,
    ):
        fill(old, first)
        fill(made, both)
        assert rekey(old, new, both) == 2
        assert rekey(old, new, both) == 2
        assert checksum(new) == checksum(made) != checksum(old)
        assert new.tombstones() == made.tombstones()
        assert new.erased([both.account("m", "3")]) != set()
        keys = first.account("films", "1"), first.user("p"), first.identity("mail", "ann@example.org")
        digests = {key.digest for key in keys}
        assert [part for part in new.search(digests) if part.hits] == []
        assert sum(part.hits for part in old.search(digests)) > 0
        assert new.add_evidence([Evidence(both.account("films", "1"), both.account("books", "2"), "ticket")]) == []


def test_a_store_is_not_copied_onto_itself(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/old.db") as store, pytest.raises(StoreError, match="onto itself"):
        rekey(store, store, Pseudonyms(NEW, [OLD]))


def test_a_successor_needs_the_secret_and_the_pseudonym_before_but_nothing_raw() -> None:
    first, both = Pseudonyms(OLD), Pseudonyms(NEW, [OLD])
    old = first.account("shop", "ann").digest
    assert both.account("shop", "ann").digest == both.rekeyed(tombstone(old)) != old
    third = Pseudonyms(b"the third secret of all", [OLD, NEW])
    assert third.digest("x") == third.rekeyed(tombstone(both.digest("x")))
    with pytest.raises(KeyFormatError, match="one secret only"):
        first.rekeyed(tombstone(old))
