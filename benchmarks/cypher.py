"""The twenty questions of docs/cypher.md on food-kitchen in a real Neo4j: milliseconds of each.

    python -m benchmarks.cypher [--rounds 5] [--data ../shared/data/food-kitchen] [--var var/benchmarks]

Neo4j is the one of NEO4J_URI (an empty one), else one that is started here and ended again. Ingest, text vectors with
their index and SAME_WORK are real. What food-kitchen does not have stands in, so that no question is asked of nothing:
the first word of a title (mostly its brand) for a category, the five items that most people share with an item for
LEADS_TO, the next person of a list for FOLLOWS, the next items of the catalogue for REQUIRES. Parameters are the worst
of their kind: the items with most events, the person with most.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import neo4j
import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.ingest import FILES, NO_DATA, PLATFORMS, ROOT
from graph.keys import AccountKey, EntityKey, ItemKey, Pseudonyms
from graph.records import Entity, Relation
from graph.store import Store, open_store
from ingest.embed import embed, index
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.same_work import link_same_works
from models.text import DEFAULT_MODEL, TextModel, vectors_name
from tests.cypher import questions
from tests.neo4j_server import neo4j_for_tests

ASKED = "what one needs to bake bread at home"


def main() -> None:
    """Fill a Neo4j, ask, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "food-kitchen")
    parser.add_argument("--rounds", type=int, default=5, help="after the first time; the median of these counts")
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"))
    options = parser.parse_args()
    if missing := next((name for name in FILES if not (options.data / name).is_file()), None):
        sys.exit(NO_DATA.format(data=options.data, file=missing))
    with tempfile.TemporaryDirectory() as folder, neo4j_for_tests(Path(folder) / "neo4j") as server:
        with open_store(server.url) as store:
            fill(store, options.data, options.var / "food-kitchen")
            counts = store.counts()
            print(f"{sum(counts.nodes.values()):,} nodes, {sum(counts.edges.values()):,} relationships\n", flush=True)
        ask(server.url, options.rounds)


def fill(store: Store, data: Path, var: Path) -> None:
    """Put food-kitchen into the store, with vectors, links and what stands in for the rest."""
    mappings = [read_mapping(ROOT / "ingest" / "mappings" / f"{platform}.yaml") for platform in PLATFORMS]
    ingest(mappings, store, Pseudonyms(b"a key of the benchmark's own"), var, data=data)
    print(embed(store, var), file=sys.stderr)
    started = time.perf_counter()
    index(store, var)
    print(f"index {time.perf_counter() - started:.1f} s", file=sys.stderr)
    print(link_same_works(store, var / "vectors" / vectors_name(DEFAULT_MODEL) / "Item.parquet"), file=sys.stderr)
    items = [(row["key"], row["title"]) for batch in store.read_nodes("Item") for row in batch.to_pylist()]
    brand = {ItemKey.parse(key): title.split()[0] for key, title in items if title and title.split()}
    categories = {name: EntityKey("category", name) for name in set(brand.values()) if name.isprintable()}
    store.upsert_nodes(Entity(key, name) for name, key in categories.items())
    store.upsert_edges(
        Relation("IN_CATEGORY", key, categories[name]) for key, name in brand.items() if name in categories
    )
    keys = sorted(ItemKey.parse(key) for key, _ in items)
    store.upsert_edges(Relation("REQUIRES", a, b) for n, a in enumerate(keys) for b in keys[n + 1 : n + 3])
    accounts = sorted(key for batch in store.read_nodes("Account") for key in batch["key"].to_pylist())
    people = [AccountKey.parse(key) for key in accounts]
    store.upsert_edges(Relation("FOLLOWS", a, b) for n, a in enumerate(people) for b in people[n + 1 : n + 11])
    store.upsert_edges(_shared(store))


def ask(url: str, rounds: int) -> None:
    """Print the milliseconds of each question, the first time and again, and how many rows it gave."""
    parts = urlsplit(url)
    auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    database = parts.path.strip("/") or "neo4j"
    print("| question | rows | first ms | again ms |\n|---|---|---|---|")
    with (
        neo4j.GraphDatabase.driver(f"{parts.scheme}://{parts.hostname}:{parts.port or 7687}", auth=auth) as driver,
        driver.session(database=database) as session,
    ):
        values = _worst(session)
        slowest = 0.0
        for question in questions():
            given = {name: values[name] for name in question.parameters}
            if "SAME_WORK" in question.query and "item" in given:
                given["item"] = values["work"]
            taken = []
            for _ in range(rounds + 1):
                started = time.perf_counter()
                rows = session.run(question.query, given).values()
                taken.append(1000 * (time.perf_counter() - started))
            again = statistics.median(taken[1:])
            slowest = max(slowest, again)
            print(f"| {question.number}. {question.title} | {len(rows)} | {taken[0]:.0f} | {again:.0f} |", flush=True)
    print(f"\nthe slowest took {slowest:.0f} ms")


def _worst(session: neo4j.Session) -> Mapping[str, Any]:
    def most(query: str) -> list[Any]:
        return [row[0] for row in session.run(query).values()]

    food, kitchen = (
        most(
            f"MATCH (i:Item {{platform: '{platform}'}})<-[e]-(:Account) WHERE i.embedding IS NOT NULL "
            "RETURN i.key, count(e) AS events ORDER BY events DESC LIMIT 2"
        )
        for platform in PLATFORMS
    )
    work = most("MATCH (i:Item)-[:SAME_WORK]-() RETURN i.key, COUNT { (i)<--(:Account) } AS n ORDER BY n DESC LIMIT 1")
    person = most("MATCH (u:User)<-[:OF]-(:Account)-[e]->(:Item) RETURN u.key, count(e) AS n ORDER BY n DESC LIMIT 1")
    newest = most("MATCH (:Account)-[e]->(:Item) RETURN max(e.at)")[0].to_native().astimezone(UTC)
    since = datetime(newest.year - 1, newest.month, 1, tzinfo=UTC)
    return {
        "item": food[0],
        "other": kitchen[0],
        "work": work[0],
        "person": person[0],
        "platform": "kitchen",
        "from": "food",
        "to": "kitchen",
        "until": newest.isoformat(),
        "since": since.isoformat(),
        "days": 90,
        "most": 5,
        "vector": TextModel.load().encode([ASKED])[0].tolist(),
    }


def _shared(store: Store) -> Iterator[Relation]:
    """From each item to the five that most people share with it."""
    owner = {account: user for batch in store.read_links() for account, user in _pairs(batch, "account", "user")}
    wanted = {
        (owner[a], item) for batch in store.read_events("PURCHASED") for a, item in _pairs(batch, "account", "item")
    }
    users, items = (sorted(set(side)) for side in zip(*wanted, strict=True))
    row, column = ({key: n for n, key in enumerate(keys)} for keys in (users, items))
    ends = [row[user] for user, _ in wanted], [column[item] for _, item in wanted]
    had = csr_matrix((np.ones(len(wanted), np.float32), ends), shape=(len(users), len(items)))
    keys = [ItemKey.parse(item) for item in items]
    together = csr_matrix(had.T @ had)
    for n, key in enumerate(keys):
        line = slice(together.indptr[n], together.indptr[n + 1])
        for place in np.argsort(-together.data[line])[:6].tolist():
            other = int(together.indices[line][place])
            if other != n:
                weight = float(together.data[line][place])
                yield Relation("LEADS_TO", key, keys[other], {"weight": weight, "model": "benchmark"})


def _pairs(batch: Any, one: str, other: str) -> Iterator[tuple[str, str]]:
    return zip(batch[one].to_pylist(), batch[other].to_pylist(), strict=True)


if __name__ == "__main__":
    main()
