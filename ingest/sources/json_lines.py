"""JSON lines: one object a line. Python literals too, as Amazon's metadata of 2014 are written."""

import ast
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ingest.errors import SourceError
from ingest.sources.files import ExportFile
from ingest.sources.lines import Lines
from ingest.sources.records import Record, Records
from ingest.sources.rows import Malformed


class JsonLinesSource:
    """One file of JSON lines.

    Args:
        literals: its objects are dictionaries as Python writes them ({'id': 1}), not JSON.
        declared, wanted: as in `Records`.
    """

    def __init__(
        self,
        file: ExportFile,
        *,
        encoding: str,
        literals: bool = False,
        declared: Sequence[str] = (),
        wanted: Collection[str] | None = None,
    ) -> None:
        self._lines = lines = Lines(file, encoding)
        self._literals = literals
        self.position, self.close = lines.position, lines.close
        try:
            records = Records(self._decoded(), declared, wanted)
            if not records.found and (file.stretch is None or file.stretch.start == 0):
                kind = "Python literals" if literals else "JSON lines"
                raise SourceError(f'{file} is not {kind}: none of its first lines is an object such as {{"id": 1}}')
        except SourceError:
            self.close()
            raise
        self.columns, self.rows = records.columns, records.rows

    def _decoded(self) -> Iterator[tuple[int, Record | Malformed]]:
        decode = _literal if self._literals else record_of
        lines = self._lines
        for number, text in enumerate(lines, 1):
            if lines.fault:
                yield number, lines.fault
                lines.fault = None
            elif not text.isspace():
                yield number, decode(text)


def record_of(text: str) -> Record | Malformed:
    """The JSON object that a text is."""
    try:
        record = json.loads(text)
    except ValueError as error:
        place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        return Malformed(f"is not JSON{place}")
    except RecursionError:
        return Malformed("is JSON nested too deep")
    return _checked(record, text, "JSON object")


def _literal(text: str) -> Record | Malformed:
    try:
        record = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return Malformed("is not a Python literal")
    return _checked(record, text, "dictionary")


def _checked(record: Any, text: str, kind: str) -> Record | Malformed:
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        return Malformed(f'is not a {kind} such as {{"id": 1}}')
    if "\\ud" in text.lower():
        try:
            json.dumps(record, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            return Malformed("has half a surrogate pair, which is no text")
    return record
