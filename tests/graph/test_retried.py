"""Writes that another writer is in the way of, on Neo4j: tried again, counted, nothing lost."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import neo4j

from graph.keys import ItemKey
from graph.neo4j_store import Neo4jStore
from graph.records import Item
from graph.store import Retried
from ingest.report import IngestReport
from tests.neo4j_server import empty

ITEMS = (ItemKey("shop", "a"), ItemKey("shop", "z"))


def test_a_deadlock_of_two_writers_is_tried_again_and_counted(neo4j_uri: str) -> None:
    empty(neo4j_uri)
    with Neo4jStore.open(neo4j_uri) as store, ThreadPoolExecutor(2) as pool:
        store.ensure_schema()
        store.upsert_nodes(map(Item, ITEMS))
        assert store.retried == Retried()
        both_hold_one, attempts = Barrier(2), []

        def write(tx: neo4j.ManagedTransaction, *keys: ItemKey) -> ItemKey:
            attempts.append(keys)
            for key in keys:
                tx.run("MATCH (i:Item {key: $key}) SET i.text = coalesce(i.text, '') + 'x'", key=key).consume()
                if len(attempts) <= 2 and key == keys[0]:
                    both_hold_one.wait(60)
            return keys[0]

        opposite = [pool.submit(store._write, write, *keys) for keys in (ITEMS, ITEMS[::-1])]
        assert [each.result(60) for each in opposite] == list(ITEMS)
        assert store.retried == Retried(1, 1)
        assert len(attempts) == 3
        assert [item.text for item in store.items(ITEMS)] == ["xx", "xx"]


def test_the_report_says_what_was_tried_again() -> None:
    report = IngestReport([], 1.0, None, retried=Retried(3, 2))
    assert "3 transactions were tried again, 2 of them after a deadlock with another writer" in str(report)
    assert report.json()["retried"] == {"transactions": 3, "deadlocks": 2}
    assert "tried again" not in str(IngestReport([], 1.0, None))
