"""Food-kitchen out of a store, into a snapshot and back, each beside a bare loop over the same rows in the same run.

    python -m benchmarks.snapshot [--data ../shared/data/food-kitchen] [--rounds 5] [--only sqlite]

Out of a store: what `graph.snapshot` reads, in Arrow batches, beside a bare loop that fetches the same columns with the
same driver and keeps nothing. Back: open the snapshot (every file compared with its checksum) and read all its tables,
beside pyarrow reading the same files. Neo4j is assembled and filled here, through its importer, and ended again.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from urllib.parse import unquote, urlsplit

import neo4j
import pyarrow.parquet as pq

from benchmarks.bulk import PASSWORD, load
from benchmarks.ingest import BATCH, FILES, NO_DATA, ROOT
from graph.bulk import finish, write
from graph.neo4j_store import Neo4jStore
from graph.snapshot import read_snapshot, write_snapshot
from graph.store import Store, open_store
from tests.neo4j_server import load_server_script

IN_NEO4J: tuple[LiteralString, ...] = (
    "MATCH (n:Platform) RETURN n.key",
    "MATCH (n:User) RETURN n.key",
    "MATCH (n:Account) RETURN n.key, n.platform",
    "MATCH (n:Item) RETURN n.key, n.platform, n.title, n.text, n.url, n.created_at",
    "MATCH (a:Account)-[e:PURCHASED]->(i:Item) "
    "RETURN e.event_id, a.key, i.key, e.at.epochMillis, e.sequence, e.value, e.weight",
    "MATCH (a:Account)-[l:OF]->(u:User) RETURN a.key, u.key, l.evidence, l.at.epochMillis",
)
IN_SQLITE = (
    "SELECT key FROM nodes WHERE label IN ('Platform', 'User')",
    "SELECT key, name FROM nodes WHERE label = 'Account'",
    "SELECT * FROM nodes WHERE label = 'Item'",
    "SELECT e.event_id, a.key, i.key, e.at, e.sequence, e.value, e.weight, e.context FROM events e "
    "JOIN nodes a ON a.id = e.account JOIN nodes i ON i.id = e.item",
    "SELECT a.key, u.key, l.evidence, l.at FROM links l JOIN nodes a ON a.id = l.account JOIN nodes u ON u.id = l.user",
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "food-kitchen")
    parser.add_argument("--rounds", type=int, default=9, help="the fastest counts: others use the machine too")
    parser.add_argument("--only", choices=("sqlite",))
    options = parser.parse_args()
    if missing := next((name for name in FILES if not (options.data / name).is_file()), None):
        sys.exit(NO_DATA.format(data=options.data, file=missing))
    print("| what | rows | bare s | ours s | of the bare loop |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = f"sqlite:///{folder}/graph.db"
        load(options.data, folder, source)
        with open_store(source) as store:
            path = write_snapshot(store, folder / "snapshots").path
            beside("back from Parquet", options.rounds, lambda: bare_parquet(path), lambda: back(path))
            beside("out of SQLite", options.rounds, lambda: bare_sqlite(folder / "graph.db"), lambda: out(store))
        if options.only != "sqlite":
            with filled(folder, source) as url, open_store(url) as store:
                beside("out of Neo4j", options.rounds, lambda: bare_neo4j(url), lambda: out(store))


def beside(what: str, rounds: int, bare: Callable[[], int], ours: Callable[[], int]) -> None:
    """Print a line; each in turn, both once before it counts."""
    times: list[tuple[float, float]] = []
    rows = ours()
    if bare() != rows:
        sys.exit(f"{what}: the bare loop reads {bare()} rows, ours {rows}")
    for _ in range(rounds):
        first = time.perf_counter()
        bare()
        second = time.perf_counter()
        ours()
        times.append((second - first, time.perf_counter() - second))
    seconds = [min(column) for column in zip(*times, strict=True)]
    print(f"| {what} | {rows:,} | {seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[0] / seconds[1]:.2f} |", flush=True)


def out(store: Store) -> int:
    """All that a snapshot is made of; returns how many rows."""
    streams = [store.read_nodes(label) for label in store.labels()]
    streams += [store.read_events(type) for type in store.event_types()]
    streams += [store.read_relations(type) for type in store.relation_types()]
    streams.append(store.read_links())
    return sum(len(batch) for stream in streams for batch in stream)


def back(path: Path) -> int:
    """All tables of a snapshot that is verified first; returns how many rows."""
    snapshot = read_snapshot(path)
    tables = [snapshot.nodes(label) for label in snapshot.counts.nodes]
    return sum(map(len, (*tables, snapshot.events, *snapshot.relations.values(), snapshot.links)))


def bare_parquet(path: Path) -> int:
    """The same files, read as they are."""
    return sum(len(pq.read_table(file)) for file in sorted(path.rglob("*.parquet")))


def bare_sqlite(path: Path) -> int:
    """The same columns through sqlite3's cursor."""
    rows = 0
    connection = sqlite3.connect(path)
    for query in IN_SQLITE:
        cursor = connection.execute(query)
        while batch := cursor.fetchmany(BATCH):
            rows += len(batch)
    connection.close()
    return rows


def bare_neo4j(url: str) -> int:
    """The same columns through the driver."""
    parts = urlsplit(url)
    login = (unquote(parts.username or "neo4j"), unquote(parts.password or ""))
    rows = 0
    with (
        neo4j.GraphDatabase.driver(f"{parts.scheme}://{parts.hostname}:{parts.port or 7687}", auth=login) as driver,
        driver.session(database=parts.path.strip("/") or "neo4j", fetch_size=BATCH) as session,
    ):
        for query in IN_NEO4J:
            result = session.run(query)
            while batch := result.fetch(BATCH):
                rows += len(batch)
    return rows


@contextmanager
def filled(folder: Path, source: str) -> Iterator[str]:
    """A Neo4j of our own with the graph of the source."""
    script = load_server_script()
    place = script.Place(folder / "neo4j", script.free_port(), script.free_port(), outlives_us=False)
    java = script.find_java(print)
    server = script.AssembledServer(place, java, script.assemble(java, print))
    with open_store(source) as store:
        write(store, folder / "files")
    try:
        server.import_files(folder / "files" / "arguments", PASSWORD)
        with Neo4jStore.open(place.url(PASSWORD)) as target:
            finish(folder / "files", target)
        yield place.url(PASSWORD)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
