"""Scenarios: what the settings say of a list is what the list is, and what cannot be is told at the start."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from serve.errors import ServeError
from serve.filters import parse
from serve.recommender import Recommender, Signal
from serve.scenarios import PLAIN, check_scenarios, read_scenarios
from tests.planted import PLATFORMS, item_of, taste_of

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def scenario(**fields):
    return read_scenarios({"it": fields})["it"]


def crime(*numbers: int) -> list[Signal]:
    return [Signal(item_of("films", "crime", n), "RATED", DAY + timedelta(hours=n), 1.0) for n in numbers]


def listed(recommender: Recommender, limit: int = 100, **fields) -> list[str]:
    found = recommender.recommend(crime(0), limit=limit, explain=False, **fields)
    return [item["item_id"] for item in found.items]


def test_a_scenarios_filter_holds_beside_that_of_the_request(recommender):
    found = listed(recommender, scenario=scenario(filter="number < 3"), allowed=recommender.allowed(parse("even")))
    assert {item[-1] for item in found} == {"0", "2"}
    assert len(found) == 2 * 3 * 3 - 1


def test_its_platforms_and_diversity_are_for_requests_that_say_nothing(recommender):
    home = scenario(target_platforms=["books"], diversity=1.0)
    plain = listed(recommender, scenario=home, diversity=0.0)
    assert {item.partition(":")[0] for item in plain} == {"books"}
    assert plain == listed(recommender, platforms=["books"])
    spread = listed(recommender, scenario=home)
    assert spread != plain
    assert len({taste_of(item) for item in spread[:3]}) == 3
    assert {item.partition(":")[0] for item in listed(recommender, scenario=home, platforms=["music"])} == {"music"}


def test_boosts_raise_and_lower_and_are_named_while_scores_stay_the_models(recommender):
    garden = scenario(boost=[{"filter": '"garden" in category', "by": 10}, {"filter": "number == 7", "by": -10}])
    found = recommender.recommend(crime(0), limit=72, scenario=garden)
    tastes = [taste_of(item["item_id"]) for item in found.items]
    assert set(tastes[:21]) == {"garden"}
    plain = {item["item_id"]: item for item in recommender.recommend(crime(0), limit=72).items}
    for item in found.items:
        before = plain[item["item_id"]]
        assert (item["score"], item["paths"]) == (pytest.approx(before["score"]), before["paths"])
        lifted = 10 * ("garden" in item["item_id"]) - 10 * item["item_id"].endswith("7")
        assert item["rules"] == (["boosted"] if lifted > 0 else ["lowered"] if lifted < 0 else [])


def test_what_is_buried_fills_a_list_that_is_short_of_all_else(recommender):
    rules = scenario(bury=['"crime" in category', "number > 3"])
    found = recommender.recommend(crime(0), limit=100, scenario=rules).items
    assert len(found) == 71
    buried = [taste_of(item["item_id"]) == "crime" or int(item["item_id"][-1]) > 3 for item in found]
    assert buried == sorted(buried)
    assert [item["rules"] == ["buried"] for item in found] == buried
    assert sum(buried) == 23 + 2 * 12


def test_a_pinned_item_has_its_place_unless_it_may_not_be_shown(recommender):
    pin = scenario(pin=[{"item_id": "music:garden-7", "position": 2}, {"item_id": "films:unheard-of", "position": 1}])
    found = recommender.recommend(crime(0), limit=5, scenario=pin).items
    assert [item["item_id"] for item in found].index("music:garden-7") == 1
    assert found[1]["rules"] == ["pinned"]
    for fields in (
        {"exclude": ["music:garden-7"]},
        {"platforms": ["films"]},
        {"allowed": recommender.allowed(parse("even"))},
    ):
        assert "music:garden-7" not in listed(recommender, scenario=pin, **fields)
    had = [*crime(0), Signal("music:garden-7", "HIDDEN", DAY + timedelta(days=1), -1.0)]
    assert "music:garden-7" not in {
        item["item_id"] for item in recommender.recommend(had, limit=100, scenario=pin).items
    }


def test_platforms_get_their_quotas_of_every_beginning(recommender):
    quotas = scenario(quotas={"books": {"at_least": 0.5}, "music": {"at_most": 0.25}})
    found = [item.partition(":")[0] for item in listed(recommender, limit=40, scenario=quotas)]
    for length in range(1, 41):
        counts = Counter(found[:length])
        assert counts["books"] >= np.floor(length / 2) or counts["books"] == 24
        assert counts["music"] <= np.ceil(length / 4)


def test_rules_may_ask_for_the_context(recommender):
    on_tv = scenario(bury=['context.device == "tv" and platform == "books"'])
    assert listed(recommender, scenario=on_tv) == listed(recommender)
    assert {item[:5] for item in listed(recommender, scenario=on_tv, context={"device": "tv"})[-24:]} == {"books"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"filtre": "even"}, "scenarios.it.filtre"),
        ({"filter": "even ="}, "scenarios.it.filter: at character 6"),
        ({"boost": [{"filter": "even", "by": 11}]}, "scenarios.it.boost.0.by"),
        ({"quotas": {"books": {"at_least": 0.6}, "films": {"at_least": 0.6}}}, "more than 1 together"),
        ({"quotas": {"books": {"at_least": 0.6, "at_most": 0.5}}}, "give the larger to at_most"),
        ({"pin": [{"item_id": "a:1", "position": 1}, {"item_id": "a:2", "position": 1}]}, "one position"),
        ({"pin": [{"item_id": "nowhere", "position": 1}]}, "scenarios.it.pin.0.item_id"),
    ],
)
def test_a_scenario_that_is_none_is_refused_with_where(fields, said):
    with pytest.raises(ServeError, match=r"docs/api\.md") as caught:
        scenario(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bury": ["colour == 'red'"]}, "scenario it, filter colour == 'red': at character 1: items have no colour"),
        ({"target_platforms": ["radio"]}, "names the platform radio: the bundle has books, films, music"),
        ({"quotas": {"radio": {}}}, "names the platform radio"),
    ],
)
def test_a_scenario_that_does_not_fit_the_bundle_is_refused(recommender, fields, said):
    with pytest.raises(ServeError) as caught:
        check_scenarios({"it": scenario(**fields)}, recommender.bundle.platforms, recommender.bundle.attributes)
    assert said in str(caught.value)
    with pytest.raises(ServeError):
        Recommender(recommender.bundle, recommender._ranker, {"it": scenario(**fields)})


def test_ten_thousand_lists_have_nothing_seen_hidden_excluded_filtered_out_or_twice(recommender):
    """Check 19: over all that a request can say at once."""
    random = np.random.default_rng(0)
    keys = recommender.bundle.items.keys
    filter = parse("number != 3")
    may = {keys[row] for row in np.flatnonzero(recommender.allowed(filter))}
    scenarios = [
        PLAIN,
        scenario(bury=["even"], pin=[{"item_id": keys[5], "position": 2}, {"item_id": keys[40], "position": 7}]),
        scenario(boost=[{"filter": "even", "by": 2}], quotas={"books": {"at_least": 0.4}, "films": {"at_most": 0.3}}),
        scenario(filter='"space" in category or platform != "music"', diversity=0.4),
    ]
    answers = 0
    while answers < 10_000:
        did = random.choice(len(keys), random.integers(0, 30))
        types = random.choice(["RATED", "HIDDEN", "DISLIKED", "VIEWED"], len(did))
        signals = [
            Signal(keys[row], str(type), DAY + timedelta(minutes=n), recommender.event_weights[str(type)])
            for n, (row, type) in enumerate(zip(did, types, strict=True))
        ]
        excluded = [keys[row] for row in random.choice(len(keys), random.integers(0, 20))]
        platforms = list(random.choice(PLATFORMS, random.integers(1, 4), replace=False))
        chosen = scenarios[random.integers(len(scenarios))]
        limit = int(random.integers(1, 9))
        found = recommender.recommend(
            signals,
            limit=limit,
            platforms=platforms,
            exclude=excluded,
            allowed=recommender.allowed(filter),
            diversity=[None, 0.0, 0.7][random.integers(3)],
            scenario=chosen,
            explain=False,
        )
        whole = [item["item_id"] for item in found.items]
        while True:
            answers += 1
            shown = [item["item_id"] for item in found.items]
            assert len(shown) == limit or not len(found.rest)
            assert not {signal.item for signal in signals} & set(shown)
            assert not set(excluded) & set(shown)
            assert set(shown) <= may
            assert {item.partition(":")[0] for item in shown} <= set(platforms)
            if not len(found.rest):
                break
            newly = Signal(keys[found.rest.rows[0]], "HIDDEN", DAY + timedelta(days=1), -1.0)
            signals.append(newly)
            found = recommender.go_on(
                found.rest, signals, limit=limit, exclude=excluded, scenario=chosen, explain=False
            )
            whole += [item["item_id"] for item in found.items]
        assert len(set(whole)) == len(whole)
