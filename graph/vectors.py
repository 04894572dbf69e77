"""Vectors beside the graph: the Parquet files that ingest writes per model and label, in the order of given keys."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graph.errors import SnapshotError


def read_vectors(path: Path, keys: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors of these keys.

    Args:
        path: a file of vectors/<model>/<label>.parquet, with the columns key and vector (a fixed-size list of float32).
        keys: any order; keys of the file that are not asked for are left out.
    Returns: [N, D] vectors, and [N] true where there is one; where there is none, it is marked and its row is zeros.
    Raises: SnapshotError if there is no such file or it holds no vectors.
    """
    try:
        schema = pq.read_schema(path)
        type = schema.field("vector").type if {"key", "vector"} <= set(schema.names) else None
        if type is None or not pa.types.is_fixed_size_list(type) or type.value_type != pa.float32():
            raise SnapshotError(
                f"{path} has the columns {', '.join(f'{field.name}: {field.type}' for field in schema)}, not key and "
                "vector: fixed-size list of float32; write it again with isthmus embed"
            )
        table = pq.read_table(path, columns=["key", "vector"])
    except FileNotFoundError:
        raise SnapshotError(f"{path} does not exist: write the vectors of that model with isthmus embed") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise SnapshotError(f"{path} cannot be read as vectors ({error}): write it again with isthmus embed") from error
    table = table.filter(table["vector"].is_valid())
    stored = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), type.list_size)
    row_of = {key: row for row, key in enumerate(table["key"].to_pylist())}
    rows = np.fromiter((row_of.get(key, -1) for key in keys), np.int64, count=len(keys))
    present = rows >= 0
    vectors = np.zeros((len(keys), type.list_size), np.float32)
    vectors[present] = stored[rows[present]]
    return vectors, present


def digests(text: Path, others: Sequence[Path] = ()) -> dict[str, str | None]:
    """Name of each folder of vectors -> a hash of those of items; None where there are none of texts.

    Raises: SnapshotError if there are none of others, or a file cannot be read.
    """
    found = {folder.name: _digest(folder / "Item.parquet") for folder in (text, *others)}
    for folder in others:
        if found[folder.name] is None:
            raise SnapshotError(
                f"there are no vectors called {folder.name} ({folder / 'Item.parquet'} does not exist): bring them "
                f"with isthmus vectors {folder.name} FILE"
            )
    return found


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}): mend that, or write it again") from error
