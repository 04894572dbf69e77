"""What a file of an export looks like, judged by its beginning: format, delimiter, header, encoding, columns."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ingest.columns import Column, scale_of
from ingest.errors import SourceError
from ingest.mapping import Format, Section, format_of
from ingest.sources.delimited import RECBOLE_TYPES
from ingest.sources.files import ExportFile
from ingest.sources.lines import Bytes
from ingest.sources.rows import Malformed, open_source

ROWS: Final = 1000
"""Rows of a file that are looked at."""

_SNIFFED: Final = 1 << 18
"""Bytes by which a text is judged."""
_DELIMITERS: Final = ("::", "\t", ",", ";", "|")


@dataclass(frozen=True)
class Look:
    """What a file looks like."""

    file: ExportFile
    place: str
    """As the mapping is to name it."""
    format: Format
    delimiter: str | None
    encoding: str
    names: Sequence[str]
    """Of its fields, made up where it has no header; empty where it says them itself."""
    columns: Sequence[Column]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def shape(self) -> tuple[object, ...]:
        """Files of one shape can share a section."""
        return self.format, self.delimiter, self.encoding, tuple(self.names), tuple(c.name for c in self.columns)


def look(file: ExportFile, place: str) -> Look:
    """Judge a file by its beginning: format, delimiter, header, encoding, columns.

    Raises: SourceError if it cannot be read or is of no known format.
    """
    beginning = _beginning(file)
    encoding = _encoding(beginning)
    text = beginning.decode(encoding, "ignore").removeprefix("\ufeff")
    format = format_of(file.path)
    if format in {None, "recbole"}:  # u.item of MovieLens is not RecBole's
        format = _format(file, text)
    delimiter: str | None = None
    names: Sequence[str] = ()
    if format in {"csv", "tsv"}:
        format, delimiter, rows = _delimited(text)
        if rows and not _is_header(rows[0]):
            names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
    section = Section(file=(place,), format=format, delimiter=delimiter, encoding=encoding, columns=tuple(names))
    columns = _columns(file, section)
    if names:
        columns = _made_up(columns)
        names = [column.name for column in columns]
    return Look(file, place, format, delimiter, encoding, names, columns)


def _beginning(file: ExportFile) -> bytes:
    source = Bytes(file)
    try:
        return source.stream.read(_SNIFFED)
    except (OSError, EOFError) as error:
        raise SourceError(f"{file} cannot be read: {error}") from None
    finally:
        source.close()


def _encoding(beginning: bytes) -> str:
    """utf-8 unless its bytes say otherwise; then the usual one of Western exports."""
    try:
        beginning[: beginning.rfind(b"\n") + 1 or None].decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in beginning) else "latin-1"
    return "utf-8"


def _format(file: ExportFile, text: str) -> Format:
    first = text.lstrip()[:1]
    if text.startswith("PAR1"):
        return "parquet"
    if first == "[":
        raise SourceError(f"{file} is one JSON array: write an object a line, for example with jq -c '.[]'")
    if first == "{":
        try:
            json.loads(text.lstrip().partition("\n")[0])
        except ValueError:
            return "literals"
        return "jsonl"
    if first == "<":
        return "xml"
    fields = text.partition("\n")[0].rstrip("\r").split("\t")
    return "recbole" if all(field.rpartition(":")[2] in RECBOLE_TYPES for field in fields) else "csv"


def _delimited(text: str) -> tuple[Format, str | None, list[list[str]]]:
    """Format, delimiter (None for the format's own) and first rows: what parts the lines into most equal rows."""
    lines = text.splitlines()[:-1] if len(text) >= _SNIFFED else text.splitlines()
    lines = [line for line in lines[:100] if line.strip()]
    best: tuple[float, int, str, list[list[str]]] = (0.0, 0, ",", [[line] for line in lines])
    for mark in _DELIMITERS:
        quoted = mark != "::"
        try:
            rows = list(csv.reader(lines, delimiter=mark)) if quoted else [line.split(mark) for line in lines]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width > 1:
            alike = sum(len(row) == width for row in rows) / len(rows)
            best = max(best, (alike, width, mark, rows), key=lambda each: each[:2])
    _, _, mark, rows = best
    if mark == "::":
        return "tsv", mark, rows
    enclosed = re.compile(rf'(^|{re.escape(mark)})"[^"]*"({re.escape(mark)}|$)')
    if (mark == "\t" or any('"' in line for line in lines)) and not any(enclosed.search(line) for line in lines):
        return "tsv", None if mark == "\t" else mark, [line.split(mark) for line in lines]
    return "csv", None if mark == "," else mark, rows


def _is_header(fields: Sequence[str]) -> bool:
    """Whether a first line holds names: none is a number or a date, and each is its own."""
    if len(set(fields)) < len(fields) or sum(not field.strip() for field in fields) > 1:
        return False
    column = [Column("", (field,), 1) for field in fields if field.strip()]
    return not any(each.numbers or each.instant for each in column)


def _columns(file: ExportFile, section: Section) -> list[Column]:
    source = open_source(file, section)
    try:
        rows = [values for _, values in islice(source.rows(), ROWS) if not isinstance(values, Malformed)]
        values: Iterator[tuple[str, ...]] = zip(*rows, strict=True) if rows else iter(() for _ in source.columns)
        return [
            Column(name, tuple(value for value in column if value.strip()), len(rows))
            for name, column in zip(source.columns, values, strict=True)
        ]
    finally:
        source.close()


def _made_up(columns: Sequence[Column]) -> list[Column]:
    """The columns of a file without a header, with names by their values: those of a catalogue, events or people."""
    names = {at: f"column_{at + 1}" for at in range(len(columns))}
    rest = [at for at, column in enumerate(columns) if column.distinct]
    title = next((at for at in rest if columns[at].words_within and columns[at].separator != "|"), None)
    time = next((at for at in rest if columns[at].instant), None)
    rest = [at for at in rest if at not in {title, time}]
    if rest and title is not None and time is None:
        names |= {rest[0]: "id", title: "title"}
        names |= {at: "categories" for at in rest[1:] if columns[at].separator == "|"}
    elif len(rest) > 1 and (time is not None or len(columns) == 2 or not columns[rest[0]].unique):
        names |= {rest[0]: "user", rest[1]: "item"}
        rated = (
            at for at in rest[2:] if len(columns[at].distinct) <= 11 and columns[at].numbers and scale_of(columns[at])
        )
        names |= dict.fromkeys(islice(rated, 1), "rating")
        names |= {} if time is None else {time: "at"}
    elif rest:
        names[rest[0]] = "user"
    return [Column(names[at], column.values, column.rows) for at, column in enumerate(columns)]
