"""Load: mappings → rows → records → store, in batches of bounded memory, nodes before edges; again changes nothing."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from graph.keys import AccountKey, ItemKey, PlatformKey, Pseudonyms, UserKey
from graph.records import Event, Platform
from graph.store import Store, WriteCounts
from graph.tombstones import Tombstones
from ingest.errors import IngestError
from ingest.identity import People
from ingest.mapping import Accounts, Events, Identities, ItemLinks, Items, Mapping, Triples
from ingest.parse import (
    Keyring,
    ParsedAccount,
    ParsedItem,
    ParsedTriple,
    Rejected,
    Values,
    account_parser,
    event_parser,
    identity_parser,
    item_parser,
    link_parser,
    triple_parser,
)
from ingest.plan import Part, plan
from ingest.quarantine import BadRow, Quarantine
from ingest.report import FileReport, IngestReport
from ingest.sources.rows import Malformed, Source, open_source

BATCH: Final = 50_000
"""Rows that are parsed and written together."""

_QUIET_S: Final = 2.0
"""A run shorter than this shows no progress bar."""

_REMEMBERED: Final = 1_000_000
"""Keys known to be in the store that are held; beyond, the store is asked again."""


def ingest(
    mappings: Sequence[Mapping],
    store: Store,
    pseudonyms: Pseudonyms,
    var: Path,
    *,
    data: Path,
    console: Console | None = None,
) -> IngestReport:
    """Read what the mappings describe into the store.

    All files are found and their columns checked before anything is written. Identity tables come first, then
    catalogues, knowledge and events, each over all mappings. A table that two mappings name is read once.

    Args:
        data: the directory that the mappings' files are relative to.
        console: where a progress bar goes when the run takes over 2 seconds and it is a terminal.
    Raises: MappingError, SourceError (nothing is written); StoreError; IngestError. What was written before an
        error stays; the same run again adds the rest.
    """
    parts = plan(mappings, data)
    started = time.perf_counter()
    store.ensure_schema()
    store.bury(Tombstones(var))
    with Quarantine(var / "quarantine") as quarantine, _Progress(parts, console) as progress, _no_cycle_collection():
        run = _Run(store, Keyring(pseudonyms), quarantine, progress, data)
        for part in parts:
            run.load(part)
        reasons, left_out = run.reasons.most_common(), run.people.left_out()
        return IngestReport(run.files, time.perf_counter() - started, quarantine.path, reasons, left_out)


_ANOTHERS: Final = Rejected("account", "", "belongs to another person by an earlier row")
_ERASED: Final = Rejected("account", "", "is of somebody who was erased: it is not taken again")
_UNKNOWN_ITEM: Final = "is an item that no items file of this run or an earlier one names"

RecordT = TypeVar("RecordT")
KeyT = TypeVar("KeyT", bound=str)


class _Run:
    """One run's state: what is known to be in the store, and the reports so far."""

    def __init__(
        self, store: Store, keyring: Keyring, quarantine: Quarantine, progress: "_Progress", data: Path
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._quarantine = quarantine
        self._progress = progress
        self._data = data
        self.people = People(store)
        self._platforms: set[str] = set()
        self._items: set[ItemKey] = set()
        self._entities: set[str] = set()
        self._links: dict[int, dict[str, ItemKey]] = {}
        self.files: list[FileReport] = []
        self.reasons: Counter[str] = Counter()

    def load(self, part: Part) -> None:
        """Read one file into the store."""
        source = open_source(part.path, part.section)
        try:
            given = part.mapping, source.columns, self._keyring
            match part.section:
                case Identities() as section:
                    self._read(part, source, identity_parser(section, *given), self._write_identities)
                case Accounts() as section:
                    self._read(part, source, account_parser(section, *given), self._write_accounts)
                case Items() as section:
                    self._read(part, source, item_parser(section, *given), self._write_items)
                case Events() as section:
                    self._read(part, source, event_parser(section, *given), self._write_events)
                case ItemLinks() as section:
                    links = self._links.setdefault(id(part.knowledge), {})
                    self._read(part, source, link_parser(section, *given), self._holder(links))
                case Triples() if part.knowledge is not None:
                    links = self._links.get(id(part.knowledge), {})
                    self._read(part, source, triple_parser(part.knowledge, source.columns, links), self._write_triples)
        finally:
            source.close()

    def _read(
        self,
        part: Part,
        source: Source,
        parse: Callable[[Values], RecordT | Rejected],
        write: "Callable[[list[RecordT]], _Written]",
    ) -> None:
        started = time.perf_counter()
        read = accepted = duplicates = rejected = 0
        places: list[tuple[int, Values | Malformed]] = []
        records: list[RecordT] = []
        bad: list[BadRow] = []

        def flush() -> None:
            nonlocal accepted, duplicates, rejected
            if records:
                written = write(records)
                accepted += written.counts.created
                duplicates += written.counts.existing
                bad.extend(BadRow(*places[at], reason) for at, reason in written.refused)
            for row in bad:
                self.reasons[f"{row.reason.field} {row.reason.rule}".strip()] += 1
            rejected += len(bad)
            bad.sort(key=lambda row: row.line)
            self._quarantine.add(part.mapping, part.section, part.path, source.columns, bad)
            self._progress.update(part, source.position())
            places.clear()
            records.clear()
            bad.clear()

        rows = source.rows()
        while batch := list(islice(rows, BATCH)):
            read += len(batch)
            for row in batch:
                line, values = row
                record = Rejected("", "", values.rule) if isinstance(values, Malformed) else parse(values)
                if isinstance(record, Rejected):
                    bad.append(BadRow(line, values, record))
                else:
                    places.append(row)
                    records.append(record)
            flush()
        file = str(part.path.relative_to(self._data))
        if accepted + duplicates + rejected != read:
            raise IngestError(
                f"{file}: {accepted} accepted, {duplicates} duplicates and {rejected} rejected do not make the {read} "
                "rows that were read: this is a fault of Isthmus, please report it"
            )
        name = type(part.section).__name__.lower()
        seconds = time.perf_counter() - started
        self.files.append(FileReport(file, name, read, accepted, duplicates, rejected, seconds))

    def _write_identities(self, pairs: list[tuple[AccountKey, UserKey]]) -> "_Written":
        erased = self.people.erase_again(pairs)
        stated = ["erased" if pair[0] in erased else self.people.state(*pair) for pair in pairs]
        new = [pair for pair, state in zip(pairs, stated, strict=True) if state == "new"]
        counts = self.people.write_stated(new) + WriteCounts(existing=stated.count("same"))
        reasons = {
            "conflict": Rejected("account", "", "belongs to another person by an earlier row"),
            "erased": _ERASED,
        }
        return _Written(counts, [(at, reasons[state]) for at, state in enumerate(stated) if state in reasons])

    def _write_accounts(self, rows: list[ParsedAccount]) -> "_Written":
        ends = [(row.account, *(one.other for one in row.evidence)) for row in rows]
        erased = self.people.erased(end for among in ends for end in among if isinstance(end, AccountKey))
        refused = [(at, _ERASED) for at, among in enumerate(ends) if not erased.isdisjoint(among)]
        taken = [row for row, among in zip(rows, ends, strict=True) if erased.isdisjoint(among)]
        created = self.people.write_evidence([row.evidence for row in taken if row.evidence])
        created += self.people.write_seen(row.account for row in taken if not row.evidence).created
        return _Written(WriteCounts(created, len(taken) - created), refused)

    def _write_items(self, parsed: list[ParsedItem]) -> "_Written":
        platforms = {item.item.key.platform for item in parsed} - self._platforms
        self._store.upsert_nodes(Platform(PlatformKey(name)) for name in sorted(platforms))
        self._platforms |= platforms
        entities = [entity for item in parsed for entity, _ in item.entities]
        new = {entity.key: entity for entity in entities if entity.key not in self._entities}
        self._store.upsert_nodes(new.values())
        self._remember(self._entities, new)
        counts = self._store.upsert_nodes(item.item for item in parsed)
        self._remember(self._items, (item.item.key for item in parsed))
        self._store.upsert_edges(relation for item in parsed for _, relation in item.entities)
        return _Written(counts)

    def _write_events(self, events: list[Event]) -> "_Written":
        absent = self._absent([event.item for event in events])
        erased = self.people.erased(event.account for event in events)
        refused = []
        if absent or erased:
            for at, event in enumerate(events):
                if event.account in erased:
                    refused.append((at, _ERASED))
                elif event.item in absent:
                    refused.append((at, Rejected("item", event.item, _UNKNOWN_ITEM)))
            events = [event for event in events if event.item not in absent and event.account not in erased]
        self.people.write_seen(event.account for event in events)
        return _Written(self._store.upsert_edges(events), refused)

    def _holder(self, links: dict[str, ItemKey]) -> "Callable[[list[tuple[str, ItemKey]]], _Written]":
        """Links are held for the triples that follow, so they are accepted in every run."""

        def hold(pairs: list[tuple[str, ItemKey]]) -> _Written:
            absent = self._absent([item for _, item in pairs])
            refused = []
            accepted = duplicates = 0
            for at, (entity, item) in enumerate(pairs):
                if item in absent:
                    refused.append((at, Rejected("item", item, _UNKNOWN_ITEM)))
                elif links.get(entity, item) != item:
                    refused.append((at, Rejected("entity", entity, f"is {links[entity]} by an earlier row")))
                elif entity in links:
                    duplicates += 1
                else:
                    links[entity] = item
                    accepted += 1
            return _Written(WriteCounts(accepted, duplicates), refused)

        return hold

    def _write_triples(self, parsed: list[ParsedTriple]) -> "_Written":
        entities = {triple.entity.key: triple.entity for triple in parsed if triple.entity is not None}
        new = {key: entity for key, entity in entities.items() if key not in self._entities}
        self._store.upsert_nodes(new.values())
        self._remember(self._entities, new)
        return _Written(self._store.upsert_edges(triple.relation for triple in parsed))

    def _absent(self, keys: list[ItemKey]) -> set[ItemKey]:
        """Those of the keys that the store has no item of."""
        unknown = set(keys) - self._items
        if not unknown:
            return unknown
        found = {item.key for item in self._store.items(sorted(unknown))}
        self._remember(self._items, found)
        return unknown - found

    def _remember(self, known: set[KeyT], keys: Iterable[KeyT]) -> None:
        if len(known) >= _REMEMBERED:
            known.clear()
        known.update(keys)


@contextmanager
def _no_cycle_collection() -> Iterator[None]:
    """Millions of short-lived records without cycles: looking for cycles among them costs a fifth of a run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of a batch: counts of the store, and positions in the batch that were refused, with reasons."""

    counts: WriteCounts
    refused: Sequence[tuple[int, Rejected]] = ()


class _Progress:
    """A bar over the bytes of all files, shown from the second second on, on a terminal only."""

    def __init__(self, parts: Sequence[Part], console: Console | None) -> None:
        self._sizes = {id(part): part.path.stat().st_size for part in parts}
        self._done = dict.fromkeys(self._sizes, 0.0)
        self._console = console
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def update(self, part: Part, share: float) -> None:
        """This share of a part's file has been read."""
        self._done[id(part)] = share * self._sizes[id(part)]
        if self._console is None or not self._console.is_terminal:
            return
        if self._bar is None and time.perf_counter() - self._started > _QUIET_S:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %")
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
            self._task = self._bar.add_task("ingest", total=sum(self._sizes.values()))
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=sum(self._done.values()), description=f"ingest {part.path.name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
