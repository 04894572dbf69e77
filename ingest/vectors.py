"""Vectors that items have from elsewhere: of images, of sound, or of anything another model has seen.

They arrive in a Parquet file with a column of ids and a column of lists of numbers, and are kept like those of texts:
vectors/<name>/Item.parquet, of the columns key and vector. `write_whole` writes any such file.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graph.errors import SnapshotError
from graph.store import Store
from graph.vectors import read_vectors
from ingest.errors import IngestError, SourceError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ROWS: Final = 4_096
"""Rows of a file that are read at once."""


@dataclass(frozen=True, slots=True)
class VectorsReport:
    """What became of the rows of a file."""

    name: str
    rows: int
    """kept + repeated + empty + unknown."""
    kept: int
    repeated: int
    """Rows that say again what one before them said."""
    empty: int
    """Rows without a vector."""
    unknown: int
    """Rows of no item in the graph."""
    dim: int
    """Numbers in a vector."""
    present: int
    """Items that have a vector of this name now, of `items`."""
    items: int

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows: {self.kept:,} kept, {self.repeated:,} repeated, {self.empty:,} without a vector, "
            f"{self.unknown:,} of no item\n"
            f"{self.name}: {self.present:,} of {self.items:,} items have a vector of {self.dim} numbers"
        )


def add_vectors(
    store: Store,
    var: Path,
    name: str,
    source: Path,
    *,
    key: str = "key",
    vector: str = "vector",
    platform: str | None = None,
) -> VectorsReport:
    """Take the items' vectors of a Parquet file into var/vectors/<name>/Item.parquet, whole or not at all.

    An item's vector replaces the one of that name that it had; other items keep theirs, unless they left the graph. The
    same file again changes nothing.

    Args:
        name: what these vectors are called, such as images.
        key: the column of ids; each is an item's key, or with `platform` its id there.
        vector: the column of vectors, lists of numbers, all of one length.
    Raises: StoreError; SourceError if the file cannot be read, has no such columns or vectors that are no vectors;
        IngestError if the name is taken by a text model, or vectors of another length are kept under it.
    """
    if not _NAME.fullmatch(name):
        raise IngestError(f"{name!r} cannot name vectors: take letters, digits, - and _, such as images")
    path = var / "vectors" / name / "Item.parquet"
    items = [each for batch in store.read_nodes("Item") for each in batch.column("key").to_pylist()]
    there, before = set(items), _held(path, items)
    given: dict[str, NDArray[np.float32]] = {}
    rows = repeated = empty = unknown = 0
    for ids, valid, matrix in _batches(source, key, vector):
        places = np.cumsum(valid) - 1
        for row, said in enumerate(ids):
            rows += 1
            item = str(said) if platform is None else f"{platform}:{said}"
            if not valid[row]:
                empty += 1
            elif item not in there:
                unknown += 1
            elif item not in given:
                given[item] = matrix[places[row]]
            elif np.array_equal(given[item], matrix[places[row]]):
                repeated += 1
            else:
                raise SourceError(f"{source} has two different vectors for {item}: leave one of them")
    widths = {len(each) for each in given.values()}
    if not given:
        raise SourceError(
            f"none of the {rows:,} rows of {source} has a vector of an item in the graph ({unknown:,} name another, "
            f"{empty:,} have none): ids are keys such as shop:4711, or with --platform the platform's own"
        )
    if len(widths | {len(each) for each in before.values()}) > 1:
        raise IngestError(
            f"{source} has vectors of {widths.pop()} numbers, those kept as {name} have others: give these another "
            f"name, or delete {path} first"
        )
    merged = before | given
    keys = sorted(merged)
    matrix = np.stack([merged[each] for each in keys])
    write_whole(path, pa.table({"key": pa.array(keys, pa.string()), "vector": vector_array(matrix)}))
    counts = (rows, len(given), repeated, empty, unknown)
    return VectorsReport(name, *counts, matrix.shape[1], len(keys), len(items))


def _held(path: Path, items: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors kept so far, of items that are in the graph."""
    if not path.exists():
        return {}
    try:
        if "text_hash" in pq.read_schema(path).names:
            raise IngestError(
                f"{path.parent.name} is a text model, whose vectors isthmus embed writes: take another name"
            )
        matrix, present = read_vectors(path, items)
    except (OSError, pa.ArrowException, SnapshotError) as error:
        raise IngestError(f"{path} cannot be read as vectors ({error}): delete it and bring them again") from error
    return {items[row]: matrix[row] for row in np.flatnonzero(present).tolist()}


def _batches(
    source: Path, key: str, vector: str
) -> Iterator[tuple[list[object], NDArray[np.bool_], NDArray[np.float32]]]:
    """Ids [B], which of them have a vector [B], and the vectors that there are [V, D]."""
    width: int | None = None
    try:
        with pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if missing := [name for name in (key, vector) if name not in names]:
                raise SourceError(
                    f"{source} has no column {' and no column '.join(missing)}, but {', '.join(names)}: name that of "
                    "ids with --key, that of vectors with --column"
                )
            type = file.schema_arrow.field(vector).type
            if not (pa.types.is_nested(type) and hasattr(type, "value_type") and _is_number(type.value_type)):
                raise SourceError(f"{source} has {type} in the column {vector}: vectors are lists of numbers")
            for batch in file.iter_batches(_ROWS, columns=[key, vector]):
                ids, column = batch.column(key).to_pylist(), batch.column(vector)
                valid = pc.and_(column.is_valid(), batch.column(key).is_valid()).to_numpy(zero_copy_only=False)
                lists = column.filter(pa.array(valid))
                if not len(lists):
                    yield ids, valid, np.zeros((0, 0), np.float32)
                    continue
                lengths = np.unique(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
                width = int(lengths[0]) if width is None else width
                if lengths.tolist() != [width] or width == 0:
                    found = ", ".join(str(length) for length in sorted({*lengths.tolist(), width}))
                    raise SourceError(
                        f"{source} has vectors of {found} numbers in the column {vector}: all have one length, not 0"
                    )
                numbers = pc.list_flatten(lists).cast(pa.float64()).to_numpy(zero_copy_only=False)
                with np.errstate(over="ignore"):
                    matrix = numbers.astype(np.float32).reshape(-1, width)
                wrong = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
                if len(wrong):
                    id = ids[np.flatnonzero(valid)[wrong[0]]]
                    raise SourceError(f"{source} has a vector with an infinite or missing number, the one of {id}")
                yield ids, valid, matrix
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{source} cannot be read as Parquet ({error}): name a Parquet file of vectors") from error


def _is_number(type: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type) or pa.types.is_integer(type))


def vector_array(matrix: NDArray[np.float32]) -> pa.Array:
    """[N, D] vectors as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), type=pa.float32()), matrix.shape[1])


def make_folder(folder: Path) -> None:
    """A folder of vectors, where there is none; raises IngestError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IngestError(f"{folder} cannot be made ({error}): give another var folder") from error


def write_whole(path: Path, table: pa.Table) -> None:
    """Write a file of vectors so that it appears whole or not at all; raises IngestError."""
    part = None
    make_folder(path.parent)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise IngestError(f"{path} cannot be written ({error}): make room or give another var folder") from error
