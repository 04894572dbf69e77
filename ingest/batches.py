"""Batches: the rows of one file, parsed so many at a time, as one run writes them; in this process or in another."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import compress, islice
from operator import itemgetter
from typing import Any, Final, Generic, Protocol, TypeVar

from graph.keys import ItemKey
from ingest.errors import IngestError
from ingest.mapping import (
    Accounts,
    Entities,
    Events,
    Follows,
    Identities,
    ItemLinks,
    Items,
    Relations,
    Triples,
    optional_columns,
)
from ingest.parse import (
    Keyring,
    Rejected,
    Values,
    account_parser,
    account_reader,
    entity_parser,
    follow_parser,
    identity_parser,
    item_parser,
    link_parser,
    relation_parser,
    triple_parser,
)
from ingest.parse_events import event_columns_parser
from ingest.plan import Part
from ingest.quarantine import BadRow, redact
from ingest.rules import Rule
from ingest.sources.rows import Malformed, Row, Source

BATCH: Final = 50_000
"""Rows that are parsed and written together."""

RecordT = TypeVar("RecordT")
RecordsT = TypeVar("RecordsT", bound=Sized)

Parse = Callable[[Sequence[Values]], tuple[RecordsT, list[tuple[int, Rejected]]]]
"""Rows → the records of those that keep all rules, in order, and the places of the others with what is wrong."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[RecordsT]):
    """What became of some rows of a file, before the store has been asked."""

    read: int
    records: RecordsT
    lines: Sequence[int]
    """Where each record was."""
    bad: Sequence[BadRow]
    missing: Counter[str]
    """Field that a row may leave out → records that do."""
    rows: Sequence[Values] = ()
    """The fields of each record's row, raw; they do not leave the process that read them."""


def by_row(parse: Callable[[Values], RecordT | Rejected]) -> "Parse[list[RecordT]]":
    """A parser of rows, taken row by row."""

    def parse_all(rows: Sequence[Values]) -> tuple[list[RecordT], list[tuple[int, Rejected]]]:
        parsed = [parse(values) for values in rows]
        return (
            [record for record in parsed if not isinstance(record, Rejected)],
            [(at, record) for at, record in enumerate(parsed) if isinstance(record, Rejected)],
        )

    return parse_all


def parser_of(
    part: Part,
    columns: Sequence[str],
    keyring: Keyring,
    *,
    latest: datetime | None,
    links: Map[str, ItemKey],
) -> "Parse[Any]":
    """Compile the parser of a part's rows; an event after `latest` is a bad row, `links` are those of its triples."""
    given = part.mapping, columns, keyring
    match part.section:
        case Identities() as section:
            return by_row(identity_parser(section, *given))
        case Accounts() as section:
            return by_row(account_parser(section, *given))
        case Items() as section:
            return by_row(item_parser(section, *given))
        case Events() as section:
            return event_columns_parser(section, *given, latest=latest)
        case Follows() as section:
            return by_row(follow_parser(section, *given))
        case Entities() as section:
            return by_row(entity_parser(section, *given))
        case Relations() as section:
            return by_row(relation_parser(section, *given))
        case ItemLinks() as section:
            return by_row(link_parser(section, *given))
        case Triples() if part.knowledge is not None:
            return by_row(triple_parser(part.knowledge, *given, links))
    raise IngestError(f"{part.file} is of {type(part.section).__name__}, which nothing reads: a fault of Isthmus")


class Parsed(Protocol[RecordsT]):
    """One file as batches, whoever parses them."""

    @property
    def part(self) -> Part: ...

    def batches(self) -> Iterator[Batch[RecordsT]]:
        """The rows of the file, parsed; raises SourceError where it is damaged."""

    def bad_rows(self, batch: Batch[RecordsT], refused: Sequence[tuple[int, Rejected]]) -> list[BadRow]:
        """The rows of these records of the newest batch, which the store has no place for."""

    def position(self) -> float:
        """The share of the file that has been read, 0 to 1."""


class Reading(Generic[RecordsT]):
    """One file that is read in this process."""

    def __init__(
        self,
        part: Part,
        source: Source,
        keyring: Keyring,
        parse: "Parse[RecordsT]",
        lines: Collection[int] | None = None,
    ) -> None:
        """Take an open source; `lines` are those to read, None is all."""
        self.part = part
        self.position = source.position
        self._source = source
        self._account_of = account_reader(part.section, part.mapping, source.columns, keyring)
        self._parse = parse
        self._rows = source.rows() if lines is None else _of_lines(source.rows(), lines)
        self._nothing = frozenset(part.section.missing)

    def batches(self) -> Iterator[Batch[RecordsT]]:
        while batch := list(islice(self._rows, BATCH)):
            yield self._parsed(batch)

    def bad_rows(self, batch: Batch[RecordsT], refused: Sequence[tuple[int, Rejected]]) -> list[BadRow]:
        return [self._bad_row(batch.lines[at], batch.rows[at], reason) for at, reason in refused]

    def bad(self, reasons: Map[int, Rejected]) -> list[BadRow]:
        """The rows of these lines, which are not taken; lines after those that were asked for before."""
        found: list[BadRow] = []
        for line, values in self._rows:
            if line in reasons and not isinstance(values, Malformed):
                found.append(self._bad_row(line, self._said(values), reasons[line]))
                if len(found) == len(reasons):
                    break
        return found

    def _said(self, values: Values) -> Values:
        return ["" if value in self._nothing else value for value in values] if self._nothing else values

    def _bad_row(self, line: int, values: Values, reason: Rejected) -> BadRow:
        private = self.part.mapping.private_columns
        ids = [value for name, value in zip(self._source.columns, values, strict=True) if name in private]
        return BadRow(line, replace(reason, value=redact(reason.value, ids)), self._account_of(values))

    def _parsed(self, batch: Sequence[Row]) -> Batch[RecordsT]:
        lines, rows, bad = _fields(batch)
        if self._nothing:
            rows = [self._said(values) for values in rows]
        records, rejected = self._parse(rows)
        if rejected:
            bad += [self._bad_row(lines[at], rows[at], reason) for at, reason in rejected]
            taken = [True] * len(rows)
            for at, _ in rejected:
                taken[at] = False
            lines, rows = list(compress(lines, taken)), list(compress(rows, taken))
        missing: Counter[str] = Counter()
        for name, column in optional_columns(self.part.section):
            field = itemgetter(self._source.columns.index(column))
            missing[name] += len(rows) - sum(map(bool, map(str.strip, map(field, rows))))
        return Batch(len(batch), records, lines, bad, missing, rows)


def _fields(batch: Sequence[Row]) -> tuple[Sequence[int], Sequence[Values], list[BadRow]]:
    """Lines and fields of the rows that have any, and the others."""
    lines, rows = zip(*batch, strict=True)
    if Malformed not in map(type, rows):
        return lines, rows, []
    bad = []
    whole: list[tuple[int, Values]] = []
    for line, values in batch:
        if isinstance(values, Malformed):
            rule = Rule.ENCODING if values.undecodable else Rule.MALFORMED
            bad.append(BadRow(line, Rejected("", "", values.rule, rule)))
        else:
            whole.append((line, values))
    return [line for line, _ in whole], [values for _, values in whole], bad


def _of_lines(rows: Iterator[Row], lines: Collection[int]) -> Iterator[Row]:
    """Those of the rows that begin at these lines."""
    wanted = set(lines)
    for row in rows if wanted else ():
        if row[0] in wanted:
            wanted.remove(row[0])
            yield row
            if not wanted:
                return
    for line in sorted(wanted):
        yield line, Malformed("begins no row as the mapping now reads the file")
