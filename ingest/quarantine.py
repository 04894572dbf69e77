"""Quarantine: the rows a run did not take, each with file, line, field and reason, as JSON lines under var/quarantine/.

A line is written when its batch is done, so a run that is killed keeps what it found. Only columns that the mapping
uses are kept, and none that holds an account or a person.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from graph.keys import AccountKey
from ingest.errors import IngestError
from ingest.mapping import Accounts, Identities, Mapping, Section, used_columns
from ingest.parse import Rejected
from ingest.sources.rows import Malformed


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not taken."""

    line: int
    values: Sequence[str] | Malformed
    reason: Rejected


class Quarantine:
    """The quarantined rows of one run; the file is made with the first of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[str] | None = None
        self.path: Path | None = None
        """The file; None while there is no bad row."""

    def add(
        self, mapping: Mapping, section: Section, file: Path, columns: Sequence[str], rows: Sequence[BadRow]
    ) -> None:
        """Write bad rows of one file down.

        Raises: IngestError if they cannot be written: a run does not go on without knowing what it left out.
        """
        if not rows:
            return
        shown = [(name, columns.index(name)) for name in _shown(mapping, section)]
        try:
            out = self._file or self._open()
            for row in rows:
                values = row.values
                fields = {} if isinstance(values, Malformed) else {name: values[at][:1000] for name, at in shown}
                record = {
                    "mapping": mapping.path.name,
                    "section": type(section).__name__.lower(),
                    "file": str(file),
                    "line": row.line,
                    "field": row.reason.field,
                    "value": row.reason.value[:1000],
                    "reason": row.reason.rule,
                    "row": fields,
                }
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
            out.flush()
        except OSError as error:
            raise IngestError(
                f"bad rows cannot be put into {self._directory}: {error.strerror}; make room or give another --var, "
                "and repeat the run, which adds only what is missing"
            ) from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> IO[str]:
        self._directory.mkdir(parents=True, exist_ok=True)
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        self.path = self._directory / f"{stamp}.jsonl"
        self._file = self.path.open("x", encoding="utf-8")
        return self._file


def forget(var: Path, accounts: Collection[AccountKey]) -> int:
    """Remove what quarantine holds of accounts; returns how many rows there were."""
    removed = 0
    for file in sorted((var / "quarantine").glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not any(account.digest in line for account in accounts)]
        if len(kept) < len(lines):
            draft = file.with_suffix(".draft")
            draft.write_text("".join(kept), encoding="utf-8")
            draft.replace(file)
            removed += len(lines) - len(kept)
    return removed


def _shown(mapping: Mapping, section: Section) -> list[str]:
    """The columns that may be kept: used by the mapping, and of nobody's identity."""
    if isinstance(section, (Accounts, Identities)):
        return []
    used = [] if mapping.platform.column is None else [mapping.platform.column]
    return [name for name in dict.fromkeys(used + used_columns(section)) if name not in mapping.private_columns]
