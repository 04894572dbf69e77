"""JSON lines: one object a line, gzip or not. A number or a truth value is its JSON text, a list its members joined."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ingest.errors import SourceError
from ingest.sources.lines import Lines
from ingest.sources.rows import LIST_SEPARATOR, Malformed, Row

_LOOK_AHEAD: Final = 1000
"""Records whose keys make the columns; a key that first comes later is not known."""


class JsonLinesSource:
    """One file of JSON lines."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._lines = Lines(path, encoding)
        self._encoding = encoding
        self._texts = self._number(iter(self._lines))
        try:
            self._ahead = list(itertools.islice(self._texts, _LOOK_AHEAD))
        except SourceError:
            self.close()
            raise
        records = [record for _, text in self._ahead if isinstance(record := _decode(text), dict)]
        if not records:
            self.close()
            raise SourceError(f'{path} is not JSON lines: none of its first lines is an object such as {{"id": 1}}')
        self._columns = list(dict.fromkeys(key for record in records for key in record))

    @property
    def columns(self) -> Sequence[str]:
        return self._columns

    def rows(self) -> Iterator[Row]:
        columns = self._columns
        for line, text in itertools.chain(self._ahead, self._texts):
            record = _decode(text)
            if isinstance(record, dict):
                yield line, [_text(record.get(column)) for column in columns]
            else:
                yield line, record
        self._ahead = []

    def position(self) -> float:
        return self._lines.position()

    def close(self) -> None:
        self._lines.close()

    def _number(self, texts: Iterator[str]) -> Iterator[tuple[int, str | Malformed]]:
        for line, text in enumerate(texts, 1):
            if self._lines.undecodable:
                self._lines.undecodable = False
                rule = f"has bytes that are not {self._encoding}: convert the file or set encoding"
                yield line, Malformed(rule, undecodable=True)
            elif not text.isspace():
                yield line, text


def _decode(text: str | Malformed) -> dict[str, object] | Malformed:
    if isinstance(text, Malformed):
        return text
    try:
        record = json.loads(text)
    except ValueError as error:
        place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        return Malformed(f"is not JSON{place}")
    except RecursionError:
        return Malformed("is JSON nested too deep")
    if not isinstance(record, dict):
        return Malformed('is not a JSON object such as {"id": 1}')
    if "\\ud" in text.lower():
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Malformed("has half a surrogate pair, which is no text")
    return record


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return LIST_SEPARATOR.join(_text(member) for member in value)
    return json.dumps(value, ensure_ascii=False)
