"""Bulk files: the CSV of one kind of node or relationship, as `neo4j-admin database import` reads it.

A column has one type. Attributes have any, so rows whose attributes contradict each other go to different files; one
that comes up later opens a new file with one more column.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

LONGEST: Final = 1_000_000
"""Characters of one value in a file: the importer reads no value beyond its buffer of 4 MiB."""

PARTED: Final = "\x1f"
"""What parts the texts of a list."""

_PLAIN_NAME: Final = re.compile(r"\w(?:[\w .-]*\w)?")
_TYPES: Final[Mapping[type, str]] = {str: "string", bool: "boolean", int: "long", float: "double", list: "string[]"}
_ARROW: Final[Mapping[str, pa.DataType]] = {
    "string": pa.string(),
    "string[]": pa.string(),
    "boolean": pa.bool_(),
    "long": pa.int64(),
    "double": pa.float64(),
}
_AS_CSV: Final = pa.csv.WriteOptions(quoting_style="needed")  # texts are quoted, so that "" is one and nothing is none


class ImporterTable(ExitStack):
    """The files of one kind of node or relationship. In each, an attribute has one type, as the importer wants."""

    def __init__(self, folder: Path, kind: str, name: str, id: str) -> None:
        super().__init__()
        self.kind = kind
        self.name = name
        """The label or type."""
        self.files: list[Path] = []
        self.rows = 0
        self.has_lines = False
        """Whether a text has more than one line."""
        self._path = folder / kind
        self._id = id
        self._layouts: list[_Layout] = []

    def write(self, columns: Mapping[str, pa.Array], attributes: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write rows; attributes are under their names, the columns under what the importer's header says."""
        rows = len(next(iter(columns.values())))
        if not rows:
            return
        self.rows += rows
        if attributes is None:
            self._write(self._fitting(()), columns, ())
            return
        alike = defaultdict(list)
        for row, own in enumerate(attributes):
            alike[tuple((name, _TYPES[type(value)]) for name, value in own.items())].append(row)
        chosen: dict[int, tuple[_Layout, list[int]]] = {}
        for signature, indices in alike.items():
            layout = self._fitting(signature)
            chosen.setdefault(id(layout), (layout, []))[1].extend(indices)
        for layout, indices in chosen.values():
            own = pa.array(indices)
            self._write(
                layout,
                {name: column.take(own) for name, column in columns.items()},
                [attributes[row] for row in indices],
            )

    def _fitting(self, signature: Sequence[tuple[str, str]]) -> "_Layout":
        for layout in self._layouts:
            if all(layout.types.get(name, type) == type for name, type in signature):
                break
        else:
            layout = _Layout()
            self._layouts.append(layout)
        layout.types.update(signature)
        return layout

    def _write(
        self, layout: "_Layout", columns: Mapping[str, pa.Array], attributes: Sequence[Mapping[str, Any]]
    ) -> None:
        columns = dict(columns)
        for name, type in layout.types.items():
            values = [own.get(name) for own in attributes] or [None] * len(next(iter(columns.values())))
            if type == "string[]":
                values = [None if value is None else PARTED.join(value) for value in values]
            columns[f"{name}:{type}"] = pa.array(values, _ARROW[type])
        batch = pa.record_batch(list(columns.values()), names=list(columns))
        for column in batch.columns if not self.has_lines else ():
            if column.type == pa.string() and pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py():
                self.has_lines = True
        if layout.schema != batch.schema:
            self.files.append(self._path / f"{self._id}-{len(self.files)}.csv")
            layout.schema = batch.schema
            if layout.writer is not None:
                layout.writer.close()
            layout.writer = pa.csv.CSVWriter(self.files[-1], batch.schema, write_options=_AS_CSV)
            self.callback(layout.writer.close)
        layout.writer.write_batch(batch)


def fits_a_file(name: str, value: Any) -> bool:
    """Whether a file can say an attribute so that the importer reads what was written."""
    if isinstance(value, list):
        if value in ([], [""]) or any(PARTED in part for part in value):
            return False
        value = PARTED.join(value)
    return not (isinstance(value, str) and len(value) > LONGEST) and _PLAIN_NAME.fullmatch(name) is not None


class _Layout:
    """Attributes that one file can hold: a type for each."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.schema: pa.Schema | None = None
        """Of the file that is open; attributes that come later open another."""
        self.writer: Any = None
