"""The newest events that reached the store: what they were of and in which minute they came, and nobody's.

They are in the outbox's file, written in the transaction in which events leave it, so each counts once. Events that
`isthmus ingest` writes are not among them.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from models.drift import NEWEST, counted
from serve.database import Database

MINUTE_S: Final = 60

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS newest (
    position INTEGER PRIMARY KEY, minute INTEGER NOT NULL, type TEXT NOT NULL, item TEXT NOT NULL)
"""


class Newest:
    """The table. Any number of threads and processes may use it at once."""

    def __init__(self, database: Database) -> None:
        """Make the table where it is missing. Raises: OutboxError."""
        self._database = database
        database.ensure(_SCHEMA)

    def take(self, connection: sqlite3.Connection, positions: Sequence[int], now: float) -> None:
        """Remember the pending events at these positions, in the transaction of `connection`, and forget older ones."""
        connection.executemany(
            "INSERT OR IGNORE INTO newest SELECT position, ?2, cast(event AS TEXT) ->> 'type', "
            "cast(event AS TEXT) ->> 'item' FROM pending WHERE position = ?1",
            [(position, int(now // MINUTE_S)) for position in positions],
        )
        connection.execute("DELETE FROM newest WHERE position <= (SELECT max(position) FROM newest) - ?", (NEWEST,))

    def counts(self, since: float) -> tuple[int, dict[str, dict[str, int]]]:
        """How many there are from later minutes than this instant's, and of what (models.drift.counted)."""
        rows = self._database.read("SELECT item, type FROM newest WHERE minute > ?", [int(since // MINUTE_S)])
        return len(rows), counted(rows)
