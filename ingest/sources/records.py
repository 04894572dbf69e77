"""Records of named values (JSON lines, XML rows) as rows of columns: the first thousand say which columns there are."""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from ingest.sources.rows import LIST_SEPARATOR, Malformed, Row

_LOOK_AHEAD: Final = 1000
"""Records whose keys make the columns; a key that first comes later is known only when the mapping declares it."""

_DEEPEST: Final = 4
"""Objects within objects that have columns of their own."""

Record = Mapping[str, Any]


class Records:
    """Records that become rows.

    A number or a truth value is its JSON text and a list its members joined. What is inside an object is a column of
    its own with a dotted name: `user.id`.

    Args:
        records: each with its line.
        declared: keys that a record may have even where none of the first thousand has them.
        wanted: the columns that rows are to hold; all of them when None.
    """

    def __init__(
        self,
        records: Iterator[tuple[int, Record | Malformed]],
        declared: Sequence[str] = (),
        wanted: Collection[str] | None = None,
    ) -> None:
        self._records = records
        self._ahead = list(itertools.islice(records, _LOOK_AHEAD))
        found: dict[str, None] = {}
        for _, record in self._ahead:
            if not isinstance(record, Malformed):
                found.update(dict.fromkeys(_names(record)))
        self.found = bool(found)
        """Whether there is a record with anything in it."""
        found.update(dict.fromkeys(declared))
        self.columns = [name for name in found if wanted is None or name in wanted]

    def rows(self) -> Iterator[Row]:
        """The rows, once."""
        paths = [(name, name.split(".") if "." in name else None) for name in self.columns]
        for line, record in itertools.chain(self._ahead, self._records):
            if isinstance(record, Malformed):
                yield line, record
                continue
            try:
                yield line, [_text(_value(record, name, path)) for name, path in paths]
            except RecursionError:
                yield line, Malformed("is nested too deep")
        self._ahead = []


def _names(record: Record, depth: int = _DEEPEST) -> Iterator[str]:
    for name, value in record.items():
        yield name
        if isinstance(value, dict) and depth > 1:
            yield from (f"{name}.{inner}" for inner in _names(value, depth - 1))


def _value(record: Record, name: str, path: Sequence[str] | None) -> Any:
    value = record.get(name)
    if value is None and path is not None:
        value = record
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return LIST_SEPARATOR.join(_text(member) for member in value)
    return json.dumps(value, ensure_ascii=False, default=str)
