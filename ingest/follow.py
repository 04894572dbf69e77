"""Follow: what is added to the files of mappings is read as it comes; how far each was read is kept in var/follow.db.

Files are looked at again and again, not watched: that works on every file system, and after a restart, a burst or a
missed message it is the same work. A place is written down after its rows are in the store, so a run that is killed
reads some rows twice, which changes nothing, and none never.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Final

from graph.errors import StoreUnavailableError
from graph.keys import Pseudonyms
from graph.store import Store
from graph.tombstones import Tombstones
from ingest.errors import IngestError, MappingError, SourceError, SourceUnavailableError
from ingest.load import Run, origins
from ingest.mapping import Mapping, needed_columns
from ingest.parse import Keyring
from ingest.plan import Part, check, find_parts
from ingest.quarantine import Origin, alone, state_of
from ingest.report import IngestReport
from ingest.sources.growing import START, Place, added, grows, is_begun
from ingest.sources.kafka import Partition

LOOK_S: Final = 1.0
"""Seconds between two looks at the files."""

_LONGEST_RETRY_S: Final = 30.0


def follow(
    mappings: Sequence[Mapping],
    store: Store,
    pseudonyms: Pseudonyms,
    var: Path,
    *,
    data: Path | str,
    stop: Event,
    say: Callable[[str], None],
    look_s: float = LOOK_S,
) -> Iterator[IngestReport]:
    """Read what the mappings describe, then what is added, until `stop` is set.

    Lines of csv, tsv, RecBole's files, JSON and Python literals that are added to a local file are read alone, once
    they are whole, and so are messages of a Kafka topic. Any other file (Parquet, XML, packed, behind a URL, a
    knowledge base) is read whole when it is new or has changed. What was read in an earlier run is not read again.

    Yields: the report of the first look, and of each later one that found something.
    Raises: MappingError, SourceError when what there is at first does not fit the mappings (nothing is written);
        StoreError; IngestError. While the store or Kafka does not answer, or a file cannot be read, it is tried again.
    """
    store.ensure_schema()
    store.bury(Tombstones(var))
    with closing(_Places(var / "follow.db", store.url)) as places:
        if anew := not store.counts().nodes:
            places.forget()
        followed = _Followed(mappings, store, Keyring(pseudonyms), var, data, places, stop, say, anew=anew)
        yield followed.look()
        retry_s = look_s
        while not stop.wait(retry_s):
            try:
                found = followed.look()
                retry_s = look_s
            except (StoreUnavailableError, SourceUnavailableError) as error:
                retry_s = min(2 * max(retry_s, look_s), _LONGEST_RETRY_S)
                say(f"{error}; tried again in {retry_s:g} s")
                continue
            if found.files:
                yield found
        for sentence in followed.waiting():
            say(sentence)


class _Places:
    """How far each file has been read into a store: durable, and without any name."""

    def __init__(self, path: Path, store: str) -> None:
        self._store = store
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS places (store TEXT, origin TEXT, offset INTEGER NOT NULL, "
                "lines INTEGER NOT NULL, fingerprint TEXT NOT NULL, PRIMARY KEY (store, origin)) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise IngestError(
                f"{path} cannot be used ({error}): delete it, and all files are read once more, which changes nothing"
            ) from error

    def get(self, key: str) -> Place:
        query = "SELECT offset, lines, fingerprint FROM places WHERE store = ? AND origin = ?"
        row = self._file.execute(query, (self._store, key)).fetchone()
        return Place(*row) if row else START

    def put(self, key: str, place: Place) -> None:
        self._file.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?)", (self._store, key, *place))

    def forget(self) -> None:
        """The store is empty: nothing has been read into it."""
        self._file.execute("DELETE FROM places WHERE store = ?", (self._store,))

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _News:
    """A file with something to read."""

    part: Part
    origin: Origin
    key: str
    state: str
    place: Place
    end: int | None
    """Where its added lines end; None when it is read whole."""


class _Followed:
    """The files of mappings, and what was seen of them."""

    def __init__(
        self,
        mappings: Sequence[Mapping],
        store: Store,
        keyring: Keyring,
        var: Path,
        data: Path | str,
        places: _Places,
        stop: Event,
        say: Callable[[str], None],
        *,
        anew: bool,
    ) -> None:
        self._mappings = mappings
        self._store = store
        self._keyring = keyring
        self._var = var
        self._data = data
        self._places = places
        self._stop = stop
        self._say = say
        self._anew = anew
        self._described = {id(mapping): mapping.model_dump_json() for mapping in mappings}
        self._first = True
        self._seen: dict[str, str] = {}
        """Key → state of the file when nothing of it was left to read, or it could not be read."""
        self._looked_at: dict[str, str] = {}
        """Key → state of a file that is read whole, at the last look."""
        self._fit: set[str] = set()
        """Keys of the files that are known to have the columns."""
        self._pending: dict[str, tuple[str, int]] = {}
        """Key → name of a file, and bytes at its end that are no whole line yet."""
        self._offsets: dict[str, Place] = {}
        """Key → how far a partition has been read, as Kafka knows too."""

    def look(self) -> IngestReport:
        """Read what is new.

        Raises: at the first look, MappingError and SourceError before anything is written; StoreError; IngestError.
        """
        started = time.perf_counter()
        parts = find_parts(self._mappings, self._data, begun=not self._first)
        news = self._news(origins(parts, str(self._data)))
        run = Run(self._store, self._keyring, self._var)
        if news:
            with alone(self._var):
                for each in news:
                    if self._stop.is_set():
                        break
                    self._take(run, each)
        self._first = False
        told = run.broken(), run.people.left_out()
        seconds = time.perf_counter() - started
        report = IngestReport([], 0.0, self._var / "quarantine")
        return report + IngestReport(run.files, seconds, self._var / "quarantine", *told, self._store.retried)

    def waiting(self) -> Iterator[str]:
        """What was not read because it is no whole line."""
        for name, size in self._pending.values():
            yield f"{name}: the last {size:,} bytes are no whole line yet and were not read"

    def _news(self, named: Sequence[tuple[Part, Origin]]) -> list[_News]:
        """What there is to read, in the order of the plan.

        Ends are looked up in the opposite order: an item that was written before its event is there when the event is.
        """
        news: list[_News] = []
        for part, origin in reversed(named):
            key = self._key(part, origin)
            try:
                found = self._look_at(part, origin, key)
                if found is not None and key not in self._fit and not isinstance(part.file, Partition):
                    check(part)
                    self._fit.add(key)
            except SourceUnavailableError:
                raise
            except (SourceError, MappingError) as error:
                if self._first:
                    raise
                self._refuse(part, key, error)
                continue
            if found is not None:
                news.append(found)
        news.reverse()
        bases = {id(each.part.knowledge) for each in news if each.part.knowledge is not None}
        chosen = {each.key for each in news}
        for part, origin in named:  # triples are read with the links that they need, and links with their triples
            key = self._key(part, origin)
            if id(part.knowledge) in bases and key not in chosen:
                news.append(_News(part, origin, key, state_of(part.file), START, None))
        order = {self._key(part, origin): at for at, (part, origin) in enumerate(named)}
        return sorted(news, key=lambda each: order[each.key])

    def _key(self, part: Part, origin: Origin) -> str:
        """A file as one section of this mapping, in its present wording, reads it."""
        text = f"{origin.digest}\x1f{self._described[id(part.mapping)]}"
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()

    def _look_at(self, part: Part, origin: Origin, key: str) -> _News | None:
        if isinstance(part.file, Partition):
            part = replace(part, file=part.file.now())
        state = _state(part)
        if self._seen.get(key) == state:
            return None
        place = self._place(part, origin, key)
        if part.knowledge is not None or not grows(part.file, part.section):
            quiet = self._first or self._looked_at.get(key) == state
            self._looked_at[key] = state
            if place.fingerprint == state:
                self._seen[key] = state
                return None
            return _News(part, origin, key, state, START, None) if quiet else None
        if not is_begun(part.file, place):
            self._say(f"{part.file.name} was cut short or replaced: it is read from its beginning")
            self._fit.discard(key)
            place = self._offsets[key] = START
        end = int(state.partition(" ")[0])
        if added(part.file, part.section, place, end) is None:
            self._settle(part, key, state, place, end)
            return None
        return _News(part, origin, key, state, place, end)

    def _place(self, part: Part, origin: Origin, key: str) -> Place:
        """How far a file has been read, in this run or an earlier one."""
        if not isinstance(part.file, Partition):
            return self._places.get(key)
        if key not in self._offsets:
            offset = None if self._anew else part.file.committed(self._group(part, origin))
            self._offsets[key] = START if offset is None else Place(offset, 0, "")
            if offset is not None and offset < part.file.oldest:
                self._say(f"{part.file}: Kafka deleted messages {offset:,} to {part.file.oldest - 1:,} unread")
        return self._offsets[key]

    def _note(self, news: _News, place: Place) -> None:
        """Write down that the store has all before this place."""
        if isinstance(news.part.file, Partition):
            news.part.file.commit(self._group(news.part, news.origin), place.offset)
            self._offsets[news.key] = place
        else:
            self._places.put(news.key, place)

    def _group(self, part: Part, origin: Origin) -> str:
        """The group that reads a topic for one section of this mapping, in its present wording, into this store."""
        topic = origin._replace(file=part.file.name.rpartition("/")[0])
        digest = hashlib.blake2b(f"{self._key(part, topic)}\x1f{self._store.url}".encode(), digest_size=8).hexdigest()
        return f"isthmus-{part.mapping.path.stem}-{origin.section}-{digest}"

    def _take(self, run: Run, news: _News) -> None:
        part, place = news.part, news.place
        try:
            if news.end is None:
                run.load(part, news.origin)
                self._note(news, Place(part.file.size or 0, 0, news.state))
                self._seen[news.key] = news.state
                return
            if part.section.resolved_format in {"jsonl", "literals"}:
                declared = tuple(sorted(needed_columns(part.mapping, part.section)))
                part = replace(part, section=part.section.model_copy(update={"columns": declared}))
            while not self._stop.is_set() and (found := added(part.file, part.section, place, news.end)):
                file, after = found
                run.load(replace(part, file=file), news.origin)
                if not (is_begun(part.file, place) and is_begun(part.file, after)):
                    return  # it was replaced meanwhile: the next look sees that
                self._note(news, after)
                place = after
            if not self._stop.is_set():
                self._settle(part, news.key, news.state, place, news.end)
        except SourceUnavailableError:
            raise
        except SourceError as error:
            self._refuse(part, news.key, error)

    def _settle(self, part: Part, key: str, state: str, place: Place, end: int) -> None:
        self._seen[key] = state
        self._pending.pop(key, None)
        if place.offset < end and not isinstance(part.file, Partition):
            self._pending[key] = part.file.name, end - place.offset

    def _refuse(self, part: Part, key: str, error: IngestError) -> None:
        """Say once what is wrong with a file; it is tried again when it has changed."""
        try:
            self._seen[key] = _state(part)
        except SourceError:
            return  # it is gone, and no longer found at the next look
        self._say(f"{error}; {part.file.name} is tried again when it has changed")


def _state(part: Part) -> str:
    """The state of a part's file, and of those that its items are looked up in; it begins with the size."""
    try:
        return " ".join(state_of(file) for file in (part.file, *part.item_files))
    except FileNotFoundError:
        raise SourceError(f"{part.file} is gone") from None
