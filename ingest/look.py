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
    format = format_of(file.path) or _format(file, text)
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
    if mark == "\t" and not any(re.search(r'(^|\t)"[^\t]*"(\t|$)', line) for line in lines):
        return "tsv", None, [line.split("\t") for line in lines]
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
    """Names for the columns of a file without a header, by their values."""
    names: list[str] = []
    for column in columns:
        scale = scale_of(column) if column.numbers else None
        if column.instant and "at" not in names:
            name = "at"
        elif column.words_within and "title" not in names and len(column.distinct) > len(column.values) / 2:
            name = "title"
        elif scale and len(column.distinct) <= 11 and len(columns) > 2 and "rating" not in names and "item" in names:
            name = "rating"
        elif column.unique and not names:
            name = "id"
        elif column.distinct and not {"id", "item"} & set(names):
            name = "item" if "user" in names else "user"
        else:
            name = ""
        names.append(name or f"column_{len(names) + 1}")
    if "id" in names and "title" not in names:
        names[names.index("id")] = "user"
        second = next((name for name in names if name.startswith("column_")), None)
        if second is not None and any(name in {"at", "rating"} for name in names):
            names[names.index(second)] = "item"
    return [Column(name, column.values, column.rows) for name, column in zip(names, columns, strict=True)]
