"""A source: the rows of one file as texts, with their lines; opened by format."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ingest.sources.files import ExportFile

if TYPE_CHECKING:
    from ingest.mapping import Section

LIST_SEPARATOR: Final = "\x1f"
"""Between the members of a list (in json lines and parquet) once it is one text."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that is not even fields."""

    rule: str
    """The rule it breaks; no part of the row, which may hold an account's id."""
    undecodable: bool = False
    """It has bytes that are not of the file's encoding."""


Row = tuple[int, list[str] | Malformed]
"""Line (or record, in parquet) counted from 1, and the fields in the order of the source's columns; "" for none."""


class Source(Protocol):
    """One file, open."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns; known before the first row is read."""

    def rows(self) -> Iterator[Row]:
        """The rows, once.

        Raises: SourceError if the file is damaged.
        """

    def position(self) -> float:
        """The share of the file that has been read, 0 to 1."""

    def close(self) -> None:
        """Give the file back."""


def open_source(
    file: ExportFile, section: "Section", wanted: Collection[str] | None = None, limit: int | None = None
) -> Source:
    """Open a file in the format that a mapping's section says, for the rows that belong to the section.

    Args:
        wanted: the columns that rows are to hold, at least; all of the file when None.
        limit: give the first so many of the rows.
    Raises: SourceError if it is missing, empty, damaged or of another format.
    """
    from ingest.sources.kafka import MessageSource, Partition

    source: Source
    if isinstance(file, Partition):
        source = MessageSource(file, section.columns, wanted)
    else:
        source = _open(file, section, wanted)
        if file.stretch is not None:
            source = _Later(source, file.stretch.skipped)
    return _Chosen(source, section.where, limit) if section.where or limit is not None else source


class _Chosen:
    """The first rows of a source that have given values; a row that is not even fields stays, to be counted."""

    def __init__(self, source: Source, where: Mapping[str, Sequence[str]], limit: int | None) -> None:
        self._source = source
        self._where = where
        self._limit = limit
        self.columns = source.columns
        self.position = source.position
        self.close = source.close

    def rows(self) -> Iterator[Row]:
        return itertools.islice(self._chosen(), self._limit)

    def _chosen(self) -> Iterator[Row]:
        tests = [(self.columns.index(column), frozenset(values)) for column, values in self._where.items()]
        for row in self._source.rows():
            _, values = row
            if isinstance(values, Malformed) or all(values[at] in wanted for at, wanted in tests):
                yield row


class _Later:
    """The rows of a source that is given a stretch of its file, with the lines that they have in the file."""

    def __init__(self, source: Source, skipped: int) -> None:
        self._source = source
        self._skipped = skipped
        self.columns = source.columns
        self.position = source.position
        self.close = source.close

    def rows(self) -> Iterator[Row]:
        for line, values in self._source.rows():
            yield line + self._skipped, values


def _open(file: ExportFile, section: "Section", wanted: Collection[str] | None) -> Source:
    match section.resolved_format:
        case "csv" | "tsv" as format:
            from ingest.sources.delimited import DelimitedSource

            return DelimitedSource(
                file,
                section.delimiter or ("\t" if format == "tsv" else ","),
                quoted=format == "csv",
                encoding=section.encoding,
                columns=section.columns,
            )
        case "recbole":
            from ingest.sources.delimited import RecBoleSource

            return RecBoleSource(file, encoding=section.encoding)
        case "jsonl" | "literals" as format:
            from ingest.sources.json_lines import JsonLinesSource

            return JsonLinesSource(
                file,
                encoding=section.encoding,
                literals=format == "literals",
                declared=section.columns,
                wanted=wanted,
            )
        case "xml":
            from ingest.sources.xml import XmlSource

            return XmlSource(file, declared=section.columns, wanted=wanted)
        case "parquet":
            from ingest.sources.parquet import ParquetSource

            return ParquetSource(file, wanted)
