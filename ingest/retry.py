"""Retry: rejected rows are read again from their files with the mappings of today, and what now passes is taken."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from graph.keys import Pseudonyms
from graph.store import Store
from ingest.errors import IngestError, SourceError
from ingest.load import Run, origins
from ingest.mapping import ItemLinks, read_mapping
from ingest.parse import Keyring
from ingest.plan import Part, plan
from ingest.quarantine import Origin, Waiting, waiting
from ingest.report import IngestReport


@dataclass(frozen=True, slots=True)
class Left:
    """Rejected rows that could not be tried."""

    origin: Origin
    rows: int
    why: str
    """A sentence with the next step."""


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What became of the rows in quarantine; tried.total.read and the rows of `left` are all that were there."""

    tried: IngestReport
    left: Sequence[Left]

    def __str__(self) -> str:
        lines = [str(self.tried)] if self.tried.files else []
        lines += [
            f"{each.origin.file} ({each.origin.section}): {each.rows:,} rows not tried: {each.why}"
            for each in self.left
        ]
        return "\n".join(lines) or "there is nothing in quarantine"


def retry(store: Store, pseudonyms: Pseudonyms, var: Path, *, console: Console | None = None) -> RetryReport:
    """Read the rows in quarantine again, those of a file that has not changed since, and take those that now pass.

    The mappings are read as they are now. A row that passes leaves quarantine; sending it again changes nothing, so a
    retry that is killed can be repeated. A row that contradicts others is held against what the store has.

    Raises: StoreError; IngestError if a part of the quarantine is damaged.
    """
    started = time.perf_counter()
    store.ensure_schema()
    run, left = Run(store, Keyring(pseudonyms), var, retrying=True), []
    with (console or Console(quiet=True)).status("quarantine") as status:
        for (mapping, data), rows in _by_mapping(waiting(var)):
            there = {each.origin: each.lines for each in rows if each.unchanged}
            left += [Left(each.origin, len(each.lines), _changed(each.origin)) for each in rows if not each.unchanged]
            for part, origin in _planned(mapping, data, there, left):
                if isinstance(part.section, ItemLinks) and _knows(part, there):
                    run.hold_links(part, part.section)
                if origin in there:
                    status.update(f"{origin.file}: {len(there[origin]):,} rows")
                    try:
                        run.load(part, origin, there[origin])
                    except SourceError as error:
                        left.append(Left(origin, len(there[origin]), str(error)))
    seconds = time.perf_counter() - started
    return RetryReport(IngestReport(run.files, seconds, var / "quarantine", run.broken()), left)


Lines = dict[Origin, frozenset[int]]


def _by_mapping(rows: Sequence[Waiting]) -> list[tuple[tuple[Path, Path], list[Waiting]]]:
    by: dict[tuple[Path, Path], list[Waiting]] = {}
    for each in rows:
        by.setdefault((each.origin.mapping, each.origin.data), []).append(each)
    return sorted(by.items())


def _planned(mapping: Path, data: Path, there: Lines, left: list[Left]) -> list[tuple[Part, Origin]]:
    """What the mapping of today reads; what it does not read any more, or not without an error, is left."""
    if not there:
        return []
    try:
        planned = origins(plan([read_mapping(mapping)], data), data)
    except IngestError as error:
        left += [Left(origin, len(lines), str(error)) for origin, lines in there.items()]
        return []
    read = {origin for _, origin in planned}
    for origin, lines in there.items():
        if origin not in read:
            why = f"{mapping} no longer reads it; name it there again, or delete {origin.digest} in the quarantine"
            left.append(Left(origin, len(lines), why))
    return planned


def _knows(links: Part, there: Lines) -> bool:
    """Whether rows that are tried need to know which ids of a knowledge base are items."""
    return links.knowledge is not None and any(origin.section in {"itemlinks", "triples"} for origin in there)


def _changed(origin: Origin) -> str:
    if not origin.state():
        return f"{origin.path} is gone; put it back, or delete {origin.digest} in the quarantine"
    return (
        f"{origin.path} has changed since they were read, so its lines may be others; isthmus ingest {origin.mapping} "
        f"--data {origin.data} reads it anew"
    )
