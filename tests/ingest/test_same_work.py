"""The same film on two platforms is found by its titles, years and creators, and the links can be taken back."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.keys import EntityKey, ItemKey
from graph.records import Entity, Item, Relation
from graph.store import Store, checksum, open_store
from ingest.errors import IngestError
from ingest.same_work import (
    FEATURES,
    SCORING,
    Work,
    candidates_of,
    features,
    link_same_works,
    numbers_of,
    read_works,
    same_works,
    titles_of,
    unlink_same_works,
    year_of,
)

HEAT, CRAFT, ALIENS = (EntityKey("creator", name) for name in ("Mann", "Fleming", "Cameron"))
ITEMS = (
    Item(ItemKey("cinema", "1"), "Heat", attributes={"year": "1995"}),
    Item(ItemKey("cinema", "2"), "Alien (1979)"),
    Item(ItemKey("cinema", "3"), "Lion King, The", attributes={"year": 1994}),
    Item(ItemKey("cinema", "4"), "Solaris", attributes={"year": "1972"}),
    Item(ItemKey("cinema", "5"), None),
    Item(ItemKey("shop", "a"), "Heta (Blu-ray)", attributes={"year": "1995"}),
    Item(ItemKey("shop", "b"), "Aliens", attributes={"year": "1986"}),
    Item(ItemKey("shop", "c"), "The Lion King [DVD]"),
    Item(ItemKey("shop", "d"), "Solaris", attributes={"year": "2002"}),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.upsert_nodes([*ITEMS, Entity(HEAT, "Michael Mann")])
        store.upsert_edges([Relation("DIRECTED_BY", ItemKey(*end), HEAT) for end in (("cinema", "1"), ("shop", "a"))])
        yield store


def write_vectors(path: Path, keys: Sequence[str] = [item.key for item in ITEMS if item.title]) -> Path:
    """Vectors that say nothing: each item is the candidate of each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.tile([1, 0], len(keys)), pa.float32()), 2)
    pq.write_table(pa.table({"key": pa.array(keys, pa.string()), "vector": rows}), path)
    return path


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "Item.parquet")


def relations(store: Store) -> dict[tuple[str, str], str]:
    return {
        (row["source"], row["target"]): row["properties"]
        for batch in store.read_relations("SAME_WORK")
        for row in batch.to_pylist()
    }


def test_works_are_linked_with_score_and_evidence_and_remakes_and_sequels_are_not(store: Store, vectors: Path) -> None:
    report = link_same_works(store, vectors)
    assert [(link.first, link.second) for link in report.links] == [("cinema:1", "shop:a"), ("cinema:3", "shop:c")]
    assert all(0.5 <= link.score <= 1 for link in report.links)
    heat, lion = (link.evidence for link in report.links)
    assert heat == "title 0.75; text 1.00; year 1995; creator Mann"
    assert lion == "title 1.00; text 1.00"
    assert set(relations(store)) == {("cinema:1", "shop:a"), ("cinema:3", "shop:c")}
    assert str(report) == "cinema and shop: 2"


def test_undoing_leaves_the_graph_as_it_was_and_a_second_run_as_the_first(store: Store, vectors: Path) -> None:
    before = checksum(store)
    link_same_works(store, vectors)
    linked = checksum(store)
    again = link_same_works(store, vectors)
    assert (again.removed, checksum(store)) == (2, linked)
    assert unlink_same_works(store) == 2
    assert checksum(store) == before
    assert unlink_same_works(store) == 0


def test_a_link_that_no_longer_holds_goes(store: Store, vectors: Path) -> None:
    link_same_works(store, vectors)
    store.upsert_nodes([Item(ItemKey("shop", "c"), "The Jungle Book [DVD]")])
    link_same_works(store, vectors)
    assert set(relations(store)) == {("cinema:1", "shop:a")}


def test_items_without_vectors_are_counted_and_without_any_it_says_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="isthmus embed"):
        link_same_works(store, tmp_path / "none.parquet")
    report = link_same_works(store, write_vectors(tmp_path / "few.parquet", ["cinema:1"]))
    assert report.without_vector == 7
    assert "no two items" in str(report)
    assert "7 items have no vector" in str(report)


def test_what_an_item_is_is_read_from_the_store(store: Store) -> None:
    works = {work.key: work for work in read_works(store)}
    assert works[ItemKey("cinema", "1")] == Work(ItemKey("cinema", "1"), "Heat", 1995, frozenset({"Mann"}))
    assert works[ItemKey("cinema", "2")].year == 1979
    assert works[ItemKey("cinema", "3")].year == 1994
    assert ItemKey("cinema", "5") not in works


@pytest.mark.parametrize(
    ("title", "called"),
    [
        ("Lion King, The", ["lion king"]),
        ("Amélie (Le fabuleux destin)", ["amelie le fabuleux destin", "amelie", "le fabuleux destin"]),
        ("Toy Story 2 (Two-Disc Special Edition) [DVD]", ["toy story 2"]),
        ("Alien - Director's Cut", ["alien"]),
        ("Jaws 25th Anniversary Edition", ["jaws"]),
        ("Rocky 2 DVD", ["rocky 2"]),
        ("The Final Cut", ["the final cut"]),
        ("Pride & Prejudice (1995)", ["pride and prejudice"]),
        ("千と千尋の神隠し", ["千と千尋の神隠し"]),
        ("…", ["…"]),
    ],
)
def test_a_title_is_called_what_it_is_without_marks_of_its_edition(title: str, called: Sequence[str]) -> None:
    assert list(titles_of(title)) == called


@pytest.mark.parametrize(
    ("title", "numbers"),
    [
        ("Rocky III", ["3"]),
        ("Rocky 3 (25th Anniversary Edition)", ["3"]),
        ("Twelve Monkeys", ["12"]),
        ("V for Vendetta", []),
        ("Star Trek VI: The Undiscovered Country", ["6"]),
        ("2001: A Space Odyssey (1968)", ["2001"]),
    ],
)
def test_numbers_of_a_title_are_compared_as_numbers(title: str, numbers: Sequence[str]) -> None:
    assert list(numbers_of(title)) == numbers


@pytest.mark.parametrize(
    ("title", "attributes", "year"),
    [
        ("Heat", '{"year":"1995"}', 1995),
        ("Heat", '{"year":1995.0}', 1995),
        ("Heat (1995)", "{}", 1995),
        ("Heat (1995)", '{"year":"V"}', 1995),
        ("1984", "{}", None),
        ("Heat", '{"year":"19951"}', None),
    ],
)
def test_the_year_is_an_attribute_or_stands_in_brackets(title: str, attributes: str, year: int | None) -> None:
    assert year_of(title, attributes) == year


def works(*titles: str, platform: str = "one", year: int | None = None) -> list[Work]:
    return [Work(ItemKey(platform, f"{n}"), title, year) for n, title in enumerate(titles)]


def test_each_item_has_one_partner_on_a_platform_and_may_have_others_elsewhere() -> None:
    named = [*works("Heat", "Heat"), *works("Heat", platform="two"), *works("Heat", platform="three")]
    found = same_works(named, np.ones((4, 1), np.float32))
    assert [(link.first, link.second) for link in found] == [
        ("one:0", "three:0"),
        ("one:0", "two:0"),
        ("three:0", "two:0"),
    ]


def test_candidates_are_the_nearest_of_each_other_platform_with_their_margin() -> None:
    angles = np.radians([0, 90, 5, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = candidates_of([*works("a", "b"), *works("c", "d", platform="two")], vectors)["one", "two"]
    assert set(found) == {(0, 2), (0, 3), (1, 2), (1, 3)}
    # cos 5 over the mean of what is near 0 (cos 5, cos 80) and near 5 (cos 5, cos 85)
    near, far_one, far_other = np.cos(np.radians([5, 80, 85]))
    assert found[0, 2] == pytest.approx(near / ((near + far_one) / 2 + (near + far_other) / 2) * 2, rel=1e-5)


def test_other_creators_and_other_years_speak_against_and_what_is_unknown_says_nothing() -> None:
    def judged(**known: object) -> float:
        a = Work(ItemKey("one", "1"), "Solaris", 1972, frozenset({"Tarkovsky"}))
        b = Work(ItemKey("two", "1"), "Solaris", **known)  # type: ignore[arg-type]
        return float(SCORING.scores(np.array([features(a, b, 1.0)]))[0])

    same, unknown, other = judged(year=1972), judged(), judged(year=2002)
    assert same > unknown > other
    assert judged(creators=frozenset({"Tarkovsky"})) > unknown > judged(creators=frozenset({"Soderbergh"}))
    assert other < SCORING.threshold < unknown


def test_a_mark_in_brackets_that_both_have_is_no_title() -> None:
    a, b = Work(ItemKey("one", "1"), "Solaris (OmU)"), Work(ItemKey("two", "1"), "Heat (OmU)")
    assert features(a, b, 1.0)[0] < 0.7
    shown = Work(ItemKey("two", "1"), "OmU")
    assert features(a, shown, 1.0)[0] == 1


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_titles_can_be_compared_and_the_order_does_not_matter(one: str, other: str) -> None:
    a, b = Work(ItemKey("one", "1"), one or "x"), Work(ItemKey("two", "1"), other or "x")
    values = features(a, b, 1.0)
    assert len(values) == len(FEATURES)
    assert values == features(b, a, 1.0)
    assert 0 <= values[0] <= 1
