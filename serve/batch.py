"""Batch: the lists of everybody in a Parquet file, as the server would answer them one by one."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graph.keys import AccountKey, UserKey, lone_user
from graph.store import Store
from serve.errors import ServeError
from serve.live import Live
from serve.recommender import Recommender, signals_of
from serve.scenarios import PLAIN, Scenario

SCHEMA: Final = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
    ]
)
_PEOPLE_AT_ONCE: Final = 1000


def everybody(store: Store) -> Iterator[UserKey]:
    """Each person once: those whom accounts are joined to, and each account that is a person of its own."""
    people: set[UserKey] = set()
    joined: set[str] = set()
    for batch in store.read_links():
        joined.update(batch["account"].to_pylist())
        people.update(map(UserKey.parse, batch["user"].to_pylist()))
    yield from sorted(people)
    for batch in store.read_nodes("Account"):
        for account in batch["key"].to_pylist():
            if account not in joined and (alone := lone_user(AccountKey.parse(account))) not in people:
                yield alone


def write_lists(
    recommender: Recommender,
    live: Live,
    people: Iterator[UserKey],
    to: Path,
    *,
    limit: int,
    platforms: list[str] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    scenario: Scenario = PLAIN,
    told: Callable[[int], None] = lambda people: None,
) -> tuple[int, int]:
    """Write the lists; the file is there whole or not at all, and only so many people are in memory at once.

    Args:
        limit: items of each person.
        told: hears how many people are done.
    Returns: people and rows.
    Raises: ServeError where the store stops answering: a list without what a person did would be another's.
    """
    done = rows = 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=to.parent) as folder:
        draft = Path(folder) / to.name
        with pq.ParquetWriter(draft, SCHEMA) as writer:
            columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
            for person in people:
                past = live.of(person, recommender.bundle.platforms)
                if past.degraded:
                    raise ServeError(f"the store stopped answering after {done} people: start again when it is back")
                found = recommender.recommend(
                    signals_of(past.events),
                    limit=limit,
                    platforms=platforms,
                    allowed=allowed,
                    scenario=scenario,
                    explain=False,
                )
                for position, item in enumerate(found.items, 1):
                    line = (str(person), position, item["item_id"], item["score"], item["source"], recommender.version)
                    for name, value in zip(SCHEMA.names, line, strict=True):
                        columns[name].append(value)
                done += 1
                rows += len(found.items)
                if done % _PEOPLE_AT_ONCE == 0:
                    writer.write_table(pa.table(columns, schema=SCHEMA))
                    columns = {name: [] for name in SCHEMA.names}
                    told(done)
            writer.write_table(pa.table(columns, schema=SCHEMA))
        os.replace(draft, to)
    told(done)
    return done, rows
