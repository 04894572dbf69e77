"""Batches: the rows of one file, parsed so many at a time, as one run writes them; in this process or in another."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import compress, islice
from operator import itemgetter
from typing import Final, Generic, TypeVar

from graph.keys import AccountKey
from ingest.mapping import optional_columns
from ingest.parse import Rejected, Values
from ingest.plan import Part
from ingest.quarantine import BadRow
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
    rows: Sequence[Values]
    """The fields of each record's row, raw."""


def by_row(parse: Callable[[Values], RecordT | Rejected]) -> "Parse[list[RecordT]]":
    """A parser of rows, taken row by row."""

    def parse_all(rows: Sequence[Values]) -> tuple[list[RecordT], list[tuple[int, Rejected]]]:
        parsed = [parse(values) for values in rows]
        return (
            [record for record in parsed if not isinstance(record, Rejected)],
            [(at, record) for at, record in enumerate(parsed) if isinstance(record, Rejected)],
        )

    return parse_all


@dataclass(frozen=True, slots=True)
class Reading(Generic[RecordsT]):
    """One file that is being read."""

    part: Part
    source: Source
    account_of: Callable[[Values], AccountKey | None]
    parse: "Parse[RecordsT]"
    lines: Collection[int] | None = None
    """The lines to read; None for all."""

    def batches(self) -> Iterator[Batch[RecordsT]]:
        """The rows of the file, parsed; raises SourceError where it is damaged."""
        rows = self._rows()
        while batch := list(islice(rows, BATCH)):
            yield self._parsed(batch)

    def bad_row(self, line: int, values: Values, reason: Rejected) -> BadRow:
        """A row that is not taken, with what must not be kept of it."""
        private = self.part.mapping.private_columns
        ids = [value for name, value in zip(self.source.columns, values, strict=True) if name in private]
        return BadRow(line, reason, self.account_of(values), ids)

    def _rows(self) -> Iterator[Row]:
        if self.lines is None:
            yield from self.source.rows()
            return
        wanted = set(self.lines)
        for row in self.source.rows() if wanted else ():
            if row[0] in wanted:
                wanted.remove(row[0])
                yield row
                if not wanted:
                    return
        for line in sorted(wanted):
            yield line, Malformed("begins no row as the mapping now reads the file")

    def _parsed(self, batch: Sequence[Row]) -> Batch[RecordsT]:
        lines, rows, bad = _fields(batch)
        if nothing := frozenset(self.part.section.missing):
            rows = [["" if value in nothing else value for value in values] for values in rows]
        records, rejected = self.parse(rows)
        if rejected:
            bad += [self.bad_row(lines[at], rows[at], reason) for at, reason in rejected]
            taken = [True] * len(rows)
            for at, _ in rejected:
                taken[at] = False
            lines, rows = list(compress(lines, taken)), list(compress(rows, taken))
        missing: Counter[str] = Counter()
        for name, column in optional_columns(self.part.section):
            field = itemgetter(self.source.columns.index(column))
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
