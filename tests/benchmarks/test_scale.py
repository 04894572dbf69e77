"""The generator of synthetic graphs, and what is told of a size."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.scale import EVENTS_A_PERSON, EVENTS_AN_ITEM, TASTES, exponent, network, sparse, synthetic, texts


def test_the_same_seed_makes_the_same_events_and_another_seed_others() -> None:
    one, again, other = synthetic(5000), synthetic(5000), synthetic(5000, seed=1)
    np.testing.assert_array_equal(one.item, again.item)
    assert (one.item != other.item).any()
    assert (len(one), len(one.users), len(one.items)) == (5000, 5000 // EVENTS_A_PERSON, 5000 // EVENTS_AN_ITEM)


def test_people_stay_with_their_taste_and_a_few_items_are_wanted_most() -> None:
    events = synthetic(100_000)
    taste = events.item % TASTES
    people = [taste[start:end] for start, end in pairwise(events.offsets) if end - start > 9]
    mine = [np.bincount(person).max() / len(person) for person in people]
    assert 0.7 < np.mean(mine) < 0.9
    counts = np.sort(np.bincount(events.item, minlength=len(events.items)))[::-1]
    assert counts[: len(counts) // 10].sum() > 0.3 * len(events)
    assert (np.diff(events.user) >= 0).all()


def test_a_size_is_told_in_seconds_of_a_step_and_of_an_epoch() -> None:
    events = synthetic(5000)
    told = network(events, texts(len(events.items)), steps=2)
    assert told["epoch s"] == pytest.approx(told["step s"] * np.ceil(len(np.unique(events.user)) / 32))
    assert sparse(events, texts(len(events.items)))["weights"] > 0


def test_the_exponent_is_the_power_of_the_size() -> None:
    sizes = [10, 100, 1000]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
