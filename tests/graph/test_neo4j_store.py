"""Neo4j's own promises: what an analyst finds with Cypher, and what a wrong login is told."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from graph.errors import StoreUnavailableError
from graph.keys import AccountKey, EntityKey, ItemKey, lone_user
from graph.neo4j_store import Neo4jStore
from graph.records import LONE, Account, Entity, Event, Item, Link, Platform, Relation
from graph.store import Store, WriteCounts, checksum, open_store
from tests.neo4j_server import empty, run_cypher
from tests.planted import plant, planted_records

Record = TypeVar("Record")

ANN = AccountKey("films", "ann")
HEAT = ItemKey("films", "heat")
DRAMA = EntityKey("category", "Drama")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def fill(store: Store) -> None:
    store.ensure_schema()
    attributes = {"release_year": 1995, "title": "of the source"}
    store.upsert_nodes([Account(ANN), Item(HEAT, title="Heat", created_at=NOON, attributes=attributes)])
    store.upsert_nodes([Entity(DRAMA, "Drama")])
    rated = Event("e1", "RATED", ANN, HEAT, NOON, value=4.0, context={"device": "tv"})
    store.upsert_edges([rated, Relation("IN_CATEGORY", HEAT, DRAMA)])


def test_cypher_finds_attributes_as_properties_and_names_of_ours_keep_their_meaning(neo4j_uri: str) -> None:
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        fill(store)
    query = "MATCH (i:Item) WHERE i.release_year > 1990 AND i.created_at.year = 2024 RETURN i.title, i._title"
    assert run_cypher(neo4j_uri, query) == [["Heat", "of the source"]]
    query = "MATCH (:Account)-[e:RATED]->()-[:IN_CATEGORY]->(c:Category) RETURN e.event_id, e.device, e.at.hour, c.name"
    assert run_cypher(neo4j_uri, query) == [["e1", "tv", 12, "Drama"]]


def test_every_item_is_on_its_platform_once(neo4j_uri: str) -> None:
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        fill(store)
        fill(store)
        store.upsert_nodes([Item(ItemKey("books", "dune"))])
    query = "MATCH (i:Item)-[o:ON]->(p:Platform) RETURN i.key, p.key, count(o) ORDER BY i.key"
    assert run_cypher(neo4j_uri, query) == [["books:dune", "books", 1], ["films:heat", "films", 1]]


def test_keys_and_event_ids_are_unique_by_constraint(neo4j_uri: str) -> None:
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        fill(store)
    query = "SHOW CONSTRAINTS YIELD labelsOrTypes, properties RETURN labelsOrTypes[0], properties[0]"
    found = {tuple(row) for row in run_cypher(neo4j_uri, query)}
    assert found >= {("Item", "key"), ("Account", "key"), ("User", "key"), ("Category", "key"), ("RATED", "event_id")}


def test_what_others_put_into_the_database_is_not_ours_and_stays(neo4j_uri: str) -> None:
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        fill(store)
        store.link([Link(ANN, lone_user(ANN), LONE)])
        run_cypher(
            neo4j_uri,
            "MATCH (i:Item) SET i.embedding = [0.1, 0.2], i.place = point({x: 1, y: 2}) "
            "CREATE (:`my note` {text: 'x'})-[:ABOUT]->(i)",
        )
        assert store.labels() == ["Account", "Category", "Item", "Platform", "User"]
        assert dict(store.items([HEAT])[0].attributes) == {"release_year": 1995, "title": "of the source"}
        assert len(store.neighbourhood(HEAT).edges) == 2
        store.erase(lone_user(ANN))
        assert run_cypher(neo4j_uri, "MATCH (n:`my note`) RETURN n.text") == [["x"]]


def test_a_wrong_password_and_a_missing_database_are_said_without_the_password(neo4j_uri: str) -> None:
    parts = urlsplit(neo4j_uri)
    wrong = parts._replace(netloc=f"neo4j:wr0ng@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(StoreUnavailableError, match="refused the user or the password: check both") as caught:
        Neo4jStore.open(wrong)
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(StoreUnavailableError, match="has no database 'nowhere': give one it has"):
        Neo4jStore.open(parts._replace(path="/nowhere").geturl())


def parts(records: Sequence[Record], drawn: random.Random) -> Iterator[Sequence[Record]]:
    """A hundred of the records at a time, in an order that is drawn."""
    shuffled = drawn.sample(records, len(records))
    return (shuffled[start : start + 100] for start in range(0, len(shuffled), 100))


def test_writers_at_once_leave_the_graph_of_one_and_create_each_record_once(neo4j_uri: str, tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as alone:
        plant(alone)
        expected, counts = checksum(alone), alone.counts()
    empty(neo4j_uri)
    nodes, links, edges = planted_records()
    nodes = [node for node in nodes if not isinstance(node, Platform)]  # items bring them along

    def write(seed: int) -> WriteCounts:
        """All of it in small transactions, nodes, links and edges each in an order of this writer's own."""
        drawn, done = random.Random(seed), WriteCounts()
        with Neo4jStore.open(neo4j_uri) as store:
            store.ensure_schema()
            for part in parts(nodes, drawn):
                done += store.upsert_nodes(part)
            for part in parts(links, drawn):
                done += store.link(part)
            for part in parts(edges, drawn):
                done += store.upsert_edges(part)
        return done

    with ThreadPoolExecutor(3) as pool:
        written = list(pool.map(write, range(3)))
    assert sum(each.created for each in written) == len(nodes) + len(links) + len(edges)
    with open_store(neo4j_uri) as store:
        assert checksum(store) == expected
        assert store.counts() == counts
