"""Parts that add up, and nothing that training should not have seen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import SplitError
from graph.interactions import Interactions
from graph.snapshot import Snapshot
from graph.split import Split, hide_items, leave_one_out, newcomers, newest, random_per_user, temporal
from graph.vocabulary import Vocabulary
from tests.planted import people, person

NUM_USERS = 5
PARTS = ("train", "validation", "test")


def interactions(events: list[tuple[int, int]]) -> Interactions:
    """From (user, at) in any order; `item` numbers the events of the sorted whole, so that each can be found again."""
    user, at = (np.array([event[column] for event in sorted(events)], np.int64) for column in range(2))
    return Interactions(
        user=user,
        item=np.arange(len(events)),
        type=np.zeros(len(events), np.int64),
        at=at,
        value=np.zeros(len(events), np.float32),
        weight=np.ones(len(events), np.float32),
        users=Vocabulary(f"user:{n}" for n in range(NUM_USERS)),
        items=Vocabulary(f"films:{n}" for n in range(len(events))),
        event_types=("RATED",),
        platforms=("films",),
        item_platform=np.zeros(len(events), np.int64),
    )


events = st.lists(st.tuples(st.integers(0, NUM_USERS - 1), st.integers(0, 50)), min_size=1, max_size=60)
whole = events.map(interactions)
whole_with_a_long_history = events.map(lambda events: interactions([*events, (0, 1), (0, 2), (0, 3)]))


def assert_parts_add_up(split: Split, whole: Interactions):
    numbers = np.concatenate([getattr(split, part).item for part in PARTS])
    assert sorted(numbers.tolist()) == list(range(len(whole)))
    for name in PARTS:
        part = getattr(split, name)
        assert part.users is whole.users
        assert part.items is whole.items
        assert (np.diff(part.item) > 0).all(), "a part keeps the order of the whole"
        np.testing.assert_array_equal(part.user, whole.user[part.item])
        np.testing.assert_array_equal(part.at, whole.at[part.item])


@given(whole_with_a_long_history)
def test_leave_one_out_parts_add_up_and_hold_out_the_last_two_of_those_with_three(whole: Interactions):
    split = leave_one_out(whole)
    assert_parts_add_up(split, whole)
    for user in range(NUM_USERS):
        mine = np.flatnonzero(whole.user == user).tolist()
        held_out = 1 if len(mine) >= 3 else 0
        assert split.test.item[split.test.user == user].tolist() == mine[len(mine) - held_out :]
        assert (
            split.validation.item[split.validation.user == user].tolist()
            == mine[len(mine) - 2 * held_out : len(mine) - held_out]
        )


@given(whole_with_a_long_history)
def test_leave_one_out_trains_on_nothing_later_than_a_persons_targets(whole: Interactions):
    split = leave_one_out(whole)
    for user in range(NUM_USERS):
        train, validation, test = (getattr(split, part).at[getattr(split, part).user == user] for part in PARTS)
        if len(test):
            assert train.max() <= validation.min() <= test.min()


def test_leave_one_out_takes_the_last_steps_of_the_planted_rings(planted_snapshot: Snapshot):
    split = leave_one_out(planted_snapshot.interactions())
    users, items = split.test.users, split.test.items
    for each in people():
        row = users.row(each.user)
        test = split.test.item[split.test.user == row]
        validation = split.validation.item[split.validation.user == row]
        last = each.walked(each.platforms[-1])
        assert [items.keys[item] for item in test] == [last[-1]]
        assert [items.keys[item] for item in validation] == [last[-2]]
    stray = users.row("user:stray")
    assert (split.test.user == stray).sum() == 1


def test_leave_one_out_without_anybody_of_three_events_says_so():
    with pytest.raises(SplitError, match=r"none of 5 people has 3 of the 4 events"):
        leave_one_out(interactions([(0, 1), (0, 2), (1, 1), (2, 1)]))


@given(whole, st.integers(0, 2**32 - 1))
def test_random_parts_add_up_and_the_same_seed_gives_the_same_parts(whole: Interactions, seed: int):
    split, again = (random_per_user(whole, seed=seed) for _ in range(2))
    assert_parts_add_up(split, whole)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(split, part).item, getattr(again, part).item)


@pytest.mark.parametrize(
    ("total", "ratios", "sizes"),
    [
        (1, (0.8, 0.1, 0.1), [1, 0, 0]),  # training is never robbed of its only event
        (2, (0.8, 0.1, 0.1), [1, 0, 1]),  # test first, then training has one left
        (3, (0.8, 0.1, 0.1), [1, 1, 1]),
        (9, (0.8, 0.1, 0.1), [7, 1, 1]),
        (10, (0.8, 0.1, 0.1), [8, 1, 1]),
        (19, (8, 1, 1), [17, 1, 1]),  # 1.9 is rounded down in favour of training
        (20, (8, 1, 1), [16, 2, 2]),
        (7, (0.5, 0.25, 0.25), [5, 1, 1]),
        (7, (0.6, 0.4, 0), [5, 2, 0]),
        (7, (1, 0, 0), [7, 0, 0]),
        (2, (0.6, 0.4, 0), [1, 1, 0]),
    ],
)
def test_random_parts_have_the_sizes_that_recbole_gives(
    total: int, ratios: tuple[float, float, float], sizes: list[int]
):
    short, long = [(0, at) for at in range(total)], [(1, at) for at in range(40)]
    split = random_per_user(interactions(short + long), ratios, seed=1)
    assert [int((getattr(split, part).user == 0).sum()) for part in PARTS] == sizes


def test_another_seed_gives_other_parts():
    whole = interactions([(0, at) for at in range(50)])
    assert random_per_user(whole, seed=1).test.item.tolist() != random_per_user(whole, seed=2).test.item.tolist()


def test_every_event_of_a_person_is_as_likely_to_be_test():
    whole = interactions([(0, at) for at in range(10)])
    hits = np.bincount(np.concatenate([random_per_user(whole, seed=seed).test.item for seed in range(1000)]))
    assert hits.min() > 60, "100 expected for each of 10 events; 60 is 4.2 standard deviations away"
    assert hits.max() < 140


@pytest.mark.parametrize("ratios", [(0.8, 0.2), (0, 0.5, 0.5), (0.9, -0.1, 0.2), (float("nan"), 0.1, 0.1)])
def test_ratios_that_part_nothing_are_refused(ratios: tuple[float, ...]):
    with pytest.raises(SplitError, match=r"give training, validation and test, such as \(0.8, 0.1, 0.1\)"):
        random_per_user(interactions([(0, 1)]), ratios, seed=0)


def test_no_events_cannot_be_parted_at_random():
    with pytest.raises(SplitError, match="there are no events"):
        random_per_user(interactions([]), seed=0)


def instant(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


@given(events, st.integers(0, 50), st.integers(1, 20))
def test_temporal_parts_add_up_and_no_event_is_on_the_wrong_side(
    events: list[tuple[int, int]], first: int, length: int
):
    second = first + length
    whole = interactions([*events, (0, first - 1), (0, first), (0, second)])
    expected = [
        whole.at < first,
        (whole.at >= first) & (whole.at < second),
        whole.at >= second,
    ]
    split = temporal(whole, instant(first), instant(second))
    assert_parts_add_up(split, whole)
    for name, mask in zip(PARTS, expected, strict=True):
        assert getattr(split, name).item.tolist() == np.flatnonzero(mask).tolist()
    assert split.train.at.max() < first <= split.validation.at.min()
    assert split.validation.at.max() < second <= split.test.at.min()


def test_a_boundary_inside_a_second_leaves_that_whole_second_out_of_training():
    whole = interactions([(0, 9), (0, 10), (0, 20)])  # the event at 10 may have been at 10.2 or at 10.8
    split = temporal(whole, instant(10.5), instant(20))
    assert split.train.at.tolist() == [9]


def test_boundaries_may_be_in_any_zone():
    whole = interactions([(0, 9), (0, 10), (0, 20)])
    zone = timezone(timedelta(hours=5))
    split = temporal(whole, instant(10).astimezone(zone), instant(20).astimezone(zone))
    assert [len(getattr(split, part)) for part in PARTS] == [1, 1, 1]


def test_boundaries_without_a_zone_or_out_of_order_are_refused():
    whole = interactions([(0, 9), (0, 10), (0, 20)])
    with pytest.raises(SplitError, match="1970-01-01T00:00:10 has no time zone"):
        temporal(whole, datetime(1970, 1, 1, 0, 0, 10), instant(20))  # noqa: DTZ001
    with pytest.raises(SplitError, match="is not before test"):
        temporal(whole, instant(20), instant(20))


def test_an_empty_part_is_refused_with_the_span_of_the_events():
    with pytest.raises(SplitError, match=r"0, 1 and 2 events.*from 1970-01-01T00:00:09\+00:00 to 1970-01-01T00:00:20"):
        temporal(interactions([(0, 9), (0, 10), (0, 20)]), instant(5), instant(10))


def test_the_newest_tenth_is_for_test_and_the_one_before_it_for_validation_whoever_did_it():
    whole = interactions([(number % 3, 100 + 7 * number) for number in range(40)])
    # 40 events from 100 on, one in 7 seconds: test has the last 4, from number 36 on, validation those from 32 on.
    assert newest(whole) == (instant(100 + 7 * 32), instant(100 + 7 * 36))
    split = temporal(whole, *newest(whole))
    assert [len(getattr(split, part)) for part in PARTS] == [32, 4, 4]


def test_events_of_one_second_are_not_parted():
    whole = interactions([(0, at) for at in [1] * 9 + [2] * 5 + [3] * 6])
    assert newest(whole, 0.2) == (instant(2), instant(3)), (
        "the 4th newest of 20 is one of six at 3, the 8th of five at 2"
    )


def test_events_that_time_cannot_part_are_refused_with_what_to_do():
    for ats in ([0] * 20, [0] * 10 + [1] * 10, [0], []):
        with pytest.raises(SplitError, match=f"{len(ats)} events at {len(set(ats))} instants .* another split"):
            newest(interactions([(0, at) for at in ats]))
    with pytest.raises(SplitError, match=r"share is 0\.5"):
        newest(interactions([(0, 1), (0, 2), (0, 3)]), 0.5)


def test_a_newcomer_to_training_still_has_a_row(planted_snapshot: Snapshot):
    whole = planted_snapshot.interactions()
    split = temporal(whole, datetime(2024, 1, 4, tzinfo=UTC), datetime(2024, 1, 10, tzinfo=UTC))
    newcomer = whole.users.row(person("space-newcomer").user)
    assert (split.train.user == newcomer).sum() == 0
    assert (split.test.user == newcomer).sum() == 3
    assert len(split.train.histories(np.array([newcomer])).item) == 0


def on_two_platforms(whole: Interactions) -> Interactions:
    """Every second item of the whole is on the platform "books"."""
    return replace(whole, platforms=("films", "books"), item_platform=np.arange(len(whole.items)) % 2)


def test_newcomers_arrive_halfway_and_everybody_else_is_left_one_out():
    whole = on_two_platforms(interactions([(user, at) for user in range(4) for at in range(10)] + [(4, 0), (4, 1)]))
    split = newcomers(whole, seed=0, share=0.25)
    assert_parts_add_up(split, whole)
    arrived_on = []
    for user in range(4):
        training, tested = (part.where(part.user == user) for part in (split.train, split.test))
        if len(tested) == 1:
            assert tested.at.tolist() == [9]
            assert split.validation.at[split.validation.user == user].tolist() == [8]
            continue
        [elsewhere] = set(training.platform.tolist())
        assert len(training) == 3, "half of five events, rounded up"
        assert training.at.max() < tested.at[tested.platform == elsewhere].min()
        assert np.count_nonzero(tested.platform != elsewhere) == 5
        assert not (split.validation.user == user).any()
        arrived_on.append(1 - elsewhere)
    assert sorted(arrived_on) == [0, 1], "one of four people arrives on each platform"
    assert split.train.at[split.train.user == 4].tolist() == [0, 1], "short histories are training only"


def test_the_same_seed_draws_the_same_newcomers():
    whole = on_two_platforms(interactions([(user, at) for user in range(5) for at in range(10)]))
    drawn = [newcomers(whole, seed=seed, share=0.2).test.item.tolist() for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert any(other != drawn[0] for other in drawn[2:])


def test_a_share_that_draws_nobody_or_everybody_is_refused():
    whole = on_two_platforms(interactions([(user, at) for user in range(4) for at in range(10)]))
    with pytest.raises(SplitError, match=r"4 people .* a share of 0\.1 is nobody"):
        newcomers(whole, seed=0)
    with pytest.raises(SplitError, match=r"share is 0\.5"):
        newcomers(whole, seed=0, share=0.5)


def test_hidden_items_are_in_no_training_and_asked_for_as_before():
    whole = interactions([(user, at) for user in range(4) for at in range(10)])
    whole = replace(whole, item=whole.item % 10)
    split = leave_one_out(whole)
    cold = hide_items(split, seed=0, share=0.25)
    hidden = set(split.train.item) - set(cold.train.item)
    assert len(hidden) == 2, "a quarter of the eight that training knew"
    assert len(cold.train) == len(split.train) - 4 * 2
    assert cold.validation is split.validation
    assert cold.test is split.test
    assert set(hide_items(split, seed=0, share=0.25).train.item) == set(cold.train.item)
    others = [set(hide_items(split, seed=seed, share=0.25).train.item) for seed in (1, 2, 3)]
    assert any(other != set(cold.train.item) for other in others)


def test_a_share_that_hides_no_item_or_all_is_refused():
    split = leave_one_out(interactions([(user, at) for user in range(2) for at in range(4)]))
    for share in (0.1, 1.0):
        with pytest.raises(SplitError, match="give a share that leaves some of each"):
            hide_items(split, seed=0, share=share)
