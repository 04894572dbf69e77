"""Vectors beside the graph: only what changed goes through the model, by a real Ray; files are whole or not there."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from graph.keys import EntityKey, ItemKey
from graph.records import Entity, Item
from graph.store import Store, open_store
from graph.vectors import read_vectors
from ingest.embed import EmbedReport, LabelReport, embed
from ingest.errors import IngestError
from models.text import DEFAULT_MODEL, TextError, TextModel

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    # Ray Data 2.60 warns of its own settings when it is first used.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]

FILMS = {"f:1": "A rocket to the moon", "f:2": "Roses for beginners", "f:3": "Murder at midnight"}


def fill(store: Store) -> None:
    store.ensure_schema()
    store.upsert_nodes([Item(ItemKey.parse(key), title=title) for key, title in FILMS.items()])
    store.upsert_nodes([Item(ItemKey.parse("f:4"))])
    store.upsert_nodes(
        [Entity(EntityKey("genre", "Drama"), "Drama"), Entity(EntityKey("genre", "m.07s9rl0"), "m.07s9rl0")]
    )


@pytest.fixture
def var(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(f"sqlite:///{tmp_path / 'graph.db'}")
    fill(store)
    return store


def vectors_of(var: Path, label: str = "Item") -> dict[str, list[float]]:
    table = pq.read_table(var / "vectors" / DEFAULT_MODEL / f"{label}.parquet")
    return dict(zip(table["key"].to_pylist(), table["vector"].to_pylist(), strict=True))


def embedded(report: EmbedReport) -> dict[str, int]:
    return {row.label: row.embedded for row in report.labels}


def test_the_road_of_vectors_from_first_run_to_removed_nodes(store: Store, var: Path, tmp_path: Path) -> None:
    first = embed(store, var)
    assert first.labels == [LabelReport("Genre", 2, 1, 1), LabelReport("Item", 4, 3, 3)]
    assert first.embedded == 4
    assert first.texts_per_s > 0
    expected = TextModel.load().encode(list(FILMS.values()))
    found, present = read_vectors(var / "vectors" / DEFAULT_MODEL / "Item.parquet", [*FILMS, "f:4"])
    assert present.tolist() == [True, True, True, False]
    np.testing.assert_allclose(found[:3], expected, atol=2e-3)
    assert list(vectors_of(var, "Genre")) == ["genre:Drama"]

    # Nothing changed: neither Ray nor the model is asked, and no file is touched.
    files = sorted((var / "vectors" / DEFAULT_MODEL).iterdir())
    stamps = [file.stat().st_mtime_ns for file in files]
    with pytest.MonkeyPatch.context() as without:
        without.setattr("ingest.embed._through_ray", None)
        assert embedded(embed(store, var)) == {"Genre": 0, "Item": 0}
    assert [file.stat().st_mtime_ns for file in files] == stamps
    assert [file.name for file in files] == ["Genre.parquet", "Item.parquet"]

    # One title changed: one text goes through the model, the other vectors stay to the bit.
    before = vectors_of(var)
    store.upsert_nodes([Item(ItemKey.parse("f:2"), title="Tulips for beginners")])
    report = embed(store, var)
    assert (report.embedded, embedded(report)) == (1, {"Genre": 0, "Item": 1})
    after = vectors_of(var)
    assert [key for key in FILMS if after[key] != before[key]] == ["f:2"]

    # A text that some node had already is taken from it, whatever its label.
    store.upsert_nodes([Item(ItemKey.parse("f:5"), title="Drama")])
    assert embed(store, var).embedded == 0
    assert vectors_of(var)["f:5"] == vectors_of(var, "Genre")["genre:Drama"]

    # A node that left the store leaves the file.
    with open_store(f"sqlite:///{tmp_path / 'smaller.db'}") as smaller:
        smaller.ensure_schema()
        smaller.upsert_nodes([Item(ItemKey.parse("f:1"), title=FILMS["f:1"])])
        assert embed(smaller, var).embedded == 0
    assert list(vectors_of(var)) == ["f:1"]


def test_a_graph_without_any_text_gets_files_without_vectors_until_there_is_one(tmp_path: Path, var: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'bare.db'}") as bare, pytest.MonkeyPatch.context() as without:
        without.setattr("ingest.embed._through_ray", None)
        bare.ensure_schema()
        bare.upsert_nodes([Item(ItemKey.parse("f:1")), Item(ItemKey.parse("f:2"))])
        file = var / "vectors" / DEFAULT_MODEL / "Item.parquet"
        assert embed(bare, var).labels == [LabelReport("Item", 2, 0, 0)]
        stamp = file.stat().st_mtime_ns
        embed(bare, var)
        assert file.stat().st_mtime_ns == stamp
    vectors, present = read_vectors(file, ["f:1", "f:2"])
    assert (vectors.shape, vectors.any(), present.any()) == ((2, 1), False, False)
    with open_store(f"sqlite:///{tmp_path / 'bare.db'}") as told:
        told.upsert_nodes([Item(ItemKey.parse("f:1"), title="Drama")])
        assert embed(told, var).embedded == 1
    vectors, present = read_vectors(file, ["f:1", "f:2"])
    assert vectors.shape[1] > 1
    assert present.tolist() == [True, False]


def test_a_model_that_is_not_there_is_one_sentence_before_ray_is_asked(store: Store, var: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no-model is no folder"):
        embed(store, var, str(tmp_path / "no-model"))
    assert not var.exists()


def test_a_damaged_file_of_vectors_is_named(store: Store, var: Path) -> None:
    file = var / "vectors" / DEFAULT_MODEL / "Item.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 but not really")
    with pytest.raises(IngestError, match=r"Item.parquet cannot be read as vectors .* delete it and embed again"):
        embed(store, var)


def test_a_folder_that_cannot_be_made_is_named_before_ray_is_asked(store: Store, var: Path) -> None:
    blocked = var / "vectors"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    with pytest.raises(IngestError, match=r"all-MiniLM-L6-v2 cannot be made .* give another var folder"):
        embed(store, var)
    assert list(var.iterdir()) == [blocked]


def test_a_report_prints_what_became_of_each_label() -> None:
    report = EmbedReport("tiny", [LabelReport("Item", 1_000, 900, 12)], 12, 3.0, 4.0)
    assert str(report).splitlines()[1].split() == ["Item", "1,000", "900", "12"]
    assert str(report).endswith("tiny: 3.0 s, 4 texts/s")
