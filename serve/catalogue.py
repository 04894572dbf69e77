"""The catalogue: items that were put or deleted over HTTP, in the outbox's file, for as long as a bundle may lack them.

Every change has a number higher than all before it, so a replica that has seen number n asks for what came after n. A
deletion stays for ever: a bundle or an export may still have the item.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from graph.keys import ItemKey
from graph.records import Item
from graph.stored import EPOCH, MICROSECOND
from serve.database import Database

BATCH: Final = 1000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, item TEXT, stand_ins TEXT, at INTEGER NOT NULL,
    drained INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS items_number ON items (number);
CREATE INDEX IF NOT EXISTS items_undrained ON items (number) WHERE NOT drained;
CREATE INDEX IF NOT EXISTS items_unread ON items (number) WHERE item IS NOT NULL AND stand_ins IS NULL;
"""
_NEXT: Final = "(SELECT coalesce(max(number), 0) + 1 FROM items)"
_COLUMNS: Final = "number, key, item, stand_ins, at"


@dataclass(frozen=True, slots=True)
class Change:
    """What an item is now."""

    number: int
    key: ItemKey
    item: Item | None
    """None: it was deleted."""
    stand_ins: Mapping[str, float] | None
    """See models.grown; None until its text was read."""
    at: datetime


class Catalogue:
    """The table. Any number of threads and processes may use it at once."""

    def __init__(self, database: Database) -> None:
        """Make the table where it is missing. Raises: OutboxError."""
        self._database = database
        database.ensure(_SCHEMA)

    def put(self, item: Item) -> None:
        """Keep an item as it is now; on return it is on the disk. Its text is read again if it is another."""
        query = f"""
            INSERT INTO items (key, number, item, at) VALUES (?1, {_NEXT}, ?2, ?3)
            ON CONFLICT (key) DO UPDATE SET number = excluded.number, item = excluded.item, at = excluded.at,
                drained = 0, stand_ins = iif(item ->> 'description' = excluded.item ->> 'description', stand_ins, NULL)
        """  # noqa: S608
        with self._database.write() as connection:
            connection.execute(query, (item.key, _dump(item), _now()))

    def delete(self, key: ItemKey) -> None:
        """Remember that there is no such item any more; on return it is on the disk."""
        query = f"""
            INSERT INTO items (key, number, at) VALUES (?1, {_NEXT}, ?2) ON CONFLICT (key) DO UPDATE SET
                number = excluded.number, item = NULL, stand_ins = NULL, at = excluded.at, drained = 0
        """  # noqa: S608
        with self._database.write() as connection:
            connection.execute(query, (key, _now()))

    def newest(self) -> int:
        """The number of the last change; 0 where there was none."""
        ((number,),) = self._database.read("SELECT coalesce(max(number), 0) FROM items")
        return int(number)

    def since(self, number: int) -> list[Change]:
        """Changes after this number, in order, each item's last."""
        query = f"SELECT {_COLUMNS} FROM items WHERE number > ? ORDER BY number"  # noqa: S608
        return [_change(row) for row in self._database.read(query, [number])]

    def find(self, keys: Collection[str]) -> dict[str, Change]:
        """What these items are now, those of them that were put or deleted."""
        query = f"SELECT {_COLUMNS} FROM items WHERE key IN (SELECT value FROM json_each(?))"  # noqa: S608
        rows = self._database.read(query, [orjson.dumps(list(keys)).decode()])
        return {change.key: change for change in map(_change, rows)}

    def undrained(self) -> list[Change]:
        """Changes that the store has not heard of, oldest first."""
        query = f"SELECT {_COLUMNS} FROM items WHERE NOT drained ORDER BY number LIMIT {BATCH}"  # noqa: S608
        return [_change(row) for row in self._database.read(query)]

    def settle(self, changes: Iterable[Change]) -> None:
        """The store has these, unless something was changed again meanwhile."""
        with self._database.write() as connection:
            rows = [(change.key, (change.at - EPOCH) // MICROSECOND) for change in changes]
            connection.executemany("UPDATE items SET drained = 1 WHERE key = ? AND at = ?", rows)

    def unread(self) -> list[Change]:
        """Items whose text has not been read, oldest first."""
        query = f"""
            SELECT {_COLUMNS} FROM items WHERE item IS NOT NULL AND stand_ins IS NULL ORDER BY number LIMIT {BATCH}
        """  # noqa: S608
        return [_change(row) for row in self._database.read(query)]

    def read(self, changes: Sequence[Change], stand_ins: Sequence[Mapping[str, float]]) -> None:
        """Keep what stands in for these items, unless something was changed meanwhile; replicas see it as a change."""
        query = f"UPDATE items SET stand_ins = ?3, number = {_NEXT} WHERE key = ?1 AND number = ?2"  # noqa: S608
        with self._database.write() as connection:
            for change, each in zip(changes, stand_ins, strict=True):
                connection.execute(query, (change.key, change.number, orjson.dumps(each).decode()))


def _now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def _change(row: Sequence[Any]) -> Change:
    number, key, item, stand_ins, at = row
    return Change(
        number,
        ItemKey.parse(key),
        None if item is None else _load(key, item),
        None if stand_ins is None else orjson.loads(stand_ins),
        EPOCH + at * MICROSECOND,
    )


def _dump(item: Item) -> str:
    return orjson.dumps(
        {
            "title": item.title,
            "text": item.text,
            "url": item.url,
            "created_at": None if item.created_at is None else item.created_at.isoformat(),
            "attributes": dict(item.attributes),
            "description": item.description,
        }
    ).decode()


def _load(key: str, text: str) -> Item:
    fields = orjson.loads(text)
    created_at = fields["created_at"]
    return Item(
        ItemKey.parse(key),
        title=fields["title"],
        text=fields["text"],
        url=fields["url"],
        created_at=None if created_at is None else datetime.fromisoformat(created_at).astimezone(UTC),
        attributes=fields["attributes"],
    )
