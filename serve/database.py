"""A SQLite file of the server's own, which every replica of the machine shares: one connection writes, one reads."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serve.errors import OutboxError


class Database:
    """The file. Any number of threads and processes may use it at once; what it raises is OutboxError."""

    def __init__(self, path: Path, schema: str, *, durable: bool = True) -> None:
        """Open it, making it where it is missing (readable by its owner only).

        Args:
            schema: statements that may be run again.
            durable: whether what was written survives a loss of power (synchronous=FULL); all survives `kill -9`.
        """
        self.path = path
        self._synchronous = "FULL" if durable else "NORMAL"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._writer, self._reader = self._connect(), self._connect()
            self._writer.executescript(schema)
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"the outbox {path} cannot be opened ({error}): give a writable folder on a disk with space, "
                "or move the damaged file away"
            ) from error
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    def ensure(self, schema: str) -> None:
        """Make further tables, with statements that may be run again. Raises: OutboxError."""
        with self.write() as connection:
            for statement in schema.split(";"):
                connection.execute(statement)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on the disk when the block ends, undone when it raises. Raises: OutboxError."""
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                finally:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be written ({error}): see to its disk") from error

    def read(self, query: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """The rows of a query. Raises: OutboxError."""
        with self._read_lock:
            try:
                return self._reader.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} cannot be read ({error}): see to its disk") from error

    def empty_log(self) -> None:
        """Move the write-ahead log into the file and empty it, so that what was deleted is in neither."""
        with self._write_lock:
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
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
