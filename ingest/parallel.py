"""Big exports in blocks: Ray Data parses them on all cores, and one writer takes what comes, in the order of the files.

A block is a stretch of whole records of a plain text file, a row group of Parquet, or a whole file of any other kind.
Rows stay where they are parsed: what comes back has pseudonyms, and bad rows without what must not be kept. A row that
the store then refuses is read once more from its block, to say what is wrong with it.
"""

import os
import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any, Final

import pyarrow as pa

from graph.columns import EventColumns
from graph.errors import IsthmusError
from graph.keys import AccountKey, ItemKey, Pseudonyms
from graph.stored import stored_key
from ingest.batches import Batch, Parsed, Reading, parser_of
from ingest.cluster import ray_cluster
from ingest.errors import IngestError
from ingest.mapping import Events, needed_columns
from ingest.parse import Keyring, Rejected
from ingest.plan import Part, opened
from ingest.quarantine import BadRow
from ingest.sources.files import Stretch
from ingest.sources.growing import START, added, fingerprint, grows, header_of
from ingest.sources.kafka import Partition
from ingest.sources.parquet import ParquetSource

WORTH: Final = 1 << 28
"""Bytes of files that are worth the seconds that Ray takes to start."""
CORES: Final = 4
"""Of a machine that is worth a Ray of its own: the writer and Ray itself take two."""
_HELD: Final = 1 << 29
"""Bytes of parsed rows that wait for the writer, at most; beyond, parsing waits."""


@contextmanager
def parsed_by_ray(
    parts: Sequence[Part], pseudonyms: Pseudonyms, latest: datetime, address: str | None
) -> Iterator[Mapping[int, Parsed[Any]]]:
    """Have those of the parts that can be parsed apart from the others parsed, when they are big; by the part's `id`.

    They are to be taken in the order of the plan, each to its end.
    """
    apart = [part for part in parts if _is_apart(part)]
    alone = address is None and (os.cpu_count() or 1) < CORES
    if alone or sum(part.file.size or 0 for part in apart) < WORTH:
        yield {}
        return
    blocks = [(part, block) for part in apart for block in blocks_of(part)]
    with ray_cluster(address), closing(_pipeline([block for _, block in blocks], pseudonyms, latest)) as pipeline:
        arriving, keyring = _Arriving(pipeline), Keyring(pseudonyms)

        def elsewhere(part: Part) -> _Elsewhere:
            own = [(at, block) for at, (of, block) in enumerate(blocks) if of is part]
            return _Elsewhere(part, own, arriving, keyring)

        yield {id(part): elsewhere(part) for part in apart}


def _is_apart(part: Part) -> bool:
    """Whether a row of it can be parsed without knowing others."""
    looks_up = isinstance(part.section, Events) and part.section.item_of is not None
    whole = part.limit is None and part.file.stretch is None and not isinstance(part.file, Partition)
    return whole and part.knowledge is None and not looks_up


def blocks_of(part: Part) -> Iterator[Part]:
    """A part in pieces that can be read one without the other, in order.

    Raises: SourceError.
    """
    if part.section.resolved_format == "parquet":
        source = ParquetSource(part.file)
        source.close()
        for group in range(source.row_groups):
            yield replace(part, file=replace(part.file, row_group=group))
    elif grows(part.file, part.section):
        yield from _stretches(part)
    else:
        yield part


def _stretches(part: Part) -> Iterator[Part]:
    end, place = part.file.size or 0, START
    if part.section.resolved_format in {"jsonl", "literals"}:
        declared = tuple(sorted(needed_columns(part.mapping, part.section)))
        part = replace(part, section=part.section.model_copy(update={"columns": declared}))
    while (found := added(part.file, part.section, place, end)) is not None:
        file, place = found
        yield replace(part, file=file)
    if place.offset < end:  # the last line has no end, or a quote stays open
        header = header_of(part.file, part.section) if place.offset else b""
        lines = place.lines - header.count(b"\n")
        stretch = Stretch(header, place.offset, end, lines, fingerprint(part.file, end))
        yield replace(part, file=replace(part.file, size=len(header) + end - place.offset, stretch=stretch))


_Said = tuple[int, int, bytes]
"""Number of a block, of a batch in it, and the batch or what ends the block."""


class _Parser:
    """What each Ray actor does: block after block."""

    def __init__(self, pseudonyms: Pseudonyms, latest: datetime) -> None:
        self._keyring = Keyring(pseudonyms)
        self._latest = latest

    def __call__(self, blocks: pa.Table) -> Iterator[pa.Table]:
        for block in blocks.to_pylist():
            for number, said in enumerate(self._batches(pickle.loads(block["part"]))):  # noqa: S301  (of this very run)
                data = pa.array([pickle.dumps(said, protocol=5)], pa.large_binary())
                yield pa.table({"block": [block["block"]], "number": [number], "said": data})

    def _batches(self, part: Part) -> Iterator[Batch[Any] | IsthmusError | None]:
        """The batches of a block, then None, or why there are no more."""
        try:
            source = opened(part)
            try:
                parse = parser_of(part, source.columns, self._keyring, latest=self._latest, links={})
                for batch in Reading(part, source, self._keyring, parse).batches():
                    yield _packed(batch)
            finally:
                source.close()
        except IsthmusError as error:
            yield error
        else:
            yield None


class _Arriving:
    """What the actors say, in the order of the blocks."""

    def __init__(self, pipeline: Iterator[_Said]) -> None:
        self._pipeline = pipeline

    def of(self, block: int) -> Iterator[Batch[Any]]:
        """The batches of a block; raises what reading it raised, and IngestError."""
        from ray.exceptions import RayError

        for number in count():
            try:
                *at, said = next(self._pipeline, (None, None, b""))
            except RayError as error:
                raise IngestError(
                    f"parsing on Ray failed ({str(error).strip().splitlines()[-1]}); repeat the run, which adds only "
                    "what is missing"
                ) from error
            if at != [block, number]:
                raise IngestError(
                    f"Ray gave {at} and not batch {number} of block {block}: a fault of Isthmus; repeat the run"
                )
            found = pickle.loads(said)  # noqa: S301  (of this very run)
            if isinstance(found, IsthmusError):
                raise found
            if found is None:
                return
            yield _unpacked(found)


def _pipeline(blocks: Sequence[Part], pseudonyms: Pseudonyms, latest: datetime) -> Generator[_Said, None, None]:
    import ray
    import ray.data

    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    parsers = max(1, min(int(resources.get("CPU", 1)), len(blocks)))
    rows = [{"block": at, "part": pickle.dumps(block)} for at, block in enumerate(blocks)]
    given = ray.data.from_items(rows, override_num_blocks=len(rows))
    given.context.enable_progress_bars = False
    options = given.context.execution_options
    options.preserve_order = True
    options.resource_limits = options.resource_limits.copy(object_store_memory=_HELD)
    parsed = given.map_batches(
        _Parser,
        fn_constructor_args=(pseudonyms, latest),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=parsers),
        num_cpus=1,
    )
    tables: Iterable[Any] = parsed.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    for table in tables:
        yield from zip(*(table[name].to_pylist() for name in ("block", "number", "said")), strict=True)


class _Elsewhere:
    """One file that Ray parses."""

    def __init__(self, part: Part, blocks: Sequence[tuple[int, Part]], arriving: _Arriving, keyring: Keyring) -> None:
        self.part = part
        self._blocks = blocks
        self._arriving = arriving
        self._keyring = keyring
        self._done = 0
        self._block = part
        self._opening = ExitStack()
        self._again: Reading[Any] | None = None

    def batches(self) -> Iterator[Batch[Any]]:
        for done, (at, block) in enumerate(self._blocks):
            with ExitStack() as opening:
                self._done, self._block, self._opening, self._again = done, block, opening, None
                yield from self._arriving.of(at)

    def bad_rows(self, batch: Batch[Any], refused: Sequence[tuple[int, Rejected]]) -> list[BadRow]:
        if not refused:
            return []
        if self._again is None:
            source = self._opening.enter_context(closing(opened(self._block)))
            parse = parser_of(self._block, source.columns, self._keyring, latest=None, links={})
            self._again = Reading(self._block, source, self._keyring, parse)
        return self._again.bad({batch.lines[at]: reason for at, reason in refused})

    def position(self) -> float:
        return self._done / max(1, len(self._blocks))


@dataclass(frozen=True, slots=True)
class _Table:
    """Events as a table, which is quicker to send."""

    rows: pa.Table


_REPEATED: Final = ("type", "account", "item", "context")


def _packed(batch: Batch[Any]) -> Batch[Any]:
    if not isinstance(batch.records, EventColumns):
        return replace(batch, rows=())
    columns = dict(zip(EventColumns.__dataclass_fields__, batch.records.columns(), strict=True))
    types = {"at": pa.int64(), "sequence": pa.int64(), "weight": pa.float64(), "value": pa.float64()}
    arrays = {name: pa.array(column, types.get(name, pa.string())) for name, column in columns.items()}
    arrays |= {name: arrays[name].dictionary_encode() for name in _REPEATED}
    return replace(batch, records=_Table(pa.table(arrays)), rows=())


def _unpacked(batch: Batch[Any]) -> Batch[Any]:
    if not isinstance(batch.records, _Table):
        return batch
    columns = {name: batch.records.rows[name].combine_chunks() for name in EventColumns.__dataclass_fields__}
    lists: dict[str, Any] = {name: c.to_pylist() for name, c in columns.items() if name not in _REPEATED}
    for name in _REPEATED:
        distinct = columns[name].dictionary.to_pylist()
        if name in {"account", "item"}:
            kind: Any = AccountKey if name == "account" else ItemKey
            distinct = [stored_key(kind, text) for text in distinct]
        lists[name] = list(map(distinct.__getitem__, columns[name].indices.to_pylist()))
    return replace(batch, records=EventColumns(**lists))
