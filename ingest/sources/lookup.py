"""A table of ids on disk, and a source whose rows have one of its fields looked up in it; memory has a bound."""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from ingest.sources.rows import Malformed, Row, Source

_BATCH: Final = 10_000


class Lookup:
    """Id → what it stands for, in a file that goes when this is closed; of an id given twice the first one counts."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="isthmus-lookup-")
        self._table = sqlite3.connect(Path(self._folder.name) / "ids.db", isolation_level=None)
        try:
            for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "BEGIN"):
                self._table.execute(statement)
            self._table.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, target TEXT NOT NULL) WITHOUT ROWID")
            self._table.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", pairs)
            self._table.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def found(self, ids: Sequence[str]) -> dict[str, str]:
        """Those of the ids that it has."""
        marks = ", ".join("?" * len(ids))
        return dict(self._table.execute(f"SELECT id, target FROM ids WHERE id IN ({marks})", ids))  # noqa: S608

    def close(self) -> None:
        self._table.close()
        self._folder.cleanup()


class LookedUp:
    """The rows of a source with one of their fields replaced where a table has it; closes the table with itself."""

    def __init__(self, source: Source, column: str, lookup: Lookup) -> None:
        self._source = source
        self._at = list(source.columns).index(column)
        self._lookup = lookup
        self.columns = source.columns
        self.position = source.position

    def rows(self) -> Iterator[Row]:
        at, rows = self._at, self._source.rows()
        while batch := list(islice(rows, _BATCH)):
            fields = [values for _, values in batch if not isinstance(values, Malformed)]
            found = self._lookup.found(list({values[at] for values in fields}))
            for values in fields:
                values[at] = found.get(values[at], values[at])
            yield from batch

    def close(self) -> None:
        self._source.close()
        self._lookup.close()
