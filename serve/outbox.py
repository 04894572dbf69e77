"""The outbox: acknowledged events on their way to the store, in one SQLite file that every replica shares.

An event is acknowledged after its commit has reached the disk (WAL, synchronous=FULL), stays readable until the store
has it, and leaves only then; its event_id is remembered for 30 days, so that sending it again (with the same type) is a
duplicate. `serve.drain` moves events on.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from graph.keys import AccountKey, ItemKey
from graph.records import Event
from serve.catalogue import Catalogue
from serve.database import Database
from serve.newest import Newest

REMEMBERED_S: Final = 30 * 24 * 3600
BATCH: Final = 1000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS accepted (
    type TEXT, event_id TEXT, at INTEGER NOT NULL, PRIMARY KEY (type, event_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS accepted_at ON accepted (at);
CREATE TABLE IF NOT EXISTS pending (
    position INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, digest TEXT NOT NULL, event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pending_account ON pending (account);
CREATE INDEX IF NOT EXISTS pending_digest ON pending (digest);
CREATE TABLE IF NOT EXISTS refused (
    position INTEGER PRIMARY KEY, account TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS held (
    account TEXT PRIMARY KEY, position INTEGER NOT NULL, tries INTEGER NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS logins (
    session TEXT, account TEXT, at REAL NOT NULL, PRIMARY KEY (session, account)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Login:
    """A session turned out to be an account's: what was done in it, the account's person did."""

    session: AccountKey
    account: AccountKey
    at: datetime


class Outbox(Database):
    """The file. Any number of threads and processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open it, making it where it is missing (readable by its owner only). Raises: OutboxError."""
        super().__init__(path, _SCHEMA)
        self.catalogue: Final = Catalogue(self)
        """Items that were put or deleted, which go to the store before events do."""
        self.newest: Final = Newest(self)
        """What the events that left last were of."""

    def accept(self, events: Sequence[Event], logins: Iterable[Login] = ()) -> list[bool]:
        """Keep events and logins; on return they are on the disk. For each event: True if new, False if a duplicate.

        Raises: OutboxError; then none of them is kept.
        """
        joined = [(login.session, login.account, login.at.timestamp()) for login in logins]
        if not events and not joined:
            return []
        now = int(time.time())
        fresh: list[bool] = []
        with self.write() as connection:
            for event in events:
                done = connection.execute(
                    "INSERT INTO accepted VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (event.type, event.event_id, now)
                )
                fresh.append(done.rowcount == 1)
            connection.executemany(
                "INSERT INTO pending (account, digest, event) VALUES (?, ?, ?)",
                [
                    (event.account, event.account.digest, _dump(event))
                    for event, new in zip(events, fresh, strict=True)
                    if new
                ],
            )
            connection.executemany("INSERT OR IGNORE INTO logins VALUES (?, ?, ?)", joined)
        return fresh

    def pending_of(self, accounts: Iterable[AccountKey] = (), digest: str | None = None) -> list[Event]:
        """Events on their way of these accounts, and of any account with this digest, oldest first."""
        query = """
            SELECT event FROM pending WHERE account IN (SELECT value FROM json_each(?)) OR digest = ? ORDER BY position
        """
        rows = self.read(query, [_json(accounts), digest])
        return [_load(text) for (text,) in rows]

    def pending(self, limit: int = BATCH) -> list[tuple[int, Event]]:
        """The oldest events on their way, with their positions."""
        rows = self.read("SELECT position, event FROM pending ORDER BY position LIMIT ?", [limit])
        return [(position, _load(text)) for position, text in rows]

    def due(self, limit: int, now: float) -> list[tuple[int, Event]]:
        """The oldest events of accounts none of whose events waits to be tried again, with their positions."""
        query = """
            SELECT position, event FROM pending WHERE account NOT IN (SELECT account FROM held WHERE until > ?)
            ORDER BY position LIMIT ?
        """
        return [(position, _load(text)) for position, text in self.read(query, [now, limit])]

    def logins(self) -> list[Login]:
        """Logins that the store has not heard of."""
        rows = self.read("SELECT session, account, at FROM logins ORDER BY at, session, account")
        return [
            Login(AccountKey.parse(session), AccountKey.parse(account), datetime.fromtimestamp(at, UTC))
            for session, account, at in rows
        ]

    def settle_logins(self, logins: Iterable[Login]) -> None:
        """The store has heard of these."""
        with self.write() as connection:
            rows = [(login.session, login.account) for login in logins]
            connection.executemany("DELETE FROM logins WHERE session = ? AND account = ?", rows)

    def sessions_of(self, accounts: Iterable[AccountKey], digest: str) -> list[AccountKey]:
        """Sessions of these accounts, and of any with this digest, that the store has not heard of."""
        query = """
            SELECT session FROM logins
            WHERE account IN (SELECT value FROM json_each(?1)) OR substr(account, -length(?2) - 1) = ':' || ?2
        """
        return [AccountKey.parse(session) for (session,) in self.read(query, [_json(accounts), digest])]

    def is_empty(self) -> bool:
        """Whether the store has heard of everything."""
        return not self.read("SELECT 1 FROM pending UNION ALL SELECT 1 FROM logins LIMIT 1")

    def has_work(self, now: float) -> bool:
        """Whether there is something that the store may be given now."""
        query = """
            SELECT 1 FROM pending WHERE account NOT IN (SELECT account FROM held WHERE until > ?)
            UNION ALL SELECT 1 FROM logins UNION ALL SELECT 1 FROM items WHERE NOT drained LIMIT 1
        """
        return bool(self.read(query, [now]))

    def counts(self) -> tuple[int, int]:
        """How many events are on their way, and how many the store refused and are kept here."""
        ((pending, refused),) = self.read("SELECT (SELECT count(*) FROM pending), (SELECT count(*) FROM refused)")
        return pending, refused

    def settle(self, positions: Sequence[int], refused: Sequence[tuple[int, str]] = ()) -> None:
        """The store has the events at these positions; those it can never take are kept aside with the reason."""
        with self.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO refused SELECT position, account, event, ?2 FROM pending WHERE position = ?1",
                refused,
            )
            self.newest.take(connection, positions, time.time())
            done = [(one,) for one in (*positions, *(position for position, _ in refused))]
            connection.executemany("DELETE FROM pending WHERE position = ?", done)
            connection.executemany("DELETE FROM held WHERE position = ?", done)
            connection.execute("DELETE FROM accepted WHERE at < ?", (int(time.time()) - REMEMBERED_S,))

    def hold(self, position: int, account: AccountKey, now: float, first_wait_s: float) -> int:
        """Try the event at this position again later, and nothing of its account before; returns how often it failed.

        The wait doubles with every failure.
        """
        query = """
            INSERT INTO held VALUES (?1, ?2, 1, ?3 + ?4) ON CONFLICT (account) DO UPDATE SET
                tries = iif(position = ?2, tries + 1, 1), until = ?3 + ?4 * (1 << iif(position = ?2, tries, 0)),
                position = ?2
            RETURNING tries
        """
        with self.write() as connection:
            ((tries,),) = connection.execute(query, (account, position, now, first_wait_s)).fetchall()
        return int(tries)

    def held(self, positions: Sequence[int]) -> bool:
        """Whether any of these events has failed before, while others got through."""
        query = "SELECT 1 FROM held WHERE position IN (SELECT value FROM json_each(?)) LIMIT 1"
        return bool(self.read(query, [orjson.dumps(positions).decode()]))

    def accounts(self) -> set[AccountKey]:
        """The accounts that something is kept of."""
        rows = self.read(
            "SELECT account FROM pending UNION SELECT account FROM refused UNION SELECT account FROM logins "
            "UNION SELECT session FROM logins"
        )
        return {AccountKey.parse(account) for (account,) in rows}

    def forget(self, accounts: Iterable[AccountKey], events: Iterable[tuple[str, str]] = ()) -> int:
        """Remove every event of these accounts, for the erasure of a person; returns how many there were.

        Args:
            events: type and event_id of further events of theirs, which are not remembered as accepted either.
        """
        keys = [(account,) for account in accounts]
        waiting = self.read(
            "SELECT event FROM pending WHERE account IN (SELECT value FROM json_each(?1)) "
            "UNION ALL SELECT event FROM refused WHERE account IN (SELECT value FROM json_each(?1))",
            [_json(key for (key,) in keys)],
        )
        ids = [*events, *((event.type, event.event_id) for event in (_load(text) for (text,) in waiting))]
        with self.write() as connection:
            before = connection.total_changes
            connection.executemany("DELETE FROM pending WHERE account = ?", keys)
            connection.executemany("DELETE FROM refused WHERE account = ?", keys)
            removed = connection.total_changes - before
            connection.executemany("DELETE FROM held WHERE account = ?", keys)
            connection.executemany("DELETE FROM logins WHERE account = ?1 OR session = ?1", keys)
            connection.executemany("DELETE FROM accepted WHERE type = ? AND event_id = ?", ids)
        self.empty_log()
        return removed


def _json(keys: Iterable[str]) -> str:
    return orjson.dumps(list(keys)).decode()


def _dump(event: Event) -> bytes:
    return orjson.dumps(
        {
            "event_id": event.event_id,
            "type": event.type,
            "account": str(event.account),
            "item": str(event.item),
            "at": event.at.isoformat(),
            "weight": event.weight,
            "value": event.value,
            "sequence": event.sequence,
            "context": dict(event.context),
        }
    )


def _load(text: bytes) -> Event:
    fields = orjson.loads(text)
    return Event(
        event_id=fields["event_id"],
        type=fields["type"],
        account=AccountKey.parse(fields["account"]),
        item=ItemKey.parse(fields["item"]),
        at=datetime.fromisoformat(fields["at"]).astimezone(UTC),
        weight=fields["weight"],
        value=fields["value"],
        sequence=fields["sequence"],
        context=fields["context"],
    )
