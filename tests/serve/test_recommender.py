from datetime import UTC, datetime, timedelta

import pytest

from serve.recommender import MAX_PATHS, Signal
from tests.planted import item_of, taste_of
from tests.serve.taste import taste_recommender

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def did(*items, type="RATED", weight=1.0):
    return [Signal(item, type, DAY + timedelta(hours=n), weight) for n, item in enumerate(items)]


def test_a_person_is_recommended_their_taste(recommender):
    found = recommender.recommend(did(item_of("films", "crime", 0)), limit=5)
    assert {taste_of(item["item_id"]) for item in found.items} == {"crime"}
    assert {item["source"] for item in found.items} == {"model"}


def test_what_a_person_had_is_not_recommended_disliked_or_not(recommender):
    had = [item_of("films", "crime", n) for n in range(3)]
    signals = [*did(*had[:2]), *did(had[2], type="DISLIKED", weight=-1.0)]
    found = recommender.recommend(signals, limit=100)
    assert len(found.items) == len(recommender.bundle.items) - 3
    assert not {item["item_id"] for item in found.items} & set(had)


def test_excluded_items_are_not_recommended_and_unknown_ones_are_no_matter(recommender):
    excluded = item_of("books", "space", 1)
    found = recommender.recommend([], limit=100, exclude=[excluded, "films:unheard-of"])
    assert len(found.items) == len(recommender.bundle.items) - 1
    assert excluded not in {item["item_id"] for item in found.items}


def test_only_asked_platforms_are_recommended(recommender):
    found = recommender.recommend(did(item_of("films", "crime", 0)), limit=100, platforms=["music", "books"])
    assert {item["platform"] for item in found.items} == {"music", "books"}


def test_nothing_known_of_a_person_gives_the_fallback(recommender):
    for signals in ([], did("films:unheard-of")):
        found = recommender.recommend(signals, limit=3)
        assert found.source == "fallback"
        assert [item["source"] for item in found.items] == ["fallback"] * 3
        assert [item["paths"] for item in found.items] == [[]] * 3


@pytest.mark.parametrize("length", [1, MAX_PATHS, MAX_PATHS + 1, 40])
def test_base_and_contributions_add_up_to_the_score(recommender, length):
    had = [item_of("films", ("crime", "space", "garden")[n % 3], n % 7) for n in range(length)]
    found = recommender.recommend(did(*had), limit=10)
    assert found.items
    for item in found.items:
        total = item["base"] + sum(path["contribution"] for path in item["paths"])
        assert total == pytest.approx(item["score"], abs=1e-4)
        assert len(item["paths"]) <= MAX_PATHS + 1


def test_the_largest_contributions_are_shown_and_the_rest_summed_up():
    recommender = taste_recommender()
    had = [item_of("films", "crime", n % 7) for n in range(20)]
    paths = recommender.recommend(did(*had), limit=1).items[0]["paths"]
    assert [path["contribution"] for path in paths[:-1]] == pytest.approx([1 / (1 + age) for age in range(MAX_PATHS)])
    assert paths[-1]["event"] is None
    assert paths[-1]["contribution"] == pytest.approx(sum(1 / (1 + age) for age in range(MAX_PATHS, 20)))


def test_a_path_names_its_event(recommender):
    # The unknown item comes first, so a path that counted over all events would point at the wrong one.
    signals = did("films:unheard-of", item_of("films", "garden", 2))
    path = recommender.recommend(signals, limit=1).items[0]["paths"][0]
    assert path["event"] == {
        "item_id": "films:garden-2",
        "title": "Überraschung im Garten 花园",
        "type": "RATED",
        "value": None,
        "at": "2024-05-01T01:00:00Z",
    }


def test_without_explain_there_are_no_paths(recommender):
    item = recommender.recommend(did(item_of("films", "crime", 0)), limit=1, explain=False).items[0]
    assert item["paths"] is None
    assert item["base"] is None


def test_an_event_type_the_bundle_never_saw_is_read_as_the_nearest_in_weight(recommender):
    # The bundle saw PLAYED .7, PURCHASED 1.0, RATED 1.0, VIEWED .2
    _, history = recommender._read(
        did(item_of("films", "crime", 0), type="CLICKED") + did(item_of("films", "crime", 1), type="SAVED")
    )
    assert [recommender.bundle.event_types[position] for position in history.type] == ["VIEWED", "PLAYED"]


def test_a_low_rating_weighs_against_the_item(recommender):
    assert recommender.weigh("RATED", 5.0) == 1.0
    assert recommender.weigh("RATED", 3.0) == 1.0
    assert recommender.weigh("RATED", 2.5) == -1.0
    assert recommender.weigh("RATED", None) == 1.0
    assert recommender.weigh("PLAYED", 1.0) == 0.7


def test_the_bundle_may_bring_its_own_types_and_weights():
    recommender = taste_recommender(manifest={"event_weights": {"VIEWED": 0.9, "BORROWED": 0.5}})
    assert recommender.weigh("VIEWED", None) == 0.9
    assert recommender.weigh("BORROWED", None) == 0.5
    with pytest.raises(KeyError, match="STOLEN"):
        recommender.weigh("STOLEN", None)


def test_similar_items_share_the_taste_and_leave_the_item_itself_out(recommender):
    found = recommender.similar("films:crime-0", limit=5, platforms=["films"])
    assert [item["platform"] for item in found.items] == ["films"] * 5
    assert {taste_of(item["item_id"]) for item in found.items} == {"crime"}
    assert "films:crime-0" not in {item["item_id"] for item in found.items}
    assert {item["source"] for item in found.items} == {"similar"}
