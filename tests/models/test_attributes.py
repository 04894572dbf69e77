"""Attributes: columns typed by what is in them, the same after the disk, and rows that pass a test."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from models.attributes import MAX_COLUMNS, ItemAttributes, attribute_table, read_attributes, write_attributes

LINES = [
    {"year": 1990, "used": True, "tags": ["a", "b"], "size": "L", "mixed": 1},
    {"year": 1991.5, "used": False, "tags": "b", "size": "S", "mixed": "one"},
    {},
    {"year": -3, "tags": [], "mixed": True},
]
DAYS = [datetime(2020, 1, day, tzinfo=UTC) if day < 4 else None for day in (1, 2, 3, 4)]


def attributes(tmp_path: Path, chunk: int | None = None) -> ItemAttributes:
    write_attributes(attribute_table(DAYS, [json.dumps(line) for line in LINES]), tmp_path / "a.arrow")
    incidence = csr_matrix(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], dtype=np.float32))
    made = csr_matrix(np.array([[1, 0], [0, 0], [0, 1], [0, 0]], dtype=np.float32))
    return ItemAttributes(
        ["shop", "video"],
        np.array([0, 1, 1, 0]),
        pa.array(["One", None, "Three", "Four"]),
        read_attributes(tmp_path / "a.arrow"),
        {"IN": (incidence, ["category:x", "category:y", "person:Ann"]), "BY": (made, ["person:Ann", "person:Bo: b"])},
    )


def rows(mask) -> list[int]:
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("name", "kind", "missing"),
    [
        ("platform", "text", []),
        ("title", "text", [1]),
        ("created_at", "instant", [3]),
        ("year", "number", [2]),
        ("used", "flag", [2, 3]),
        ("tags", "texts", [2, 3]),
        ("size", "text", [2, 3]),
        ("mixed", "text", [2]),
        ("category", "texts", [2]),
        ("person", "texts", [1, 3]),
        ("by", "texts", [1, 3]),
        ("in", "texts", [2]),
    ],
)
def test_a_column_has_the_kind_of_its_values_and_knows_who_has_none(tmp_path: Path, name, kind, missing) -> None:
    found = attributes(tmp_path)
    assert set(found) == {
        *("platform", "title", "created_at", "year", "used", "tags", "size", "mixed", "category", "person", "by", "in")
    }
    assert found[name].kind == kind
    assert rows(found[name].missing()) == missing


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize(
    ("name", "order", "value", "passing"),
    [
        ("platform", "==", "video", [1, 2]),
        ("title", ">=", "One", [0, 2]),
        ("created_at", ">", DAYS[0], [1, 2]),
        ("year", "<=", 1990.0, [0, 3]),
        ("year", "==", 1991.5, [1]),
        ("used", "==", False, [1]),
        ("tags", "==", "b", [0, 1]),
        ("tags", "==", "nowhere", []),
        ("mixed", "==", "true", [3]),
        ("mixed", "==", "1", [0]),
        ("category", "==", "y", [1, 3]),
        ("person", "==", "Ann", [0]),
        ("person", "==", "Bo: b", [2]),
        ("by", "==", "Ann", [0]),
    ],
)
def test_rows_that_pass(tmp_path: Path, monkeypatch, chunk, name, order, value, passing) -> None:
    monkeypatch.setattr("models.attributes._CHUNK", chunk)
    assert rows(attributes(tmp_path)[name].compare(order, value)) == passing


def test_what_is_in_no_bundle_is_a_key_error(tmp_path: Path) -> None:
    found = attributes(tmp_path)
    assert "colour" not in found
    with pytest.raises(KeyError, match="colour"):
        found["colour"]


def test_without_a_table_there_is_what_the_bundle_knows_anyway() -> None:
    found = ItemAttributes(["shop"], np.array([0]), pa.array(["One"]))
    assert list(found) == ["platform", "title"]


def test_a_source_with_very_many_attributes_keeps_those_of_most_items() -> None:
    wild = [json.dumps({f"n{number}": number, "all": 1}) for number in range(MAX_COLUMNS + 50)]
    table = attribute_table([None] * len(wild), wild)
    assert len(table.column_names) == MAX_COLUMNS + 1
    assert "all" in table.column_names
