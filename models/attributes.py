"""Attributes of items in columns: written with a bundle, memory-mapped, and asked for the rows that pass a test.

platform, title, created_at     of every item, where the source gives them
<attribute>                     what else the source says of an item: numbers, flags, texts, lists of texts
<kind>, <relation>              the names of the entities around an item: category, directed_by
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

Kind = Literal["number", "flag", "instant", "text", "texts"]
Order = Literal["==", "<", "<=", ">", ">="]
Value = str | float | bool | datetime

MAX_COLUMNS: Final = 256
"""Attributes of a source that are kept, those of the most items first."""

_ORDERS: Final[Mapping[Order, Any]] = {
    "==": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_TYPES: Final[Mapping[Kind, pa.DataType]] = {
    "number": pa.float64(),
    "flag": pa.bool_(),
    "instant": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
}
_CHUNK: Final = 65_536


class Column(Protocol):
    """One attribute of all items."""

    @property
    def kind(self) -> Kind:
        """What its values are."""

    def compare(self, order: Order, value: Value) -> NDArray[np.bool_]:
        """[N] whether an item's value, or one of its texts, stands so to `value`; false where it has none."""

    def missing(self) -> NDArray[np.bool_]:
        """[N] whether an item has no value."""


@dataclass(frozen=True)
class _Plain:
    """Numbers, flags, instants."""

    kind: Kind
    values: pa.Array

    def compare(self, order: Order, value: Value) -> NDArray[np.bool_]:
        return _mask(_ORDERS[order](self.values, pa.scalar(value, self.values.type)))

    def missing(self) -> NDArray[np.bool_]:
        return _mask(self.values.is_null())


@dataclass(frozen=True)
class _Text:
    """One text of each item: a number that stands for one of the distinct texts."""

    codes: pa.Array
    texts: pa.Array
    kind: Kind = "text"

    def compare(self, order: Order, value: Value) -> NDArray[np.bool_]:
        hits = _ORDERS[order](self.texts, value)
        return _mask(hits.take(self.codes))

    def missing(self) -> NDArray[np.bool_]:
        return _mask(self.codes.is_null())


@dataclass(frozen=True)
class _Texts:
    """Any number of texts of each item: line r of `codes` is offsets[r] to offsets[r + 1]."""

    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]
    texts: pa.Array
    kind: Kind = "texts"

    def compare(self, order: Order, value: Value) -> NDArray[np.bool_]:
        hits = _mask(_ORDERS[order](self.texts, value))[self.codes]
        found = np.zeros(len(self.offsets) - 1, dtype=np.bool_)
        found[np.searchsorted(self.offsets, np.flatnonzero(hits), side="right") - 1] = True
        return found

    def missing(self) -> NDArray[np.bool_]:
        return np.asarray(np.diff(self.offsets) == 0)


class ItemAttributes(Mapping[str, Column]):
    """The columns of a bundle by name; those of entities are put together when first asked for."""

    def __init__(
        self,
        platforms: Sequence[str],
        item_platform: NDArray[np.int64],
        titles: pa.Array,
        table: pa.Table | None = None,
        knowledge: Mapping[str, tuple[csr_matrix, Sequence[str]]] | None = None,
    ) -> None:
        """
        Args:
            table: from `attribute_table`; None where a bundle was written before there were any.
            knowledge: as models.explain has it.
        """
        self._base: dict[str, Column] = {
            "platform": _Text(pa.array(item_platform.astype(np.int32)), pa.array(platforms, pa.string())),
            "title": _Text(pa.array(np.arange(len(titles), dtype=np.int32), mask=_mask(titles.is_null())), titles),
        }
        self.titles = titles
        self.table = table if table is not None else pa.table({})
        self._knowledge = knowledge or {}
        self._made: dict[str, Column] = {}

    @cached_property
    def _kinds(self) -> Mapping[str, Sequence[str]]:
        """Which relations lead to entities of a kind."""
        kinds: dict[str, list[str]] = {}
        for relation, (_, keys) in self._knowledge.items():
            for kind in sorted({key.partition(":")[0] for key in keys}):
                kinds.setdefault(kind, []).append(relation)
        return kinds

    @cached_property
    def _names(self) -> Sequence[str]:
        relations = [relation.lower() for relation in self._knowledge]
        return tuple(dict.fromkeys([*self._base, *self.table.column_names, *self._kinds, *relations]))

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Column:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Column:
        if name in self._base:
            return self._base[name]
        if name in self.table.column_names:
            return _column(self.table[name].combine_chunks())
        if name in self._kinds:
            return self._of_kind(name)
        relation = name.upper()
        if name != relation.lower() or relation not in self._knowledge:
            raise KeyError(name)
        incidence, keys = self._knowledge[relation]
        return _entities(incidence, keys)

    def _of_kind(self, kind: str) -> Column:
        parts: list[csr_matrix] = []
        names: list[str] = []
        for relation in self._kinds[kind]:
            incidence, keys = self._knowledge[relation]
            chosen = np.array([key.startswith(f"{kind}:") for key in keys])
            parts.append(incidence[:, chosen])
            names += [key for key in keys if key.startswith(f"{kind}:")]
        return _entities(csr_matrix(hstack(parts)), names)


def attribute_table(created_at: Iterable[datetime | None], attributes: Sequence[str]) -> pa.Table:
    """The columns of what a source says of its items: `created_at`, and each key of the JSON objects `attributes`.

    A column in which all values are numbers is one of numbers, and of flags where all are true or false; one with a
    list in it is one of lists; any other is one of texts.
    """
    kinds: dict[str, set[type]] = {}
    counts: Counter[str] = Counter()
    for text in attributes:
        for name, value in _parsed(text).items():
            kinds.setdefault(name, set()).add(type(value))
            counts[name] += 1
    names = sorted(name for name, _ in counts.most_common(MAX_COLUMNS) if name not in {"platform", "title"})
    kind_of = {name: _kind(kinds[name]) for name in names if name != "created_at"}
    chunks: dict[str, list[pa.Array]] = {name: [] for name in kind_of}
    for start in range(0, len(attributes), _CHUNK):
        lines = [_parsed(text) for text in attributes[start : start + _CHUNK]]
        for name, kind in kind_of.items():
            chunks[name].append(_array([line.get(name) for line in lines], kind))
    columns = {"created_at": pa.array(created_at, _TYPES["instant"])}
    return pa.table(columns | {name: _encoded(pa.chunked_array(each)) for name, each in chunks.items()})


def with_lines(table: pa.Table, created_at: Sequence[datetime | None], lines: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table with lines of later items; a value that does not fit its column is left out, as are new names."""
    columns = {}
    for name in table.column_names:
        whole = table[name].combine_chunks()
        kind = _column(whole).kind
        if name == "created_at":
            more = pa.array(created_at, _TYPES["instant"])
        else:
            more = _array([value if _fits(value := line.get(name), kind) else None for line in lines], kind)
        columns[name] = _encoded(pa.chunked_array([_decoded(whole), more]))
    return pa.table(columns)


def _fits(value: Any, kind: Kind) -> bool:
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return value is not None


def _decoded(values: pa.Array) -> pa.Array:
    if pa.types.is_list(values.type):
        return values.cast(_TYPES["texts"])
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def write_attributes(table: pa.Table, file: Path) -> None:
    """Write a table in Arrow's file format, which `read_attributes` maps."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_attributes(file: Path) -> pa.Table:
    """The table, memory-mapped: what is not asked for is not read."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _parsed(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = {} if text == "{}" else json.loads(text)
    return parsed


def _kind(types: set[type]) -> Kind:
    if list in types:
        return "texts"
    if types == {bool}:
        return "flag"
    return "number" if types <= {int, float} else "text"


def _array(values: Sequence[Any], kind: Kind) -> pa.Array:
    if kind == "texts":
        values = [None if value is None else value if isinstance(value, list) else [value] for value in values]
        values = [None if value is None else [_text(each) for each in value] for value in values]
    elif kind == "text":
        values = [None if value is None else _text(value) for value in values]
    elif kind == "number":
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, _TYPES[kind])


def _encoded(chunks: pa.ChunkedArray) -> pa.Array:
    """In one piece, texts as numbers that stand for the distinct ones."""
    whole = chunks.combine_chunks()
    if pa.types.is_list(whole.type):
        return pa.ListArray.from_arrays(whole.offsets, whole.values.dictionary_encode())
    return whole.dictionary_encode() if pa.types.is_string(whole.type) else whole


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _column(values: pa.Array) -> Column:
    if pa.types.is_list(values.type):
        inner = values.values
        offsets = values.offsets.to_numpy().astype(np.int64)
        return _Texts(offsets, inner.indices.to_numpy(), inner.dictionary)
    if pa.types.is_dictionary(values.type):
        return _Text(values.indices, values.dictionary)
    kind: Kind = "number"
    if pa.types.is_boolean(values.type):
        kind = "flag"
    elif pa.types.is_timestamp(values.type):
        kind = "instant"
    return _Plain(kind, values)


def _entities(incidence: csr_matrix, keys: Sequence[str]) -> Column:
    names = pa.array([key.partition(":")[2] for key in keys], pa.string())
    return _Texts(np.asarray(incidence.indptr, dtype=np.int64), incidence.indices, names)


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask
