"""Food-kitchen into an empty Neo4j: by transactions or through its importer; by one writer or by two.

    python -m benchmarks.bulk [--data ../shared/data/food-kitchen] [--only importer|writers]

Neo4j is assembled and started here, and ended again. Two writers share the events so that no node is in two groups
that are written at once: half of the accounts with half of the items, then each half with the other half of the items.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

from benchmarks.ingest import FILES, NO_DATA, PLATFORMS, ROOT
from graph.bulk import check_empty, finish, write
from graph.keys import Pseudonyms
from graph.neo4j_store import Neo4jStore
from graph.records import Event
from graph.store import checksum, open_store
from graph.stored import stored_event, stored_node
from ingest.load import ingest
from ingest.mapping import read_mapping
from tests.neo4j_server import empty, load_server_script

SHARED = 60_000
"""Events that one writer or two write."""
PASSWORD = "of the benchmark"  # noqa: S105


def main() -> None:
    """Measure, print the tables, and fail where the graphs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "food-kitchen")
    parser.add_argument("--only", choices=("importer", "writers"))
    options = parser.parse_args()
    if missing := next((name for name in FILES if not (options.data / name).is_file()), None):
        sys.exit(NO_DATA.format(data=options.data, file=missing))
    script = load_server_script()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = script.Place(folder / "neo4j", script.free_port(), script.free_port(), outlives_us=False)
        java = script.find_java(print)
        server = script.AssembledServer(place, java, script.assemble(java, print))
        url, source = place.url(PASSWORD), f"sqlite:///{folder}/graph.db"
        try:
            server.start(PASSWORD)
            print("| road | step | seconds | rows/s |\n|---|---|---|---|", flush=True)
            ingested, rows = timed(lambda: load(options.data, folder, source))
            if options.only != "writers":
                through_transactions(options.data, url, folder, rows)
                through_the_importer(server, url, folder, source, ingested, rows)
            if options.only != "importer":
                one_writer_or_two(url, source)
        finally:
            server.remove()


def load(data: Path, folder: Path, url: str) -> int:
    """Ingest; returns how many rows there were."""
    mappings = [read_mapping(ROOT / "ingest" / "mappings" / f"{platform}.yaml") for platform in PLATFORMS]
    with open_store(url) as store:
        return ingest(mappings, store, Pseudonyms(b"the same key for both stores"), folder, data=data).total.accepted


def through_transactions(data: Path, url: str, folder: Path, rows: int) -> None:
    """Ingest, with nothing between."""
    seconds, _ = timed(lambda: load(data, folder / "direct", url))
    show("transactions", "ingest into Neo4j", seconds, rows)
    with open_store(url) as store:
        seconds, _ = timed(lambda: checksum(store))
    show("transactions", "checksum", seconds, rows)


def through_the_importer(server: Any, url: str, folder: Path, source: str, ingested: float, rows: int) -> None:
    """Ingest into SQLite came before."""
    empty(url)
    with Neo4jStore.open(url) as target:
        check_empty(target)
    files = folder / "files"
    with open_store(source) as store:
        writing, _ = timed(lambda: write(store, files))
    importing, _ = timed(lambda: server.import_files(files / "arguments", PASSWORD))
    with Neo4jStore.open(url) as target:
        finishing, _ = timed(lambda: finish(files, target))
    show("importer", "ingest into SQLite", ingested, rows)
    show("importer", "write the files", writing, rows)
    show("importer", "stop the server, import, start it", importing, rows)
    show("importer", "finish: constraints, checksum", finishing, rows)
    show("importer", "all of it", ingested + writing + importing + finishing, rows)


def one_writer_or_two(url: str, source: str) -> None:
    """Events into the nodes that they join, by one writer and by two that never touch the same node."""
    with open_store(source) as store:
        events = [
            stored_event(type, row)
            for type in store.event_types()
            for batch in store.read_events(type)
            for row in batch.to_pylist()
        ]
        nodes = [
            [stored_node(label, row) for batch in store.read_nodes(label) for row in batch.to_pylist()]
            for label in ("Account", "Item")
        ]
    events = events[:SHARED]
    groups: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        groups[crc32(event.account.encode()) % 2, crc32(event.item.encode()) % 2].append(event)
    print("\n| writers | seconds | events/s | tried again |\n|---|---|---|---|", flush=True)
    for writers in (1, 2, 1, 2):
        empty(url)
        with open_store(url) as store, ThreadPoolExecutor(writers) as pool:
            for some in nodes:
                store.upsert_nodes(some)
            store.upsert_edges(events[:1])  # makes the constraint
            started = time.perf_counter()
            for at_once in ((0, 0), (1, 1)), ((0, 1), (1, 0)):
                list(pool.map(store.upsert_edges, [groups[group] for group in at_once]))
            seconds = time.perf_counter() - started
            again = store.retried.transactions
        print(f"| {writers} | {seconds:.1f} | {len(events) / seconds:,.0f} | {again} |", flush=True)


def show(road: str, step: str, seconds: float, rows: int) -> None:
    """Print a line of the table."""
    print(f"| {road} | {step} | {seconds:.1f} | {rows / seconds:,.0f} |", flush=True)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the call returned."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
