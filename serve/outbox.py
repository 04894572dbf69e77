"""The outbox: acknowledged events on their way to the store, in one SQLite file that every replica shares.

An event is acknowledged after its commit has reached the disk (WAL, synchronous=FULL), stays readable until the store
has it, and leaves only then; its event_id is remembered for 30 days, so
that sending it again (with the same type) is a duplicate.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from graph.errors import IsthmusError, StoreError, StoreUnavailableError
from graph.keys import AccountKey, ItemKey, PlatformKey, lone_user
from graph.records import LONE, Account, Event, Item, Link, Node, Platform
from graph.store import Store
from serve.errors import OutboxError

REMEMBERED_S: Final = 30 * 24 * 3600
BATCH: Final = 1000

_LOG = logging.getLogger("isthmus.outbox")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accepted (
    type TEXT, event_id TEXT, at INTEGER NOT NULL, PRIMARY KEY (type, event_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS accepted_at ON accepted (at);
CREATE TABLE IF NOT EXISTS pending (
    position INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, digest TEXT NOT NULL, event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pending_account ON pending (account);
CREATE INDEX IF NOT EXISTS pending_digest ON pending (digest);
CREATE TABLE IF NOT EXISTS refused (
    position INTEGER PRIMARY KEY, account TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL);
"""


class Outbox:
    """The file. Any number of threads and processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open it, making it where it is missing (readable by its owner only). Raises: OutboxError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._writer, self._reader = self._connect(), self._connect()
            self._writer.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"the outbox {path} cannot be opened ({error}): give a writable folder on a disk with space, "
                "or move the damaged file away"
            ) from error
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    def accept(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; on return they are on the disk. For each: True if it is new, False if it is a duplicate.

        Raises: OutboxError; then none of them is kept.
        """
        if not events:
            return []
        now = int(time.time())
        fresh: list[bool] = []
        with self._write_lock:
            try:
                with _Transaction(self._writer):
                    for event in events:
                        done = self._writer.execute(
                            "INSERT INTO accepted VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                            (event.type, event.event_id, now),
                        )
                        fresh.append(done.rowcount == 1)
                    self._writer.executemany(
                        "INSERT INTO pending (account, digest, event) VALUES (?, ?, ?)",
                        [
                            (event.account, event.account.digest, _dump(event))
                            for event, new in zip(events, fresh, strict=True)
                            if new
                        ],
                    )
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be written ({error}): see to its disk") from error
        return fresh

    def pending_of(self, accounts: Iterable[AccountKey] = (), digest: str | None = None) -> list[Event]:
        """Events on their way of these accounts, and of any account with this digest, oldest first."""
        query = """
            SELECT event FROM pending WHERE account IN (SELECT value FROM json_each(?)) OR digest = ? ORDER BY position
        """
        rows = self._read(query, [orjson.dumps(list(accounts)).decode(), digest])
        return [_load(text) for (text,) in rows]

    def pending(self, limit: int = BATCH) -> list[tuple[int, Event]]:
        """The oldest events on their way, with their positions."""
        rows = self._read("SELECT position, event FROM pending ORDER BY position LIMIT ?", [limit])
        return [(position, _load(text)) for position, text in rows]

    def is_empty(self) -> bool:
        """Whether the store has everything."""
        return not self._read("SELECT 1 FROM pending LIMIT 1")

    def counts(self) -> tuple[int, int]:
        """How many events are on their way, and how many the store refused and are kept here."""
        ((pending, refused),) = self._read("SELECT (SELECT count(*) FROM pending), (SELECT count(*) FROM refused)")
        return pending, refused

    def settle(self, positions: Sequence[int], refused: Sequence[tuple[int, str]] = ()) -> None:
        """The store has the events at these positions; those it can never take are kept aside with the reason."""
        with self._write_lock:
            try:
                with _Transaction(self._writer):
                    self._writer.executemany(
                        "INSERT OR IGNORE INTO refused "
                        "SELECT position, account, event, ?2 FROM pending WHERE position = ?1",
                        refused,
                    )
                    done = [*positions, *(position for position, _ in refused)]
                    self._writer.executemany("DELETE FROM pending WHERE position = ?", [(one,) for one in done])
                    self._writer.execute("DELETE FROM accepted WHERE at < ?", (int(time.time()) - REMEMBERED_S,))
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be written ({error}): see to its disk") from error

    def accounts(self) -> set[AccountKey]:
        """The accounts that something is kept of."""
        rows = self._read("SELECT account FROM pending UNION SELECT account FROM refused")
        return {AccountKey.parse(account) for (account,) in rows}

    def forget(self, accounts: Iterable[AccountKey], events: Iterable[tuple[str, str]] = ()) -> int:
        """Remove every event of these accounts, for the erasure of a person; returns how many there were.

        Args:
            events: type and event_id of further events of theirs, which are not remembered as accepted either.
        """
        keys = [(account,) for account in accounts]
        waiting = self._read(
            "SELECT event FROM pending WHERE account IN (SELECT value FROM json_each(?1)) "
            "UNION ALL SELECT event FROM refused WHERE account IN (SELECT value FROM json_each(?1))",
            [orjson.dumps([key for (key,) in keys]).decode()],
        )
        ids = [*events, *((event.type, event.event_id) for event in (_load(text) for (text,) in waiting))]
        with self._write_lock:
            try:
                with _Transaction(self._writer):
                    before = self._writer.total_changes
                    self._writer.executemany("DELETE FROM pending WHERE account = ?", keys)
                    self._writer.executemany("DELETE FROM refused WHERE account = ?", keys)
                    removed = self._writer.total_changes - before
                    self._writer.executemany("DELETE FROM accepted WHERE type = ? AND event_id = ?", ids)
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                return removed
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be written ({error}): see to its disk") from error

    def close(self) -> None:
        """Give back the file; safe to call again."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._read_lock:
            try:
                return self._reader.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be read ({error}): see to its disk") from error


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when anything is raised, COMMIT included."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        else:
            self._rollback()

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def drain(outbox: Outbox, store: Store, limit: int = BATCH) -> int:
    """Move the oldest events into the store, in order; returns how many left the outbox. Doing it twice is harmless.

    Raises: StoreUnavailableError (nothing has left then); OutboxError.
    """
    rows = outbox.pending(limit)
    if not rows:
        return 0
    try:
        _write(store, [event for _, event in rows])
    except StoreUnavailableError:
        raise
    except IsthmusError:
        return _drain_singly(outbox, store, rows)
    outbox.settle([position for position, _ in rows])
    return len(rows)


def _drain_singly(outbox: Outbox, store: Store, rows: Sequence[tuple[int, Event]]) -> int:
    """One by one, so that one bad event cannot hold the others up; where none gets through, the store is at fault."""
    done: list[int] = []
    refused: list[tuple[int, str]] = []
    last: StoreError | None = None
    for position, event in rows:
        try:
            _write(store, [event])
        except StoreUnavailableError:
            outbox.settle(done)
            raise
        except IsthmusError as error:
            refused.append((position, str(error)))
            last = error if isinstance(error, StoreError) else last
        else:
            done.append(position)
    if last is not None and not done:
        raise last
    for position, reason in refused:
        _LOG.error("the store refuses an acknowledged event (position %d), kept in the outbox: %s", position, reason)
    outbox.settle(done, refused)
    return len(rows)


def _write(store: Store, events: Sequence[Event]) -> None:
    """Write events; those of accounts that were erased meanwhile go nowhere."""
    erased = store.erased({event.account for event in events})
    events = [event for event in events if event.account not in erased]
    accounts = list(dict.fromkeys(event.account for event in events))
    items = list(dict.fromkeys(event.item for event in events))
    platforms = sorted({key.platform for key in accounts} | {key.platform for key in items})
    nodes: list[Node] = [Platform(PlatformKey(name)) for name in platforms]
    nodes += [Account(key) for key in accounts]
    nodes += [Item(key) for key in items if key not in {known.key for known in store.items(items)}]
    store.upsert_nodes(nodes)
    store.link([Link(key, lone_user(key), LONE) for key in accounts])
    store.upsert_edges(events)


class Drainer:
    """A thread that drains while it holds the outbox's lease: of all replicas on the machine one drains at a time."""

    def __init__(
        self,
        outbox: Outbox,
        open_store: Callable[[], Store],
        *,
        idle_s: float = 0.2,
        first_retry_s: float = 0.5,
        longest_retry_s: float = 30.0,
    ) -> None:
        self._outbox = outbox
        self._open_store = open_store
        self._idle_s, self._first_retry_s, self._longest_retry_s = idle_s, first_retry_s, longest_retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-drainer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the batch at hand; what is left stays in the outbox for the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        lease = os.open(self._outbox.path.with_name(self._outbox.path.name + ".lease"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not self._stop.is_set():
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stop.wait(1.0)
                    continue
                self._drain_while_leased()
        finally:
            os.close(lease)

    def _drain_while_leased(self) -> None:
        store: Store | None = None
        retry_s = self._first_retry_s
        try:
            while not self._stop.is_set():
                try:
                    if self._outbox.is_empty():
                        self._stop.wait(self._idle_s)
                        continue
                    if store is None:
                        store = self._open_store()
                        store.ensure_schema()
                    while drain(self._outbox, store) and not self._stop.is_set():
                        retry_s = self._first_retry_s
                except Exception as error:  # whatever it is, acknowledged events must still arrive
                    known = isinstance(error, IsthmusError)
                    _LOG.warning(
                        "events wait in the outbox, next try in %.1f s: %s", retry_s, error, exc_info=not known
                    )
                    if store is not None:
                        store.close()
                        store = None
                    self._stop.wait(retry_s)
                    retry_s = min(2 * retry_s, self._longest_retry_s)
        finally:
            if store is not None:
                store.close()


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
