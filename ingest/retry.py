"""Retry: rejected rows are read again from their files with the mappings of today, and what now passes is taken."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from graph.keys import Pseudonyms
from graph.store import Store
from graph.tombstones import Tombstones
from ingest.errors import IngestError, SourceError
from ingest.load import Run, origins
from ingest.mapping import ItemLinks, read_mapping
from ingest.parse import Keyring
from ingest.plan import Part, plan
from ingest.quarantine import Origin, Waiting, alone, as_read, is_still, waiting
from ingest.report import IngestReport
from ingest.sources.files import is_url


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
    store.bury(Tombstones(var))
    run = Run(store, Keyring(pseudonyms), var, retrying=True)
    left: list[Left] = []
    with alone(var), (console or Console(quiet=True)).status("quarantine") as status:
        for (mapping, data), rows in _by_mapping(waiting(var)):
            planned, there = _planned(mapping, data, rows, left)
            for part, origin in planned:
                if isinstance(part.section, ItemLinks) and _knows(there):
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


def _by_mapping(rows: Sequence[Waiting]) -> list[tuple[tuple[Path, str], list[Waiting]]]:
    by: dict[tuple[Path, str], list[Waiting]] = {}
    for each in rows:
        by.setdefault((each.origin.mapping, each.origin.data), []).append(each)
    return sorted(by.items())


def _planned(
    mapping: Path, data: str, rows: Sequence[Waiting], left: list[Left]
) -> tuple[list[tuple[Part, Origin]], Lines]:
    """What the mapping of today reads, and the lines of it to try; what cannot be tried is left, and why."""
    why = {each.origin: _gone(each.origin) for each in rows if not _is_there(each.origin)}
    planned: list[tuple[Part, Origin]] = []
    if len(why) < len(rows):
        try:
            planned = origins(plan([read_mapping(mapping)], data), data)
        except IngestError as error:
            why = {each.origin: str(error) for each in rows} | why
    part_of = {origin: part for part, origin in planned}
    for each in rows:
        if each.origin not in why:
            part = part_of.get(each.origin)
            if part is None:
                why[each.origin] = _unread(each.origin)
            elif not all(is_still(part.file, state) for state in each.states):
                why[each.origin] = _changed(each.origin)
    known = {each.origin: (each.states, each.lines) for each in rows if each.origin not in why}
    planned = [
        (replace(part, file=as_read(part.file, *known.get(origin, ((), ())))), origin) for part, origin in planned
    ]
    left += [Left(each.origin, len(each.lines), why[each.origin]) for each in rows if each.origin in why]
    return planned, {each.origin: each.lines for each in rows if each.origin not in why}


def _is_there(origin: Origin) -> bool:
    return is_url(origin.data) or is_url(origin.file) or (Path(origin.data) / origin.file).exists()


def _gone(origin: Origin) -> str:
    return f"{Path(origin.data) / origin.file} is gone; put it back, or delete {origin.digest} in the quarantine"


def _unread(origin: Origin) -> str:
    return f"{origin.mapping} no longer reads it; name it there again, or delete {origin.digest} in the quarantine"


def _changed(origin: Origin) -> str:
    return (
        f"{origin.file} has changed since they were read, so its lines may be others; isthmus ingest {origin.mapping} "
        f"--data {origin.data} reads it anew"
    )


def _knows(there: Lines) -> bool:
    """Whether rows that are tried need to know which ids of a knowledge base are items."""
    return any(origin.section in {"itemlinks", "triples"} for origin in there)
