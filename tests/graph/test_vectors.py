"""Vectors in the order asked for, missing ones marked."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph.errors import SnapshotError
from graph.vectors import read_vectors


def write(path: Path, keys: list[str], vectors: list[list[float] | None], type: pa.DataType | None = None) -> Path:
    column = pa.array(vectors, type or pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"key": keys, "text_hash": keys, "vector": column}), path, row_group_size=2)
    return path


def test_vectors_come_in_the_order_of_the_keys_and_a_missing_one_is_marked_not_invented(tmp_path: Path):
    path = write(tmp_path / "Item.parquet", ["a", "b", "c"], [[1, 2], [3, 4], [5, 6]])
    vectors, present = read_vectors(path, ["c", "unknown", "a"])
    assert vectors.tolist() == [[5, 6], [0, 0], [1, 2]]
    assert present.tolist() == [True, False, True]
    assert vectors.dtype == np.float32
    assert vectors.flags.writeable


def test_a_vector_that_is_null_counts_as_missing(tmp_path: Path):
    path = write(tmp_path / "Item.parquet", ["a", "b", "c"], [[1, 2], None, [5, 6]])
    vectors, present = read_vectors(path, ["a", "b", "c"])
    assert present.tolist() == [True, False, True]
    assert vectors.tolist() == [[1, 2], [0, 0], [5, 6]]


def test_no_keys_and_an_empty_file_still_have_a_dimension(tmp_path: Path):
    full = write(tmp_path / "full.parquet", ["a"], [[1, 2]])
    empty = write(tmp_path / "empty.parquet", [], [])
    assert read_vectors(full, [])[0].shape == (0, 2)
    vectors, present = read_vectors(empty, ["a"])
    assert vectors.shape == (1, 2)
    assert not present.any()


def test_a_file_that_is_missing_or_holds_no_vectors_names_itself_and_the_command(tmp_path: Path):
    with pytest.raises(SnapshotError, match=r"Item\.parquet does not exist: .*isthmus embed"):
        read_vectors(tmp_path / "Item.parquet", [])
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(SnapshotError, match=r"text\.parquet cannot be read as vectors .*isthmus embed"):
        read_vectors(tmp_path / "text.parquet", [])
    ragged = write(tmp_path / "ragged.parquet", ["a"], [[1.0]], pa.list_(pa.float32()))
    with pytest.raises(SnapshotError, match=r"ragged\.parquet has .*fixed-size list of float32"):
        read_vectors(ragged, [])
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "keys.parquet")
    with pytest.raises(SnapshotError, match=r"keys\.parquet has "):
        read_vectors(tmp_path / "keys.parquet", [])
