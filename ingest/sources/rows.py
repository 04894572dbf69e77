"""A source: the rows of one file as texts, with their lines; opened by format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

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


def open_source(path: Path, section: "Section") -> Source:
    """Open a file in the format that a mapping's section says.

    Raises: SourceError if it is missing, empty, damaged or of another format.
    """
    match section.resolved_format:
        case "csv" | "tsv" as format:
            from ingest.sources.delimited import DelimitedSource

            delimiter = "\t" if format == "tsv" else section.delimiter or ","
            return DelimitedSource(path, delimiter, quoted=format == "csv", encoding=section.encoding)
        case "jsonl":
            from ingest.sources.json_lines import JsonLinesSource

            return JsonLinesSource(path, section.encoding)
        case "parquet":
            from ingest.sources.parquet import ParquetSource

            return ParquetSource(path)
