"""Vectors of images or sound: every row of the file is accounted for, and nothing is half taken."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph.keys import ItemKey
from graph.records import Item
from graph.store import Store, open_store
from graph.vectors import read_vectors
from ingest.errors import IngestError, SourceError
from ingest.vectors import add_vectors

KEYS = ["a:1", "a:2", "b:1"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Item(ItemKey.parse(key)) for key in KEYS])
        yield store


def written(folder: Path, ids: Sequence[Any], vectors: Any, **names: str) -> Path:
    path = folder / "from elsewhere.parquet"
    columns = {names.get("key", "key"): ids, names.get("vector", "vector"): vectors}
    pq.write_table(pa.table(columns), path)
    return path


def kept(var: Path) -> dict[str, list[float]]:
    vectors, present = read_vectors(var / "vectors" / "images" / "Item.parquet", KEYS)
    return {key: vectors[row].tolist() for row, key in enumerate(KEYS) if present[row]}


def test_every_row_is_kept_repeated_empty_or_of_no_item(store: Store, tmp_path: Path) -> None:
    ids = ["b:1", "a:1", "b:1", "a:2", "c:1", None]
    source = written(tmp_path, ids, [[0, 1], [1, 2], [0, 1], None, [5, 5], [6, 6]])
    report = add_vectors(store, tmp_path, "images", source)
    assert (report.rows, report.kept, report.repeated, report.empty, report.unknown) == (6, 2, 1, 2, 1)
    assert str(report).endswith("images: 2 of 3 items have a vector of 2 numbers")
    assert kept(tmp_path) == {"a:1": [1, 2], "b:1": [0, 1]}


@pytest.mark.parametrize("type", [pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.float32(), 2)])
def test_a_platforms_own_ids_and_every_kind_of_list_are_taken(store: Store, tmp_path: Path, type: pa.DataType) -> None:
    values = [np.array(row, type.value_type.to_pandas_dtype()) for row in ([1, 2], [0.5, 0])]
    source = written(tmp_path, [1, 2], pa.array(values, type), key="sku", vector="clip")
    add_vectors(store, tmp_path, "images", source, key="sku", vector="clip", platform="a")
    assert kept(tmp_path) == {"a:1": [1, 2], "a:2": [0.5, 0]}


def test_a_second_file_adds_and_replaces_and_the_same_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    add_vectors(store, tmp_path, "images", written(tmp_path, ["a:1", "a:2"], [[1.0, 2.0], [3.0, 4.0]]))
    second = written(tmp_path, ["a:2", "b:1"], [[5.0, 5.0], [6.0, 6.0]])
    for _ in range(2):
        assert add_vectors(store, tmp_path, "images", second).present == 3
        assert kept(tmp_path) == {"a:1": [1, 2], "a:2": [5, 5], "b:1": [6, 6]}


@pytest.mark.parametrize(
    ("ids", "vectors", "said"),
    [
        (["a:1", "a:1"], [[1.0], [2.0]], "two different vectors for a:1"),
        (["a:1", "a:2"], [[1.0], [2.0, 3.0]], "vectors of 1, 2 numbers"),
        (["a:1"], [[]], "vectors of null in the column|has list<"),
        (["a:1"], [[float("nan")]], "infinite or missing number, the one of a:1"),
        (["a:1"], [[1e300]], "infinite or missing number, the one of a:1"),
        (["a:1"], [[1.0, None]], "infinite or missing number, the one of a:1"),
        (["a:1"], ["text"], "has string in the column vector"),
        (["1"], [[1.0]], r"none of the 1 rows .* with --platform"),
        (["a:1"], [[1.0, 2.0, 3.0]], "vectors of 3 numbers, those kept as images have others"),
    ],
)
def test_what_is_no_vector_is_one_sentence_and_what_was_kept_stays(
    store: Store, tmp_path: Path, ids: list[str], vectors: Any, said: str
) -> None:
    add_vectors(store, tmp_path, "images", written(tmp_path, ["b:1"], [[7.0]]))
    if "others" in said:
        assert kept(tmp_path) == {"b:1": [7]}
    with pytest.raises(IngestError, match=said):
        add_vectors(store, tmp_path, "images", written(tmp_path, ids, vectors))
    assert kept(tmp_path) == {"b:1": [7]}


def test_a_file_that_is_none_or_has_other_columns_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere.parquet cannot be read as Parquet"):
        add_vectors(store, tmp_path, "images", tmp_path / "nowhere.parquet")
    source = written(tmp_path, ["a:1"], [[1.0]], key="sku")
    with pytest.raises(SourceError, match=r"has no column key, but sku, vector: name that of ids with --key"):
        add_vectors(store, tmp_path, "images", source)


def test_a_name_that_is_a_path_or_a_text_models_is_refused(store: Store, tmp_path: Path) -> None:
    source = written(tmp_path, ["a:1"], [[1.0]])
    with pytest.raises(IngestError, match=r"'\.\./images' cannot name vectors"):
        add_vectors(store, tmp_path, "../images", source)
    model = tmp_path / "vectors" / "tiny" / "Item.parquet"
    model.parent.mkdir(parents=True)
    pq.write_table(pa.table({"key": ["a:1"], "text_hash": ["x"], "vector": [[1.0]]}), model)
    with pytest.raises(IngestError, match="tiny is a text model"):
        add_vectors(store, tmp_path, "tiny", source)
