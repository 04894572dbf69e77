"""A snapshot is the graph's, not the store's."""

from datetime import UTC, datetime
from pathlib import Path

from graph.snapshot import write_snapshot
from graph.store import Store, open_store
from tests.neo4j_server import empty
from tests.planted import plant


def test_neo4j_and_sqlite_with_the_same_graph_give_the_same_snapshot(
    planted_store: Store, neo4j_uri: str, tmp_path: Path
):
    empty(neo4j_uri)
    cut = datetime(2024, 1, 4, tzinfo=UTC)
    with open_store(neo4j_uri) as other:
        plant(other)
        for when in (None, cut):
            ours = write_snapshot(planted_store, tmp_path / "sqlite", cut=when)
            theirs = write_snapshot(other, tmp_path / "neo4j", cut=when)
            assert ours.rows == theirs.rows
            assert ours.id == theirs.id
    empty(neo4j_uri)
