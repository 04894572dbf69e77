"""What a value says beside what its person gives otherwise, on platforms of different scales."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from graph.keys import AccountKey, ItemKey, Pseudonyms, UserKey
from graph.preference import SHRINKAGE, event_weights, preferences, scale_of, signs
from graph.records import Account, Event, Item, Link
from graph.snapshot import write_snapshot
from graph.store import open_store
from ingest.load import ingest
from ingest.mapping import read_mapping

STARS = scale_of(1.0, 5.0, 3.0)
POINTS = scale_of(2.0, 10.0, 6.0)
START = datetime(2024, 1, 1, tzinfo=UTC)


def of_one(values: Sequence[float], low: float = 1, high: float = 5, neutral: float = 3) -> list[float]:
    shape = len(values)
    columns = (np.full(shape, each, np.float64) for each in (low, high, neutral))
    return preferences(np.zeros(shape, np.int64), np.array(values, np.float64), *columns).tolist()


def test_a_4_of_5_and_an_8_of_10_mean_the_same():
    assert of_one([4, 1, 5, 3]) == pytest.approx(of_one([8, 2, 10, 6], low=2, high=10, neutral=6))
    assert of_one([4], 0, 5, 2.5) == of_one([8], 0, 10, 5) == pytest.approx([0.8 - 0.5])


def test_the_first_value_is_held_against_the_neutral_one_and_each_later_one_against_those_before():
    assert SHRINKAGE == 10
    # shares of the way from 1 to 5: 1, 3/4, 1/2
    assert of_one([5, 4, 3]) == pytest.approx([1 - 1 / 2, 3 / 4 - (5 + 1) / 11, 1 / 2 - (5 + 1 + 3 / 4) / 12])


def test_a_five_star_givers_4_is_no_wish_and_a_two_star_givers_4_is_one():
    generous, strict = of_one([5.0] * 20 + [4.0])[-1], of_one([2.0] * 20 + [4.0])[-1]
    assert generous == pytest.approx(3 / 4 - (10 / 2 + 20) / 30)
    assert strict == pytest.approx(3 / 4 - (10 / 2 + 20 / 4) / 30)
    assert generous < 0 < strict


def test_what_is_exactly_expected_is_wanted_however_sums_are_rounded():
    always = of_one([0.1] * 5_000, low=0, high=1, neutral=0.1)
    assert set(always) == {0.0}
    assert set(signs(np.array(always))) == {1.0}


def test_people_are_expected_nothing_of_each_other():
    user = np.array([0, 0, 3, 3, 3, 7])
    value = np.array([5.0, 5, 1, 1, 4, 3])
    scale = (np.full(6, 1.0), np.full(6, 5.0), np.full(6, 3.0))
    together = preferences(user, value, *scale)
    alone = [of_one([5, 5]), of_one([1, 1, 4]), of_one([3])]
    assert together.tolist() == pytest.approx([value for person in alone for value in person])


def test_nothing_is_nothing():
    assert of_one([]) == []
    assert event_weights([]) == []


def test_a_habit_goes_along_to_another_platform_in_the_snapshot_as_in_what_is_served(tmp_path: Path):
    films, books, person = AccountKey("films", "ann"), AccountKey("books", "ann"), UserKey("ann")
    items = [ItemKey(platform, str(n)) for platform in ("films", "books") for n in range(30)]
    events = [
        Event(f"{n:02}", "RATED", films, items[n], START + timedelta(days=n), 1.0, 5.0, context={"d": "tv", **STARS})
        for n in range(20)
    ]
    later = START + timedelta(days=30)
    events += [
        Event("8 of 10", "RATED", books, items[30], later, 1.0, 8.0, context=dict(POINTS)),
        Event("4 alone", "RATED", books, items[31], later + timedelta(days=1), 1.0, 4.0),
        Event("no value", "RATED", books, items[32], later + timedelta(days=2), 0.5, context=dict(POINTS)),
        Event("half a scale", "RATED", books, items[33], later + timedelta(days=3), 1.0, 1.0, context={"value_low": 1}),
        Event("text", "RATED", books, items[34], later + timedelta(days=4), 1.0, 1.0, context={"value_neutral": "6"}),
        Event("10 of 10", "LIKED", books, items[35], later + timedelta(days=5), 0.7, 10.0, context=dict(POINTS)),
    ]
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        store.upsert_nodes([Account(films), Account(books), *map(Item, items)])
        store.link([Link(films, person, "mail"), Link(books, person, "mail")])
        store.upsert_edges(events)
        found = write_snapshot(store, tmp_path / "snapshots").interactions()
        served = event_weights(store.history(person))
    weights = [1.0] * 20 + [-1.0, 1.0, 0.5, 1.0, 1.0, 0.7]
    assert found.weight.tolist() == pytest.approx(weights)
    assert served == pytest.approx(weights)
    assert found.value[:2].tolist() == pytest.approx([0.5, 1 - 6 / 11])
    assert found.value[20] == pytest.approx(3 / 4 - (5 + 20) / 30)
    assert found.value[21] == 4.0
    assert np.isnan(found.value[22])


MAPPING = """\
platform: shop
items: {file: items.csv, id: id}
events: {file: events.csv, account: who, item: item, type: RATED, at: at, value: {column: stars, scale: [1, 5]RULE}}
"""


def test_only_a_mapping_that_says_so_has_values_read_beside_the_persons_others(tmp_path: Path):
    (tmp_path / "items.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(21)))
    rows = "".join(f"ann,{n},2024-01-{n + 1:02},{5 if n < 20 else 4}\n" for n in range(21))
    (tmp_path / "events.csv").write_text("who,item,at,stars\n" + rows)
    for rule, last, value in ((", positive_from: 3", 1.0, 4.0), (", per_person: true", -1.0, 3 / 4 - 25 / 30)):
        (tmp_path / "shop.yaml").write_text(MAPPING.replace("RULE", rule))
        with open_store(f"sqlite:///{tmp_path / str(last)}.db") as store:
            ingest(
                [read_mapping(tmp_path / "shop.yaml")], store, Pseudonyms(b"0" * 16), tmp_path / "var", data=tmp_path
            )
            interactions = write_snapshot(store, tmp_path / "snapshots").interactions()
            user = next(store.read_links())["user"][0].as_py()
            assert [event.value for event in store.history(UserKey.parse(user))] == [5.0] * 20 + [4.0], "raw values"
        assert interactions.weight[-1] == last
        assert interactions.value[-1] == pytest.approx(value)
