"""Load: mappings → rows → records → store, in batches of bounded memory, nodes before edges; again changes nothing."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from graph.columns import EventColumns
from graph.keys import AccountKey, ItemKey, PlatformKey, Pseudonyms, UserKey
from graph.records import LONE, Entity, Item, Platform, Relation
from graph.store import Store, WriteCounts
from graph.tombstones import Tombstones
from ingest.batches import BATCH, Parsed, Reading, parser_of
from ingest.errors import IngestError, redacted
from ingest.identity import People
from ingest.mapping import (
    Accounts,
    Entities,
    Events,
    Follows,
    Identities,
    ItemLinks,
    Items,
    Mapping,
)
from ingest.parallel import parsed_by_ray
from ingest.parse import (
    Keyring,
    ParsedAccount,
    ParsedItem,
    ParsedTriple,
    Rejected,
    link_parser,
)
from ingest.plan import Part, opened, plan
from ingest.quarantine import BadRow, Broken, Origin, Quarantine, state_of
from ingest.report import FileReport, IngestReport
from ingest.rules import Rule
from ingest.sources.files import is_url
from ingest.sources.rows import Malformed

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
    data: Path | str,
    console: Console | None = None,
    limit: int | None = None,
    ray_address: str | None = None,
) -> IngestReport:
    """Read what the mappings describe into the store.

    All files are found and their columns checked before anything is written. Identity tables come first, then
    catalogues, knowledge and events, each over all mappings. A table that two mappings name is read once.

    Args:
        data: the directory, or the URL of one, that the mappings' files are relative to.
        console: where a progress bar goes when the run takes over 2 seconds and it is a terminal.
        limit: read the first so many rows of each file. Items that may lie beyond them are then taken to exist.
        ray_address: the cluster that parses big exports; None starts one of this process's own for them.
    Raises: MappingError, SourceError (nothing is written); StoreError; IngestError. What was written before an
        error stays; the same run again adds the rest.
    """
    parts = plan(mappings, data, limit)
    catalogued = any(isinstance(part.section, Items) for part in parts)
    started = time.perf_counter()
    store.ensure_schema()
    store.bury(Tombstones(var))
    with _Progress(parts, console) as progress, _no_cycle_collection():
        partial = limit is not None and not catalogued
        run = Run(store, Keyring(pseudonyms), var, progress, partial=partial)
        with parsed_by_ray(parts, pseudonyms, run.latest, ray_address) as parsed:
            for part, origin in origins(parts, str(data)):
                run.load(part, origin, parsed=parsed.get(id(part)))
        told = run.broken(), run.people.left_out()
        return IngestReport(run.files, time.perf_counter() - started, var / "quarantine", *told, store.retried)


def origins(parts: Sequence[Part], data: str) -> list[tuple[Part, Origin]]:
    """The parts of a plan with what their rows are called in quarantine."""
    place = redacted(data) if is_url(data) else str(Path(data).absolute())
    counted: Counter[Origin] = Counter()
    named = []
    for part in parts:
        name = type(part.section).__name__.lower()
        shared = isinstance(part.section, Identities) and part.section.platform is not None
        first = Origin(part.mapping.path.absolute(), name, 0, place, part.file.name, shared)
        named.append((part, first._replace(position=counted[first])))
        counted[first] += 1
    return named


_ANOTHERS: Final = Rejected("account", "", "belongs to another person by an earlier row", Rule.CONTRADICTS_PERSON)
_ERASED: Final = Rejected("account", "", "is of somebody who was erased: it is not taken again", Rule.ERASED)
_UNKNOWN_ITEM: Final = "is an item that no items file of this run or an earlier one names"
_OTHERWISE: Final = "is not what an earlier row says"

RecordT = TypeVar("RecordT")
RecordsT = TypeVar("RecordsT", bound=Sized)
KeyT = TypeVar("KeyT", bound=str)


class Run:
    """One run's state: what is known to be in the store, and the reports so far."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        var: Path,
        progress: "_Progress | None" = None,
        *,
        partial: bool = False,
        retrying: bool = False,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._quarantine = Quarantine(var / "quarantine")
        self._progress = progress
        self._partial = partial
        self._retrying = retrying
        self._held = retrying
        self.latest = datetime.now(UTC) + timedelta(days=1)
        self.people = People(store)
        self._platforms: set[str] = set()
        self._items: set[ItemKey] = set()
        self._named: set[ItemKey] = set()
        self._entities: set[str] = set()
        self._links: dict[int, dict[str, ItemKey]] = {}
        self._broken: dict[tuple[str, str, str, Rule], tuple[int, int, str]] = {}
        self.files: list[FileReport] = []

    def broken(self) -> list[Broken]:
        """Which rules were broken where, the most frequent first."""
        found = [Broken(*place, *told) for place, told in self._broken.items()]
        return sorted(found, key=lambda broken: -broken.rows)

    def load(
        self,
        part: Part,
        origin: Origin,
        lines: Collection[int] | None = None,
        parsed: Parsed[Any] | None = None,
    ) -> None:
        """Read one file into the store, or these lines of it alone; one that others parse as they have it `parsed`.

        What a retry reads, and what was added to a file, is held against what the store has of the rows before it.
        """
        stretch = part.file.stretch
        self._held = self._retrying or (stretch is not None and stretch.start > 0)
        if parsed is not None:
            self._take(parsed, origin, self._writer(part))
            return
        source = opened(part)
        try:
            links = self._links.get(id(part.knowledge), {})
            parse = parser_of(part, source.columns, self._keyring, latest=self.latest, links=links)
            self._take(Reading(part, source, self._keyring, parse, lines), origin, self._writer(part))
        finally:
            source.close()
        if isinstance(part.section, Items):
            self._partial |= self.files[-1].read == part.limit

    def _writer(self, part: Part) -> "Callable[[Any], _Written]":
        match part.section:
            case Identities():
                return self._write_identities
            case Accounts():
                return self._write_accounts
            case Items():
                return self._write_items
            case Events() as section:
                return self._event_writer(section)
            case Follows():
                return self._write_follows
            case Entities():
                return self._write_entities
            case ItemLinks():
                return self._holder(self._links.setdefault(id(part.knowledge), {}))
            case _:
                return self._write_triples

    def hold_links(self, part: Part, section: ItemLinks) -> None:
        """Read which ids of a knowledge base are items, for triples that follow; of its rows nothing is said."""
        source = opened(part)
        try:
            parse = link_parser(section, part.mapping, source.columns, self._keyring)
            hold = self._holder(self._links.setdefault(id(part.knowledge), {}))
            rows = source.rows()
            while batch := list(islice(rows, BATCH)):
                parsed = [parse(values) for _, values in batch if not isinstance(values, Malformed)]
                hold([pair for pair in parsed if not isinstance(pair, Rejected)])
        finally:
            source.close()

    def _take(self, reading: Parsed[RecordsT], origin: Origin, write: "Callable[[RecordsT], _Written]") -> None:
        started = time.perf_counter()
        part = reading.part
        missing: Counter[str] = Counter()
        read = accepted = duplicates = rejected = 0
        for batch in reading.batches():
            bad = list(batch.bad)
            if batch.records:
                written = write(batch.records)
                accepted += written.counts.created
                duplicates += written.counts.existing
                bad += reading.bad_rows(batch, written.refused)
            if erased := self.people.erased(row.account for row in bad if row.account is not None):
                # Of somebody who was erased nothing is kept, not even a pseudonym beside another fault.
                bad = [BadRow(row.line, _ERASED) if row.account in erased else row for row in bad]
            bad.sort(key=lambda row: row.line)
            self._count(origin, bad)
            if bad:
                self._quarantine.add(origin, state_of(part.file), bad)
            read += batch.read
            rejected += len(bad)
            missing += batch.missing
            if self._progress is not None:
                self._progress.update(part, reading.position())
        self._quarantine.settle(origin, 0 if part.file.stretch is None else part.file.stretch.first_line)
        if accepted + duplicates + rejected != read:
            raise IngestError(
                f"{origin.file}: {accepted} accepted, {duplicates} duplicates and {rejected} rejected do not make the "
                f"{read} rows that were read: this is a fault of Isthmus, please report it"
            )
        seconds = time.perf_counter() - started
        counts = read, accepted, duplicates, rejected
        self.files.append(FileReport(origin.file, origin.section, *counts, seconds, dict(missing)))

    def _count(self, origin: Origin, bad: Sequence[BadRow]) -> None:
        for row in bad:
            place = origin.file, origin.section, row.reason.field, row.reason.rule
            count, first, detail = self._broken.get(place, (0, row.line, row.reason.detail))
            self._broken[place] = count + 1, first, detail

    def _write_identities(self, pairs: list[tuple[AccountKey, UserKey]]) -> "_Written":
        if self._held:  # the rows that spoke of these accounts before are not read again, but the store heard them
            for link in self._store.stated_of([account for account, _ in pairs]):
                if link.evidence != LONE:
                    self.people.state(link.account, link.user)
        erased = self.people.erase_again(pairs)
        stated = ["erased" if pair[0] in erased else self.people.state(*pair) for pair in pairs]
        new = [pair for pair, state in zip(pairs, stated, strict=True) if state == "new"]
        counts = self.people.write_stated(new) + WriteCounts(existing=stated.count("same"))
        reasons = {"conflict": _ANOTHERS, "erased": _ERASED}
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
        refused = self._contradicting_items(parsed)
        if refused:
            gone = {at for at, _ in refused}
            parsed = [item for at, item in enumerate(parsed) if at not in gone]
        platforms = {item.item.key.platform for item in parsed} - self._platforms
        self._store.upsert_nodes(Platform(PlatformKey(name)) for name in sorted(platforms))
        self._platforms |= platforms
        entities = [entity for item in parsed for entity, _ in item.entities]
        new = {entity.key: entity for entity in entities if entity.key not in self._entities}
        self._store.upsert_nodes(new.values())
        self._remember(self._entities, new)
        counts = self._store.upsert_nodes(item.item for item in parsed)
        self._remember(self._items, (item.item.key for item in parsed))
        self._remember(self._named, (item.item.key for item in parsed))
        self._store.upsert_edges(relation for item in parsed for _, relation in item.entities)
        return _Written(counts, refused)

    def _contradicting_items(self, parsed: list[ParsedItem]) -> "list[tuple[int, Rejected]]":
        """Rows that say otherwise of an item than an earlier row of this run; an earlier run is out of date, not wrong.

        Another run may know better. A row that is tried again is of the run that is in the store.
        """
        keys = {item.item.key for item in parsed}
        again = keys if self._held else keys & self._named
        said = {item.key: item for item in self._store.items(sorted(again))} if again else {}
        refused = []
        for at, item in enumerate(parsed):
            before = said.setdefault(item.item.key, item.item)
            if before is item.item:
                continue
            for field in ("title", "text", "created_at"):
                first, second = getattr(before, field), getattr(item.item, field)
                if first is None and second is not None:
                    said[item.item.key] = before = replace(before, **{field: second})
                elif second not in {None, first}:
                    refused.append((at, Rejected(field, str(second), _OTHERWISE, Rule.CONTRADICTS_ITEM)))
                    break
        return refused

    def _event_writer(self, section: Events) -> "Callable[[EventColumns], _Written]":
        # An id that is a hash of all that an event says but its value can only be told again with another value.
        may_contradict = section.id is not None or section.value is not None

        def write(events: EventColumns) -> _Written:
            absent = self._absent(events.item)
            erased = self.people.erased(events.account)
            refused: list[tuple[int, Rejected]] = []
            kept: Sequence[int] = range(len(events))
            if absent or erased:
                for at, (account, item) in enumerate(zip(events.account, events.item, strict=True)):
                    if account in erased:
                        refused.append((at, _ERASED))
                    elif item in absent:
                        refused.append((at, Rejected("item", item, _UNKNOWN_ITEM, Rule.UNKNOWN_ITEM)))
                gone = {at for at, _ in refused}
                kept = [at for at in kept if at not in gone]
                events = events.take(kept)
            self.people.write_seen(events.account)
            counts = self._store.upsert_events(events)
            if may_contradict and counts.existing:
                contradicting = [(kept[at], reason) for at, reason in self._contradicting_events(events, counts)]
                counts = WriteCounts(counts.created, counts.existing - len(contradicting))
                refused += contradicting
            return _Written(counts, refused)

        return write

    def _contradicting_events(self, events: EventColumns, counts: WriteCounts) -> "list[tuple[int, Rejected]]":
        """Events whose id the store has with another account, item, time, order or value."""
        ids = list(zip(events.type, events.event_id, strict=True))
        first: dict[tuple[str, str], int] = {}
        again = [at for at, id in enumerate(ids) if first.setdefault(id, at) != at]
        if len(again) == counts.existing:  # the store had none of them before
            told = dict(zip(again, events.take([first[ids[at]] for at in again]).events(), strict=True))
        else:
            by_type: dict[str, list[str]] = {}
            for type, id in first:
                by_type.setdefault(type, []).append(id)
            stored = {(type, e.event_id): e for type, those in by_type.items() for e in self._store.events(type, those)}
            told = {at: stored[id] for at, id in enumerate(ids)}
        refused = []
        for (at, before), now in zip(told.items(), events.take(list(told)).events(), strict=True):
            for field in ("account", "item", "at", "sequence", "value"):
                said, says = getattr(before, field), getattr(now, field)
                if said != says and said is not None and says is not None:
                    shown = "" if field == "account" else str(says)
                    refused.append((at, Rejected(field, shown, _OTHERWISE, Rule.CONTRADICTS_EVENT)))
                    break
        return refused

    def _holder(self, links: dict[str, ItemKey]) -> "Callable[[list[tuple[str, ItemKey]]], _Written]":
        """Links are held for the triples that follow, so they are accepted in every run."""

        def hold(pairs: list[tuple[str, ItemKey]]) -> _Written:
            absent = self._absent([item for _, item in pairs])
            refused = []
            accepted = duplicates = 0
            for at, (entity, item) in enumerate(pairs):
                if item in absent:
                    refused.append((at, Rejected("item", item, _UNKNOWN_ITEM, Rule.UNKNOWN_ITEM)))
                elif links.get(entity, item) != item:
                    by = f"is {links[entity]} by an earlier row"
                    refused.append((at, Rejected("entity", entity, by, Rule.CONTRADICTS_LINK)))
                elif entity in links:
                    duplicates += 1
                else:
                    links[entity] = item
                    accepted += 1
            return _Written(WriteCounts(accepted, duplicates), refused)

        return hold

    def _write_follows(self, follows: list[Relation]) -> "_Written":
        ends = [[end for end in (each.source, each.target) if isinstance(end, AccountKey)] for each in follows]
        erased = self.people.erased(end for among in ends for end in among)
        refused = [(at, _ERASED) for at, among in enumerate(ends) if not erased.isdisjoint(among)]
        known = [each for each, among in zip(follows, ends, strict=True) if erased.isdisjoint(among)]
        self.people.write_seen(end for among in ends for end in among if erased.isdisjoint(among))
        return _Written(self._store.upsert_edges(known), refused)

    def _write_entities(self, entities: list[Entity]) -> "_Written":
        counts = self._store.upsert_nodes(entities)
        self._remember(self._entities, (entity.key for entity in entities))
        return _Written(counts)

    def _write_triples(self, parsed: list[ParsedTriple]) -> "_Written":
        items = [[end for end in (t.relation.source, t.relation.target) if isinstance(end, ItemKey)] for t in parsed]
        absent = self._absent([item for ends in items for item in ends])
        refused = []
        if absent:
            missing = [next((item for item in ends if item in absent), None) for ends in items]
            refused = [
                (at, Rejected("item", item, _UNKNOWN_ITEM, Rule.UNKNOWN_ITEM))
                for at, item in enumerate(missing)
                if item
            ]
            parsed = [triple for triple, item in zip(parsed, missing, strict=True) if item is None]
        entities = {triple.entity.key: triple.entity for triple in parsed if triple.entity is not None}
        new = {key: entity for key, entity in entities.items() if key not in self._entities}
        self._store.upsert_nodes(new.values())
        self._remember(self._entities, new)
        return _Written(self._store.upsert_edges(triple.relation for triple in parsed), refused)

    def _absent(self, keys: Iterable[ItemKey]) -> set[ItemKey]:
        """Those of the keys that the store has no item of."""
        unknown = set(keys) - self._items
        if not unknown:
            return unknown
        if self._partial:
            self._store.upsert_nodes(Item(key) for key in unknown)
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
        self._sizes = {id(part): part.file.size or 0 for part in parts}
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
            self._bar.update(self._task, completed=sum(self._done.values()), description=f"ingest {part.file.name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
