"""Bulk: what Neo4j's importer makes of a store is what upserts would have made, and nothing is thrown away."""

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from graph.bulk import check_empty, finish, write
from graph.errors import StoreError
from graph.keys import AccountKey, EntityKey, IdentityKey, ItemKey, UserKey
from graph.neo4j_store import Neo4jStore
from graph.records import Account, Entity, Event, Evidence, Item, Link, Relation
from graph.store import Store, checksum, open_store
from tests.neo4j_server import empty, load_server_script, run_cypher
from tests.planted import plant

ANN, BOB, EVE, ZOE = (AccountKey("shop", name) for name in ("ann", "bob", "eve", "zoe"))
NEAR = AccountKey("films", "ann")
ODD, EVEN = ItemKey("shop", "odd"), ItemKey("shop", "even")
PERSON = EntityKey("creator", 'Søren, "the" Ødegård; 花')
LONG = "x" * 1_000_001
BEFORE_1970 = datetime(1965, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def fill(store: Store) -> int:
    """The planted graph, values that a file says badly or not at all, and evidence; returns what was new."""
    plant(store)
    texts = {"text": 'two\nlines\r\n"quoted", \\ \x1f\x00 😀 ', "url": ""}
    said: dict[str, Any] = {
        "n": 3,
        "list": [],
        "minus": -0.0,
        "least": -(1 << 63),
        "名称": "ja",
        "a:b{c}": "x",
        " o": 1,
    }
    other: dict[str, Any] = {"n": "3", "list": [""], "title": "theirs", "yes": True, "parts": ["a", "", "b;c,d"]}
    counts = store.upsert_nodes(
        [
            Item(ODD, title="", created_at=BEFORE_1970, attributes=said, **texts),
            Item(EVEN, title="Ü", text=LONG, attributes={**other, "unit": ["a\x1fb"], "n": 3.5}),
            Item(ItemKey("shop", "third"), attributes=other),
            Entity(PERSON, "Søren", {"list": ["one"], "name": "another", "born": 1950}),
            *map(Account, (ANN, BOB, EVE, ZOE, NEAR)),
        ]
    )
    counts += store.link(
        [Link(BOB, UserKey("bob"), "identity-table", NOON), Link(EVE, UserKey("eve"), "identity-table")]
    )
    counts += store.upsert_edges(
        [
            Event('e,"1"', "BOUGHT", ANN, ODD, BEFORE_1970, 0.1, -1e300, -(1 << 62), {"list": [], "at": "home"}),
            Event("e2", "BOUGHT", ANN, ODD, NOON, 1.0, 5e-324, None, {"k": 1}),
            Event("e3", "BOUGHT", BOB, EVEN, NOON, 1.0, None, 7, {"k": "1", "tags": ["a", "b"]}),
            Relation("BY", ODD, PERSON, {"list": [""]}),
            Relation("BY", EVEN, PERSON, {"role": "a\nb", "_event_id": 1}),
            Relation("NEXT", ODD, EVEN, {"n": 1}),
            Relation("NEXT", PERSON, EVEN, {"n": 1.5}),
        ]
    )
    mail = IdentityKey("mail", "0" * 32)
    new = store.add_evidence(
        [
            Evidence(ANN, mail, "shop.yaml", BEFORE_1970),
            Evidence(NEAR, mail, "films.yaml"),
            Evidence(NEAR, BOB, "operator", NOON),  # left out: it would join two accounts of one platform
        ]
    )
    taken_back = [Evidence(EVE, IdentityKey("phone", "1" * 32), "shop.yaml", NOON)]
    new = [*new, *store.add_evidence(taken_back)]
    store.revoke(taken_back)
    store.erase(UserKey("nobody"), [AccountKey("shop", "nobody")])
    return counts.created + len(new)


def dump(url: str) -> tuple[list[str], list[str], list[str]]:
    """All nodes and relationships with the types of their values, and what constraints and indexes there are."""
    nodes = run_cypher(url, "MATCH (n) RETURN labels(n), properties(n)")
    name = "coalesce({0}.key, {0}.pseudonym)"
    edges = f"MATCH (s)-[r]->(t) RETURN {name.format('s')}, type(r), {name.format('t')}, properties(r)"
    made = run_cypher(url, "SHOW INDEXES YIELD name, type, labelsOrTypes, properties WHERE type <> 'LOOKUP' RETURN *")
    made += run_cypher(url, "SHOW CONSTRAINTS YIELD name, type, labelsOrTypes, properties RETURN *")
    nodes, edges = ([[*row[:-1], sorted(row[-1].items())] for row in rows] for rows in (nodes, run_cypher(url, edges)))
    return sorted(map(repr, nodes)), sorted(map(repr, edges)), sorted(map(repr, made))


@dataclass
class Loaded:
    """A Neo4j of its own that was filled by the importer and finished."""

    url: str
    server: Any
    password: str
    source: str
    files: Path
    """What was written for it: a copy, since the first is used up."""
    broken_off: str
    """What was said to who wanted to start it after an import that was broken off."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("bulk")
    source, files = f"sqlite:///{folder / 'graph.db'}", folder / "files"
    with open_store(source) as store:
        fill(store)
        write(store, files)
    shutil.copytree(files, folder / "copy")
    script = load_server_script()
    ports = script.free_port(), script.free_port()
    place = script.Place(folder / "neo4j", *ports, heap_mib=512, page_cache_mib=128, outlives_us=False)
    java = script.find_java(print)
    server = script.AssembledServer(place, java, script.assemble(java, print))
    password = secrets.token_urlsafe(12)
    url = place.url(password)
    (folder / "broken").write_text("--nodes=Item=/nowhere.csv\n")
    with pytest.raises(script.NoNeo4jError, match="nowhere"):
        server.import_files(folder / "broken", password)
    with pytest.raises(script.NoNeo4jError) as broken_off:
        server.start(password)
    try:
        server.import_files(files / "arguments", password)
        with Neo4jStore.open(url) as target:
            finish(files, target)
        yield Loaded(url, server, password, source, folder / "copy", str(broken_off.value))
    finally:
        server.remove()


def test_the_checksum_is_that_of_the_source_and_filling_again_changes_nothing(loaded: Loaded) -> None:
    with open_store(loaded.source) as source, open_store(loaded.url) as target:
        assert checksum(target) == checksum(source)
        assert fill(target) == 0
        assert checksum(target) == checksum(source)
        assert target.counts() == source.counts()
        assert target.tombstones() == source.tombstones()
        assert target.stated_of([ANN, NEAR, BOB]) == source.stated_of([ANN, NEAR, BOB])
        assert target.evidence_of([ANN, NEAR, BOB]) == source.evidence_of([ANN, NEAR, BOB])


def test_a_database_that_is_not_empty_is_refused_and_stays(loaded: Loaded) -> None:
    script = load_server_script()
    with Neo4jStore.open(loaded.url) as target:
        before = target.size()
        with pytest.raises(StoreError, match=r"holds 2.. nodes and .* the importer fills empty databases alone"):
            check_empty(target)
        with pytest.raises(script.NoNeo4jError, match=r"holds 2.. nodes, and the importer fills empty ones alone"):
            loaded.server.import_files(loaded.files / "arguments", loaded.password)
        assert target.size() == before


def test_files_that_the_importer_did_not_read_are_not_finished(loaded: Loaded, tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'other.db'}") as other:
        plant(other)
        write(other, tmp_path / "files")
    with Neo4jStore.open(loaded.url) as target, pytest.raises(StoreError, match="import them into an empty database"):
        finish(tmp_path / "files", target)
    assert (tmp_path / "files").exists()


def test_an_import_that_was_broken_off_is_done_again_before_the_server_starts(loaded: Loaded) -> None:
    assert "did not come to its end: run it again" in loaded.broken_off


def test_what_the_importer_made_is_what_upserts_make_to_the_last_type_and_index(loaded: Loaded) -> None:
    imported = dump(loaded.url)
    empty(loaded.url)
    for name, what in run_cypher(loaded.url, "SHOW CONSTRAINTS YIELD name RETURN name, 'CONSTRAINT'"):
        run_cypher(loaded.url, f"DROP {what} {name}")
    run_cypher(loaded.url, "DROP INDEX Account_stated_user")
    with open_store(loaded.url) as store:
        fill(store)
    assert dump(loaded.url) == imported


def test_files_are_written_once_and_into_a_folder_whose_name_is_no_pattern(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.ensure_schema()
        with pytest.raises(StoreError, match="holds nothing: fill it with isthmus ingest first"):
            write(store, tmp_path / "files")
        plant(store)
        write(store, tmp_path / "files")
        with pytest.raises(StoreError, match="is there already"):
            write(store, tmp_path / "files")
        with pytest.raises(StoreError, match=r"takes '.*\(1\)' for a pattern"):
            write(store, tmp_path / "files (1)")
