"""Food-kitchen into SQLite and a real Neo4j: the same graph, nothing new the second time, rows/s beside bare loops.

    python -m benchmarks.ingest [--data ../shared/data/food-kitchen] [--rounds 3] [--only sqlite]

Neo4j is the one of NEO4J_URI (an empty one), else one that is started here and ended again. A bare loop is what a
script without Isthmus would do with the same driver: csv rows as they are, batches of 10,000, a transaction each, the
same durability, the same tables and uniqueness; no checks, no pseudonyms, no quarantine.
"""

import argparse
import csv
import gzip
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit

import neo4j

from graph.keys import Pseudonyms
from graph.sqlite_store import SCHEMA
from graph.store import checksum, open_store
from ingest.load import ingest
from ingest.mapping import read_mapping
from tests.neo4j_server import empty, neo4j_for_tests

ROOT = Path(__file__).resolve().parents[1]
BATCH = 10_000
PLATFORMS = ("food", "kitchen")
FILES = ("identities.csv.gz", *(f"{p}/{kind}.csv.gz" for p in PLATFORMS for kind in ("items", "events")))
NO_DATA = """\
{data} has no {file}.
food-kitchen is the pair of platforms that ABXI (WWW 2025) made of the Amazon review crawl of 2014 (McAuley et al.,
jmcauley.ucsd.edu/data/amazon): research use, no redistribution, so this repository has it not. From the original, write
  {{food,kitchen}}/items.csv.gz    item,title
  {{food,kitchen}}/events.csv.gz   account,item,timestamp,position
  identities.csv.gz              person,platform,account
and name their folder with --data."""


def main() -> None:
    """Measure, print the tables, and fail where the graphs differ or a second ingest changed anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "food-kitchen")
    parser.add_argument("--rounds", type=int, default=3, help="how often SQLite is measured; the median counts")
    parser.add_argument("--only", choices=("sqlite", "neo4j"))
    options = parser.parse_args()
    if missing := next((name for name in FILES if not (options.data / name).is_file()), None):
        sys.exit(NO_DATA.format(data=options.data, file=missing))
    sums: dict[str, Mapping[str, str]] = {}
    print("| store | loop | seconds | rows/s | of the bare loop |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.only != "neo4j":
            sums["SQLite"] = measure_sqlite(options.data, place, options.rounds)
        if options.only != "sqlite":
            with neo4j_for_tests(place / "neo4j") as server:
                sums["Neo4j"] = measure_neo4j(options.data, place, server.url)
    print()
    if len(sums) == 2:
        if sums["SQLite"] != sums["Neo4j"]:
            sys.exit(f"the stores differ: {sums}")
        print("checksums of all nodes and edges are identical in both stores:")
    for name, value in next(iter(sums.values())).items():
        print(f"  {name:10} {value}")


def measure_sqlite(data: Path, folder: Path, rounds: int) -> Mapping[str, str]:
    """Bare loop, ingest and second ingest, in turn, each time into a new file."""
    times: list[tuple[float, float, float]] = []
    for number in range(rounds):
        bare, rows = timed(partial(bare_sqlite, data, folder / f"bare-{number}.db"))
        sums, first, second = measure(data, folder, f"sqlite:///{folder / f'graph-{number}.db'}")
        times.append((bare, first, second))
    show("SQLite", rows, *(statistics.median(column) for column in zip(*times, strict=True)))
    return sums


def measure_neo4j(data: Path, folder: Path, url: str) -> Mapping[str, str]:
    """Bare loop, then ingest and second ingest into the emptied database."""
    bare, rows = timed(lambda: bare_neo4j(data, url))
    empty(url)
    sums, first, second = measure(data, folder, url)
    show("Neo4j", rows, bare, first, second)
    return sums


def measure(data: Path, folder: Path, url: str) -> tuple[Mapping[str, str], float, float]:
    """Ingest twice; returns the checksums, which the second time must leave, and the seconds of each."""
    mappings = [read_mapping(ROOT / "ingest" / "mappings" / f"{platform}.yaml") for platform in PLATFORMS]
    with open_store(url) as store:

        def run() -> int:
            report = ingest(mappings, store, Pseudonyms(b"the same key for both stores"), folder, data=data).total
            assert report.rejected == 0
            return report.accepted

        first, _ = timed(run)
        sums = checksum(store)
        second, accepted = timed(run)
        if accepted or checksum(store) != sums:
            sys.exit(f"the second ingest into {store.url} changed the graph: {accepted} rows were new")
    return sums, first, second


def show(store: str, rows: int, bare: float, first: float, second: float) -> None:
    """Print a store's lines of the table."""
    print(f"| {store} | bare | {bare:.2f} | {rows / bare:,.0f} | 1 |")
    for loop, seconds in (("ingest", first), ("the same rows again", second)):
        print(f"| {store} | {loop} | {seconds:.2f} | {rows / seconds:,.0f} | {bare / seconds:.2f} |", flush=True)


def timed(run: Callable[[], int]) -> tuple[float, int]:
    """Seconds, and what the call returned."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def read(path: Path) -> Iterator[list[str]]:
    """The rows of a csv file after its header."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def batches(rows: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Lists of up to 10,000 rows."""
    while batch := list(islice(rows, BATCH)):
        yield batch


def events(data: Path, platform: str) -> Iterator[tuple[str, str, str, int, int]]:
    """Event id, account, item, time and position of a platform's events."""
    for account, item, at, position in read(data / platform / "events.csv.gz"):
        yield f"{account}|{item}|{at}|{position}", f"{platform}:{account}", f"{platform}:{item}", int(at), int(position)


def bare_sqlite(data: Path, path: Path) -> int:
    """Csv rows and executemany, into the tables that the store has."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -65536", *SCHEMA):
        connection.execute(statement)
    rows = 0

    def write(statement: str, source: Iterator[Sequence[Any]]) -> None:
        for batch in batches(source):
            connection.execute("BEGIN")
            connection.executemany(statement, batch)
            connection.execute("COMMIT")

    def ids(label: str) -> dict[str, int]:
        return dict(connection.execute("SELECT key, id FROM nodes WHERE label = ?", (label,)))

    node = "INSERT INTO nodes (label, key, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    people = [(f"{platform}:{account}", person) for person, platform, account in read(data / "identities.csv.gz")]
    write(node, (("User", person, None) for person in dict.fromkeys(person for _, person in people)))
    write(node, (("Account", account, None) for account, _ in people))
    user, account_of = ids("User"), ids("Account")
    write("INSERT OR REPLACE INTO links VALUES (?, ?, 'table', NULL)", ((account_of[a], user[p]) for a, p in people))
    rows += len(people)
    for platform in PLATFORMS:
        catalogue = list(read(data / platform / "items.csv.gz"))
        write(node, (("Item", f"{platform}:{item}", title) for item, title in catalogue))
        item_of = ids("Item")
        happened = [
            (event_id, account_of[account], item_of[item], at * 1_000_000, position)
            for event_id, account, item, at, position in events(data, platform)
        ]
        write(
            "INSERT INTO events (type, event_id, account, item, at, sequence, weight, context) "
            "VALUES ('PURCHASED', ?, ?, ?, ?, ?, 1, '{}') ON CONFLICT DO NOTHING",
            iter(happened),
        )
        rows += len(catalogue) + len(happened)
    connection.close()
    return rows


def bare_neo4j(data: Path, url: str) -> int:
    """Csv rows and UNWIND … MERGE."""
    parts = urlsplit(url)
    login = (unquote(parts.username or "neo4j"), unquote(parts.password or ""))
    rows = 0
    with (
        neo4j.GraphDatabase.driver(f"{parts.scheme}://{parts.hostname}:{parts.port or 7687}", auth=login) as driver,
        driver.session(database=parts.path.strip("/") or "neo4j") as session,
    ):
        for label in ("Item", "Account", "User"):
            session.run(f"CREATE CONSTRAINT FOR (n:{label}) REQUIRE n.key IS UNIQUE").consume()
        session.run("CREATE CONSTRAINT FOR ()-[e:PURCHASED]-() REQUIRE e.event_id IS UNIQUE").consume()

        def send(transaction: neo4j.ManagedTransaction, statement: LiteralString, batch: list[Sequence[Any]]) -> None:
            transaction.run(statement, rows=batch).consume()

        def write(statement: LiteralString, source: Iterator[Sequence[Any]]) -> None:
            nonlocal rows
            for batch in batches(source):
                session.execute_write(send, statement, batch)
                rows += len(batch)

        people = ((f"{platform}:{account}", person) for person, platform, account in read(data / "identities.csv.gz"))
        write(
            "UNWIND $rows AS row MERGE (a:Account {key: row[0]}) MERGE (u:User {key: row[1]}) MERGE (a)-[:OF]->(u)",
            people,
        )
        for platform in PLATFORMS:
            catalogue = ((f"{platform}:{item}", title) for item, title in read(data / platform / "items.csv.gz"))
            write("UNWIND $rows AS row MERGE (i:Item {key: row[0]}) SET i.title = row[1]", catalogue)
            write(
                "UNWIND $rows AS row MATCH (a:Account {key: row[1]}) MATCH (i:Item {key: row[2]}) "
                "MERGE (a)-[e:PURCHASED {event_id: row[0]}]->(i) SET e.at = row[3], e.position = row[4]",
                events(data, platform),
            )
    return rows


if __name__ == "__main__":
    main()
